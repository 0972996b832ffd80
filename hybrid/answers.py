"""What a question comes back with: spans, frames and stages; answers and results of searches, with a JSON round trip.

All times are seconds on the video's own timeline (see :mod:`hybrid.values`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

from hybrid.errors import InputError
from hybrid.storage.json_record import JsonRecord
from hybrid.values import Timeline, check_fields

__all__ = ["Answer", "AnswerFrame", "FoundVideo", "Scorer", "SearchResult", "SkippedVideo", "Span", "Stage"]

Scorer = Literal["gens", "clip"]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the video that answers the question: ``[start_seconds, end_seconds)``.

    Attributes:
        start_seconds: time of its first frame.
        end_seconds: time of the next sampled frame after its last (the video's end for the last).
        score: the best score in it: 1..5 from GenS, or a cosine similarity from CLIP.
        scorer: who gave the score. ``clip`` only where the fine stage did not run.
        best_start_seconds, best_end_seconds: the longest stretch in it with that score, the first of several.
            GenS gives less to what only leads to an answer: what comes right after something is such a
            stretch, behind the something. None where all that was scored in the span has the best score.
    """

    start_seconds: float
    end_seconds: float
    score: float
    scorer: Scorer = "gens"
    best_start_seconds: float | None = None
    best_end_seconds: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, Real, "start_seconds", "end_seconds", "score")
        check_fields(self, str, "scorer")
        check_fields(self, Real, "best_start_seconds", "best_end_seconds", optional=True)
        if not self.start_seconds <= self.end_seconds:
            raise InputError(f"a span cannot end ({self.end_seconds} s) before it starts ({self.start_seconds} s)")

    @property
    def best(self) -> tuple[float, float] | None:
        """(start, end) in seconds of the best stretch, or None where it is the whole span."""
        if self.best_start_seconds is None or self.best_end_seconds is None:
            return None
        return self.best_start_seconds, self.best_end_seconds


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """One selected frame.

    Attributes:
        seconds: when it is shown (decoded time stamp).
        ordinal: its place on the sampled grid.
        frame_number: its number in the video in order of presentation; -1 if not known.
        clip_similarity: cosine to the question; None if the coarse stage did not run.
        gens_score: 1..5; None if GenS did not name it or did not run.
    """

    seconds: float
    ordinal: int
    frame_number: int
    clip_similarity: float | None
    gens_score: int | None

    def __post_init__(self) -> None:
        check_fields(self, Real, "seconds")
        check_fields(self, Integral, "ordinal", "frame_number")
        check_fields(self, Real, "clip_similarity", "gens_score", optional=True)

    @classmethod
    def of_row(
        cls, timeline: Timeline, row: int, *, clip_similarity: float | None = None, gens_score: int | None = None
    ) -> AnswerFrame:
        """The frame of one row of an index's timeline, with the scores that it has."""
        return cls(
            seconds=float(timeline.pts_seconds[row]),
            ordinal=int(timeline.ordinals[row]),
            frame_number=int(timeline.frame_numbers[row]),
            clip_similarity=clip_similarity,
            gens_score=gens_score,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage did for an answer.

    Attributes:
        name: ``index``, ``coarse``, ``frames``, ``gens``, ``select``; in a search ``approximate``, whose
            candidates are units of frames.
        ran: whether it ran and its result was used. False without a fallback reason means that it
            was not asked for, or not needed (``frames``: all features of the frames are stored).
        seconds: how long it took.
        model: the model that ran, or was meant to.
        device: where it ran.
        candidates_in, candidates_out: how many frames went in and came out.
        fallback_reason: why it did not do what it was asked to, and what was done instead; None if
            all went as asked. ``strict`` turns a reason into a failure.
        notes: what else the reader should know (a question cut to the text encoder's length ...).
        details: small facts of that stage (tokens, windows, status of a reply ...).
    """

    name: str
    ran: bool
    seconds: float
    model: str | None = None
    device: str | None = None
    candidates_in: int | None = None
    candidates_out: int | None = None
    fallback_reason: str | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, str, "name")
        check_fields(self, bool, "ran")
        check_fields(self, Real, "seconds")
        check_fields(self, str, "model", "device", "fallback_reason", optional=True)
        check_fields(self, Integral, "candidates_in", "candidates_out", optional=True)
        check_fields(self, Mapping, "details")
        if not all(isinstance(note, str) for note in self.notes):
            raise InputError(f"the notes of stage {self.name!r} are not all text")


@dataclass(frozen=True, slots=True)
class Answer(JsonRecord):
    """Everything that is known about one question to one video. Times in seconds.

    Attributes:
        question: as it was asked.
        video: the path that was asked about.
        video_id: its content id in the archive.
        duration_seconds: its length.
        spans: disjoint, in time order.
        frames: the selected frames, in time order.
        stages: what ran, in order, with models, devices and times.
        reply: what GenS wrote, word for word, one window after another; None if it did not run.
    """

    what: ClassVar[str] = "an answer of hybrid"

    question: str
    video: str
    video_id: str
    duration_seconds: float
    spans: tuple[Span, ...]
    frames: tuple[AnswerFrame, ...]
    stages: tuple[Stage, ...]
    reply: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, str, "question", "video", "video_id")
        check_fields(self, Real, "duration_seconds")
        check_fields(self, str, "reply", optional=True)

    @property
    def degraded(self) -> bool:
        """True if some stage did not do what it was asked to."""
        return any(stage.fallback_reason is not None for stage in self.stages)


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """One video in which a search over an archive found something.

    Attributes:
        video: where it lies, or lay when it was last given to ``index``.
        video_id: its content id.
        duration_seconds: its length.
        similarity: cosine of its best frame to the question.
        frames: those of its frames that are among the best of the whole search, in time order.
        answer: what the fine stage made of the question for this video; None if it was not asked.
        gone: why the video is not where it was, so that what was found is of what was indexed, not of what lies
            there now; None if it is there, as far as its size and what was read of it before tell, and where the
            archive lies in an object store.
    """

    video: str
    video_id: str
    duration_seconds: float
    similarity: float
    frames: tuple[AnswerFrame, ...]
    answer: Answer | None = None
    gone: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, str, "video", "video_id")
        check_fields(self, Real, "duration_seconds", "similarity")
        check_fields(self, str, "gone", optional=True)


@dataclass(frozen=True, slots=True)
class SkippedVideo:
    """One video of the archive that was to be searched and could not be, with the reason."""

    video: str
    video_id: str
    reason: str

    def __post_init__(self) -> None:
        check_fields(self, str, "video", "video_id", "reason")


@dataclass(frozen=True, slots=True)
class SearchResult(JsonRecord):
    """Everything that is known of one question to a whole archive, or to some of its videos.

    Attributes:
        question: as it was asked.
        archive: the archive's folder.
        videos: what was found, best first: first the videos that the fine stage was asked about, by
            the score of their best span, then the others; equals by ``similarity``.
        skipped: videos that should have been searched, and were not.
        searched_videos, searched_frames: how many were.
        stages: what ran, in order, with models, devices and times. Those of the fine stage on each
            video are in the videos' answers.
    """

    what: ClassVar[str] = "the result of a search"

    question: str
    archive: str
    videos: tuple[FoundVideo, ...]
    skipped: tuple[SkippedVideo, ...]
    searched_videos: int
    searched_frames: int
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_fields(self, str, "question", "archive")
        check_fields(self, Integral, "searched_videos", "searched_frames")

    @property
    def degraded(self) -> bool:
        """True if some stage did not do what it was asked to, for the archive or for one of its videos."""
        return any(stage.fallback_reason is not None for stage in self.stages) or any(
            found.answer is not None and found.answer.degraded for found in self.videos
        )
