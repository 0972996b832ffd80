"""A timeline as bytes: a safetensors file whose bytes depend on the timeline alone."""

from __future__ import annotations

import json

import blake3
import numpy as np
import safetensors
from safetensors.numpy import load, save

from hybrid.errors import IndexDamagedError
from hybrid.storage.foreign_json import read_note
from hybrid.values import MissingFrame, Sampling, Timeline

__all__ = ["NOTE", "timeline_from_bytes", "timeline_hash", "timeline_to_bytes"]

NOTE = "hybrid_timeline"
"""Under which a timeline file holds what is no tensor."""


def timeline_to_bytes(timeline: Timeline) -> bytes:
    """Tensors ``ordinals``, ``pts_seconds``, ``frame_numbers``, ``missing``; the rest as metadata."""
    rest = {
        "rate": timeline.sampling.rate,
        "policy": timeline.sampling.policy,
        "duration_seconds": timeline.duration_seconds,
        "reasons": [gap.reason for gap in timeline.missing],
    }
    tensors = {
        "ordinals": np.ascontiguousarray(timeline.ordinals, dtype="<i8"),
        "pts_seconds": np.ascontiguousarray(timeline.pts_seconds, dtype="<f8"),
        "frame_numbers": np.ascontiguousarray(timeline.frame_numbers, dtype="<i8"),
        "missing": np.array([gap.ordinal for gap in timeline.missing], dtype="<i8"),
    }
    # One entry only: safetensors writes several in an order that changes from run to run.
    return save(tensors, metadata={NOTE: json.dumps(rest, sort_keys=True)})


def timeline_hash(data: bytes) -> str:
    """BLAKE3 of a timeline file's content, 32 hexadecimal digits."""
    return blake3.blake3(data).hexdigest(length=16)


def timeline_from_bytes(data: bytes, *, where: str) -> Timeline:
    """Rebuild a timeline from :func:`timeline_to_bytes`.

    Args:
        data: the bytes of the file.
        where: its path, for the error.

    Raises:
        IndexDamagedError: the bytes are not those of a timeline.
    """
    try:
        tensors = load(data)
        rest = read_note(data, NOTE)
        ordinals, reasons = tensors["missing"].tolist(), rest["reasons"]
        return Timeline(
            ordinals=tensors["ordinals"],
            pts_seconds=tensors["pts_seconds"],
            frame_numbers=tensors["frame_numbers"],
            sampling=Sampling(rate=rest["rate"], policy=rest["policy"]),
            duration_seconds=rest["duration_seconds"],
            missing=tuple(MissingFrame(ordinal, reason) for ordinal, reason in zip(ordinals, reasons, strict=True)),
        )
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise IndexDamagedError(f"{where}: not a timeline: {exc}") from exc
