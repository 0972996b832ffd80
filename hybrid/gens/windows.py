"""Run a scorer over windows of frames and bring its scores back to the rows of the index.

GenS answers in positions of the window that it was shown; here, and only here, positions become
rows. Scores are absolute (1 to 5), so those of several windows compare; where two windows hold
the same frame the higher one stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError, OutOfMemoryError
from hybrid.gens.scorer import FrameScorer, WindowScores
from hybrid.values import ByteArray, IntArray, Window

__all__ = ["FineScores", "consecutive_windows", "score_windows"]


@dataclass(frozen=True, slots=True, eq=False)
class FineScores:
    """What the fine stage found in all its windows.

    Attributes:
        scores: int8 [rows of the index]: 1..5, 0 where no score was given.
        replies: one a window that was scored, in time order.
        cut_to: how many frames a window could hold at most, if the device ran out of memory and
            windows had to be cut; else None.
    """

    scores: npt.NDArray[np.int8]
    replies: tuple[WindowScores, ...]
    cut_to: int | None


def consecutive_windows(rows: IntArray, size: int) -> list[Window]:
    """All frames of a video in windows of ``size``, one after another (GenS without a coarse stage).

    Args:
        rows: int64, increasing: the rows to read.
        size: frames a window, at least 1. The last window may be smaller.

    Raises:
        InputError: a size below 1.
    """
    if size < 1:
        raise InputError(f"window is {size}; it must be at least 1 frame")
    return [Window(rows=rows[start : start + size]) for start in range(0, len(rows), size)]


def score_windows(
    scorer: FrameScorer,
    windows: Iterable[tuple[Window, Sequence[ByteArray]]],
    question: str,
    *,
    rows: int,
) -> FineScores:
    """Score every window and merge the scores.

    If the device runs out of memory, the window is cut in half, and so are all that follow: a
    device that could not hold 256 frames once will not hold them the next time.

    Args:
        scorer: the model.
        windows: each with its frames, in the order of its rows.
        question: plain text.
        rows: rows of the video's index.

    Raises:
        OutOfMemoryError: even a single frame does not fit.
        InputError: a window and its frames do not match.
    """
    scores = np.zeros(rows, dtype=np.int8)
    replies: list[WindowScores] = []
    limit: int | None = None
    for window, frames in windows:
        if len(window) != len(frames):
            raise InputError(f"a window of {len(window)} rows came with {len(frames)} frames")
        start = 0
        while start < len(window):
            size = min(limit or len(window), len(window) - start)
            try:
                reply = scorer.score(frames[start : start + size], question)
            except OutOfMemoryError:
                if size == 1:
                    raise
                limit = (size + 1) // 2
                continue
            _merge(scores, window.rows[start : start + size], reply)
            replies.append(reply)
            start += size
    return FineScores(scores=scores, replies=tuple(replies), cut_to=limit)


def _merge(scores: npt.NDArray[np.int8], rows: npt.NDArray[Any], reply: WindowScores) -> None:
    for position, score in reply.scores.items():
        row = rows[position]
        scores[row] = max(int(scores[row]), score)
