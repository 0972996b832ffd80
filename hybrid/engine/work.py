"""One question under way: what every step of answering it needs, and the record that it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hybrid.answers import Stage
from hybrid.errors import StageFailedError
from hybrid.options.ask import AskOptions
from hybrid.values import Timeline
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

__all__ = ["Work"]


@dataclass(slots=True)
class Work:
    """One question under way."""

    archive: Archive
    manifest: Manifest
    timeline: Timeline
    path: Path
    question: str
    options: AskOptions
    missing_reason: str | None
    stages: list[Stage] = field(default_factory=list)

    def record(self, stage: Stage) -> None:
        """Keep a stage's record.

        Raises:
            StageFailedError: the stage fell back, and the caller is strict.
        """
        self.stages.append(stage)
        if stage.fallback_reason is not None and self.options.strict:
            raise StageFailedError(f"strict: the stage {stage.name!r} failed: {stage.fallback_reason}")
