"""What the fine stage puts on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybrid.answers import Stage
from hybrid.engine.ask.window_frames import Reading
from hybrid.engine.work import Work
from hybrid.fine.interface import FrameScorer
from hybrid.fine.windows import FineScores
from hybrid.formatting import plural
from hybrid.values import Window

__all__ = ["Loaded", "given_up", "no_frames", "record_frames", "record_scores"]


@dataclass(slots=True)
class Loaded:
    """A scorer, and how long it took to load it now (0 if it was there)."""

    scorer: FrameScorer
    seconds: float


def given_up(work: Work, name: str, model: str, exc: Exception, windows: Sequence[Window], seconds: float) -> None:
    """A stage that could not run, and why."""
    work.record(
        Stage(
            name=name,
            ran=False,
            seconds=seconds,
            model=model,
            candidates_in=sum(len(window) for window in windows),
            fallback_reason=f"{exc}; the most similar frames are given instead",
        )
    )


def no_frames(work: Work, sampler: str, exc: Exception, windows: Sequence[Window], seconds: float) -> None:
    """The frames could not be read, so GenS did not run either."""
    given_up(work, "frames", work.manifest.config.decoder, exc, windows, seconds)
    note = "there were no frames to read"
    work.record(Stage(name="gens", ran=False, seconds=0.0, model=sampler, notes=(note,)))


def record_frames(work: Work, reading: Reading, *, details: Mapping[str, Any] | None = None) -> None:
    """What reading the frames took. It did not run if all of them came from the feature store."""
    reason = None
    if reading.missing:
        reason = f"{plural(len(reading.missing), 'frame')} of the index cannot be decoded from {work.path} now"
    all_stored = 0 < reading.frames == reading.from_store and reason is None
    notes = list(reading.notes)
    if all_stored:
        notes.insert(
            0, f"features of {plural(reading.frames, 'frame')} came from the feature store; nothing was decoded"
        )
    work.record(
        Stage(
            name="frames",
            ran=not all_stored,
            seconds=reading.seconds,
            model="feature store" if all_stored else work.manifest.config.decoder,
            device="cpu",
            candidates_in=reading.asked_for,
            candidates_out=reading.frames,
            fallback_reason=reason,
            notes=tuple(notes),
            details={"frames_decoded": reading.frames_decoded, **(details or {})},
        )
    )


def record_scores(
    work: Work,
    fine: FineScores,
    loaded: Loaded,
    *,
    frames: int,
    seconds: float,
    details: Mapping[str, Any] | None = None,
) -> None:
    """What GenS said, and what became of it.

    Args:
        work: the question.
        fine: what was said.
        loaded: who said it.
        frames: how many frames it was shown.
        seconds: how long that took.
        details: what else belongs to the record.
    """
    model = loaded.scorer
    scored = int(np.count_nonzero(fine.scores))
    reasons: list[str] = []
    if fine.cut_to is not None:
        reasons.append(f"out of memory on {model.device}; windows were cut to {plural(fine.cut_to, 'frame')}")
    mute = [place for place, reply in enumerate(fine.replies, start=1) if reply.status == "empty" and reply.notes]
    if mute and scored:
        reasons.append(f"{len(mute)} of {plural(len(fine.replies), 'window')} gave no usable reply: {mute[:20]}")
    notes = tuple(
        f"window {place}: {note}" if len(fine.replies) > 1 else note
        for place, reply in enumerate(fine.replies, start=1)
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
            **(details or {}),
        },
    )
    loaded.seconds = 0.0  # the first question waited for it
    work.record(stage)
