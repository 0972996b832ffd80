"""The training of the bundled models on pictures and windows of the world."""
