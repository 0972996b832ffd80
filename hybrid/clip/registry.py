"""The kinds of encoders by their names, and how one is loaded.

An encoder is named ``KIND:NAME``. Without a registered kind before a colon, the name is one of open_clip:
``ViT-B-32/laion2b_s34b_b79k`` (architecture/tag or architecture/file), ``hf-hub:organisation/name``, or
``local-dir:FOLDER`` (the bare path of a folder is the same).

A new kind is a file that ends in ``ENCODER = EncoderKind(...)``, and a line in :data:`ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hybrid.clip.interface import EncoderKind, FrameEncoder
from hybrid.errors import InputError
from hybrid.registry import Registry, unknown_name

__all__ = ["ENCODERS", "encoder_name_of", "identity_of_name", "load_encoder"]

ENCODERS: Final[Registry[EncoderKind]] = Registry("kind of encoder", "ENCODER", {"open_clip": "hybrid.clip.open_clip"})
_DEFAULT_KIND: Final = "open_clip"
_OPEN_CLIP_PREFIXES: Final = ("hf-hub", "local-dir")


def load_encoder(
    name: str, *, device: str = "auto", dtype: str = "auto", batch_size: int | None = None
) -> FrameEncoder:
    """Load an encoder by its name (see the module's text).

    Args:
        name: ``ARCHITECTURE/TAG``, ``hf-hub:NAME``, ``local-dir:FOLDER``, or ``KIND:NAME``.
        device: ``auto`` (CUDA if there), ``cpu``, ``cuda``, ``cuda:0`` ...
        dtype: precision of the weights: ``auto`` (bfloat16 on CUDA, float32 on a CPU), ``float32``,
            ``bfloat16`` or ``float16``.
        batch_size: frames encoded at once; default: what suits the device.

    Raises:
        InputError: the name, device or precision is not legal.
        ModelLoadError: the checkpoint is missing or damaged, or cannot be downloaded.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    kind, rest = _split(name)
    return kind.load(rest, device=device, dtype=dtype, batch_size=batch_size)


def identity_of_name(name: str) -> dict[str, str]:
    """The part of an encoder's identity that its name alone tells; loads nothing.

    >>> identity_of_name("ViT-B-32/laion2b_s34b_b79k")
    {'encoder': 'open_clip', 'model': 'ViT-B-32', 'pretrained': 'laion2b_s34b_b79k'}

    Raises:
        InputError: the name is not legal.
    """
    kind, rest = _split(name)
    return {"encoder": kind.name, **kind.identity_of_name(rest)}


def encoder_name_of(identity: Mapping[str, object]) -> str:
    """The name, as ``--encoder`` takes it, of the encoder with this identity."""
    name = str(identity.get("encoder"))
    return ENCODERS.find(name if name in ENCODERS.names else _DEFAULT_KIND).name_of_identity(identity)


def _split(name: str) -> tuple[EncoderKind, str]:
    kind, colon, rest = name.partition(":")
    if colon and kind in ENCODERS.names:
        return ENCODERS.find(kind), rest
    if colon and "/" not in kind and kind not in _OPEN_CLIP_PREFIXES and not Path(name).is_dir():
        raise unknown_name("kind of encoder", kind, (*ENCODERS.names, *_OPEN_CLIP_PREFIXES))
    return ENCODERS.find(_DEFAULT_KIND), name
