"""One question to a whole archive: the best frames of all videos, then GenS on the best videos.

The coarse stage is exact, or goes by the archive's approximate index where it has one; a stage of its own
says which and what it did. Every video that is not searched is named with the reason, and the
coarse stage's record says so; nothing is left out in silence.
"""

from __future__ import annotations

import shlex
import time

import numpy as np

from hybrid.answers import AnswerFrame, FoundVideo, SearchResult, SkippedVideo, Stage
from hybrid.engine.search.coarse import find_frames
from hybrid.engine.search.fine import ask_best_videos
from hybrid.engine.search.work import Search, SearchModels
from hybrid.errors import IndexDamagedError, VideoNotIndexedError
from hybrid.formatting import plural
from hybrid.options.search import SearchOptions
from hybrid.values import Hits, Timeline, check_questions
from indexes.archive.lookup import choose, find_indexed
from indexes.archive.source_location import VideoLocation, locate_video, replaced_videos
from indexes.archive.writer import Archive
from indexes.format.location import is_remote
from indexes.format.manifest import Manifest

__all__ = ["search_archive"]


def search_archive(archive: Archive, question: str, options: SearchOptions, models: SearchModels) -> SearchResult:
    """Find the frames of an archive that fit a question, and have GenS look at the best videos.

    Raises:
        InputError: the question is not legal.
        VideoNotIndexedError: there is no video to search.
        IndexMismatchError: not one of the videos was indexed with the encoder.
        IndexDamagedError: not one of the videos can be read.
        StageFailedError: ``strict``, and a stage did not do what it was asked to.
        ModelError: the encoder cannot be loaded or runs out of memory.
    """
    check_questions([question])
    search = Search(archive, question, options)
    manifests = _chosen(search)
    timed = find_frames(search, manifests, models)
    found = timed.found
    by_id = {manifest.video_id: manifest for manifest in manifests}
    videos = [
        _found_video(archive, by_id[video_id], timed.timelines[video_id], hits) for video_id, hits in found.hits.items()
    ]
    videos = ask_best_videos(search, videos, models)
    return SearchResult(
        question=question,
        archive=archive.uri,
        videos=tuple(videos),
        skipped=tuple(search.skipped),
        searched_videos=len(found.searched),
        searched_frames=sum(manifest.frames for manifest in found.manifests.values()),
        stages=tuple(search.stages),
    )


def _chosen(search: Search) -> list[Manifest]:
    """The videos that are meant, but for those that cannot be read or lie elsewhere now; with the stage's record."""
    started = time.perf_counter()
    archive, options = search.archive, search.options

    def damaged(video_id: str, error: IndexDamagedError) -> None:
        search.skipped.append(SkippedVideo("", video_id, str(error)))

    everything = list(archive.manifests(on_damage=damaged))
    if options.videos:
        ids = {find_indexed(archive, video).video_id for video in options.videos}
        # Of damaged ones it is not known where they lay; those that are named have just been read.
        search.skipped = []
    else:
        ids = {manifest.video_id for manifest in everything}
    meant = choose(
        (manifest for manifest in everything if manifest.video_id in ids),
        under=options.under,
        since=options.since,
    )
    if not meant and (everything or not search.skipped):
        if everything:
            raise VideoNotIndexedError(_none_fits(archive.uri, len(ids), options))
        raise VideoNotIndexedError(
            f"archive {archive.uri} holds no video; index some with: hybrid index VIDEO --archive {archive.uri}"
        )
    outdated = set() if options.videos else replaced_videos(archive, meant)
    for manifest in meant:
        if manifest.video_id in outdated:
            search.skip(manifest, f"another video lies at {manifest.source.path} now")
    chosen = [manifest for manifest in meant if manifest.video_id not in outdated]
    stage = Stage(
        name="index",
        ran=False,
        seconds=time.perf_counter() - started,
        candidates_in=len(everything),
        candidates_out=len(chosen),
        details={"backend": archive.backend, "frames": sum(manifest.frames for manifest in chosen)},
    )
    search.record(stage)
    return chosen


def _none_fits(archive_uri: str, videos: int, options: SearchOptions) -> str:
    """What none of the videos that could be searched is."""
    if not options.under and options.since is None:  # named, and indexed only after the archive was listed
        return f"archive {archive_uri} did not hold what videos names when the search began, and does now; ask again"
    asked = [f"lies under {' or '.join(map(shlex.quote, options.under))}"] if options.under else []
    asked += [f"was indexed since {options.since:%Y-%m-%d %H:%M %z}"] if options.since is not None else []
    return (
        f"of {plural(videos, 'video')} in archive {archive_uri} none {' and '.join(asked)}; to see where they lie: "
        f"hybrid list --archive {archive_uri}"
    )


def _found_video(archive: Archive, manifest: Manifest, timeline: Timeline, hits: Hits) -> FoundVideo:
    order = np.argsort(hits.rows, kind="stable")
    where = VideoLocation(manifest.source.path, None)
    if not is_remote(archive.uri):  # there, paths are those of the machine that indexed
        where = locate_video(archive, manifest, read=False)
    return FoundVideo(
        video=where.path,
        video_id=manifest.video_id,
        duration_seconds=timeline.duration_seconds,
        similarity=float(hits.similarities[0]),
        frames=tuple(
            AnswerFrame.of_row(timeline, row, clip_similarity=similarity)
            for row, similarity in zip(hits.rows[order].tolist(), hits.similarities[order].tolist(), strict=True)
        ),
        gone=where.missing_reason,
    )
