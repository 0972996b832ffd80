"""Build the approximate index of an archive, and bring it up to date.

Its cost follows from what is new: videos that no segment covers yet wait, searched exactly, until they have
:data:`SEGMENT_FRAMES` frames together; then their codes become one more segment, whatever there is
already. A process that is killed leaves whole segments and perhaps a temporary file; the next one
goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.errors import IndexDamagedError, VideoNotIndexedError
from hybrid.storage.atomic import write_errors
from hybrid.storage.json_record import JsonRecord
from hybrid.storage.locks import Locks
from hybrid.values import Float32Array
from indexes.ann.files import ApproximateFiles, Pointer, Segment, dimensions_of, name_of
from indexes.ann.product_quantizer import Codebook, encode, train_codebook
from indexes.ann.segmentation import cut_units
from indexes.archive.reader import ArchiveReader
from indexes.format.layout import Layout
from indexes.format.location import is_remote
from indexes.format.manifest import Manifest
from indexes.stores.vectors import run_checksums

__all__ = ["FROM_FRAMES", "SEGMENT_FRAMES", "ApproximateUpdate", "update_approximate"]

FROM_FRAMES = 2**20
"""From so many frames of one dimension on, an approximate index is made: 291 hours at one a second.

Below, an exact search takes less than a tenth of a second of one core (``bench/latency/archive``).
"""

SEGMENT_FRAMES = 2**16
"""A segment has at least so many frames, 18 hours. Fewer are searched exactly in about six milliseconds of one core."""

_TRAINING_UNITS = 2**15
_TRAINING_VIDEOS = 64
_LEAST_TRAINING_UNITS = 16
_GROWTH = 8
"""When an archive has grown to so many times what its codebook was made for, ``compact`` makes it anew."""


@dataclass(frozen=True, slots=True)
class ApproximateUpdate(JsonRecord):
    """What was done for the vectors of one dimension.

    Attributes:
        dimension: which.
        trained: whether a codebook was made.
        segments_added, segments_removed: how many files.
        videos_added: how many videos are covered that were not.
        frames, covered_frames: of the archive, and how many of them are covered now.
        note: why none are; None if some are.
    """

    what = "an update of an approximate index"

    dimension: int
    trained: bool
    segments_added: int
    segments_removed: int
    videos_added: int
    frames: int
    covered_frames: int
    note: str | None = None


def update_approximate(
    archive: ArchiveReader,
    *,
    from_frames: int | None = None,
    segment_frames: int | None = None,
    renew: bool = False,
    timeout: float = 0.0,
) -> list[ApproximateUpdate]:
    """Have the approximate index cover what the archive holds now; make one where it is large enough for it.

    Args:
        archive: whose. Others may read and write it meanwhile. A remote one is searched exactly, whatever its size.
        from_frames: make one from so many frames of one dimension on, by default :data:`FROM_FRAMES`. One that is
            there is kept up anyway.
        segment_frames: a segment has at least so many frames, by default :data:`SEGMENT_FRAMES`.
        renew: make a new codebook where the archive has outgrown the old one.
        timeout: seconds to wait for another process that does this.

    Raises:
        ArchiveLockedError: another process does this, and still did after ``timeout``.
        ArchiveError: the archive cannot be written.
    """
    if is_remote(archive.uri):
        return []
    least = FROM_FRAMES if from_frames is None else from_frames
    size = SEGMENT_FRAMES if segment_frames is None else segment_frames
    if not _by_dimension(archive, least):
        return []
    what = f"the approximate index of archive {archive.folder}"
    lock = Locks(Layout(archive.folder).locks).take("approximate", what=what, timeout=timeout)
    with write_errors(f"{what} could not be written"), lock:
        # Asked again: by what was known before the wait, the segments that another process wrote
        # meanwhile would be of removed videos, and be deleted.
        return [
            _Update(archive, dimension, manifests, size).run(renew=renew)
            for dimension, manifests in sorted(_by_dimension(archive, least).items())
        ]


def _by_dimension(archive: ArchiveReader, least: int) -> dict[int, list[Manifest]]:
    """The videos of each dimension that has an approximate index, or frames enough for one."""
    present = dimensions_of(archive.folder)
    by_dimension: dict[int, list[Manifest]] = {dimension: [] for dimension in present}
    for manifest in archive.manifests():
        by_dimension.setdefault(manifest.dimension, []).append(manifest)
    return {
        dimension: manifests
        for dimension, manifests in by_dimension.items()
        if dimension in present or sum(manifest.frames for manifest in manifests) >= least
    }


class _Update:
    """One update of one dimension, under the lock."""

    def __init__(
        self, archive: ArchiveReader, dimension: int, manifests: Sequence[Manifest], segment_frames: int
    ) -> None:
        self._archive = archive
        self._dimension = dimension
        self._manifests = {name_of(manifest): manifest for manifest in manifests}
        self._segment_frames = segment_frames
        self._files = ApproximateFiles(archive.folder, dimension)
        self._removed = 0

    def run(self, *, renew: bool) -> ApproximateUpdate:
        self._files.clean()
        frames = sum(manifest.frames for manifest in self._manifests.values())
        pointer, book = self._current()
        outgrown = pointer is not None and frames >= _GROWTH * max(1, pointer.trained_frames)
        trained = False
        if book is None or (renew and outgrown):
            fresh = self._train()
            if fresh is None:
                note = f"{frames} frames are too few, or too much alike, to learn codes from"
                return ApproximateUpdate(self._dimension, False, 0, 0, 0, frames, 0, note)
            book, trained = fresh, True
            pointer = Pointer(self._files.write_codebook(book.centroids, self._dimension), frames)
            self._files.point(pointer)
        assert pointer is not None
        covered = self._sweep(pointer)
        added = list(self._add(pointer, book, covered))
        covered |= {name for names in added for name in names}
        waiting = f"videos wait until they have {self._segment_frames} frames together; now they have {frames}"
        return ApproximateUpdate(
            dimension=self._dimension,
            trained=trained,
            segments_added=len(added),
            segments_removed=self._removed,
            videos_added=sum(map(len, added)),
            frames=frames,
            covered_frames=sum(self._manifests[name].frames for name in covered),
            note=None if covered else waiting,
        )

    def _current(self) -> tuple[Pointer | None, Codebook | None]:
        try:
            pointer = self._files.pointer()
            return (None, None) if pointer is None else (pointer, Codebook(*self._files.codebook(pointer.codebook)))
        except IndexDamagedError:
            return None, None

    def _train(self) -> Codebook | None:
        """A codebook from videos spread over the archive; None if there is too little to learn from."""
        names = sorted(self._manifests)
        chosen = names[:: max(1, len(names) // _TRAINING_VIDEOS)]
        means = [cut_units(vectors).means for _, vectors in self._vectors(chosen)]
        units = np.concatenate(means) if means else np.zeros((0, self._dimension), dtype=np.float32)
        if len(units) < _LEAST_TRAINING_UNITS:
            return None
        return train_codebook(units[:: -(-len(units) // _TRAINING_UNITS)])

    def _vectors(self, names: Sequence[str]) -> Iterator[tuple[str, Float32Array]]:
        for name in names:
            try:
                yield name, self._archive.read(self._manifests[name])
            except (IndexDamagedError, VideoNotIndexedError):
                continue  # damaged, or gone meanwhile: it stays with the exact search, which says so

    def _sweep(self, pointer: Pointer) -> set[str]:
        """Delete what is no longer used; return what the sound segments cover."""
        covered: set[str] = set()
        segments = set(self._files.segments(pointer.codebook))
        for name in self._files.names():
            if name.startswith(("segment-", "codebook-")) and name not in segments and pointer.codebook not in name:
                self._remove(name)
        for name in sorted(segments):
            live = self._live(name)
            # What another segment covers already is not needed twice.
            if live is None or not live - covered:
                self._remove(name)
            else:
                covered |= live
        return covered

    def _live(self, name: str) -> set[str] | None:
        """The videos of a segment that are still indexed as they were; None if it should go."""
        try:
            segment = self._files.segment(name)
        except IndexDamagedError:
            return None
        if segment.checksums is None:  # of an early version: made anew, with checksums
            return None
        live = [video in self._manifests for video in segment.videos]
        # Codes of videos that were removed are only ballast, until they are most of it.
        if 2 * int(segment.frames[live].sum()) < int(segment.frames.sum()):
            return None
        return {video for video, is_live in zip(segment.videos, live, strict=True) if is_live}

    def _remove(self, name: str) -> None:
        self._files.remove(name)
        self._removed += 1

    def _add(self, pointer: Pointer, book: Codebook, covered: set[str]) -> Iterator[tuple[str, ...]]:
        """Write a segment for every so many frames that are not covered; their videos."""
        waiting: list[str] = []
        frames = 0
        for name in sorted(self._manifests.keys() - covered):
            waiting.append(name)
            frames += self._manifests[name].frames
            if frames >= self._segment_frames:
                segment = _segment(book, self._vectors(waiting), self._manifests)
                waiting, frames = [], 0
                if segment is not None:
                    self._files.write_segment(pointer.codebook, segment)
                    yield segment.videos


def _segment(
    book: Codebook, vectors: Iterator[tuple[str, Float32Array]], manifests: Mapping[str, Manifest]
) -> Segment | None:
    """The codes of some videos; None if not one of them could be read."""
    videos, units, starts, codes, checksums = [], [], [], [], []
    for name, rows in vectors:
        if len(rows) != manifests[name].frames:
            continue  # damaged
        cut = cut_units(rows)
        videos.append(name)
        units.append(len(cut.starts))
        starts.append(cut.starts.astype(np.int32))
        codes.append(encode(book, cut.means))
        checksums.append(run_checksums(rows.astype("<f2"), cut.starts))
    if not videos:
        return None
    frames = np.array([manifests[name].frames for name in videos], dtype=np.int32)
    counts = np.array(units, dtype=np.int32)
    return Segment(
        tuple(videos), frames, counts, np.concatenate(starts), np.concatenate(codes), np.concatenate(checksums)
    )
