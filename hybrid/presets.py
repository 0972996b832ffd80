"""A name for the models that belong together.

A preset names checkpoints; it loads nothing. What the caller gives besides (``--encoder``,
``--sampler``) goes before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybrid.registry import unknown_name

__all__ = ["DEFAULT_PRESET", "PRESETS", "Preset", "check_preset"]

DEFAULT_PRESET = "gens-3b"
_SHIPPED = Path(__file__).parent / "models" / "tiny"
"""A CLIP encoder and a GenS with the architectures of the real ones, trained by ``bench/world``."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Models that belong together.

    Attributes:
        name: what it is called on the command line.
        encoder: name of the CLIP encoder (see :mod:`hybrid.clip.registry`).
        sampler: name of the GenS checkpoint on the model hub, or its folder.
        description: one line for people.
    """

    name: str
    encoder: str
    sampler: str
    description: str


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name=DEFAULT_PRESET,
            encoder="ViT-B-32/laion2b_s34b_b79k",
            sampler="yaolily/GenS-qwen2d5-vl-3b",
            description="CLIP ViT-B-32 and GenS on Qwen2.5-VL-3B",
        ),
        Preset(
            name="gens-aria",
            encoder="ViT-B-32/laion2b_s34b_b79k",
            sampler="yaolily/GenS",
            description="CLIP ViT-B-32 and the original GenS on Aria (25 B parameters), to be converted once: "
            "hybrid convert-gens, then --sampler FOLDER",
        ),
        Preset(
            name="tiny",
            encoder=f"local-dir:{_SHIPPED / 'clip'}",
            sampler=str(_SHIPPED / "gens"),
            description="small models, trained on a world of coloured shapes and ignorant of all else, with which "
            "every stage runs without a model hub",
        ),
    )
}


def check_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, tuple(PRESETS))
    return PRESETS[name]
