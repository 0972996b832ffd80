"""The best frames of many videos together, exactly, whatever the number of videos.

Knows nothing of questions: a query is a vector. Held frames (one picture that stands for several
samples) count once, as in the search of one video; whether a video has any is only looked up where
it matters, because that takes its timeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.errors import HybridError
from hybrid.values import Float32Array, Hits
from indexes.manifest import Manifest
from indexes.reader import ArchiveReader

__all__ = ["ArchiveHits", "search_archive_vectors"]

_LARGEST_COSINE = 1.01
"""Of two unit vectors, one of them rounded to float16. More means that bytes on disk were changed."""


@dataclass(frozen=True, slots=True)
class ArchiveHits:
    """The best frames of some videos.

    Attributes:
        hits: by video id, for the videos that have a frame among the best ``top`` of all: those
            frames, best first. The video with the best frame comes first.
        failed: video id -> why it could not be searched.
        searched: ids of the videos that were.
        damaged_seen: how many videos were found damaged by what the search gave, not by reading them.
    """

    hits: Mapping[str, Hits]
    failed: Mapping[str, str]
    searched: frozenset[str]
    damaged_seen: int = 0


def search_archive_vectors(
    archive: ArchiveReader, manifests: Sequence[Manifest], query: Float32Array, top: int, *, threads: int = 1
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

    Raises:
        InputError: the query does not fit, or ``top`` is below 1.
    """
    by_id = {manifest.video_id: manifest for manifest in manifests}
    failed: dict[str, str] = {}
    found: dict[str, Hits] = {}
    for key, hits, error in archive.store.search_many([m.key for m in manifests], query, top, threads=threads):
        if hits is not None:
            found[key.video_id] = hits
        elif error is not None:
            _search_again(archive, by_id, key.video_id, query, top, found, failed)
    seen = _settle(archive, by_id, query, top, found, failed)
    best = _best(found, top)
    return ArchiveHits(best, failed, frozenset(found), seen)


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
) -> int:
    """Look closer at the videos that are among the best, until all that are have been looked at."""
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
                    found[video_id] = _distinct(archive, by_id[video_id], query, top, found[video_id])
            except HybridError as exc:
                why = str(exc)
            if why is not None:
                seen += 1
                failed[video_id] = why
                del found[video_id]


def _implausible(archive: ArchiveReader, manifest: Manifest, hits: Hits) -> str | None:
    """What shows that these hits come of damaged vectors."""
    remedy = f"look closer with: hybrid verify --archive {archive.folder}"
    if not abs(float(hits.similarities[0])) <= _LARGEST_COSINE:
        return f"its vectors are damaged: a similarity of {hits.similarities[0]:g} cannot be; {remedy}"
    current = archive.require(manifest.video_id)
    if not archive.store.is_intact(current.key, current.vectors_hash):
        return f"its vectors are damaged: their content is not what was written; {remedy}"
    return None


def _distinct(archive: ArchiveReader, manifest: Manifest, query: Float32Array, top: int, hits: Hits) -> Hits:
    """The hits without the repetitions of a frame that is held over several samples."""
    # A held frame has one vector, so its samples have one similarity and are neighbours in the list.
    if len(hits) < 2 or not (np.diff(hits.similarities) == 0).any():
        return hits
    timeline = archive.timeline(manifest)
    distinct = timeline.distinct_rows()
    if len(distinct) == len(timeline):
        return hits
    kept = np.isin(hits.rows, distinct)
    if np.count_nonzero(kept) < min(top, len(distinct)):
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
