"""A video that questions can be asked about: its index is there, and is the one that the caller means."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hybrid.answers import Stage
from hybrid.clip.interface import FrameEncoder
from hybrid.engine.checking import check_encoder_name, check_index, older_note
from hybrid.engine.index.indexing import IndexResult
from hybrid.engine.models import ModelPool, Models
from hybrid.engine.videos import OpenedVideo, find_video
from hybrid.formatting import plural
from hybrid.options.ask import AskOptions
from hybrid.values import Timeline
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

__all__ = ["ResolvedVideo", "found_before", "models_for", "resolve_video"]


@dataclass(frozen=True, slots=True)
class ResolvedVideo:
    """An indexed video that can be asked.

    Attributes:
        archive: holds its index.
        manifest, timeline: of its index.
        path: its location; the last known one if it is missing.
        missing_reason: why it cannot be read any more; None if it can.
        stage: the record of its index.
    """

    archive: Archive
    manifest: Manifest
    timeline: Timeline
    path: Path
    missing_reason: str | None
    stage: Stage

    def open(self) -> OpenedVideo:
        """The video, opened when it is first needed. Use as a context manager."""
        return OpenedVideo(
            self.path,
            self.timeline,
            self.manifest,
            missing_reason=self.missing_reason,
            archive_uri=self.archive.uri,
        )


def resolve_video(
    archive: Archive, models: ModelPool, video: Path, index: Callable[[Path], IndexResult]
) -> ResolvedVideo:
    """Find a video's index; ``index`` makes it now if there is none.

    Raises:
        IndexMismatchError: it was made with another rate, policy or decoder than the caller said.
        VideoError: there is no such video.
    """
    started = time.perf_counter()
    found = find_video(archive, video)
    manifest, result = found.manifest, None
    if manifest is None:
        result = index(found.path)
        manifest = archive.require(result.video_id)
    check_index(archive.uri, models.settings, manifest, found.path)
    stage = _index_stage(archive, models, manifest, result, time.perf_counter() - started)
    return ResolvedVideo(archive, manifest, archive.timeline(manifest), found.path, found.missing_reason, stage)


def found_before(stage: Stage) -> Stage:
    """The record of an index for the further questions of one call."""
    details = {**stage.details, "outcome": "found", "seconds": {}}
    return replace(
        stage, ran=False, seconds=0.0, device=None, notes=stage.notes[1:] if stage.ran else stage.notes, details=details
    )


def _index_stage(
    archive: Archive, models: ModelPool, manifest: Manifest, result: IndexResult | None, seconds: float
) -> Stage:
    encoder = manifest.config.encoder
    notes = [f"indexed now: {plural(manifest.frames, 'frame')} in {seconds:.1f} s"] if result is not None else []
    return Stage(
        name="index",
        ran=result is not None,
        seconds=seconds,
        model="/".join(str(encoder[key]) for key in ("model", "pretrained") if encoder.get(key)),
        device=models.encoder_device if result is not None else None,
        candidates_out=manifest.frames,
        notes=(*notes, *([manifest.note] if manifest.note else []), *older_note([manifest])),
        details={
            "outcome": "found" if result is None else result.outcome,
            "status": manifest.status,
            "backend": archive.backend,
            "fingerprint": manifest.fingerprint,
            "seconds": dict(result.seconds) if result is not None else {},
        },
    )


def models_for(video: ResolvedVideo, options: AskOptions, pool: ModelPool) -> Models:
    """What answers questions about a video; its encoder is refused if it is another than the caller's."""
    uri, manifest, path = video.archive.uri, video.manifest, video.path

    def encoder() -> FrameEncoder:
        check_encoder_name(uri, pool.settings, pool.encoder_name, manifest, path)
        loaded = pool.encoder_for(manifest)
        check_index(uri, pool.settings, manifest, path, identity=loaded.identity)
        return loaded

    return Models(
        encoder=encoder,
        fine_model=pool.fine_model,
        video_scorer=lambda: pool.video_scorer(options.scores_text or ""),
        fine_model_name=pool.fine_model_name,
    )
