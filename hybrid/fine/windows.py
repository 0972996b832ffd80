"""Read windows of frames with a model, and map its scores to the rows of the index.

A model answers in positions of the window that it was shown; only this module maps positions to rows. Scores are
absolute (1 to 5), so those of several windows compare. Where two windows hold the same frame, the higher score counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError, ModelError, OutOfMemoryError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import FineModel, FramesScored, ReplyFinished, Request, WindowScores
from hybrid.values import ByteArray, IntArray, Window

__all__ = [
    "AskedWindow",
    "FineScores",
    "PieceScored",
    "WindowEvent",
    "WindowFailed",
    "WindowRead",
    "WindowReader",
    "consecutive_windows",
    "merge",
]


@dataclass(frozen=True, slots=True, eq=False)
class FineScores:
    """The scores of the fine stage over all its windows.

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
        no_entries = all(reply.status == "empty" and not reply.notes for reply in self.replies)
        return no_entries and bool(self.replies) and not self.scores.any()


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


@dataclass(frozen=True, slots=True, eq=False)
class AskedWindow:
    """A window, its frames, and the question about it.

    Attributes:
        question: index of the question among those that are asked together.
        window: its rows.
        frames: of these rows, in order: uint8 [H, W, 3] each, or their features.
    """

    question: int
    window: Window
    frames: Sequence[ByteArray] | FrameFeatures

    def __post_init__(self) -> None:
        count = self.frames.frame_count if isinstance(self.frames, FrameFeatures) else len(self.frames)
        if len(self.window) != count:
            raise InputError(f"a window of {len(self.window)} rows came with {count} frames")

    def cut(self, size: int) -> list[AskedWindow]:
        """The same in pieces of at most ``size`` frames (of features: in image mode, where frames are independent)."""
        if len(self.window) <= size:
            return [self]
        return [self._piece(start, start + size) for start in range(0, len(self.window), size)]

    def _piece(self, start: int, end: int) -> AskedWindow:
        similarities = self.window.similarities
        part = Window(self.window.rows[start:end], None if similarities is None else similarities[start:end])
        whole = self.frames
        if not isinstance(whole, FrameFeatures):
            return AskedWindow(self.question, part, whole[start:end])
        features = replace(
            whole,
            items=whole.items[start:end],
            grids=whole.grids[start:end],
            frame_count=len(whole.items[start:end]),
            key=f"{whole.key}:{start}-{end}",
            seconds=whole.seconds if start == 0 else {},
        )
        return AskedWindow(self.question, part, features)


@dataclass(frozen=True, slots=True, eq=False)
class PieceScored:
    """Entries of a reply that is still being written about a window, or a piece of it."""

    piece: AskedWindow
    scores: Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class WindowRead:
    """The replies about a window: one, or where it had to be cut, one about each of its pieces, in order."""

    window: AskedWindow
    replies: tuple[tuple[AskedWindow, WindowScores], ...]


@dataclass(frozen=True, slots=True, eq=False)
class WindowFailed:
    """Why there is no reply about a window."""

    window: AskedWindow
    error: Exception


WindowEvent: TypeAlias = PieceScored | WindowRead | WindowFailed


class WindowReader:
    """Reads windows with a model, in pieces where the device's memory does not suffice for a whole one.

    The size that fits is remembered: a device that could not hold a window will not hold it the next time.

    Args:
        model: the model.

    Attributes:
        limit: how many frames a window may have; None as long as all fitted.
    """

    def __init__(self, model: FineModel) -> None:
        self._model = model
        self.limit: int | None = None

    def read(
        self, windows: Sequence[AskedWindow], questions: Mapping[int, str], *, partial: bool = False
    ) -> Generator[WindowEvent, None, None]:
        """Read many windows for many questions together.

        Args:
            windows: the windows.
            questions: index -> plain text.
            partial: also give :class:`PieceScored`.

        Yields:
            Events; of each window one :class:`WindowRead` or :class:`WindowFailed`.

        Raises:
            InputError: a question is not legal.
        """
        unread = dict(enumerate(windows))
        while unread:
            pieces = [(i, piece) for i, whole in unread.items() for piece in whole.cut(self.limit or len(whole.window))]
            replies: dict[int, WindowScores] = {}
            missing = Counter(number for number, _ in pieces)
            requests = [Request(i, questions[piece.question], piece.frames) for i, (_, piece) in enumerate(pieces)]
            with closing(self._model.read(requests, partial=partial)) as events:
                for event in events:
                    number, piece = pieces[event.request_id]
                    if isinstance(event, FramesScored):
                        yield PieceScored(piece, event.scores)
                    elif isinstance(event, ReplyFinished):
                        replies[event.request_id] = event.reply
                        missing[number] -= 1
                        if not missing[number]:
                            own = [i for i, (whole, _) in enumerate(pieces) if whole == number]
                            yield WindowRead(unread.pop(number), tuple((pieces[i][1], replies[i]) for i in own))
                    elif isinstance(event.error, OutOfMemoryError) and len(piece.window) > 1:
                        largest = max(len(piece.window) for _, piece in pieces)
                        self.limit = (largest + 1) // 2
                        break
                    elif number in unread:
                        yield WindowFailed(unread.pop(number), event.error)
                else:
                    for number in list(unread):
                        error = ModelError(
                            f"{self._model.name} gave no reply to one of {len(windows)} windows; its read must end "
                            "each request with an event (see hybrid.fine.interface.FineModel)"
                        )
                        yield WindowFailed(unread.pop(number), error)


def merge(scores: npt.NDArray[np.int8], rows: npt.NDArray[Any], given: Mapping[int, int]) -> None:
    """Map the scores of a window's positions to rows; where a row has a score, the higher one stands.

    Args:
        scores: int8 [rows of the index], is changed.
        rows: of the window, by position.
        given: position -> 1..5.
    """
    for position, score in given.items():
        row = rows[position]
        scores[row] = max(int(scores[row]), score)
