"""The best frames by the approximate index: scan all codes, then compare the nearest units' frames exactly.

How many units are compared follows from the question itself. The units come in order of their approximate
similarity, some at a time; what the exact comparison has shown so far says how far approximate
and exact similarities lie apart, and it goes on while a further unit might still hold a frame that
belongs among the best. So vectors that codes describe badly take longer, and are not found less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid.values import Float32Array, Hits, IntArray
from indexes.ann.files import name_of
from indexes.ann.index import ApproximateIndex, NearUnits, Selection
from indexes.ann.search_params import SearchParams
from indexes.archive.reader import ArchiveReader
from indexes.format.manifest import Manifest
from indexes.stores.vectors import RunProofs

__all__ = ["NearFrames", "find_near_frames"]


@dataclass(frozen=True, slots=True)
class NearFrames:
    """What the approximate index found.

    Attributes:
        hits: by video id: of its compared frames those that may be among the best, best first.
        unreadable: whether there was a video whose frames could not be compared; then the hits mean nothing.
        units: how many were scanned.
        compared_units, compared_frames: how many were compared exactly.
        device: where the codes were scanned.
    """

    hits: dict[str, Hits]
    unreadable: bool
    units: int
    compared_units: int
    compared_frames: int
    device: str


class _Compared:
    """The frames that were compared so far."""

    def __init__(self, archive: ArchiveReader, manifests: Sequence[Manifest], query: Float32Array) -> None:
        self._archive = archive
        self._manifests = manifests
        self._query = query
        self.unreadable = False
        self._video: list[IntArray] = []
        self._rows: list[IntArray] = []
        self._similarities: list[Float32Array] = []
        self._distinct: list[Float32Array] = []
        self._deviation: list[Float32Array] = []

    def take(self, near: NearUnits) -> None:
        """Compare the frames of some units."""
        order = np.lexsort((near.first, near.video))
        video, first = near.video[order].astype(np.int64), near.first[order].astype(np.int64)
        lengths = near.end[order] - first
        before = np.cumsum(lengths) - lengths
        rows: IntArray = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
        proven = near.proven[order]
        similarities = self._score(video, lengths, rows, near.checksums[order], proven)
        # The samples of a held frame lie in one unit, and are one frame.
        fresh = np.ones(len(rows), dtype=bool)
        fresh[1:] = similarities[1:] != similarities[:-1]
        fresh[before] = True
        best = np.maximum.reduceat(similarities, before)
        self._deviation.append((best - near.scores[order])[np.isfinite(best)])
        self._distinct.append(similarities[fresh])
        self._video.append(np.repeat(video, lengths))
        self._rows.append(rows)
        self._similarities.append(similarities)

    def enough(self, next_score: float, top: int, deviations: float) -> bool:
        """Whether a unit of this approximate similarity can hardly hold one of the best frames."""
        found = np.concatenate(self._distinct)
        if len(found) < top:
            return False
        last = float(np.partition(found, len(found) - top)[len(found) - top])
        apart = np.concatenate(self._deviation)
        return next_score + float(apart.mean()) + deviations * float(apart.std()) < last

    def hits(self, top: int) -> dict[str, Hits]:
        """By video: the best ``top`` different frames, all samples of each, and what equals the last of them."""
        video, rows = np.concatenate(self._video), np.concatenate(self._rows)
        similarities = np.concatenate(self._similarities)
        found = np.concatenate(self._distinct)
        if len(found) > top:
            least = np.partition(found, len(found) - top)[len(found) - top]
            near = ~(similarities < least)  # not-a-number passes, so that it is seen
            video, rows, similarities = video[near], rows[near], similarities[near]
        order = np.lexsort((rows, -similarities, video))
        video, rows, similarities = video[order], rows[order], similarities[order]
        numbers, edges = np.unique(video, return_index=True)
        ends = [*edges[1:].tolist(), len(video)]
        return {
            self._manifests[number].video_id: Hits(rows=rows[edge:end], similarities=similarities[edge:end])
            for number, edge, end in zip(numbers.tolist(), edges.tolist(), ends, strict=True)
        }

    @property
    def frames(self) -> int:
        """How many were compared."""
        return sum(map(len, self._rows))

    def _score(
        self,
        video: IntArray,
        lengths: IntArray,
        rows: IntArray,
        checksums: npt.NDArray[np.uint64],
        proven: npt.NDArray[np.bool_],
    ) -> Float32Array:
        """Exact similarities of the units' rows, in order of videos; minus infinity for videos that cannot be read."""
        numbers, edges = np.unique(video, return_index=True)
        keys = [self._manifests[number].key for number in numbers.tolist()]
        ends = np.cumsum(lengths)
        row_edges = ends[edges[1:] - 1]
        rows_of = dict(zip(keys, np.split(rows, row_edges), strict=True))
        committed = {self._manifests[number].key: self._manifests[number].committed for number in numbers.tolist()}
        runs = zip(*(np.split(column, edges[1:]) for column in (lengths, checksums, proven)), strict=True)
        proofs = {
            key: RunProofs(long, sums) for key, (long, sums, known) in zip(keys, runs, strict=True) if known.all()
        }
        parts = []
        for scored in self._archive.store.score(rows_of, committed, self._query, proofs=proofs):
            if scored.similarities is None:
                self.unreadable = True
                parts.append(np.full(len(rows_of[scored.key]), -np.inf, dtype=np.float32))
            else:
                parts.append(scored.similarities)
        return np.concatenate(parts)


def find_near_frames(
    archive: ArchiveReader,
    index: ApproximateIndex,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    params: SearchParams,
) -> NearFrames:
    """The frames of covered videos that are nearest to a query, or nearly so; their similarities are exact.

    Args:
        archive: where the vectors are.
        index: covers all the videos.
        manifests: which videos, at least one.
        query: float32 [D] unit vector.
        top: how many frames are requested.
        params: how much is compared.
    """
    selection = index.select([name_of(manifest) for manifest in manifests])
    limit, on_gpu = params.limit(top), selection.scan.most_on_gpu
    if on_gpu is not None and on_gpu <= limit:
        # Most questions compare fewer units than a GPU finds; only the others take a scan by the processor.
        found, settled = _compare(archive, index, selection, manifests, query, top, params, most=on_gpu - 1)
        if settled:
            return found
    return _compare(archive, index, selection, manifests, query, top, params, most=limit)[0]


def _compare(
    archive: ArchiveReader,
    index: ApproximateIndex,
    selection: Selection,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    params: SearchParams,
    *,
    most: int,
) -> tuple[NearFrames, bool]:
    """Compare at most so many units; and whether no further one can hold one of the best frames."""
    near = index.nearest(selection, query, most + 1)
    compared = _Compared(archive, manifests, query)
    batch, done, settled = params.batch(top), 0, False
    limit = min(len(near), most)
    while done < limit and not settled:
        step = slice(done, min(done + batch, limit))
        compared.take(near.part(step))
        done = step.stop
        settled = compared.unreadable or (
            done < len(near) and compared.enough(float(near.scores[done]), top, params.deviations)
        )
    settled = settled or done == len(selection.units)
    # FAISS drops units whose scores are all the same; then there may be none.
    hits = {} if compared.unreadable or not done else compared.hits(top)
    device = selection.scan.device
    return NearFrames(hits, compared.unreadable, len(selection.units), done, compared.frames, device), settled
