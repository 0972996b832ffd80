"""Scores that a caller asked for by name: decode the frames of a video once, score them for all questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybrid.engine.decoding import decoded_ahead
from hybrid.engine.features import OpenedVideo
from hybrid.engine.work import Work
from hybrid.errors import MissingDependencyError, ModelError, VideoError
from hybrid.scorers.interface import Replying, Trouble, VideoScorer
from hybrid.scorers.registry import read_scores
from hybrid.values import ByteArray, FloatArray, Stage

__all__ = ["run_scorer", "wants_model"]

_INSTEAD = "the selector goes by the scores of the other stages instead"


def wants_model(scores: str | None) -> bool:
    """Whether these scores come from a model of their own, and not from a stage that runs anyway."""
    return scores is not None and read_scores(scores).checkpoint is not None


@dataclass(slots=True)
class _Decoding:
    """Frames on their way to the scorer.

    Attributes:
        rows: those that were had, in order.
        seconds: how long the scorer waited for them.
    """

    rows: list[int] = field(default_factory=list)
    seconds: float = 0.0


def run_scorer(works: Sequence[Work], load: Callable[[], VideoScorer]) -> list[FloatArray | None]:
    """Score every distinct frame of a video for each of the questions, and keep the record.

    Args:
        works: one a question, all of one video.
        load: gives the scorer.

    Returns:
        One a question: float64 [rows of the index], NaN for frames that have no score (copies of the one
        before, and those that cannot be decoded now); None if the scorer could not run, with the reason on record.

    Raises:
        InputError: an option of the scorer has no legal value.
        StageFailedError: ``strict``, and it could not run, gave no scores, or frames are missing.
    """
    head = works[0]
    assert head.options.scores is not None  # the caller looked
    name, started = head.options.scores, time.perf_counter()
    wanted = head.timeline.distinct_rows()
    reading = _Decoding()
    try:
        with OpenedVideo(head.path, head.timeline, head.manifest, gone=head.gone) as video:
            video.source()  # a video that cannot be read need not wait for a model
            loading = time.perf_counter()
            scorer = load()
            loaded = time.perf_counter()
            given = scorer.score(_frames(head, video, reading), [work.question for work in works])
            frames_decoded = video.source().report().frames_decoded
    except (VideoError, ModelError, MissingDependencyError) as exc:
        for work in works:
            _given_up(work, name, exc, len(wanted), time.perf_counter() - started)
        return [None] * len(works)
    seconds = time.perf_counter() - loaded
    troubles: Sequence[Trouble | None] = scorer.troubles if isinstance(scorer, Replying) else ()
    scored: list[FloatArray | None] = []
    for place, work in enumerate(works):
        trouble = troubles[place] if troubles else None
        usable = trouble is None or trouble.usable
        own = np.full(len(work.timeline), np.nan)
        own[reading.rows] = given[place]
        scored.append(own if usable else None)
        details = {
            "questions": len(works),
            "load_seconds": loaded - loading if place == 0 else 0.0,
            "decode_seconds": reading.seconds / len(works),
            "frames_decoded": frames_decoded,
        }
        # All questions were scored together; each has its share, so that the sum is what was spent.
        _record(work, scorer, reading, len(wanted), seconds / len(works), details, trouble)
    return scored


def _record(
    work: Work,
    scorer: VideoScorer,
    reading: _Decoding,
    wanted: int,
    seconds: float,
    details: Mapping[str, Any],
    trouble: Trouble | None,
) -> None:
    missing = wanted - len(reading.rows)
    usable = trouble is None or trouble.usable
    reasons = [f"{missing} frames of the index cannot be decoded from {work.path} now"] if missing else []
    if trouble is not None:
        reasons.append(trouble.reason if usable else f"{trouble.reason}; {_INSTEAD}")
    work.record(
        Stage(
            name="scores",
            ran=usable,
            seconds=seconds,
            model=scorer.name,
            device=scorer.device,
            candidates_in=wanted,
            candidates_out=len(reading.rows) if usable else 0,
            fallback_reason="; ".join(reasons) or None,
            details={**details, "identity": dict(scorer.identity)},
        )
    )


def _frames(work: Work, video: OpenedVideo, reading: _Decoding) -> Iterator[ByteArray]:
    timeline = work.timeline
    rows = timeline.distinct_rows()
    row_of = {int(timeline.ordinals[row]): int(row) for row in rows}
    waiting = time.perf_counter()
    with decoded_ahead(video.source().read(ordinals=list(row_of))) as batches:
        for batch in batches:
            for ordinal, frame in zip(batch.ordinals.tolist(), batch.rgb, strict=True):
                reading.rows.append(row_of[ordinal])
                reading.seconds += time.perf_counter() - waiting
                yield frame
                waiting = time.perf_counter()


def _given_up(work: Work, name: str, exc: Exception, frames: int, seconds: float) -> None:
    work.record(
        Stage(
            name="scores",
            ran=False,
            seconds=seconds,
            model=name,
            candidates_in=frames,
            fallback_reason=f"{exc}; {_INSTEAD}",
        )
    )
