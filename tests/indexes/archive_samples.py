"""Small made-up indexes for the tests of the archive, a function of a seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.values import MissingFrame, Sampling, Timeline
from indexes.format.manifest import IndexConfig, IndexedVideo, Source


def unit_vectors(count: int, dimension: int, seed: int) -> npt.NDArray[np.float32]:
    """Random unit vectors: float32 [count, dimension]."""
    drawn = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    unit: npt.NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def some_config(model: str = "ViT-B-32/test", rate: float = 1.0) -> IndexConfig:
    """A configuration that differs by the model's name."""
    return IndexConfig(
        encoder={"model": model, "weights": "00ff", "precision": "float32"}, rate=rate, policy="exact", decoder="pyav"
    )


def some_timeline(count: int, seed: int) -> Timeline:
    """A timeline of 29.97 fps material with a hole after every seventh sample."""
    ordinals = np.array([k for k in range(2 * count) if k % 8 != 7][:count], dtype=np.int64)
    frame_numbers = np.floor(ordinals * 30000 / 1001).astype(np.int64)
    last = int(ordinals[-1])
    return Timeline(
        ordinals=ordinals,
        pts_seconds=frame_numbers * 1001 / 30000,
        frame_numbers=frame_numbers,
        sampling=Sampling(),
        duration_seconds=last + 1 + seed / 8,
        missing=tuple(MissingFrame(k, f"damaged packet ({seed})") for k in range(7, last, 8)),
    )


def some_index(seed: int, *, count: int = 40, dimension: int = 16) -> dict[str, Any]:
    """Arguments for ``Archive.commit``."""
    timeline = some_timeline(count, seed)
    return {
        "timeline": timeline,
        "vectors": unit_vectors(count, dimension, seed),
        "config": some_config(),
        "source": Source(path="/videos/größe 電影.mp4", size_bytes=1234),
        "video": IndexedVideo(
            kind="file", duration_seconds=timeline.duration_seconds, width=320, height=180, codec="h264"
        ),
        "seconds": {"decode_and_embed": 1.5},
    }


def video_id(number: int) -> str:
    """A content id."""
    return f"{number:032x}"
