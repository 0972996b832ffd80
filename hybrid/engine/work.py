"""One question under way: what every step of answering it needs, and the record that it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hybrid.errors import InputError, StageFailedError
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import DEFAULT_FRAMES, DEFAULT_WINDOW, Stage, Timeline
from indexes.archive import Archive
from indexes.manifest import Manifest

__all__ = ["AskOptions", "Work"]


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How a question is answered.

    Attributes:
        frames: how many frames to select at most.
        window: how many frames GenS reads at once, and how many the coarse stage passes on.
        coarse: False: GenS reads the whole video in consecutive windows.
        fine: False: no GenS; the most similar frames are the answer.
        strict: a stage that cannot do what it was asked to is an error.
        min_score: least GenS score of a frame that belongs to a span.
        gap_seconds: how far apart two stretches may lie and still be one span; by default one
            sample between them may be without a score.
    """

    frames: int = DEFAULT_FRAMES
    window: int = DEFAULT_WINDOW
    coarse: bool = True
    fine: bool = True
    strict: bool = False
    min_score: int = DEFAULT_MIN_SCORE
    gap_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"frames is {self.frames}; it must be at least 1")
        if self.window < 1:
            raise InputError(f"window is {self.window}; it must be at least 1 frame")
        if not 1 <= self.min_score <= 5:
            raise InputError(f"min_score is {self.min_score}; GenS scores are 1 to 5")
        if self.gap_seconds is not None and not self.gap_seconds >= 0:
            raise InputError(f"gap_seconds is {self.gap_seconds}; it must be 0 or more")
        if not self.coarse and not self.fine:
            raise InputError("neither the coarse nor the fine stage is asked for; leave out --no-coarse or --no-fine")


@dataclass(slots=True)
class Work:
    """One question under way."""

    archive: Archive
    manifest: Manifest
    timeline: Timeline
    path: Path
    question: str
    options: AskOptions
    gone: str | None
    stages: list[Stage] = field(default_factory=list)

    def record(self, stage: Stage) -> None:
        """Keep a stage's record.

        Raises:
            StageFailedError: the stage fell back, and the caller is strict.
        """
        self.stages.append(stage)
        if stage.fallback_reason is not None and self.options.strict:
            raise StageFailedError(f"strict: the stage {stage.name!r} failed: {stage.fallback_reason}")
