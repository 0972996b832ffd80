"""From windows to scores of rows: the mapping, several windows, and a device that is too small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from hybrid.errors import InputError, OutOfMemoryError
from hybrid.fine.interface import WindowScores
from hybrid.fine.reply import parse_reply
from hybrid.fine.windows import (
    AskedWindow,
    FineScores,
    WindowFailed,
    WindowRead,
    WindowReader,
    consecutive_windows,
    merge,
)
from hybrid.retrieve.windows import window_of_hits
from hybrid.values import ByteArray, Hits, Window
from tests.fine.reading import OneByOne


def score_windows(
    model: ByBrightness, windows: Sequence[tuple[Window, list[ByteArray]]], question: str, *, rows: int
) -> FineScores:
    """All windows of one question, one after another."""
    reader, scores = WindowReader(model), np.zeros(rows, dtype=np.int8)
    replies: list[WindowScores] = []
    for window, frames in windows:
        for event in reader.read([AskedWindow(0, window, frames)], {0: question}):
            if isinstance(event, WindowFailed):
                raise event.error
            assert isinstance(event, WindowRead)
            for piece, reply in event.replies:
                merge(scores, piece.window.rows, reply.scores)
                replies.append(reply)
    return FineScores(scores, tuple(replies), reader.limit)


class ByBrightness(OneByOne):
    """Scores each frame by its own brightness, and holds at most ``room`` frames."""

    name, identity, device = "by-brightness", {"kind": "test"}, "cpu"

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.sizes: list[int] = []

    def prepare(self, frame: ByteArray) -> ByteArray:
        return frame

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        if len(frames) > self.room:
            raise OutOfMemoryError(f"{len(frames)} frames do not fit")
        self.sizes.append(len(frames))
        scores: Mapping[int, int] = {i: int(f[0, 0, 0]) for i, f in enumerate(frames) if f[0, 0, 0] > 0}
        return WindowScores(scores=scores, status="ok" if scores else "empty", text="{}")


def frames_of(window: Window, brightness: dict[int, int]) -> list[ByteArray]:
    return [np.full((2, 2, 3), brightness.get(int(row), 0), dtype=np.uint8) for row in window.rows]


BRIGHT = {3: 5, 40: 4, 41: 2, 99: 1}


def test_a_position_becomes_a_row_only_through_its_window() -> None:
    window = Window(rows=np.array([3, 17, 40, 99]))
    fine = score_windows(ByBrightness(), [(window, frames_of(window, BRIGHT))], "?", rows=100)
    assert {int(row): int(fine.scores[row]) for row in np.flatnonzero(fine.scores)} == {3: 5, 40: 4, 99: 1}
    assert fine.cut_to is None


def test_the_higher_of_two_windows_stands() -> None:
    first, second = Window(rows=np.array([5, 6])), Window(rows=np.array([6, 7]))
    fine = score_windows(
        ByBrightness(), [(first, frames_of(first, {6: 2})), (second, frames_of(second, {6: 4, 7: 3}))], "?", rows=8
    )
    assert fine.scores.tolist() == [0, 0, 0, 0, 0, 0, 4, 3]


@pytest.mark.parametrize("room", [1, 2, 7, 25, 99, 100])
def test_a_device_that_is_too_small_gives_the_same_scores_in_smaller_windows(room: int) -> None:
    scorer = ByBrightness(room)
    windows = [(window, frames_of(window, BRIGHT)) for window in consecutive_windows(np.arange(100), 60)]
    fine = score_windows(scorer, windows, "?", rows=100)
    assert {int(row): int(fine.scores[row]) for row in np.flatnonzero(fine.scores)} == BRIGHT
    assert sum(scorer.sizes) == 100
    assert max(scorer.sizes) <= room
    assert (fine.cut_to is not None) == (room < 60)


def test_a_single_frame_that_does_not_fit_is_an_error() -> None:
    window = Window(rows=np.array([0, 1]))
    with pytest.raises(OutOfMemoryError):
        score_windows(ByBrightness(0), [(window, frames_of(window, {}))], "?", rows=2)


def test_a_window_and_its_frames_must_match() -> None:
    with pytest.raises(InputError, match="2 rows came with 1 frames"):
        score_windows(ByBrightness(), [(Window(rows=np.array([0, 1])), [np.zeros((1, 1, 3), np.uint8)])], "?", rows=2)


def test_consecutive_windows_hold_every_frame_once() -> None:
    windows = consecutive_windows(np.arange(600), 256)
    assert [len(window) for window in windows] == [256, 256, 88]
    assert np.concatenate([window.rows for window in windows]).tolist() == list(range(600))
    with pytest.raises(InputError, match="at least 1"):
        consecutive_windows(np.arange(10), 0)


def test_hits_are_shown_in_time_order_with_their_similarities() -> None:
    hits = Hits(rows=np.array([40, 3, 99, 17]), similarities=np.float32([0.4, 0.3, 0.2, 0.1]))
    window = window_of_hits(hits, 3)
    assert window.rows.tolist() == [3, 40, 99]
    assert window.similarities is not None
    assert window.similarities.tolist() == np.float32([0.3, 0.4, 0.2]).tolist()


def test_the_published_reply_in_a_scattered_window() -> None:
    window = Window(rows=np.arange(0, 510, 10))
    reply = '{"11-12": 5, "16-21": 4, "28-30": 4, "46-49": 4, "22-27": 3, "33": 2}'

    class Recorded(ByBrightness):
        def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
            parsed = parse_reply(reply, len(frames))
            return WindowScores(scores=parsed.scores, status=parsed.status, text=reply)

    fine = score_windows(Recorded(), [(window, frames_of(window, {}))], "?", rows=510)
    assert np.flatnonzero(fine.scores == 5).tolist() == [110, 120]
    assert np.count_nonzero(fine.scores) == 22
