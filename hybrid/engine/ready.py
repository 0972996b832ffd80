"""A video that questions can be asked about: its index is there, and is the one that the caller means."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hybrid.answers import Stage
from hybrid.engine.checking import check_index
from hybrid.engine.finding import find_video
from hybrid.engine.index.indexing import IndexResult
from hybrid.engine.models import HeldModels
from hybrid.engine.older_frames import older_note
from hybrid.formatting import plural
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

__all__ = ["Ready", "found_before", "ready_video"]


@dataclass(frozen=True, slots=True)
class Ready:
    """An indexed video that can be asked.

    Attributes:
        manifest: of its index.
        path: where it lies, or lay.
        missing_reason: why it cannot be read any more, if it cannot.
        stage: the record of its index.
    """

    manifest: Manifest
    path: Path
    missing_reason: str | None
    stage: Stage


def ready_video(archive: Archive, models: HeldModels, video: Path, index: Callable[[Path], IndexResult]) -> Ready:
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
    return Ready(manifest, found.path, found.missing_reason, stage)


def found_before(stage: Stage) -> Stage:
    """The record of an index for the further questions of one call."""
    details = {**stage.details, "outcome": "found", "seconds": {}}
    return replace(
        stage, ran=False, seconds=0.0, device=None, notes=stage.notes[1:] if stage.ran else stage.notes, details=details
    )


def _index_stage(
    archive: Archive, models: HeldModels, manifest: Manifest, result: IndexResult | None, seconds: float
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
