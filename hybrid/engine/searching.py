"""One question to a whole archive: the best frames of all videos, then GenS on the best videos.

The coarse stage is exact, or goes by the archive's approximate index where it has one; a stage of its own
says which and what it did. Every video that is not searched is named with the reason, and the
coarse stage's record says so; nothing is left out in silence.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from hybrid.clip.encoder import FrameEncoder
from hybrid.engine.asking import check_questions
from hybrid.errors import (
    HybridError,
    IndexDamagedError,
    IndexMismatchError,
    InputError,
    ModelError,
    StageFailedError,
    VideoNotIndexedError,
)
from hybrid.values import (
    DEFAULT_FRAMES,
    Answer,
    AnswerFrame,
    FoundVideo,
    Hits,
    SearchResult,
    SkippedVideo,
    Stage,
    Timeline,
)
from indexes.archive import Archive
from indexes.archive_search import ApproximateRecord, ArchiveHits, search_archive_vectors
from indexes.effort import Effort
from indexes.lookup import choose, find_indexed, replaced_since
from indexes.manifest import Manifest

__all__ = ["SearchModels", "SearchOptions", "search_archive"]

_MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How an archive is searched.

    Attributes:
        top: how many frames over all videos, at most.
        fine: GenS is asked about so many of the best videos.
        videos: only these, by path or content id; all if empty.
        under: only videos that lie below one of these folders.
        since: only videos that were indexed at or after this time.
        threads: how many cores search; by default all, up to eight.
        strict: a stage that cannot do what it was asked to is an error, and so is a video that
            cannot be searched.
        exact: compare every frame, even where the archive has an approximate index.
    """

    top: int = DEFAULT_FRAMES
    fine: int = 0
    videos: tuple[str, ...] = ()
    under: tuple[str, ...] = ()
    since: datetime | None = None
    threads: int | None = None
    strict: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InputError(f"top is {self.top}; it must be at least 1 frame")
        if self.fine < 0:
            raise InputError(f"fine is {self.fine}; it must be 0 or more videos")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")
        if self.since is not None and self.since.tzinfo is None:
            raise InputError(f"since is {self.since}; it must have a time zone")


@dataclass(frozen=True, slots=True)
class SearchModels:
    """What answers; loaded when it is needed.

    Attributes:
        encoder: gives the encoder for videos like the given one.
        changes: what sets a video's encoder apart from that one, one line each; none if it is the same.
        ask: answers the question about one video, by its content id.
        sampler_name: GenS's name, for the record.
    """

    encoder: Callable[[Manifest], FrameEncoder]
    changes: Callable[[FrameEncoder, Manifest], Sequence[str]]
    ask: Callable[[str], Answer]
    sampler_name: str


@dataclass(slots=True)
class _Search:
    """One search under way."""

    archive: Archive
    question: str
    options: SearchOptions
    stages: list[Stage] = field(default_factory=list)
    skipped: list[SkippedVideo] = field(default_factory=list)

    def record(self, stage: Stage) -> None:
        self.stages.append(stage)
        if stage.fallback_reason is not None and self.options.strict:
            raise StageFailedError(f"strict: the stage {stage.name!r} failed: {stage.fallback_reason}")

    def skip(self, manifest: Manifest, reason: str) -> None:
        self.skipped.append(SkippedVideo(manifest.source.path, manifest.video_id, reason))


def search_archive(archive: Archive, question: str, options: SearchOptions, models: SearchModels) -> SearchResult:
    """Find the frames of an archive that fit a question, and have GenS look at the best videos.

    Raises:
        InputError: the question is empty.
        VideoNotIndexedError: there is no video to search.
        IndexMismatchError: not one of the videos was indexed with the encoder.
        IndexDamagedError: not one of the videos can be read.
        StageFailedError: ``strict``, and a stage did not do what it was asked to.
        ModelError: the encoder cannot be loaded or runs out of memory.
    """
    check_questions([question])
    search = _Search(archive, question, options)
    manifests = _chosen(search)
    found = _coarse(search, manifests, models)
    by_id = {manifest.video_id: manifest for manifest in manifests}
    videos = [_found_video(by_id[video_id], archive.timeline(video_id), hits) for video_id, hits in found.hits.items()]
    videos = _fine(search, videos, models)
    return SearchResult(
        question=question,
        archive=archive.place,
        videos=tuple(videos),
        skipped=tuple(search.skipped),
        searched_videos=len(found.searched),
        searched_frames=sum(by_id[video_id].frames for video_id in found.searched),
        stages=tuple(search.stages),
    )


