"""A name for the models that belong together.

A preset names checkpoints; it loads nothing. What the caller gives besides (``--encoder``,
``--sampler``) goes before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.errors import InputError

__all__ = ["DEFAULT_PRESET", "PRESETS", "Preset", "check_preset", "encoder_of", "sampler_of"]

DEFAULT_PRESET = "gens-3b"
_TINY = "tiny"


@dataclass(frozen=True, slots=True)
class Preset:
    """Models that belong together.

    Attributes:
        name: what it is called on the command line.
        encoder: name of the CLIP encoder (see :mod:`hybrid.clip.registry`); for people where it is shipped
            (:func:`encoder_of` gives the name that it is loaded by).
        sampler: name of the GenS checkpoint on the model hub, or its folder; likewise (:func:`sampler_of`).
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
            name=_TINY,
            encoder="(shipped with the package)",
            sampler="(shipped with the package)",
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
        raise InputError(f"preset is {name!r}; legal are {', '.join(PRESETS)}")
    return PRESETS[name]


def encoder_of(preset: str) -> str:
    """The name of a preset's encoder; that of the tiny one is shipped with the package.

    Raises:
        InputError: there is no such preset.
    """
    if check_preset(preset).name == _TINY:
        from hybrid.models.tiny import tiny_encoder

        return tiny_encoder()
    return PRESETS[preset].encoder


def sampler_of(preset: str) -> str:
    """The name of a preset's sampler; that of the tiny one is shipped with the package.

    Raises:
        InputError: there is no such preset.
    """
    if check_preset(preset).name == _TINY:
        from hybrid.models.tiny import tiny_sampler

        return tiny_sampler()
    return PRESETS[preset].sampler
