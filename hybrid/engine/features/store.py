"""The features of a video's frames: from the store where it has them, else from the video, and into the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hybrid.engine.features.encoder import Tower
from hybrid.engine.frames.decode_ahead import prefetched_frames
from hybrid.engine.videos import OpenedVideo
from hybrid.errors import ArchiveError, FrameDecodeError, IndexDamagedError, VideoOpenError
from hybrid.fine.interface import FeatureModel
from hybrid.formatting import plural
from hybrid.frames.interface import FrameSource
from hybrid.progress import Progress
from hybrid.runtime import model_errors
from hybrid.values import IntArray, Timeline
from indexes.archive.writer import Archive
from indexes.format.feature_list import FeatureItem, FeatureSpec
from indexes.format.manifest import Manifest

__all__ = ["FeatureReader", "Rows", "fill_features", "is_complete"]

LOCK_SECONDS = 2.0
"""How long a question waits for another process that writes the video, before it does without storing."""
ROWS_PER_WRITE = 512


@dataclass(slots=True)
class Rows:
    """Features of some rows, and how they were had.

    Attributes:
        items: row -> features.
        stored: rows that came from the store.
        encoded: rows that were decoded and went through the vision encoder now.
        seconds: of reading and decoding.
        tower_seconds: of the vision encoder, by part.
        frames_decoded: frames that the decoder had to decode.
        notes: what the reader of the answer should know.
    """

    items: dict[int, FeatureItem] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    encoded: set[int] = field(default_factory=set)
    seconds: float = 0.0
    tower_seconds: dict[str, float] = field(default_factory=dict)
    frames_decoded: int = 0
    notes: list[str] = field(default_factory=list)


class FeatureReader:
    """Gives the features of rows of one video.

    Args:
        archive: where features are stored.
        manifest, timeline: of the video's index.
        scorer: whose features; its vision encoder makes those that are not stored.
        video: for these.
        keep: whether to read from the store and to write to it.
    """

    def __init__(
        self,
        archive: Archive,
        manifest: Manifest,
        timeline: Timeline,
        scorer: FeatureModel,
        video: OpenedVideo,
        *,
        keep: bool,
    ) -> None:
        self._archive, self._manifest, self.timeline = archive, manifest, timeline
        self._scorer, self._video, self._keep = scorer, video, keep

    def fetch(self, rows: IntArray) -> Rows:
        """The features of rows; one that cannot be decoded now is left out.

        Raises:
            VideoError: some are not stored, and the video cannot be read.
            ModelError: the vision encoder failed.
        """
        started = time.perf_counter()
        found = Rows()
        with Tower(self._scorer) as tower:
            damaged = self._from_store(rows, tower.spec, found) if self._keep else set()
            absent = np.array([row for row in rows.tolist() if row not in found.items], dtype=np.int64)
            if len(absent):
                fresh = self._from_video(absent, tower, found)
                if self._keep and fresh:
                    self._store(tower.spec, fresh, damaged, found)
            found.tower_seconds = dict(tower.seconds)
        found.seconds = time.perf_counter() - started - tower.total_seconds
        return found

    def _from_store(self, rows: IntArray, spec: FeatureSpec, found: Rows) -> set[int]:
        """Take what is stored; give the rows whose stored features are damaged."""
        try:
            stored = self._archive.features(self._manifest, spec)
        except IndexDamagedError as exc:
            found.notes.append(f"the stored features cannot be used and are made anew: {exc}")
            return set(rows.tolist())
        if stored is None:
            others = self._archive.feature_lists(self._manifest)
            found.notes += [f"stored features are not used: {'; '.join(o.spec.differences(spec))}" for o in others]
            return set()
        found.items.update(stored.read(rows))
        found.stored.update(found.items)
        damaged = {row for row in rows[stored.present[rows]].tolist() if row not in found.items}
        if damaged:
            found.notes.append(f"the stored features of {plural(len(damaged), 'frame')} are damaged and are made anew")
        return damaged

    def _from_video(self, absent: IntArray, tower: Tower, found: Rows) -> dict[int, FeatureItem]:
        if self._video.missing_reason is not None and self._keep:
            raise VideoOpenError(
                f"{self._video.missing_reason}, and there are no stored features of {len(absent)} of "
                f"{plural(len(absent) + len(found.stored), 'frame')}"
            )
        source = self._video.source()
        fresh: dict[int, FeatureItem] = {}
        try:
            for row, item in encode_rows(self.timeline, source, absent, tower):
                fresh[row] = item
            found.frames_decoded = source.report().frames_decoded
        except FrameDecodeError:
            if not found.items:
                raise
        found.items.update(fresh)
        found.encoded.update(fresh)
        return fresh

    def _store(self, spec: FeatureSpec, fresh: dict[int, FeatureItem], damaged: set[int], found: Rows) -> None:
        try:
            self._archive.add_features(self._manifest, spec, fresh, damaged=damaged, timeout=LOCK_SECONDS)
        except ArchiveError as exc:  # the answer does not depend on it
            found.notes.append(f"the features could not be kept for the next question: {exc}")


def encode_rows(
    timeline: Timeline, source: FrameSource, rows: IntArray, tower: Tower
) -> Iterator[tuple[int, FeatureItem]]:
    """Decode rows of a video and run the vision encoder; a row that cannot be decoded is left out.

    Args:
        timeline: of the video.
        source: open, with the timeline's sampling.
        rows: int64, increasing.
        tower: nothing is held in it.

    Yields:
        Row and features, in order.
    """
    row_of = {int(timeline.ordinals[row]): int(row) for row in rows}
    pushed: list[int] = []
    given = 0
    with prefetched_frames(source.read(ordinals=list(row_of))) as batches:
        for batch in batches:
            for ordinal, frame in zip(batch.ordinals.tolist(), batch.rgb, strict=True):
                pushed.append(row_of[ordinal])
                with model_errors("the sampler"):
                    items = tower.push(frame)
                yield from zip(pushed[given : given + len(items)], items, strict=True)
                given += len(items)
    with model_errors("the sampler"):
        items = tower.flush()
    yield from zip(pushed[given:], items, strict=True)


def is_complete(present: Iterable[bool], timeline: Timeline) -> bool:
    """Whether every distinct frame of a video has features."""
    return bool(np.asarray(present)[timeline.distinct_rows()].all())


def fill_features(archive: Archive, manifest: Manifest, path: Path, scorer: FeatureModel, *, progress: Progress) -> int:
    """Make and store the features that an indexed video lacks, some hundred frames at a time.

    Args:
        archive: the caller holds the video's lock.
        manifest: of the index.
        path: where the video lies.
        scorer: whose features.
        progress: is told how far it is.

    Returns:
        How many frames were encoded.

    Raises:
        VideoError: the video cannot be read.
        ModelError: the vision encoder failed.
        ArchiveError: they cannot be written.
    """
    timeline = archive.timeline(manifest)
    rows = timeline.distinct_rows()
    with (
        OpenedVideo(path, timeline, manifest, missing_reason=None, archive_uri=archive.uri) as video,
        Tower(scorer) as tower,
    ):
        missing, damaged = _missing(archive, manifest, tower.spec, rows)
        if not len(missing):
            return 0
        progress.expect(len(missing))
        progress.stage("features")
        count, block = 0, dict[int, FeatureItem]()
        for row, item in encode_rows(timeline, video.source(), missing, tower):
            block[row] = item
            progress.advance(1)
            if len(block) == ROWS_PER_WRITE:
                count += archive.add_features(manifest, tower.spec, block, damaged=damaged)
                block = {}
        return count + (archive.add_features(manifest, tower.spec, block, damaged=damaged) if block else 0)


def _missing(archive: Archive, manifest: Manifest, spec: FeatureSpec, rows: IntArray) -> tuple[IntArray, set[int]]:
    """Rows without sound features, and which of them are stored but damaged."""
    try:
        stored = archive.features(manifest, spec)
    except IndexDamagedError:
        return rows, set(rows.tolist())
    if stored is None:
        return rows, set()
    missing = rows[~stored.sound(rows)]
    return missing, set(missing[stored.present[missing]].tolist())
