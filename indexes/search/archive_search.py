"""The best frames of many videos together: exactly, or by the approximate index where there is one.

Knows nothing of questions: a query is a vector. Held frames (one picture that stands for several
samples) count once, as in the search of one video; whether a video has any is only looked up where
it matters, because that takes its timeline.

With an approximate index, the videos that it covers are searched by it, and all others exactly. The
similarities that come back are exact either way, and so is their order; what can be missing is a
frame that the codes of :mod:`indexes.ann.index` put too far behind. Where anything is amiss, the
whole search is made exactly, and the record says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from hybrid.values import Float32Array
from indexes.ann.files import name_of
from indexes.ann.search_params import SearchParams
from indexes.archive.reader import ArchiveReader
from indexes.format.manifest import Manifest
from indexes.search.hits import ApproximateRecord, ArchiveHits
from indexes.search.scan import best_hits, scan_videos, settle_hits
from indexes.stores.vectors import check_query

__all__ = ["STALE_FRAMES", "ApproximateRecord", "ArchiveHits", "search_archive_vectors"]

STALE_FRAMES = 4 * 65_536
"""``hybrid index`` leaves fewer than a quarter of this uncovered; more means that it was not run to its end."""


def search_archive_vectors(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    *,
    threads: int = 1,
    params: SearchParams | None = None,
) -> ArchiveHits:
    """The ``top`` frames of some videos that are nearest to a query.

    The vectors of every video that is read for it are compared with what was committed, so that a changed byte on
    disk neither puts a frame there that does not belong, nor keeps one out.

    Args:
        archive: where they are indexed.
        manifests: of the videos, all with vectors of the query's length.
        query: float32 [D] unit vector.
        top: frames over all videos, at least 1.
        threads: how many may search at once.
        params: use the approximate index, if there is one, with this params; None searches exactly.

    Raises:
        InputError: the query does not fit, or ``top`` is below 1.
    """
    check_query(query, top)
    if params is None:
        return _exactly(archive, manifests, query, top, threads, None)
    return _approximately(archive, manifests, query, top, threads, params)


def _exactly(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    threads: int,
    record: ApproximateRecord | None,
) -> ArchiveHits:
    by_id = {manifest.video_id: manifest for manifest in manifests}
    found, failed = scan_videos(archive, by_id, query, top, threads)
    settle_hits(archive, by_id, query, top, found, failed)
    searched = {video_id: manifest for video_id, manifest in by_id.items() if video_id in found}
    return ArchiveHits(best_hits(found, top), failed, searched, record)


def _approximately(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    threads: int,
    params: SearchParams,
) -> ArchiveHits:
    index = archive.approximate(len(query))
    if index is None:
        return _exactly(archive, manifests, query, top, threads, None)
    from indexes.search.approximate_search import find_near_frames  # brings FAISS

    names = [name_of(manifest) for manifest in manifests]
    known = index.covered(names)
    covered, rest = list(compress(manifests, known)), list(compress(manifests, ~known))
    rest_frames = sum(manifest.frames for manifest in rest)
    problem = _problem(archive, index.problems, rest_frames)

    def fall_back(note: str | None, problem: str | None) -> ArchiveHits:
        frames = sum(manifest.frames for manifest in manifests)
        record = ApproximateRecord(False, problem, note, exact_frames=frames, segments=index.segments)
        return _exactly(archive, manifests, query, top, threads, record)

    if index.units_of(list(compress(names, known))) <= params.limit(top):
        return fall_back("so few frames are searched exactly", problem)
    near = find_near_frames(archive, index, covered, query, top, params)
    if near.unreadable:
        return fall_back(None, "a video is damaged or cannot be read; all were searched exactly")
    by_id = {manifest.video_id: manifest for manifest in manifests}
    whole = {manifest.video_id: manifest for manifest in rest}
    found, failed = scan_videos(archive, whole, query, top, threads)
    for manifest in rest:  # some may have been indexed anew or removed meanwhile
        by_id.pop(manifest.video_id, None)
    by_id.update(whole)
    found.update(near.hits)
    settle_hits(archive, by_id, query, top, found, failed, whole)
    best = best_hits(found, top)
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
    searched = {video_id: manifest for video_id, manifest in by_id.items() if video_id not in failed}
    return ArchiveHits(best, failed, searched, record)


def _problem(archive: ArchiveReader, problems: Sequence[str], rest_frames: int) -> str | None:
    """What is wrong with the approximate index, and what mends it."""
    remedy = f"what it does not cover was searched exactly; to mend it: hybrid compact --archive {archive.uri}"
    if problems:
        more = f" ({len(problems)} such files)" if len(problems) > 1 else ""
        return f"the approximate index is damaged{more}: {problems[0]}; {remedy}"
    if rest_frames >= STALE_FRAMES:
        return f"the approximate index is out of date: {rest_frames} frames are not in it; {remedy}"
    return None
