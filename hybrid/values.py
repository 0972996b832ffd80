"""The values that every part of hybrid shares: frozen, validated, with a JSON round trip.

Three ways to name a frame meet here and are kept apart:

* ``ordinal``: place on the sampled grid. Sample ``k`` stands for the time ``k / rate`` seconds. A
  frame that could not be decoded keeps its ordinal, so nothing after it moves.
* ``row``: place in the list of frames that a video's index really holds (missing ones left out).
* ``position``: place in the window that is shown to GenS. It becomes a row only through the
  window's own list (:class:`Window`).

All times are seconds on the video's own timeline (0 = what a player shows at its start), taken
from decoded time stamps. This module knows nothing of decoders, models or disks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.storage.foreign_json import parse_json

__all__ = [
    "Answer",
    "AnswerFrame",
    "FoundVideo",
    "FrameBatch",
    "Hits",
    "MissingFrame",
    "Sampling",
    "SamplingPolicy",
    "Scorer",
    "SearchResult",
    "SkippedVideo",
    "Span",
    "Stage",
    "Timeline",
    "VideoInfo",
    "Window",
    "check_questions",
]

SamplingPolicy = Literal["exact", "keyframes"]
Scorer = Literal["gens", "clip"]

DEFAULT_RATE = 1.0
DEFAULT_WINDOW = 256
DEFAULT_FRAMES = 32
DEFAULT_SEGMENTS = 4
"""How many segments GenS reads: with the usual window, a thousand frames. A single segment holds as many
frames as a scattered window, but all in one stretch, and misses an event that shows elsewhere."""

DEFAULT_CONTEXT_SECONDS = 4.0
"""How far the surroundings of one of the best frames reach, where GenS reads them too."""

LARGEST_RATE = 1000.0
"""Samples a second."""

LONGEST_SECONDS = 1e9
"""31 years. No time that is read from a file or a container lies further from a video's start."""

LARGEST_SIDE = 1_000_000
"""Pixels. Above what any codec or image format of a frame allows."""

MOST_FRAMES = 2**31 - 1
"""Rows of an index, and frames of a video."""

LONGEST_QUESTION = 10_000
"""Characters. Text encoders read some 300 of them; a prompt with more would be longer than the frames it asks about."""

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings of the files that make up a folder of images, in lower case."""

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

_LAST_ORDINAL = int(LONGEST_SECONDS * LARGEST_RATE)


def check_questions(questions: Sequence[str]) -> None:
    """Refuse questions that nobody can answer, before any work is done.

    Raises:
        InputError: one of them is empty, longer than :data:`LONGEST_QUESTION`, or no text in Unicode.
    """
    for question in questions:
        if not question.strip():
            raise InputError("the question is empty; ask for something that can be seen in the video")
        if len(question) > LONGEST_QUESTION:
            raise InputError(f"the question has {len(question)} characters; at most {LONGEST_QUESTION} are legal")
        try:
            question.encode()
        except UnicodeEncodeError as exc:
            raise InputError(f"the question {question[:80]!a} is not valid text: {exc.reason}") from exc


_KINDS = {Integral: "a whole number", Real: "a number", str: "text", bool: "true or false", Mapping: "an object"}


def _is_number(value: object, kind: type = Real) -> bool:
    """Of Python or numpy; a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_fields(value: object, kind: type, *names: str, optional: bool = False) -> None:
    """Refuse a field of another type: JSON may hold any in its place."""
    for name in names:
        found = getattr(value, name)
        if optional and found is None:
            continue
        if not (_is_number(found, kind) if kind in (Integral, Real) else isinstance(found, kind)):
            shown = f"{ascii(found)[:60]} ({type(found).__name__})"
            raise InputError(f"{name} of {type(value).__name__} is {shown}; it must be {_KINDS[kind]}")


