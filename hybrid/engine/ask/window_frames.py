"""What a model sees of the windows of questions: frames that are decoded now, or features.

A frame that cannot be had is taken out of its window, so that position and row stay together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from hybrid.engine.features.encoder import features_of, spec_of
from hybrid.engine.features.store import FeatureReader, Rows
from hybrid.engine.videos import OpenedVideo
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import FeatureModel
from hybrid.fine.windows import AskedWindow
from hybrid.values import ByteArray, Timeline, Window
from indexes.format.feature_list import FeatureSpec

__all__ = ["Reading", "windows_of_features", "windows_of_frames"]

ROWS_AT_ONCE = 8192
"""Frames whose features are held in memory together: 512 MiB of a 3B model in 16 bits."""


@dataclass(slots=True)
class Reading:
    """What reading the frames of a question's windows took, and what could not be read.

    Attributes:
        requested: how many frames the windows have.
        seconds: how long it took.
        frames: how many frames the model sees.
        missing: ordinals of those that could not be decoded.
        empty_windows: how many windows have no frame left.
        frames_decoded: how many frames the decoder had to decode.
        from_store: how many were not decoded, because their features are stored.
        notes: what the reader of the answer should know.
    """

    requested: int
    seconds: float = 0.0
    frames: int = 0
    missing: list[int] = field(default_factory=list)
    empty_windows: int = 0
    frames_decoded: int = 0
    from_store: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, window: Window, rows: Sequence[int], timeline: Timeline) -> Window | None:
        """Count a window of which ``rows`` can be had; the window that is left, if one is."""
        self.frames += len(rows)
        if len(rows) == len(window):
            return window
        keep = np.isin(window.rows, rows)
        self.missing += timeline.ordinals[window.rows[~keep]].tolist()
        self.empty_windows += not len(rows)
        similarities = None if window.similarities is None else window.similarities[keep]
        return Window(rows=window.rows[keep], similarities=similarities) if len(rows) else None


Job: TypeAlias = tuple[int, Window, Reading]
"""The index of a question, one of its windows, and what is known of its frames."""


def windows_of_frames(
    question: int,
    windows: Sequence[Window],
    video: OpenedVideo,
    prepare: Callable[[ByteArray], ByteArray],
    reading: Reading,
) -> Generator[list[AskedWindow], None, None]:
    """Each window with its frames, each brought to the size that the model sees as it is decoded.

    Args:
        question: index of the question.
        windows: disjoint and in time order.
        video: where frames come from.
        prepare: brings a frame to its size.
        reading: is filled in.

    Raises:
        VideoError: the video cannot be read.
    """
    source, timeline = video.source(), video.timeline
    reading.seconds += video.take_seconds()
    started = time.perf_counter()
    ordinals = timeline.ordinals[np.concatenate([window.rows for window in windows])]
    images = _InOrder(
        (int(batch.ordinals[i]), prepare(batch.rgb[i]))
        for batch in source.read(ordinals=ordinals.tolist())
        for i in range(len(batch))
    )
    for number, window in enumerate(windows, start=1):
        found = {int(row): images.take(int(timeline.ordinals[row])) for row in window.rows}
        frames = {row: image for row, image in found.items() if image is not None}
        left = reading.add(window, list(frames), timeline)
        if number == len(windows):
            images.exhaust()
            reading.frames_decoded = source.report().frames_decoded
        reading.seconds += time.perf_counter() - started
        if left is not None:
            yield [AskedWindow(question, left, list(frames.values()))]
        started = time.perf_counter()


class _InOrder:
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


def windows_of_features(
    jobs: Sequence[Job], reader: FeatureReader, model: FeatureModel
) -> Generator[list[AskedWindow], None, None]:
    """Windows of all questions with their features, as many at a time as memory should hold.

    Args:
        jobs: the windows; their readings are filled in.
        reader: gives features.
        model: whose features.

    Raises:
        VideoError: features are not stored, and the video cannot be read.
        ModelError: the vision encoder failed.
    """
    for group in _groups(jobs):
        rows = reader.fetch(np.unique(np.concatenate([window.rows for _, window, _ in group])))
        yield _with_features(group, rows, spec_of(model), reader.timeline)


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Windows of all questions, as many together as memory should hold the features of."""
    group: list[Job] = []
    held: set[int] = set()
    for job in jobs:
        rows = set(job[1].rows.tolist())
        if group and len(held | rows) > ROWS_AT_ONCE:
            yield group
            group, held = [], set()
        group.append(job)
        held |= rows
    if group:
        yield group


def _with_features(jobs: Sequence[Job], rows: Rows, spec: FeatureSpec, timeline: Timeline) -> list[AskedWindow]:
    """The windows with their features; frames that cannot be had are taken out."""
    made: dict[bytes, FrameFeatures] = {}
    unclaimed = set(rows.encoded)
    readings = {question: reading for question, _, reading in jobs}
    for reading in readings.values():
        reading.seconds += rows.seconds / len(readings)
        reading.frames_decoded = max(reading.frames_decoded, rows.frames_decoded)
        reading.notes += [note for note in rows.notes if note not in reading.notes]
    asked: list[AskedWindow] = []
    for question, window, reading in jobs:
        found = [row for row in window.rows.tolist() if row in rows.items]
        reading.from_store += len(rows.stored.intersection(found))
        left = reading.add(window, found, timeline)
        if left is None:
            continue
        name = left.rows.tobytes()
        if name not in made:
            # Who first needs a frame is charged with what its features took.
            own = unclaimed.intersection(found)
            unclaimed -= own
            share = len(own) / max(1, len(rows.encoded))
            seconds = {part: share * took for part, took in rows.tower_seconds.items()} if own else {}
            made[name] = features_of([rows.items[row] for row in found], spec, seconds=seconds)
        asked.append(AskedWindow(question, left, made[name]))
    return asked
