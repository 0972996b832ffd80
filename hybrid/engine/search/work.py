"""One search of an archive under way: what every step of it needs, and the record that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from hybrid.answers import Answer, SkippedVideo, Stage
from hybrid.clip.encoder import FrameEncoder
from hybrid.engine.work import AskKeywords, only_said, read_options
from hybrid.errors import InputError, StageFailedError
from hybrid.values import DEFAULT_FRAMES
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

__all__ = ["Search", "SearchModels", "SearchOptions", "options_of_search"]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How an archive is searched.

    Attributes:
        top: how many frames over all videos, at most.
        fine: GenS is asked about so many of the best videos.
        videos: only these, by path or content id; all if empty.
        under: only videos that lie below one of these folders.
        since: only videos that were indexed at or after this time.
        threads: how many cores search; by default all, up to eight.
        strict: a stage that cannot do what it was asked to is an error, and so is a video that
            cannot be searched.
        exact: compare every frame, even where the archive has an approximate index.
    """

    top: int = DEFAULT_FRAMES
    fine: int = 0
    videos: tuple[str, ...] = ()
    under: tuple[str, ...] = ()
    since: datetime | None = None
    threads: int | None = None
    strict: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InputError(f"top is {self.top}; it must be at least 1 frame")
        if self.fine < 0:
            raise InputError(f"fine is {self.fine}; it must be 0 or more videos")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")
        if self.since is not None and self.since.tzinfo is None:
            raise InputError(f"since is {self.since}; it must have a time zone")


def options_of_search(wanted: SearchOptions, ask: AskKeywords) -> AskKeywords:
    """The options of the questions that GenS is asked about the best videos.

    Args:
        wanted: how the archive is searched.
        ask: what the caller said of these questions; what is None was not said.

    Raises:
        InputError: a value is not legal, or would decide nothing: no question is asked, or the search itself says it.
    """
    said = only_said(**ask)
    for name, value in said.items():
        if name in ("fine", "strict"):
            raise InputError(f"ask says {name} = {value!r}, which is an option of the search itself; say it there")
        if not wanted.fine:
            raise InputError(
                f"{name} is {value!r}, which is for GenS's look at the best videos, and fine is 0; say how many it is "
                f"asked about (--fine 3), or leave out {name}"
            )
    options: AskKeywords = {**said, "strict": wanted.strict, "fine": True}
    read_options(**options)
    return options


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