def _check_duration(seconds: float) -> None:
    if not (_is_number(seconds) and 0 <= seconds <= LONGEST_SECONDS):
        raise InputError(f"a video of {seconds!r} s; its length must be 0 to {LONGEST_SECONDS:g} s")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video are looked at.

    Attributes:
        rate: samples per second, > 0.
        policy: ``exact``: sample ``k`` is the frame shown at ``k / rate`` seconds. ``keyframes``:
            key frames only, the first one of each interval ``[k / rate, (k + 1) / rate)``, with
            its true time; an interval without a key frame has no sample.
    """

    rate: float = DEFAULT_RATE
    policy: SamplingPolicy = "exact"

    def __post_init__(self) -> None:
        if not (_is_number(self.rate) and 0 < self.rate <= LARGEST_RATE):
            raise InputError(
                f"sampling rate is {self.rate!r}; it must be above 0 and at most {LARGEST_RATE:g} samples per second"
            )
        if self.policy not in ("exact", "keyframes"):
            raise InputError(f"sampling policy is {self.policy!r}; legal are 'exact' and 'keyframes'")


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video once it is open.

    Attributes:
        path: where it was opened.
        kind: ``file`` (a container) or ``folder`` (numbered images).
        duration_seconds: length of the timeline; where the container states none, as far as its
            packets reach. None if not known before decoding.
        width, height: size in pixels as shown (cropped, turned). 0 if not known before decoding.
        codec: name of the video codec, or of the image format of a folder.
    """

    path: str
    kind: Literal["file", "folder"]
    duration_seconds: float | None
    width: int
    height: int
    codec: str

    def __post_init__(self) -> None:
        if self.duration_seconds is not None:
            _check_duration(self.duration_seconds)
        if not (0 <= self.width <= LARGEST_SIDE and 0 <= self.height <= LARGEST_SIDE):
            raise InputError(f"a frame of {self.width}x{self.height} pixels; a side has 0 to {LARGEST_SIDE}")