def _chosen(search: _Search) -> list[Manifest]:
    """The videos that are meant, but for those that cannot be read or lie elsewhere now; with the stage's record."""
    started = time.perf_counter()
    archive, options = search.archive, search.options

    def damaged(video_id: str, error: IndexDamagedError) -> None:
        search.skipped.append(SkippedVideo("", video_id, str(error)))

    everything = list(archive.manifests(on_damage=damaged))
    if options.videos:
        wanted = {find_indexed(archive, video).video_id for video in options.videos}
        # Of damaged ones it is not known where they lay; those that are named have just been read.
        search.skipped = []
    else:
        wanted = {manifest.video_id for manifest in everything}
    meant = choose(
        (manifest for manifest in everything if manifest.video_id in wanted), under=options.under, since=options.since
    )
    if not meant and (everything or not search.skipped):
        which = "no video" if not everything else f"no such video among its {len(everything)}"
        raise VideoNotIndexedError(
            f"archive {archive.place} holds {which}; index some with: hybrid index VIDEO --archive {archive.place}"
        )
    outdated = set() if options.videos else replaced_since(archive, meant)
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


def _coarse(search: _Search, manifests: Sequence[Manifest], models: SearchModels) -> ArchiveHits:
    if not manifests:
        raise IndexDamagedError(f"not one video can be searched; the first: {search.skipped[0].reason}")
    asked = time.perf_counter()
    encoder = models.encoder(_most_common(manifests))
    fitting = _fitting(search, manifests, encoder, models)
    started = time.perf_counter()
    text = encoder.encode_text(search.question)
    encoded = time.perf_counter()
    threads = search.options.threads or min(_MOST_THREADS, os.cpu_count() or 1)
    effort = None if search.options.exact else Effort()
    found = search_archive_vectors(
        search.archive, fitting, text.vector, search.options.top, threads=threads, effort=effort
    )
    ended = time.perf_counter()
    for manifest in fitting:
        if manifest.video_id in found.failed:
            search.skip(manifest, found.failed[manifest.video_id])
    if not found.searched:
        raise IndexDamagedError(f"not one video can be searched; the first: {search.skipped[0].reason}")
    frames = sum(manifest.frames for manifest in fitting if manifest.video_id in found.searched)
    reason = None
    if search.skipped:
        first = search.skipped[0]
        total = len(found.searched) + len(search.skipped)
        reason = f"{len(search.skipped)} of {total} videos were not searched; the first, {first.video}: {first.reason}"
    if found.approximate is not None:
        search.record(_approximate_stage(found.approximate, ended - encoded))
    search.record(
        Stage(
            name="coarse",
            ran=True,
            seconds=ended - started,
            model=encoder.name,
            device=encoder.device,
            candidates_in=frames,
            candidates_out=sum(map(len, found.hits.values())),
            fallback_reason=reason,
            notes=(text.note,) if text.note else (),
            details={
                "load_seconds": started - asked,
                "encode_seconds": encoded - started,
                "search_seconds": ended - encoded,
                "videos": len(found.searched),
                "threads": threads,
                "exact": found.approximate is None or not found.approximate.used,
                "identity": dict(encoder.identity),
            },
        )
    )
    return found


def _approximate_stage(record: ApproximateRecord, seconds: float) -> Stage:
    return Stage(
        name="approximate",
        ran=record.used,
        seconds=seconds,
        device=record.device,
        candidates_in=record.units,
        candidates_out=record.compared_units,
        fallback_reason=record.problem,
        notes=(record.note,) if record.note else (),
        details={
            "segments": record.segments,
            "compared_frames": record.compared_frames,
            "exact_frames": record.exact_frames,
        },
    )


