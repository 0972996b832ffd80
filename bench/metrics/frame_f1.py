"""Frame precision, recall and F1: the selected frames against the frames that are marked as relevant.

    precision = |S and R| / |S|,  recall = |S and R| / |R|,  F1 = 2 |S and R| / (|S| + |R|)

over sets of frame numbers on one grid, so that a frame that is selected twice counts once. Nothing selected gives 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError

__all__ = ["FrameScore", "frame_f1"]


@dataclass(frozen=True, slots=True)
class FrameScore:
    """Of one question."""

    precision: float
    recall: float
    f1: float


def frame_f1(selected: npt.ArrayLike, relevant: npt.ArrayLike) -> FrameScore:
    """Compare two sets of frames.

    Args:
        selected: [K] whole numbers (ordinals, rows or native frames).
        relevant: [R] of the same kind, at least one.

    Raises:
        InputError: no relevant frame (there is no recall of nothing), or numbers that are not whole.
    """
    chosen, marked = _numbers(selected), _numbers(relevant)
    if len(marked) == 0:
        raise InputError("no frame is marked as relevant, so there is no recall; leave this question out")
    both = len(chosen & marked)
    return FrameScore(
        precision=both / len(chosen) if chosen else 0.0,
        recall=both / len(marked),
        f1=2 * both / (len(chosen) + len(marked)),
    )


def _numbers(frames: npt.ArrayLike) -> set[int]:
    array = np.asarray(frames)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"frames are {array.dtype}; they must be whole numbers (seconds belong to moment_recall)")
    return set(array.reshape(-1).tolist())
