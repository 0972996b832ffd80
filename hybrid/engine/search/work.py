"""One search of an archive under way: what every step of it needs, and the record that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hybrid.answers import Answer, SkippedVideo, Stage
from hybrid.clip.interface import FrameEncoder
from hybrid.errors import StageFailedError
from hybrid.options.search import SearchOptions
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

__all__ = ["Search", "SearchModels"]


@dataclass(frozen=True, slots=True)
class SearchModels:
    """What answers; loaded when it is needed.

    Attributes:
        encoder: gives the encoder for videos like the given one.
        name_changes: what the encoder's name alone shows to be another than a video's, before it is loaded.
        changes: what sets a video's encoder apart from that one, one line each; none if it is the same.
        ask: answers the question about one video, by its content id.
        sampler_name: GenS's name, for the record.
    """

    encoder: Callable[[Manifest], FrameEncoder]
    name_changes: Callable[[Manifest], Sequence[str]]
    changes: Callable[[FrameEncoder, Manifest], Sequence[str]]
    ask: Callable[[str], Answer]
    sampler_name: str


@dataclass(slots=True)
class Search:
    """One search under way.

    Attributes:
        archive: what is searched.
        question: plain text.
        options: how.
        stages: the records of the steps so far.
        skipped: the videos that could not be searched, with the reason.
    """

    archive: Archive
    question: str
    options: SearchOptions
    stages: list[Stage] = field(default_factory=list)
    skipped: list[SkippedVideo] = field(default_factory=list)

    def record(self, stage: Stage) -> None:
        """Keep the record of a step.

        Raises:
            StageFailedError: ``strict``, and it did not do what it was asked to.
        """
        self.stages.append(stage)
        if stage.fallback_reason is not None and self.options.strict:
            raise StageFailedError(f"strict: the stage {stage.name!r} failed: {stage.fallback_reason}")

    def skip(self, manifest: Manifest, reason: str) -> None:
        """Name a video that is not searched."""
        self.skipped.append(SkippedVideo(manifest.source.path, manifest.video_id, reason))
