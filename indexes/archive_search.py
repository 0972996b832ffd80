"""The best frames of many videos together: exactly, or by the approximate index where there is one.

Knows nothing of questions: a query is a vector. Held frames (one picture that stands for several
samples) count once, as in the search of one video; whether a video has any is only looked up where
it matters, because that takes its timeline.

With an approximate index, the videos that it covers are searched by it, and all others exactly. The
similarities that come back are exact either way, and so is their order; what can be missing is a
frame that the codes of :mod:`indexes.approximate` put too far behind. Where anything is amiss, the
whole search is made exactly, and the record says why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.errors import HybridError
from hybrid.values import Float32Array, Hits
from indexes.approximate_files import name_of
from indexes.effort import Effort
from indexes.manifest import Manifest
from indexes.reader import ArchiveReader
from indexes.vectors import check_query

__all__ = ["STALE_FRAMES", "ApproximateRecord", "ArchiveHits", "search_archive_vectors"]

_LARGEST_COSINE = 1.01
"""Of two unit vectors, one of them rounded to float16. More means that bytes on disk were changed."""

STALE_FRAMES = 4 * 65_536
"""``hybrid index`` leaves fewer than a quarter of this uncovered; more means that it was not run to its end."""


@dataclass(frozen=True, slots=True)
class ApproximateRecord:
    """What the approximate index did for a search.

    Attributes:
        used: whether the result rests on it.
        problem: why it did not do all that it should; None if it did.
        note: why it was not used although nothing is wrong; None if it was.
        units: how many were scanned.
        compared_units, compared_frames: how many were compared exactly.
        exact_frames: how many frames of videos that it does not cover were searched exactly.
        segments: how many it has.
        device: where the codes were scanned.
    """

    used: bool
    problem: str | None = None
    note: str | None = None
    units: int = 0
    compared_units: int = 0
    compared_frames: int = 0
    exact_frames: int = 0
    segments: int = 0
    device: str | None = None


@dataclass(frozen=True, slots=True)
class ArchiveHits:
    """The best frames of some videos.

    Attributes:
        hits: by video id, for the videos that have a frame among the best ``top`` of all: those
            frames, best first. The video with the best frame comes first.
        failed: video id -> why it could not be searched.
        searched: ids of the videos that were.
        damaged_seen: how many videos were found damaged by what the search gave, not by reading them.
        approximate: what the approximate index did; None if there is none, or it was not asked for.
    """

    hits: Mapping[str, Hits]
    failed: Mapping[str, str]
    searched: frozenset[str]
    damaged_seen: int = 0
    approximate: ApproximateRecord | None = None


def search_archive_vectors(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    *,
    threads: int = 1,
    effort: Effort | None = None,
) -> ArchiveHits:
    """The ``top`` frames of some videos that are nearest to a query.

    The vectors of every video that has a frame among them are compared with their hash before they
    are believed, so that a changed byte on disk does not put a frame there that does not belong.

    Args:
        archive: where they are indexed.
        manifests: of the videos, all with vectors of the query's length.
        query: float32 [D] unit vector.
        top: frames over all videos, at least 1.
        threads: how many may search at once.
        effort: use the approximate index, if there is one, with this effort; None searches exactly.

    Raises:
        InputError: the query does not fit, or ``top`` is below 1.
    """
    check_query(query, top)
    if effort is None:
        return _exactly(archive, manifests, query, top, threads, None)
    return _approximately(archive, manifests, query, top, threads, effort)


def _exactly(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    threads: int,
    record: ApproximateRecord | None,
) -> ArchiveHits:
    by_id = {manifest.video_id: manifest for manifest in manifests}
    found, failed = _scan(archive, by_id, query, top, threads)
    seen = _settle(archive, by_id, query, top, found, failed)
    return ArchiveHits(_best(found, top), failed, frozenset(found), seen, record)


def _approximately(
    archive: ArchiveReader, manifests: Sequence[Manifest], query: Float32Array, top: int, threads: int, effort: Effort
) -> ArchiveHits:
    index = archive.approximate(len(query))
    if index is None:
        return _exactly(archive, manifests, query, top, threads, None)
    from indexes.approximate_search import find_near_frames  # brings FAISS

    names = [name_of(manifest) for manifest in manifests]
    known = index.covered(names)
    covered = [manifest for manifest, is_known in zip(manifests, known.tolist(), strict=True) if is_known]
    rest = [manifest for manifest, is_known in zip(manifests, known.tolist(), strict=True) if not is_known]
    rest_frames = sum(manifest.frames for manifest in rest)
    problem = _problem(archive, index.problems, rest_frames)

    def fall_back(note: str | None, problem: str | None) -> ArchiveHits:
        frames = sum(manifest.frames for manifest in manifests)
        record = ApproximateRecord(False, problem, note, exact_frames=frames, segments=index.segments)
        return _exactly(archive, manifests, query, top, threads, record)

    units = index.units_of([name for name, is_known in zip(names, known.tolist(), strict=True) if is_known])
    if units <= effort.limit(top):
        return fall_back("so few frames are searched exactly", problem)
    near = find_near_frames(archive, index, covered, query, top, effort)
    if near.unreadable:
        return fall_back(None, "a video could not be read where it should have been; all were searched exactly")
    by_id = {manifest.video_id: manifest for manifest in manifests}
    whole = {manifest.video_id: manifest for manifest in rest}
    found, failed = _scan(archive, whole, query, top, threads)
    by_id.update(whole)  # some may have been indexed anew meanwhile
    found.update(near.hits)
    seen = _settle(archive, by_id, query, top, found, failed, whole)
    best = _best(found, top)
    if any(video_id in failed for video_id in near.hits):
        return fall_back(None, "a video that was found is damaged; all were searched exactly")
    if sum(map(len, best.values())) < top and near.compared_units < near.units:
        return fall_back("too many of the nearest frames are repetitions", problem)
    record = ApproximateRecord(
        used=True,
        problem=problem,
        units=near.units,
        compared_units=near.compared_units,
        compared_frames=near.compared_frames,
        exact_frames=rest_frames,
        segments=index.segments,
        device=near.device,
    )
    searched = frozenset(by_id) - frozenset(failed)
    return ArchiveHits(best, failed, searched, seen, record)


def _problem(archive: ArchiveReader, problems: Sequence[str], rest_frames: int) -> str | None:
    """What is wrong with the approximate index, and what mends it."""
    remedy = f"what it does not cover was searched exactly; to mend it: hybrid compact --archive {archive.place}"
    if problems:
        more = f" ({len(problems)} such files)" if len(problems) > 1 else ""
        return f"the approximate index is damaged{more}: {problems[0]}; {remedy}"
    if rest_frames >= STALE_FRAMES:
        return f"the approximate index is out of date: {rest_frames} frames are not in it; {remedy}"
    return None


def _scan(
    archive: ArchiveReader, by_id: dict[str, Manifest], query: Float32Array, top: int, threads: int
) -> tuple[dict[str, Hits], dict[str, str]]:
    """The best frames of each video, exactly, and the videos that could not be searched."""
    found: dict[str, Hits] = {}
    failed: dict[str, str] = {}
    keys = [manifest.key for manifest in by_id.values()]
    for key, hits, error in archive.store.search_many(keys, query, top, threads=threads):
        if hits is not None:
            found[key.video_id] = hits
        elif error is not None:
            _search_again(archive, by_id, key.video_id, query, top, found, failed)
    return found, failed


def _search_again(
    archive: ArchiveReader,
    by_id: dict[str, Manifest],
    video_id: str,
    query: Float32Array,
    top: int,
    found: dict[str, Hits],
    failed: dict[str, str],
) -> None:
    """A video that could not be read may have been indexed anew meanwhile; then its new index is searched."""
    manifest = by_id[video_id]
    try:
        current = archive.require(video_id)
        if current.dimension != manifest.dimension or current.config.encoder != manifest.config.encoder:
            failed[video_id] = "it was indexed anew with another encoder while the search ran"
            return
        found[video_id] = archive.search(current, query, top)
        by_id[video_id] = current
    except HybridError as exc:
        failed[video_id] = str(exc)


def _settle(
    archive: ArchiveReader,
    by_id: Mapping[str, Manifest],
    query: Float32Array,
    top: int,
    found: dict[str, Hits],
    failed: dict[str, str],
    whole: Collection[str] | None = None,
) -> int:
    """Look closer at the videos that are among the best, until all that are have been looked at.

    Args:
        whole: the videos whose hits are the best of all their frames; all if None.
    """
    settled: set[str] = set()
    seen = 0
    while True:
        fresh = [video_id for video_id in _best(found, top) if video_id not in settled]
        if not fresh:
            return seen
        for video_id in fresh:
            settled.add(video_id)
            try:
                why = _implausible(archive, by_id[video_id], found[video_id])
                if why is None:
                    again = whole is None or video_id in whole
                    found[video_id] = _distinct(archive, by_id[video_id], query, top, found[video_id], again=again)
            except HybridError as exc:
                why = str(exc)
            if why is not None:
                seen += 1
                failed[video_id] = why
                del found[video_id]


def _implausible(archive: ArchiveReader, manifest: Manifest, hits: Hits) -> str | None:
    """What shows that these hits come of damaged vectors."""
    remedy = f"look closer with: hybrid verify --archive {archive.place}"
    if not abs(float(hits.similarities[0])) <= _LARGEST_COSINE:
        return f"its vectors are damaged: a similarity of {hits.similarities[0]:g} cannot be; {remedy}"
    current = archive.require(manifest.video_id)
    if not archive.store.is_intact(current.key, current.vectors_hash):
        return f"its vectors are damaged: their content is not what was written; {remedy}"
    return None


def _distinct(
    archive: ArchiveReader, manifest: Manifest, query: Float32Array, top: int, hits: Hits, *, again: bool
) -> Hits:
    """The hits without the repetitions of a frame that is held over several samples.

    If too few are left, the video is searched ``again`` for more.
    """
    # A held frame has one vector, so its samples have one similarity and are neighbours in the list.
    if len(hits) < 2 or not (np.diff(hits.similarities) == 0).any():
        return hits
    timeline = archive.timeline(manifest)
    distinct = timeline.distinct_rows()
    if len(distinct) == len(timeline):
        return hits
    kept = np.isin(hits.rows, distinct)
    if again and np.count_nonzero(kept) < min(top, len(distinct)):
        hits = archive.search(manifest, query, len(timeline))
        kept = np.isin(hits.rows, distinct)
    return Hits(rows=hits.rows[kept][:top], similarities=hits.similarities[kept][:top])


def _best(found: Mapping[str, Hits], top: int) -> dict[str, Hits]:
    """Of all hits the best ``top``, by video; equals in order of video ids and rows."""
    ids = sorted(found)
    if not ids:
        return {}
    similarities = np.concatenate([found[video_id].similarities for video_id in ids])
    rows = np.concatenate([found[video_id].rows for video_id in ids])
    place = np.repeat(np.arange(len(ids)), [len(found[video_id]) for video_id in ids])
    if len(similarities) > top:
        least = np.partition(similarities, len(similarities) - top)[len(similarities) - top]
        # Not-a-number passes, so that it is seen.
        near = ~(similarities < least)
        similarities, rows, place = similarities[near], rows[near], place[near]
    order = np.lexsort((rows, place, -similarities))[:top]
    best: dict[str, list[int]] = {}
    for index in order.tolist():
        best.setdefault(ids[int(place[index])], []).append(index)
    return {
        video_id: Hits(rows=rows[chosen], similarities=similarities[chosen])
        for video_id, chosen in ((video_id, np.array(indexes)) for video_id, indexes in best.items())
    }
