"""The parts of a search of many videos: look into each, take out repetitions, and put the best together.

The store compares the vectors of every video with what was committed before it searches them, so that damage
neither puts a frame among the best nor keeps one out. Repetitions of a held frame are looked for only in
videos that are among the best, because that takes their timelines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from hybrid.errors import HybridError, VideoNotIndexedError
from hybrid.values import Float32Array, Hits
from indexes.archive.reader import ArchiveReader
from indexes.format.manifest import Manifest

__all__ = ["OTHER_ENCODER", "best_hits", "has_same_encoder", "scan_videos", "settle_hits"]

OTHER_ENCODER = "it was indexed anew with another encoder while the search ran"


def scan_videos(
    archive: ArchiveReader, by_id: dict[str, Manifest], query: Float32Array, top: int, threads: int
) -> tuple[dict[str, Hits], dict[str, str]]:
    """The best frames of each video, exactly, and the videos that could not be searched.

    Args:
        archive: where they are indexed.
        by_id: the videos; one that was indexed anew meanwhile is replaced by what it is now, and one that was
            removed goes.
        query: float32 [D] unit vector.
        top: frames of each video.
        threads: how many may search at once.

    Returns:
        (video id -> hits, best first; video id -> why it could not be searched).
    """
    found: dict[str, Hits] = {}
    failed: dict[str, str] = {}
    committed = {manifest.key: manifest.committed for manifest in by_id.values()}
    for key, hits, error in archive.store.search_many(committed, query, top, threads=threads):
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
        current = archive.manifest(video_id)
        if current is None:  # removed meanwhile
            del by_id[video_id]
            return
        if not has_same_encoder(current, manifest):
            failed[video_id] = OTHER_ENCODER
            return
        found[video_id] = archive.search(current, query, top)
        by_id[video_id] = current
    except VideoNotIndexedError:  # removed or replaced once more
        del by_id[video_id]
    except HybridError as exc:
        failed[video_id] = f"{exc}; look closer with: hybrid verify --archive {archive.uri}"


def has_same_encoder(one: Manifest, other: Manifest) -> bool:
    """Whether one query fits the vectors of both."""
    return one.dimension == other.dimension and one.config.encoder == other.config.encoder


def settle_hits(
    archive: ArchiveReader,
    by_id: dict[str, Manifest],
    query: Float32Array,
    top: int,
    found: dict[str, Hits],
    failed: dict[str, str],
    whole: Collection[str] | None = None,
) -> None:
    """Take hits that repeat a held frame out of the videos that are among the best, until all of these are settled.

    A video whose timeline cannot be read goes from ``found`` to ``failed``; one that was removed just goes.

    Args:
        archive: where they are indexed.
        by_id: the videos.
        query: float32 [D] unit vector.
        top: frames over all videos.
        found: video id -> hits, best first; is changed.
        failed: video id -> reason; is changed.
        whole: the videos whose hits are the best of all their frames; all if None.
    """
    settled: set[str] = set()
    while fresh := [video_id for video_id in best_hits(found, top) if video_id not in settled]:
        for video_id in fresh:
            settled.add(video_id)
            again = whole is None or video_id in whole
            try:
                found[video_id] = _distinct(archive, by_id[video_id], query, top, found[video_id], again=again)
            except VideoNotIndexedError:  # removed or replaced meanwhile
                del found[video_id], by_id[video_id]
            except HybridError as exc:
                failed[video_id] = str(exc)
                del found[video_id]


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
    is_distinct = np.isin(hits.rows, distinct)
    if again and np.count_nonzero(is_distinct) < min(top, len(distinct)):
        hits = archive.search(manifest, query, len(timeline))
        is_distinct = np.isin(hits.rows, distinct)
    return Hits(rows=hits.rows[is_distinct][:top], similarities=hits.similarities[is_distinct][:top])


def best_hits(found: Mapping[str, Hits], top: int) -> dict[str, Hits]:
    """Of all hits the best ``top``, by video; equals in order of video ids and rows."""
    ids = sorted(found)
    if not ids:
        return {}
    similarities = np.concatenate([found[video_id].similarities for video_id in ids])
    rows = np.concatenate([found[video_id].rows for video_id in ids])
    number = np.repeat(np.arange(len(ids)), [len(found[video_id]) for video_id in ids])
    if len(similarities) > top:
        least = np.partition(similarities, len(similarities) - top)[len(similarities) - top]
        # Not-a-number passes, so that it is seen.
        near = ~(similarities < least)
        similarities, rows, number = similarities[near], rows[near], number[near]
    order = np.lexsort((rows, number, -similarities))[:top]
    best: dict[str, list[int]] = {}
    for index in order.tolist():
        best.setdefault(ids[int(number[index])], []).append(index)
    return {
        video_id: Hits(rows=rows[chosen], similarities=similarities[chosen])
        for video_id, chosen in ((video_id, np.array(indexes)) for video_id, indexes in best.items())
    }
