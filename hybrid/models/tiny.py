"""The paths of the bundled models of the ``tiny`` preset.

Both are trained on a world of coloured shapes (``bench/world``) and know nothing else. They have the
architectures of the real models and run through the same code, on any machine, without a model hub.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["tiny_encoder", "tiny_sampler"]


def tiny_encoder() -> str:
    """The name of the tiny CLIP encoder: an open_clip checkpoint in its local form."""
    return f"local-dir:{_folder('clip')}"


def tiny_sampler() -> str:
    """The folder of the tiny GenS checkpoint: Qwen2.5-VL scaled down, as transformers saves it."""
    return str(_folder("gens"))


def _folder(name: str) -> Path:
    return Path(str(resources.files(__package__) / "tiny" / name))
