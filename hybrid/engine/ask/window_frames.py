"""The frames of GenS's windows, decoded when a question is asked.

A frame that cannot be decoded now is taken out of its window, so that position and row stay together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hybrid.frames.source import FrameSource
from hybrid.values import ByteArray, Timeline, Window

__all__ = ["Reading", "frames_of_windows", "only"]


@dataclass(slots=True)
class Reading:
    """What reading the windows' frames took and could not get.

    Attributes:
        asked_for: how many frames the windows have.
        seconds: how long it took.
        frames: how many were had.
        missing: ordinals of those that could not be decoded.
        frames_decoded: how many frames the decoder had to decode.
        from_store: how many were not decoded, because their features are stored.
        notes: what the reader of the answer should know.
    """

    asked_for: int
    seconds: float = 0.0
    frames: int = 0
    missing: list[int] = field(default_factory=list)
    frames_decoded: int = 0
    from_store: int = 0
    notes: list[str] = field(default_factory=list)


def frames_of_windows(
    timeline: Timeline,
    source: FrameSource,
    windows: Sequence[Window],
    prepare: Callable[[ByteArray], ByteArray],
    reading: Reading,
) -> Iterator[tuple[Window, list[ByteArray]]]:
    """Each window with its frames, each brought to the size that the model sees as it is decoded.

    Args:
        timeline: of the video.
        source: open, with the timeline's sampling.
        windows: disjoint and in time order.
        prepare: brings a frame to its size.
        reading: is told what it took and what is missing.
    """
    wanted = timeline.ordinals[np.concatenate([window.rows for window in windows])]
    started = time.perf_counter()
    images = _Ahead(
        (int(batch.ordinals[i]), prepare(batch.rgb[i]))
        for batch in source.read(ordinals=[int(ordinal) for ordinal in wanted])
        for i in range(len(batch))
    )
    for window in windows:
        kept: list[int] = []
        frames: list[ByteArray] = []
        for row in window.rows:
            image = images.take(int(timeline.ordinals[row]))
            if image is None:
                reading.missing.append(int(timeline.ordinals[row]))
            else:
                kept.append(int(row))
                frames.append(image)
        reading.frames += len(frames)
        reading.seconds += time.perf_counter() - started
        if frames:
            yield only(window, kept), frames
        started = time.perf_counter()
    images.exhaust()
    reading.frames_decoded = source.report().frames_decoded
    reading.seconds += time.perf_counter() - started


class _Ahead:
    """Images in order of ordinals, taken one by one; a missing one is noticed by its successor."""

    def __init__(self, images: Iterator[tuple[int, ByteArray]]) -> None:
        self._images = images
        self._next = next(images, None)

    def take(self, ordinal: int) -> ByteArray | None:
        if self._next is None or self._next[0] != ordinal:
            return None
        image = self._next[1]
        self._next = next(self._images, None)
        return image

    def exhaust(self) -> None:
        for _ in self._images:
            pass


def only(window: Window, rows: list[int]) -> Window:
    """The window without the rows that are not among ``rows``."""
    if len(rows) == len(window):
        return window
    keep = np.isin(window.rows, rows)
    similarities = None if window.similarities is None else window.similarities[keep]
    return Window(rows=window.rows[keep], similarities=similarities)
