"""One question under way: what every step of answering it needs, and the records that it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from hybrid.answers import Scorer, Span, Stage
from hybrid.engine.ask.video import ResolvedVideo
from hybrid.errors import StageFailedError
from hybrid.options.ask import AskOptions
from hybrid.spans import DEFAULT_GAP_SAMPLES, spans_of_scores

__all__ = ["AskContext"]


@dataclass(slots=True)
class AskContext:
    """One question under way.

    Attributes:
        video: the video that is asked.
        question: plain text.
        options: how it is answered.
        stages: the records of the steps so far.
    """

    video: ResolvedVideo
    question: str
    options: AskOptions
    stages: list[Stage] = field(default_factory=list)

    def record(self, stage: Stage) -> None:
        """Keep a stage's record.

        Raises:
            StageFailedError: the stage fell back, and the caller is strict.
        """
        self.stages.append(stage)
        if stage.fallback_reason is not None and self.options.strict:
            raise StageFailedError(f"strict: the stage {stage.name!r} failed: {stage.fallback_reason}")

    def spans(
        self, scores: npt.NDArray[Any], *, min_score: float | None = None, scorer: Scorer = "gens"
    ) -> tuple[Span, ...]:
        """The spans of scores (one a row) that reach ``min_score``; by default GenS's, and the options' own."""
        gap = self.options.gap_seconds
        return spans_of_scores(
            self.video.timeline,
            scores,
            min_score=self.options.min_score if min_score is None else min_score,
            gap_samples=DEFAULT_GAP_SAMPLES if gap is None else 0,
            gap_seconds=gap or 0.0,
            scorer=scorer,
        )