@dataclass(frozen=True, slots=True)
class MissingFrame:
    """A sample that could not be had. It keeps its ordinal."""

    ordinal: int
    reason: str

    def __post_init__(self) -> None:
        _check_fields(self, Integral, "ordinal")
        _check_fields(self, str, "reason")
        if not 0 <= self.ordinal <= _LAST_ORDINAL:
            raise InputError(f"the ordinal of a missing sample is {self.ordinal}; it must be 0 to {_LAST_ORDINAL}")


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """Decoded samples in time order, all of one size.

    Attributes:
        ordinals: int64 [N], strictly increasing.
        pts_seconds: float64 [N], when each frame is first shown; not decreasing. Two samples that
            show the same frame (rate above the frame rate, a gap) have the same time.
        frame_numbers: int64 [N], number of the frame in the video in order of presentation
            (folder: the number in the file's name), -1 where it is not known.
        rgb: uint8 [N, H, W, 3], as shown (rotation applied).
    """

    ordinals: IntArray
    pts_seconds: FloatArray
    frame_numbers: IntArray
    rgb: ByteArray

    def __post_init__(self) -> None:
        n = len(self.ordinals)
        shape = self.rgb.shape
        if len(shape) != 4 or shape[0] != n or shape[3] != 3 or self.rgb.dtype != np.uint8:
            raise InputError(f"rgb is {self.rgb.dtype} {list(shape)}; it must be uint8 [{n}, H, W, 3]")
        if self.pts_seconds.shape != (n,) or self.frame_numbers.shape != (n,):
            raise InputError(f"a batch of {n} frames needs {n} times and {n} frame numbers")

    def __len__(self) -> int:
        return len(self.ordinals)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The sampled frames of one video in time order; entry ``i`` is row ``i`` of its index.

    Attributes:
        ordinals: int64 [N], strictly increasing.
        pts_seconds: float64 [N], not decreasing.
        frame_numbers: int64 [N], -1 where not known.
        sampling: the grid that the ordinals count on.
        duration_seconds: where the video ends.
        missing: samples that could not be had, by ordinal.
    """

    ordinals: IntArray
    pts_seconds: FloatArray
    frame_numbers: IntArray
    sampling: Sampling
    duration_seconds: float
    missing: tuple[MissingFrame, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ordinals)
        if not self.ordinals.shape == self.pts_seconds.shape == self.frame_numbers.shape == (n,):
            raise InputError(f"a timeline of {n} samples needs {n} times and {n} frame numbers")
        if [array.dtype.kind for array in (self.ordinals, self.pts_seconds, self.frame_numbers)] != ["i", "f", "i"]:
            raise InputError("the ordinals and frame numbers of a timeline must be integers, and its times floats")
        _check_duration(self.duration_seconds)
        if n == 0:
            return
        if not (np.diff(self.ordinals) > 0).all():
            raise InputError("the ordinals of a timeline must increase")
        # Negated, so that a time that is not a number fails, too.
        if not (np.diff(self.pts_seconds) >= 0).all():
            raise InputError("the times of a timeline must not decrease")
        if not -LONGEST_SECONDS <= self.pts_seconds[0] <= self.pts_seconds[-1] <= LONGEST_SECONDS:
            raise InputError(
                f"a timeline reaches from {self.pts_seconds[0]} to {self.pts_seconds[-1]} s; it must be within "
                f"{LONGEST_SECONDS:g} s of its start"
            )
        if not 0 <= self.ordinals[0] <= self.ordinals[-1] <= _LAST_ORDINAL:
            raise InputError(f"the ordinals of a timeline must lie between 0 and {_LAST_ORDINAL}")
        if self.frame_numbers.min() < -1:
            raise InputError(f"a frame number is {self.frame_numbers.min()}; it must be at least -1")

    def __len__(self) -> int:
        return len(self.ordinals)

    def distinct_rows(self) -> IntArray:
        """The first row of each frame: int64, increasing. A frame held over several samples is one picture."""
        first = np.ones(len(self), dtype=bool)
        first[1:] = np.diff(self.pts_seconds) > 0
        rows: IntArray = np.flatnonzero(first)
        return rows

    def until_seconds(self) -> FloatArray:
        """When each sample ceases to stand for the video: float64 [N], never before its own time.

        That is the time of the next sampled frame that differs from it; where the next sample is
        missing, the missing sample's place on the grid, so that a hole is not counted as seen;
        for the last one, the end of the video.
        """
        if len(self) == 0:
            return np.zeros(0)
        following = np.append(self.pts_seconds[1:], max(self.duration_seconds, self.pts_seconds[-1]))
        holes = np.array(sorted(gap.ordinal for gap in self.missing), dtype=np.int64)
        if len(holes):
            # The first missing ordinal after each sample, if it comes before the next sample.
            place = np.searchsorted(holes, self.ordinals, side="right")
            next_hole = np.append(holes, np.iinfo(np.int64).max)[place]
            next_sample = np.append(self.ordinals[1:], np.iinfo(np.int64).max)
            cut = next_hole < next_sample
            following[cut] = next_hole[cut] / self.sampling.rate
        # Samples that show one and the same frame end together, with the last of them.
        for i in range(len(self) - 2, -1, -1):
            if self.pts_seconds[i] == self.pts_seconds[i + 1] and following[i] <= self.pts_seconds[i]:
                following[i] = following[i + 1]
        until: FloatArray = np.maximum(following, self.pts_seconds)
        return until


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Rows of one video's index, best first; equal similarities in order of rows (earlier first).

    Attributes:
        rows: int64 [K].
        similarities: float32 [K], cosine, not increasing.
    """

    rows: IntArray
    similarities: Float32Array

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The frames that are shown to GenS together, in time order: position ``p`` is ``rows[p]``.

    GenS answers in positions. This list is the only way from there back to a frame.

    Attributes:
        rows: int64 [W], strictly increasing rows of the video's index.
        similarities: float32 [W] cosine to the question, or None without a coarse stage.
    """

    rows: IntArray
    similarities: Float32Array | None = None

    def __post_init__(self) -> None:
        if len(self.rows) > 1 and not (np.diff(self.rows) > 0).all():
            raise InputError("the rows of a window must increase (time order, no frame twice)")

    def __len__(self) -> int:
        return len(self.rows)


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
        _check_fields(self, Real, "start_seconds", "end_seconds", "score")
        _check_fields(self, str, "scorer")
        _check_fields(self, Real, "best_start_seconds", "best_end_seconds", optional=True)
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
        _check_fields(self, Real, "seconds")
        _check_fields(self, Integral, "ordinal", "frame_number")
        _check_fields(self, Real, "clip_similarity", "gens_score", optional=True)

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
        _check_fields(self, str, "name")
        _check_fields(self, bool, "ran")
        _check_fields(self, Real, "seconds")
        _check_fields(self, str, "model", "device", "fallback_reason", optional=True)
        _check_fields(self, Integral, "candidates_in", "candidates_out", optional=True)
        _check_fields(self, Mapping, "details")
        if not all(isinstance(note, str) for note in self.notes):
            raise InputError(f"the notes of stage {self.name!r} are not all text")


@dataclass(frozen=True, slots=True)
class Answer:
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

    question: str
    video: str
    video_id: str
    duration_seconds: float
    spans: tuple[Span, ...]
    frames: tuple[AnswerFrame, ...]
    stages: tuple[Stage, ...]
    reply: str | None = None

    def __post_init__(self) -> None:
        _check_fields(self, str, "question", "video", "video_id")
        _check_fields(self, Real, "duration_seconds")
        _check_fields(self, str, "reply", optional=True)

    @property
    def degraded(self) -> bool:
        """True if some stage did not do what it was asked to."""
        return any(stage.fallback_reason is not None for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, ready for ``json.dumps``."""
        return asdict(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """The answer as one JSON document in ASCII; :meth:`from_json` gives it back.

        ASCII, because the name of a file may hold bytes that are not text, and must not end a run.
        """
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Answer:
        """Rebuild an answer from :meth:`to_dict`.

        Raises:
            InputError: the document lacks a field or has one that is not known.
        """
        try:
            return cls(
                **{
                    **document,
                    "spans": tuple(Span(**span) for span in document["spans"]),
                    "frames": tuple(AnswerFrame(**frame) for frame in document["frames"]),
                    "stages": tuple(_stage(stage) for stage in document["stages"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise InputError(f"this is not an answer of hybrid: {exc}") from exc

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """Rebuild an answer from :meth:`to_json`.

        Raises:
            InputError: the text is not JSON, or not an answer.
        """
        return cls.from_dict(parse_json(text, where="this answer", names=True))


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
        _check_fields(self, str, "video", "video_id")
        _check_fields(self, Real, "duration_seconds", "similarity")
        _check_fields(self, str, "gone", optional=True)


@dataclass(frozen=True, slots=True)
class SkippedVideo:
    """One video of the archive that was to be searched and could not be, with the reason."""

    video: str
    video_id: str
    reason: str

    def __post_init__(self) -> None:
        _check_fields(self, str, "video", "video_id", "reason")


@dataclass(frozen=True, slots=True)
class SearchResult:
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

    question: str
    archive: str
    videos: tuple[FoundVideo, ...]
    skipped: tuple[SkippedVideo, ...]
    searched_videos: int
    searched_frames: int
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        _check_fields(self, str, "question", "archive")
        _check_fields(self, Integral, "searched_videos", "searched_frames")

    @property
    def degraded(self) -> bool:
        """True if some stage did not do what it was asked to, for the archive or for one of its videos."""
        return any(stage.fallback_reason is not None for stage in self.stages) or any(
            found.answer is not None and found.answer.degraded for found in self.videos
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, ready for ``json.dumps``."""
        return asdict(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """The result as one JSON document in ASCII; :meth:`from_json` gives it back."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SearchResult:
        """Rebuild a result from :meth:`to_dict`.

        Raises:
            InputError: the document lacks a field or has one that is not known.
        """
        try:
            return cls(
                **{
                    **document,
                    "videos": tuple(_found_video(found) for found in document["videos"]),
                    "skipped": tuple(SkippedVideo(**skipped) for skipped in document["skipped"]),
                    "stages": tuple(_stage(stage) for stage in document["stages"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise InputError(f"this is not the result of a search: {exc}") from exc

    @classmethod
    def from_json(cls, text: str) -> SearchResult:
        """Rebuild a result from :meth:`to_json`.

        Raises:
            InputError: the text is not JSON, or not the result of a search.
        """
        return cls.from_dict(parse_json(text, where="this result", names=True))


def _stage(document: Mapping[str, Any]) -> Stage:
    return Stage(**{**document, "notes": tuple(document.get("notes", ()))})


def _found_video(document: Mapping[str, Any]) -> FoundVideo:
    answer = document["answer"]
    return FoundVideo(
        **{
            **document,
            "frames": tuple(AnswerFrame(**frame) for frame in document["frames"]),
            "answer": None if answer is None else Answer.from_dict(answer),
        }
    )
