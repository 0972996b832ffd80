"""Scores that a caller asked for by name: decode the frames of a video once, score them for all questions.

Or, where a selector asks for the scores of some frames only (FOCUS), decode and score just these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from hybrid.answers import Stage
from hybrid.engine.ask.context import AskContext
from hybrid.engine.frames.decode_ahead import prefetched_frames
from hybrid.engine.videos import OpenedVideo
from hybrid.errors import FrameDecodeError, MissingDependencyError, ModelError, VideoError
from hybrid.formatting import plural
from hybrid.options.ask import AskOptions
from hybrid.scorers.interface import Replying, Trouble, VideoScorer
from hybrid.values import ByteArray, FloatArray, IntArray

__all__ = ["DemandedScores", "score_frames", "scores_on_demand", "scores_together"]

_INSTEAD = "the selector goes by the scores of the other stages instead"


def scores_together(options: AskOptions) -> bool:
    """Whether a model of their own scores the whole video for all questions in one pass."""
    return options.scores_need_model and not scores_on_demand(options)


def scores_on_demand(options: AskOptions) -> bool:
    """Whether the selector asks for the scores of some frames, and the model can score these without the others."""
    if options.select is None or options.scores is None or not options.scores_need_model:
        return False
    return "score_frames" in options.select.selector.needs and options.scores.kind.framewise


@dataclass(slots=True)
class _Decoding:
    """Frames on their way to the scorer.

    Attributes:
        rows: those that were had, in order.
        seconds: how long the scorer waited for them.
    """

    rows: list[int] = field(default_factory=list)
    seconds: float = 0.0


def score_frames(contexts: Sequence[AskContext], load: Callable[[], VideoScorer]) -> list[FloatArray | None]:
    """Score every distinct frame of a video for each of the questions, and keep the record.

    Args:
        contexts: one a question, all of one video.
        load: gives the scorer.

    Returns:
        One a question: float64 [rows of the index], NaN for frames that have no score (copies of the one
        before, and those that cannot be decoded now); None if the scorer could not run, with the reason on record.

    Raises:
        InputError: an option of the scorer has no legal value.
        StageFailedError: ``strict``, and it could not run, gave no scores, or frames are missing.
    """
    head = contexts[0]
    assert head.options.scores is not None  # the caller looked
    name, started = head.options.scores.text, time.perf_counter()
    rows = head.video.timeline.distinct_rows()
    reading = _Decoding()
    try:
        with head.video.open() as video:
            video.source()  # a video that cannot be read need not wait for a model
            loading = time.perf_counter()
            scorer = load()
            loaded = time.perf_counter()
            given = scorer.score(_frames(head, video, reading, rows), [context.question for context in contexts])
            frames_decoded = video.source().report().frames_decoded
    except (VideoError, ModelError, MissingDependencyError) as exc:
        for context in contexts:
            _record_fallback(context, name, exc, len(rows), time.perf_counter() - started)
        return [None] * len(contexts)
    seconds = time.perf_counter() - loaded
    troubles: Sequence[Trouble | None] = scorer.troubles if isinstance(scorer, Replying) else ()
    scored: list[FloatArray | None] = []
    for index, context in enumerate(contexts):
        trouble = troubles[index] if troubles else None
        usable = trouble is None or trouble.usable
        own = np.full(len(context.video.timeline), np.nan)
        own[reading.rows] = given[index]
        scored.append(own if usable else None)
        details = {
            "questions": len(contexts),
            "load_seconds": loaded - loading if index == 0 else 0.0,
            "decode_seconds": reading.seconds / len(contexts),
            "frames_decoded": frames_decoded,
        }
        # All questions were scored together; each has its share, so that the sum is what was spent.
        _record(context, scorer, reading, len(rows), seconds / len(contexts), details, trouble)
    return scored


class DemandedScores:
    """The scores of one question's frames, each decoded and scored when a selector asks for it; others never are.

    Use as a context manager, which closes the video.

    Args:
        context: the question, with ``scores`` of a model of its own.
        load: gives the scorer; is called with the first demand.
        rows: int64, the rows of the index that the selector chooses from.
    """

    def __init__(self, context: AskContext, load: Callable[[], VideoScorer], rows: IntArray) -> None:
        self._context, self._load, self._rows = context, load, rows
        self._video = context.video.open()
        self._scorer: VideoScorer | None = None
        self._reading = _Decoding()
        self._asked = self._frames_decoded = 0
        self._load_seconds = 0.0
        self.seconds = 0.0
        self.missing: IntArray = np.zeros(0, dtype=np.int64)

    def __call__(self, candidates: IntArray) -> FloatArray:
        """The scores of some candidates: float64 [n]; a frame that cannot be decoded gets the lowest of them.

        Args:
            candidates: int64 [n], of ``rows``, each once, in any order.

        Raises:
            VideoError, ModelError, MissingDependencyError: there are no scores.
        """
        started = time.perf_counter()
        try:
            return self._score(candidates)
        finally:
            self.seconds += time.perf_counter() - started

    def record_failure(self, exc: Exception) -> None:
        """Keep on record that there are no scores, and why."""
        assert self._context.options.scores is not None
        _record_fallback(self._context, self._context.options.scores.text, exc, self._asked, self.seconds)

    def record(self) -> None:
        """Keep on record what was scored.

        Raises:
            StageFailedError: ``strict``, and frames are missing.
        """
        assert self._scorer is not None  # a selector that needs them asked for some
        details = {
            "questions": 1,
            "on_demand": True,
            "candidates": len(self._rows),
            "load_seconds": self._load_seconds,
            "decode_seconds": self._reading.seconds,
            "frames_decoded": self._frames_decoded,
        }
        _record(
            self._context, self._scorer, self._reading, self._asked, self.seconds - self._load_seconds, details, None
        )

    def _score(self, candidates: IntArray) -> FloatArray:
        self._asked += len(candidates)
        source = self._video.source()  # a video that cannot be read need not wait for a model
        if self._scorer is None:
            started = time.perf_counter()
            self._scorer = self._load()
            self._load_seconds = time.perf_counter() - started
        rows, before = np.sort(self._rows[candidates]), len(self._reading.rows)
        frames = _frames(self._context, self._video, self._reading, rows)
        given = self._scorer.score(frames, [self._context.question])[0]
        self._frames_decoded += source.report().frames_decoded
        had = np.array(self._reading.rows[before:], dtype=np.int64)
        if len(had) == 0:
            raise FrameDecodeError(
                f"{self._context.video.path}: none of the {len(rows)} frames to score can be decoded now"
            )
        scores = np.full(len(rows), given.min())
        scores[np.searchsorted(rows, had)] = given
        self.missing = np.concatenate([self.missing, np.setdiff1d(rows, had)])
        asked: FloatArray = scores[np.searchsorted(rows, self._rows[candidates])]
        return asked

    def __enter__(self) -> DemandedScores:
        self._video.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._video.__exit__(kind, value, trace)


def _record(
    context: AskContext,
    scorer: VideoScorer,
    reading: _Decoding,
    requested: int,
    seconds: float,
    details: Mapping[str, Any],
    trouble: Trouble | None,
) -> None:
    missing = requested - len(reading.rows)
    usable = trouble is None or trouble.usable
    reasons = (
        [f"{plural(missing, 'frame')} of the index cannot be decoded from {context.video.path} now"] if missing else []
    )
    if trouble is not None:
        reasons.append(trouble.reason if usable else f"{trouble.reason}; {_INSTEAD}")
    context.record(
        Stage(
            name="scores",
            ran=usable,
            seconds=seconds,
            model=scorer.name,
            device=scorer.device,
            candidates_in=requested,
            candidates_out=len(reading.rows) if usable else 0,
            fallback_reason="; ".join(reasons) or None,
            details={**details, "identity": dict(scorer.identity)},
        )
    )


def _frames(context: AskContext, video: OpenedVideo, reading: _Decoding, rows: IntArray) -> Iterator[ByteArray]:
    timeline = context.video.timeline
    row_of = {int(timeline.ordinals[row]): int(row) for row in rows}
    waiting = time.perf_counter()
    with prefetched_frames(video.source().read(ordinals=list(row_of))) as batches:
        for batch in batches:
            for ordinal, frame in zip(batch.ordinals.tolist(), batch.rgb, strict=True):
                reading.rows.append(row_of[ordinal])
                reading.seconds += time.perf_counter() - waiting
                yield frame
                waiting = time.perf_counter()


def _record_fallback(context: AskContext, name: str, exc: Exception, frames: int, seconds: float) -> None:
    context.record(
        Stage(
            name="scores",
            ran=False,
            seconds=seconds,
            model=name,
            candidates_in=frames,
            fallback_reason=f"{exc}; {_INSTEAD}",
        )
    )