def _most_common(manifests: Sequence[Manifest]) -> Manifest:
    """A video of the encoder that most videos have; which one decides the precision to load it in."""
    count = Counter(manifest.fingerprint for manifest in manifests)
    fingerprint = max(sorted(count), key=lambda name: count[name])
    return next(manifest for manifest in manifests if manifest.fingerprint == fingerprint)


def _fitting(
    search: _Search, manifests: Sequence[Manifest], encoder: FrameEncoder, models: SearchModels
) -> list[Manifest]:
    """The videos that were indexed with this encoder."""
    changes: dict[str, str] = {}
    fitting = []
    for manifest in manifests:
        if manifest.fingerprint not in changes:
            changes[manifest.fingerprint] = "; ".join(models.changes(encoder, manifest))
        changed = changes[manifest.fingerprint]
        if changed:
            search.skip(manifest, f"it was indexed with another encoder ({changed})")
        else:
            fitting.append(manifest)
    if not fitting:
        path, folder = Path(manifests[0].source.path), search.archive.place
        raise IndexMismatchError(
            f"not one of {len(manifests)} videos was indexed with the encoder {encoder.name}; the first, {path}: "
            f"{changes[manifests[0].fingerprint]}; search with the encoder that they were indexed with, or index them "
            f"with this one: hybrid index VIDEO --archive {folder}"
        )
    return fitting


def _found_video(manifest: Manifest, timeline: Timeline, hits: Hits) -> FoundVideo:
    order = np.argsort(hits.rows, kind="stable")
    return FoundVideo(
        video=manifest.source.path,
        video_id=manifest.video_id,
        duration_seconds=timeline.duration_seconds,
        similarity=float(hits.similarities[0]),
        frames=tuple(
            AnswerFrame(
                seconds=float(timeline.pts_seconds[row]),
                ordinal=int(timeline.ordinals[row]),
                frame_number=int(timeline.frame_numbers[row]),
                clip_similarity=float(similarity),
                gens_score=None,
            )
            for row, similarity in zip(hits.rows[order].tolist(), hits.similarities[order].tolist(), strict=True)
        ),
    )


def _fine(search: _Search, videos: list[FoundVideo], models: SearchModels) -> list[FoundVideo]:
    """Ask GenS about the best videos, and put them in order of what it says."""
    chosen = videos[: search.options.fine]
    if not chosen:
        note = "not asked for" if not search.options.fine else "there was nothing to read"
        search.record(Stage(name="gens", ran=False, seconds=0.0, notes=(note,)))
        return videos
    started = time.perf_counter()
    asked: list[FoundVideo] = []
    reasons: list[str] = []
    for found in chosen:
        answer, reason = _ask(found, models)
        asked.append(
            FoundVideo(found.video, found.video_id, found.duration_seconds, found.similarity, found.frames, answer)
        )
        if reason is not None:
            reasons.append(f"{found.video}: {reason}")
    stage = Stage(
        name="gens",
        ran=any(_best_score(found) > 0 for found in asked),
        seconds=time.perf_counter() - started,
        model=models.sampler_name,
        candidates_in=len(chosen),
        candidates_out=sum(1 for found in asked if _best_score(found) > 0),
        fallback_reason=f"{len(reasons)} of {len(chosen)} videos: {'; '.join(reasons[:3])}" if reasons else None,
        details={"videos": [found.video_id for found in chosen]},
    )
    search.record(stage)
    # Sorting is stable: equals stay in order of similarity.
    return sorted(asked, key=_best_score, reverse=True) + videos[len(chosen) :]


def _ask(found: FoundVideo, models: SearchModels) -> tuple[Answer | None, str | None]:
    """The answer about one video, and what did not go as asked."""
    try:
        answer = models.ask(found.video_id)
    except (InputError, ModelError, StageFailedError):
        raise
    except HybridError as exc:
        return None, str(exc)
    reasons = [stage.fallback_reason for stage in answer.stages if stage.fallback_reason is not None]
    return answer, "; ".join(reasons) or None


def _best_score(found: FoundVideo) -> float:
    """The best score that GenS gave a span of this video; 0 if none."""
    spans = () if found.answer is None else found.answer.spans
    return max((span.score for span in spans if span.scorer == "gens"), default=0.0)
