"""Run a scorer over windows of frames and bring its scores back to the rows of the index.

GenS answers in positions of the window that it was shown; here, and only here, positions become
rows. Scores are absolute (1 to 5), so those of several windows compare; where two windows hold
the same frame the higher one stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError, ModelError, OutOfMemoryError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import FeatureScorer, FrameScorer, OnScores, WindowScores
from hybrid.values import ByteArray, IntArray, Window

__all__ = [
    "FeatureWindow",
    "FineScores",
    "OnWindow",
    "consecutive_windows",
    "merge",
    "score_feature_windows",
    "score_windows",
]


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

    @property
    def found_nothing(self) -> bool:
        """Whether all replies say, in GenS's form, that no frame is relevant. That is an answer, not a fault."""
        said = all(reply.status == "empty" and not reply.notes for reply in self.replies)
        return said and bool(self.replies) and not self.scores.any()


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
            merge(scores, window.rows[start : start + size], reply)
            replies.append(reply)
            start += size
    return FineScores(scores=scores, replies=tuple(replies), cut_to=limit)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureWindow:
    """A window whose frames were encoded before, and who asks about it.

    Attributes:
        question: place of the question among those that are asked together.
        window: its rows.
        features: of the frames of these rows, in order.
    """

    question: int
    window: Window
    features: FrameFeatures

    def cut(self, size: int) -> list[FeatureWindow]:
        """The same in pieces of at most ``size`` frames (in image mode, where frames are independent)."""
        if len(self.window) <= size:
            return [self]
        return [self._piece(start, start + size) for start in range(0, len(self.window), size)]

    def _piece(self, start: int, end: int) -> FeatureWindow:
        whole, similarities = self.features, self.window.similarities
        features = FrameFeatures(
            items=whole.items[start:end],
            grids=whole.grids[start:end],
            frame_count=len(whole.items[start:end]),
            mode=whole.mode,
            key=f"{whole.key}:{start}-{end}",
            seconds=whole.seconds if start == 0 else {},
        )
        part = Window(self.window.rows[start:end], None if similarities is None else similarities[start:end])
        return FeatureWindow(self.question, part, features)


OnWindow = Callable[[FeatureWindow, Sequence[tuple[FeatureWindow, WindowScores]]], None]
"""(a window, what was said of it): of the window itself, or, where it had to be cut, of each of its pieces in order."""


def score_feature_windows(
    scorer: FeatureScorer,
    windows: Sequence[FeatureWindow],
    questions: Sequence[str],
    *,
    on_window: OnWindow,
    limit: int | None = None,
    listen: Callable[[Sequence[FeatureWindow]], OnScores] | None = None,
) -> int | None:
    """Score many windows for many questions together.

    If the device runs out of memory, the windows of which not all is said yet are cut in half and scored again.

    Args:
        scorer: the model.
        windows: each with its features and its question.
        questions: plain text.
        on_window: is given each window once, as soon as all is said of it, in whatever order they are finished.
        limit: how many frames a window may hold at most, if an earlier call found that out.
        listen: is given the windows that are tried now, in order, and gives what is told of their
            entries as they are written.

    Returns:
        The limit that was found.

    Raises:
        ModelError: the scorer gave no reply to some of the windows.
        OutOfMemoryError: even a single frame does not fit.
    """
    left = list(windows)
    while left:
        pieces = _Pieces(left, limit, on_window)
        try:
            scorer.score_many(
                [piece.features for piece in pieces.tried],
                [questions[piece.question] for piece in pieces.tried],
                on_scores=None if listen is None else listen(pieces.tried),
                on_reply=pieces.hear,
            )
        except OutOfMemoryError:
            largest = max(len(piece.window) for piece in pieces.tried)
            if largest == 1:
                raise
            limit = (largest + 1) // 2
            left = pieces.unfinished()
        else:
            silent = pieces.unfinished()
            if silent:
                raise ModelError(
                    f"{scorer.name} gave no reply to {len(silent)} of {len(left)} windows; its score_many must give "
                    "what is said of each window to on_reply (see hybrid.fine.interface.FeatureScorer)"
                )
            left = []
    return limit


class _Pieces:
    """Windows in pieces that a device should hold, and what is said of these so far.

    Args:
        windows: are cut.
        limit: how many frames a piece may have; None: the windows stay whole.
        on_window: is given each window when the last of its pieces is heard of.
    """

    def __init__(self, windows: Sequence[FeatureWindow], limit: int | None, on_window: OnWindow) -> None:
        self._windows, self._on_window = windows, on_window
        cut = [whole.cut(limit or len(whole.window)) for whole in windows]
        self.tried = [piece for pieces in cut for piece in pieces]
        self._window_of = [number for number, pieces in enumerate(cut) for _ in pieces]
        self._silent = [len(pieces) for pieces in cut]
        self._said: dict[int, WindowScores] = {}

    def hear(self, place: int, said: WindowScores) -> None:
        """Of the piece in that place."""
        number = self._window_of[place]
        self._said[place] = said
        self._silent[number] -= 1
        if not self._silent[number]:
            own = [place for place, window in enumerate(self._window_of) if window == number]
            self._on_window(self._windows[number], [(self.tried[place], self._said[place]) for place in own])

    def unfinished(self) -> list[FeatureWindow]:
        """The windows of which not all is said."""
        return [whole for whole, silent in zip(self._windows, self._silent, strict=True) if silent]


def merge(scores: npt.NDArray[np.int8], rows: npt.NDArray[Any], reply: WindowScores) -> None:
    """Bring the scores of a window's positions to rows; where a row has a score, the higher one stands.

    Args:
        scores: int8 [rows of the index], is changed.
        rows: of the window, by position.
        reply: what was said of it.
    """
    for position, score in reply.scores.items():
        row = rows[position]
        scores[row] = max(int(scores[row]), score)
