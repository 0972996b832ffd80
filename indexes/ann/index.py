"""The approximate index in memory: which units of which videos are probably nearest to a query.

Everything is scanned, by codes of 4 bits a part; what comes out is then compared exactly by
:mod:`indexes.search.approximate_search`. The index follows its files: what was added since is read before
each question. A video counts as covered only under the generation that its manifest names now.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from hybrid.errors import IndexDamagedError
from hybrid.values import Float32Array
from indexes.ann.code_scan import Scan
from indexes.ann.files import MISSING, ApproximateFiles, Segment
from indexes.ann.product_quantizer import Codebook, Codes

__all__ = ["ApproximateIndex", "NearUnits", "Selection"]

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class NearUnits:
    """Units in order of their approximate similarity, best first.

    Attributes:
        video: index of each one's video in the names that were asked for.
        first, end: the rows of each unit within its video.
        scores: approximate similarities.
        checksums: uint64, of the vectors of each unit; meaningless where they are not ``proven``.
        proven: whether they are known.
    """

    video: Int32Array
    first: Int32Array
    end: Int32Array
    scores: Float32Array
    checksums: npt.NDArray[np.uint64]
    proven: npt.NDArray[np.bool_]

    def part(self, step: slice) -> NearUnits:
        """Some of them."""
        return NearUnits(*(getattr(self, column.name)[step] for column in fields(self)))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The units of the videos that one question is about, ready to be scanned.

    Attributes:
        names: the videos, ``<video id>-<generation>``.
        units: which units of the whole index they have, in order of ``names``.
        video: index of each unit's video in ``names``.
        scan: what scans them; says where it does.
    """

    names: tuple[str, ...]
    units: npt.NDArray[np.int64]
    video: Int32Array
    scan: Scan


class ApproximateIndex:
    """All sound segments of one dimension. Not for several threads at once.

    Attributes:
        problems: what is damaged; empty if all is sound.
    """

    def __init__(self, files: ApproximateFiles) -> None:
        """Nothing is read by this."""
        self._files = files
        self._book: Codebook | None = None
        self._book_name = ""
        self._segments: dict[str, Segment | None] = {}
        self._damaged: dict[str, tuple[int, int, int]] = {}
        self._units_of_video: dict[str, tuple[int, int]] = {}
        self._starts = self._ends = np.zeros(0, dtype=np.int32)
        self._checksums, self._proven = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=bool)
        self._codes: Codes = np.zeros((0, 0), dtype=np.uint8)
        self._selection: Selection | None = None
        self.problems: tuple[str, ...] = ()

    @property
    def segments(self) -> int:
        """How many sound segments there are."""
        return sum(segment is not None for segment in self._segments.values())

    def refresh(self) -> bool:
        """Read what writers have done since; whether there is an approximate index at all."""
        before = self._files.stamp("index.json")
        try:
            pointer = self._files.pointer()
            if pointer is None:
                self._forget(())
                return False
            if pointer.codebook != self._book_name:
                self._forget(())
                self._book = Codebook(*self._files.codebook(pointer.codebook))
                self._book_name = pointer.codebook
        except IndexDamagedError as exc:
            if self._files.stamp("index.json") != before:  # replaced meanwhile, and the old codebook deleted
                return self.refresh()
            self._forget((str(exc),))
            return True
        names = self._files.segments(pointer.codebook)
        # A damaged segment may have been written anew under its name.
        if names != list(self._segments) or any(
            self._files.stamp(name) != stamp for name, stamp in self._damaged.items()
        ):
            self._read(names)
        return True

    def covered(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of some videos (``<video id>-<generation>``) a sound segment covers."""
        return np.fromiter((name in self._units_of_video for name in names), dtype=bool, count=len(names))

    def units_of(self, names: Sequence[str]) -> int:
        """How many units covered videos have together."""
        return sum(self._units_of_video[name][1] for name in names)

    def select(self, names: Sequence[str]) -> Selection:
        """Make the units of covered videos ready to be scanned; the last selection is cached."""
        selection = self._selection
        if selection is not None and len(selection.names) == len(names) and selection.names == tuple(names):
            return selection
        ranges = np.array([self._units_of_video[name] for name in names], dtype=np.int64).reshape(-1, 2)
        video = np.repeat(np.arange(len(names), dtype=np.int32), ranges[:, 1])
        units = _ranges(ranges[:, 0], ranges[:, 1])
        assert self._book is not None
        whole = len(units) == len(self._codes) and bool((np.diff(units) == 1).all())
        scan = Scan(self._book, self._codes if whole else self._codes[units])
        self._selection = Selection(tuple(names), units, video, scan)
        return self._selection

    def nearest(self, selection: Selection, query: Float32Array, count: int) -> NearUnits:
        """The units that are probably nearest to a query, at most ``count``."""
        scores, chosen = selection.scan.search(query, min(count, len(selection.units)))
        units = selection.units[chosen]
        first, end = self._starts[units], self._ends[units]
        return NearUnits(selection.video[chosen], first, end, scores, self._checksums[units], self._proven[units])

    def _forget(self, problems: tuple[str, ...]) -> None:
        self._book, self._book_name = None, ""
        self._read([])
        self.problems = problems

    def _read(self, names: Sequence[str]) -> None:
        """Hold these segments; those that are held already are not read again."""
        held, problems = self._segments, []
        self._segments, self._damaged = {}, {}
        for name in names:
            segment = held.get(name)
            if segment is None:
                stamp = self._files.stamp(name)
                try:
                    segment = self._files.segment(name)
                    if self._book is None or segment.codes.shape[1] != self._book.code_bytes:
                        raise IndexDamagedError(f"segment {name} is not of its codebook")
                except IndexDamagedError as exc:
                    segment = None
                    if self._files.stamp(name) == MISSING:  # deleted since it was listed
                        continue
                    self._damaged[name] = stamp
                    problems.append(str(exc))
            self._segments[name] = segment
        self.problems = tuple(problems)
        self._selection = None
        self._join([segment for segment in self._segments.values() if segment is not None])

    def _join(self, segments: Sequence[Segment]) -> None:
        width = self._book.code_bytes if self._book is not None else 0
        codes = [segment.codes for segment in segments]
        self._codes = np.concatenate(codes) if codes else np.zeros((0, width), dtype=np.uint8)
        self._starts = _joined([segment.starts for segment in segments])
        self._ends = _joined([_ends(segment) for segment in segments])
        known = [(segment.checksums, len(segment.starts)) for segment in segments]
        self._proven = np.repeat([one is not None for one, _ in known], [count for _, count in known]).astype(bool)
        parts = [np.zeros(count, dtype=np.uint64) if one is None else one for one, count in known]
        self._checksums = np.concatenate([np.zeros(0, dtype=np.uint64), *parts])
        self._units_of_video = {}
        start = 0
        for segment in segments:
            edges = start + np.concatenate(([0], np.cumsum(segment.units)))
            for name, (first, end) in zip(segment.videos, itertools.pairwise(edges.tolist()), strict=True):
                self._units_of_video[name] = (first, end - first)
            start = int(edges[-1])


def _ends(segment: Segment) -> Int32Array:
    """Where each unit ends: where the next begins, or its video ends."""
    ends = np.append(segment.starts[1:], np.int32(0)).astype(np.int32)
    last = np.cumsum(segment.units) - 1
    ends[last] = segment.frames
    return ends


def _joined(parts: Sequence[Int32Array]) -> Int32Array:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)


def _ranges(first: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers ``first[i]`` to ``first[i] + counts[i]``, one range behind the other."""
    before = np.cumsum(counts) - counts
    numbers: npt.NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
    return numbers
