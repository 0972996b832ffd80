"""A checkpoint whose replies in GenS's form have several entries and end before the limit."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_talker"]


def make_talker(folder: Path) -> Path:
    """Change a checkpoint so that it closes a brace about every other time; its folder."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    weights = load_file(folder / "model.safetensors")
    embeddings = next(weight for name, weight in weights.items() if name.endswith("embed_tokens.weight"))
    brace, comma = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["}", ","])
    embeddings[brace] = 0.0
    embeddings[comma] *= -1.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
