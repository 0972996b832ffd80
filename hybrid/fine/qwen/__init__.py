"""GenS on Qwen2.5-VL."""
