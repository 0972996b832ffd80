"""The records of the fine stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybrid.answers import Stage
from hybrid.engine.ask.context import AskContext
from hybrid.engine.ask.window_frames import Reading
from hybrid.fine.interface import FineModel
from hybrid.fine.windows import FineScores
from hybrid.formatting import plural
from hybrid.values import Window

__all__ = ["LoadedModel", "record_fallback", "record_frames", "record_no_frames", "record_scores"]


@dataclass(slots=True)
class LoadedModel:
    """A fine-stage model, and how long it took to load it now (0 if it was loaded)."""

    model: FineModel
    seconds: float


def record_fallback(
    context: AskContext, name: str, model: str, exc: Exception, windows: Sequence[Window], seconds: float
) -> None:
    """Record a stage that could not run, and why."""
    context.record(
        Stage(
            name=name,
            ran=False,
            seconds=seconds,
            model=model,
            candidates_in=sum(len(window) for window in windows),
            fallback_reason=f"{exc}; the most similar frames are given instead",
        )
    )


def record_no_frames(
    context: AskContext, model: str, exc: Exception, windows: Sequence[Window], seconds: float
) -> None:
    """The frames could not be read, so GenS did not run either."""
    record_fallback(context, "frames", context.video.manifest.config.decoder, exc, windows, seconds)
    note = "there were no frames to read"
    context.record(Stage(name="gens", ran=False, seconds=0.0, model=model, notes=(note,)))


def record_frames(context: AskContext, reading: Reading, details: Mapping[str, Any]) -> None:
    """What reading the frames took. It did not run if all of them came from the feature store."""
    reason = None
    if reading.missing:
        reason = f"{plural(len(reading.missing), 'frame')} of the index cannot be decoded from {context.video.path} now"
    all_stored = 0 < reading.frames == reading.from_store and reason is None
    notes = list(reading.notes)
    if all_stored:
        notes.insert(
            0, f"features of {plural(reading.frames, 'frame')} came from the feature store; nothing was decoded"
        )
    context.record(
        Stage(
            name="frames",
            ran=not all_stored,
            seconds=reading.seconds,
            model="feature store" if all_stored else context.video.manifest.config.decoder,
            device="cpu",
            candidates_in=reading.requested,
            candidates_out=reading.frames,
            fallback_reason=reason,
            notes=tuple(notes),
            details={"frames_decoded": reading.frames_decoded, **details},
        )
    )


def record_scores(
    context: AskContext,
    fine: FineScores,
    loaded: LoadedModel,
    *,
    frames: int,
    seconds: float,
    details: Mapping[str, Any],
) -> None:
    """Record what the model replied, and what came of it.

    Args:
        context: the question.
        fine: what it replied.
        loaded: the model.
        frames: how many frames it was shown.
        seconds: how long that took.
        details: what else belongs to the record.
    """
    model = loaded.model
    scored = int(np.count_nonzero(fine.scores))
    reasons: list[str] = []
    if fine.cut_to is not None:
        reasons.append(f"out of memory on {model.device}; windows were cut to {plural(fine.cut_to, 'frame')}")
    unusable = [number for number, reply in enumerate(fine.replies, start=1) if reply.status == "empty" and reply.notes]
    if unusable and scored:
        reasons.append(
            f"{len(unusable)} of {plural(len(fine.replies), 'window')} gave no usable reply: {unusable[:20]}"
        )
    notes = tuple(
        f"window {number}: {note}" if len(fine.replies) > 1 else note
        for number, reply in enumerate(fine.replies, start=1)
        for note in reply.notes
    )
    if fine.found_nothing:
        notes = ("no frame that was read answers the question; the most similar ones are given, and no span",)
    elif scored == 0:
        reasons.append("the reply holds no scores; the most similar frames are given instead")
    parts: dict[str, float] = {}
    for reply in fine.replies:
        for part, part_seconds in reply.seconds.items():
            parts[part] = parts.get(part, 0.0) + part_seconds
    stage = Stage(
        name="gens",
        ran=scored > 0 or fine.found_nothing,
        seconds=seconds,
        model=model.name,
        device=model.device,
        candidates_in=frames,
        candidates_out=scored,
        fallback_reason="; ".join(reasons) or None,
        notes=notes,
        details={
            "windows": len(fine.replies),
            "reply_status": [reply.status for reply in fine.replies],
            "prompt_tokens": sum(reply.prompt_tokens for reply in fine.replies),
            "reused_tokens": sum(reply.reused_tokens for reply in fine.replies),
            "new_tokens": sum(reply.new_tokens for reply in fine.replies),
            "seconds": parts,
            "load_seconds": loaded.seconds,
            "identity": dict(model.identity),
            **details,
        },
    )
    loaded.seconds = 0.0  # the first question waited for it
    context.record(stage)
