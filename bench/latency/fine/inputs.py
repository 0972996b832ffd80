"""Made-up frames and questions for the benchmarks of the fine stage."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hybrid.values import ByteArray

__all__ = ["SIDE", "make_frames", "make_questions"]

SIDE = 112
"""Pixels of a side of a frame."""


def make_frames(windows: int, frames: int) -> list[list[ByteArray]]:
    """Frames in their final size: coarse blocks with grain, as noise alone would look alike in every frame."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (windows, frames, 4, 4, 3), dtype=np.uint8).repeat(28, 2).repeat(28, 3)
    return [list(window + rng.integers(0, 50, window.shape, dtype=np.uint8)) for window in coarse]


def make_questions() -> Iterator[str]:
    """Questions of one length without end, none twice."""
    number = 100_000
    while True:
        number += 1
        yield f"What happens after the person in the kitchen puts down object number {number}, and where is it then?"
