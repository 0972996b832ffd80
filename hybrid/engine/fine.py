"""The fine stage of one question: read the windows' frames, let GenS score them, keep the record.

When it cannot run, the answer is left to the coarse stage, with the reason on record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from hybrid.coarse.search import window_of_hits
from hybrid.engine.settings import file_decoder
from hybrid.engine.window_frames import Reading, frames_of_windows
from hybrid.engine.work import Work
from hybrid.errors import (
    HybridError,
    MissingDependencyError,
    ModelError,
    VideoError,
    VideoOpenError,
    first_line,
)
from hybrid.frames.source import open_source
from hybrid.gens.scorer import FrameScorer
from hybrid.gens.windows import FineScores, consecutive_windows, score_windows
from hybrid.values import Hits, Stage

__all__ = ["run_fine"]


def run_fine(work: Work, hits: Hits | None, scorer: Callable[[], FrameScorer], sampler_name: str) -> FineScores | None:
    """Frames, GenS, and their records; None if GenS could not run, with the reason on record."""
    size = work.options.window
    if hits is not None:
        windows = [window_of_hits(hits, size)]
    else:
        windows = consecutive_windows(work.timeline.distinct_rows(), size)
    reading = Reading(asked_for=sum(len(window) for window in windows))
    started = time.perf_counter()
    try:
        if work.gone is not None:
            raise VideoOpenError(work.gone)
        # Opened before the model is loaded: a video that cannot be read need not wait for that.
        with (
            open_source(work.path, work.timeline.sampling, decoder=file_decoder(work.manifest.config)) as source,
            _gens_errors(),
        ):
            opened = time.perf_counter()
            model = scorer()
            loaded = time.perf_counter()
            frames = frames_of_windows(work.timeline, source, windows, model.prepare, reading)
            fine = score_windows(model, frames, work.question, rows=len(work.timeline))
            ended = time.perf_counter()
    except VideoError as exc:
        _given_up(work, "frames", work.manifest.config.decoder, exc, reading, time.perf_counter() - started)
        note = "there were no frames to read"
        work.record(Stage(name="gens", ran=False, seconds=0.0, model=sampler_name, notes=(note,)))
        return None
    except (ModelError, MissingDependencyError) as exc:
        _given_up(work, "gens", sampler_name, exc, reading, time.perf_counter() - started)
        return None
    seconds = ended - loaded - reading.seconds
    reading.seconds += opened - started
    _record_reading(work, reading)
    _record_scores(work, fine, model, reading, seconds=seconds, load_seconds=loaded - opened)
    return fine


@contextmanager
def _gens_errors() -> Iterator[None]:
    """Whatever else a model library raises must not cost the caller the coarse answer."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, MemoryError) as exc:
        if isinstance(exc, HybridError):
            raise
        raise ModelError(f"the sampler failed: {first_line(exc)}") from exc


def _given_up(work: Work, name: str, model: str, exc: Exception, reading: Reading, seconds: float) -> None:
    work.record(
        Stage(
            name=name,
            ran=False,
            seconds=seconds,
            model=model,
            candidates_in=reading.asked_for,
            fallback_reason=f"{exc}; the most similar frames are given instead",
        )
    )


def _record_reading(work: Work, reading: Reading) -> None:
    reason = None
    if reading.missing:
        reason = f"{len(reading.missing)} frames of the index cannot be decoded from {work.path} now"
    stage = Stage(
        name="frames",
        ran=True,
        seconds=reading.seconds,
        model=work.manifest.config.decoder,
        device="cpu",
        candidates_in=reading.asked_for,
        candidates_out=reading.frames,
        fallback_reason=reason,
        details={"frames_decoded": reading.frames_decoded},
    )
    work.record(stage)


def _record_scores(
    work: Work, fine: FineScores, model: FrameScorer, reading: Reading, *, seconds: float, load_seconds: float
) -> None:
    scored = int(np.count_nonzero(fine.scores))
    reasons: list[str] = []
    if fine.cut_to is not None:
        reasons.append(f"out of memory on {model.device}; windows were cut to {fine.cut_to} frames")
    mute = [place for place, reply in enumerate(fine.replies, start=1) if reply.status == "empty" and reply.notes]
    if mute and scored:
        reasons.append(f"{len(mute)} of {len(fine.replies)} windows gave no usable reply: {mute[:20]}")
    if scored == 0:
        reasons.append("the reply holds no scores; the most similar frames are given instead")
    parts: dict[str, float] = {}
    for reply in fine.replies:
        for part, part_seconds in reply.seconds.items():
            parts[part] = parts.get(part, 0.0) + part_seconds
    stage = Stage(
        name="gens",
        ran=scored > 0,
        seconds=seconds,
        model=model.name,
        device=model.device,
        candidates_in=reading.frames,
        candidates_out=scored,
        fallback_reason="; ".join(reasons) or None,
        notes=tuple(
            f"window {place}: {note}" if len(fine.replies) > 1 else note
            for place, reply in enumerate(fine.replies, start=1)
            for note in reply.notes
        ),
        details={
            "windows": len(fine.replies),
            "reply_status": [reply.status for reply in fine.replies],
            "prompt_tokens": sum(reply.prompt_tokens for reply in fine.replies),
            "new_tokens": sum(reply.new_tokens for reply in fine.replies),
            "seconds": parts,
            "load_seconds": load_seconds,
            "identity": dict(model.identity),
        },
    )
    work.record(stage)
