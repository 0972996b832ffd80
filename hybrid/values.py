"""The values that every stage shares: frozen, with bounds that hold wherever they come from.

Three kinds of numbers name a frame:

* ``ordinal``: its position on the sampled grid. Sample ``k`` stands for the time ``k / rate`` seconds. A
  frame that could not be decoded keeps its ordinal, so nothing after it moves.
* ``row``: its position in the list of frames that a video's index holds (without missing ones).
* ``position``: its position in the window that is shown to GenS; :class:`Window` maps it to a row.

All times are seconds on the video's own timeline (0 = what a player shows at its start), taken
from decoded time stamps. This module knows nothing of decoders, models or disks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError

__all__ = [
    "FrameBatch",
    "Hits",
    "MissingFrame",
    "Sampling",
    "SamplingPolicy",
    "Timeline",
    "VideoInfo",
    "Window",
    "check_duration",
    "check_fields",
    "check_questions",
    "is_number",
]

SamplingPolicy = Literal["exact", "keyframes"]

DEFAULT_RATE = 1.0
DEFAULT_WINDOW = 256
DEFAULT_FRAMES = 32
DEFAULT_SEGMENTS = 4
"""Segments that GenS reads: a thousand frames with the default window. A single segment has as many frames as a
scattered window, but in one stretch, and misses events elsewhere."""

DEFAULT_CONTEXT_SECONDS = 4.0
"""Seconds before and after each of the best frames that GenS reads too."""

LARGEST_RATE = 1000.0
"""Samples a second."""

LONGEST_SECONDS = 1e9
"""31 years: the largest distance from a video's start of any time read from a file."""

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


def check_questions(questions: Sequence[str], *, required: bool = False) -> None:
    """Refuse questions that cannot be answered, before any work is done.

    Raises:
        InputError: there is none though one is ``required``, or one of them is empty, longer than
            :data:`LONGEST_QUESTION`, or no text in Unicode.
    """
    if isinstance(questions, str) or not isinstance(questions, Sequence):
        raise InputError(f"questions are {questions!r}; they must be a list of texts")
    if required and not questions:
        raise InputError("there is no question; give at least one")
    for question in questions:
        if not isinstance(question, str):
            raise InputError(f"the question is {question!r}; it must be a text")
        if not question.strip():
            raise InputError("the question is empty; ask for something that can be seen in the video")
        if len(question) > LONGEST_QUESTION:
            raise InputError(f"the question has {len(question)} characters; at most {LONGEST_QUESTION} are legal")
        try:
            question.encode()
        except UnicodeEncodeError as exc:
            raise InputError(f"the question {question[:80]!a} is not valid text: {exc.reason}") from exc


_KINDS = {Integral: "a whole number", Real: "a number", str: "text", bool: "true or false", Mapping: "an object"}


def is_number(value: object, kind: type = Real) -> bool:
    """Whether it is a number, of Python or numpy; a bool is not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_fields(value: object, kind: type, *names: str, optional: bool = False) -> None:
    """Refuse fields of another type, which JSON may hold."""
    for name in names:
        found = getattr(value, name)
        if optional and found is None:
            continue
        if not (is_number(found, kind) if kind in (Integral, Real) else isinstance(found, kind)):
            shown = f"{ascii(found)[:60]} ({type(found).__name__})"
            raise InputError(f"{name} of {type(value).__name__} is {shown}; it must be {_KINDS[kind]}")


def check_duration(seconds: float) -> None:
    if not (is_number(seconds) and 0 <= seconds <= LONGEST_SECONDS):
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
        if not (is_number(self.rate) and 0 < self.rate <= LARGEST_RATE):
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
            check_duration(self.duration_seconds)
        if not (0 <= self.width <= LARGEST_SIDE and 0 <= self.height <= LARGEST_SIDE):
            raise InputError(f"a frame of {self.width}x{self.height} pixels; a side has 0 to {LARGEST_SIDE}")


@dataclass(frozen=True, slots=True)
class MissingFrame:
    """A sample that could not be decoded. It keeps its ordinal."""

    ordinal: int
    reason: str

    def __post_init__(self) -> None:
        check_fields(self, Integral, "ordinal")
        check_fields(self, str, "reason")
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
        missing: samples that could not be decoded, by ordinal.
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
        check_duration(self.duration_seconds)
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
        missing, the missing sample's time on the grid, so that a hole does not count as seen;
        for the last one, the end of the video.
        """
        if len(self) == 0:
            return np.zeros(0)
        following = np.append(self.pts_seconds[1:], max(self.duration_seconds, self.pts_seconds[-1]))
        holes = np.array(sorted(gap.ordinal for gap in self.missing), dtype=np.int64)
        if len(holes):
            # The first missing ordinal after each sample, if it comes before the next sample.
            following_hole = np.searchsorted(holes, self.ordinals, side="right")
            next_hole = np.append(holes, np.iinfo(np.int64).max)[following_hole]
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
