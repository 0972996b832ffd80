"""The best frames of many videos with the times of each, both of one generation.

A hit is a row of the index that was searched, and only that index knows its time. Where a video is
indexed anew between the search and the look at its times, the search is made again with its new index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hybrid.errors import HybridError
from hybrid.values import Float32Array, Timeline
from indexes.ann.search_params import SearchParams
from indexes.archive.reader import ArchiveReader
from indexes.format.manifest import Manifest
from indexes.search.archive_search import search_archive_vectors
from indexes.search.hits import ArchiveHits
from indexes.search.scan import OTHER_ENCODER, has_same_encoder

__all__ = ["TimedHits", "find_timed_hits"]


@dataclass(frozen=True, slots=True)
class TimedHits:
    """What a search found, and when it is shown.

    Attributes:
        found: the best frames.
        timelines: by video id, for each video with hits: the times of the index whose rows they are.
    """

    found: ArchiveHits
    timelines: Mapping[str, Timeline]


def find_timed_hits(
    archive: ArchiveReader,
    manifests: Sequence[Manifest],
    query: Float32Array,
    top: int,
    *,
    threads: int = 1,
    params: SearchParams | None = None,
) -> TimedHits:
    """:func:`~indexes.search.archive_search.search_archive_vectors`, with the times of what it finds.

    A video that was replaced before its times were read is searched again, once; one that is replaced a second
    time, or whose times are damaged, is among ``failed``, and others come in its place. One that was removed is
    not there, as if it had been removed before.

    Raises:
        InputError: the query does not fit, or ``top`` is below 1.
    """
    asked = {manifest.video_id: manifest for manifest in manifests}
    renewed: set[str] = set()
    failed: dict[str, str] = {}
    while True:
        found = search_archive_vectors(archive, list(asked.values()), query, top, threads=threads, params=params)
        timelines, untimed = _read_times(archive, found)
        anew = False
        for video_id, reason in {**found.failed, **untimed}.items():
            manifest = asked.pop(video_id)
            try:
                current = archive.manifest(video_id)
            except HybridError:
                current = manifest  # it cannot be read, for the reason that is known
            if current is None:
                continue
            if video_id in renewed or current.generation == manifest.generation:
                failed[video_id] = reason
            elif has_same_encoder(current, manifest):
                asked[video_id] = current
                renewed.add(video_id)
                anew = True
            else:
                failed[video_id] = OTHER_ENCODER
        if not (anew or untimed):
            return TimedHits(replace(found, failed=failed), timelines)


def _read_times(archive: ArchiveReader, found: ArchiveHits) -> tuple[dict[str, Timeline], dict[str, str]]:
    """The times of the videos with hits; and why there are none, of those where they cannot be read."""
    timelines: dict[str, Timeline] = {}
    failed: dict[str, str] = {}
    for video_id in found.hits:
        try:
            timelines[video_id] = archive.timeline(found.manifests[video_id])
        except HybridError as exc:
            failed[video_id] = str(exc)
    return timelines, failed
