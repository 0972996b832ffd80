"""One question under way: what every step of answering it needs, and the record that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypedDict, cast, get_args

from hybrid.answers import Stage
from hybrid.errors import InputError, StageFailedError
from hybrid.scorers.spec import parse_scorer
from hybrid.selectors.ranking import check_budget
from hybrid.selectors.spec import parse_selector
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import DEFAULT_CONTEXT_SECONDS, DEFAULT_FRAMES, DEFAULT_SEGMENTS, DEFAULT_WINDOW, Timeline
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["GENS_ALONE", "AskKeywords", "AskOptions", "WindowMode", "Work", "only_said", "read_options"]

WindowMode = Literal["scattered", "context", "segments"]
"""``scattered``: GenS reads the frames that are most similar to the question, wherever they lie, as
it was published. ``context``: the best of them and the frames right before and after each, as many in
all. ``segments``: it reads the segments of the video that are most similar; these are the same for all
questions, which share what is read of them."""


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
        window_mode: which frames GenS reads together; see :data:`WindowMode`.
        segments: how many segments it reads, in that mode.
        context_seconds: how far the frames around one of the best reach, in that mode.
        features: whether GenS's features of frames are taken from the archive and kept there.
        select: the selector that chooses the frames, with its options (see :mod:`hybrid.selectors.spec`); by
            default the best by GenS's score, or by similarity where GenS did not run.
        scores: what the selector goes by (see :mod:`hybrid.scorers.spec`); by default GenS's scores, or
            the similarities where GenS did not run.
        seed: for selectors that draw; by default the one that ``select`` says, or the selector's own.
        look_for: texts that a selector compares frames with which needs several (tifre): "a photo of a dog"; by
            default they are made of the question's words.
    """

    frames: int = DEFAULT_FRAMES
    window: int = DEFAULT_WINDOW
    coarse: bool = True
    fine: bool = True
    strict: bool = False
    min_score: int = DEFAULT_MIN_SCORE
    gap_seconds: float | None = None
    window_mode: WindowMode = "scattered"
    segments: int = DEFAULT_SEGMENTS
    context_seconds: float = DEFAULT_CONTEXT_SECONDS
    features: bool = True
    select: str | None = None
    scores: str | None = None
    seed: int | None = None
    look_for: Sequence[str] = ()

    def __post_init__(self) -> None:
        # As a plain int, which goes into records that are JSON.
        object.__setattr__(self, "frames", check_budget(self.frames))
        if self.window < 1:
            raise InputError(f"window is {self.window}; it must be at least 1 frame")
        if not 1 <= self.min_score <= 5:
            raise InputError(f"min_score is {self.min_score}; GenS scores are 1 to 5")
        if self.gap_seconds is not None and not self.gap_seconds >= 0:
            raise InputError(f"gap_seconds is {self.gap_seconds}; it must be 0 or more")
        if self.window_mode not in get_args(WindowMode):
            legal = ", ".join(map(repr, get_args(WindowMode)))
            raise InputError(f"window_mode is {self.window_mode!r}; legal are {legal}")
        if self.segments < 1:
            raise InputError(f"segments is {self.segments}; it must be at least 1")
        if not 0 <= self.context_seconds < float("inf"):
            raise InputError(f"context_seconds is {self.context_seconds}; it must be 0 or more seconds")
        if self.window_mode != "scattered" and not self.coarse:
            raise InputError(
                f"the coarse stage chooses what GenS reads in the mode {self.window_mode!r}; without it GenS reads "
                "the whole video anyway"
            )
        if self.select is not None:
            parse_selector(self.select)  # refuses what is not known
        _check_texts(self)
        if self.scores is not None:
            _check_scores(self.scores, self)
        if not self.coarse and not self.fine:
            raise InputError("neither the coarse nor the fine stage is asked for; leave out --no-coarse or --no-fine")


def _check_texts(options: AskOptions) -> None:
    """Refuse texts to look for that are none, or that nothing would look for, before any work is done."""
    # A text is a sequence too: of letters.
    texts = (options.look_for,) if isinstance(options.look_for, str) else tuple(options.look_for)
    object.__setattr__(options, "look_for", texts)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"look_for is {list(texts)}; each must be a text that names what can be seen")
    if texts and (options.select is None or "prompts" not in parse_selector(options.select).selector.needs):
        raise InputError(
            f"look_for ({', '.join(map(repr, texts))}) is for selectors that compare frames with texts of their own; "
            "take --select tifre, or leave out --look-for"
        )


def _check_scores(text: str, options: AskOptions) -> None:
    """Refuse scores that nothing would go by, or that no stage makes, before any work is done."""
    wanted = parse_scorer(text)
    if options.select is None:
        raise InputError(f"scores are {text!r}, which are for a selector; name one with --select (hybrid selectors)")
    if not parse_selector(options.select).selector.uses_scores:
        raise InputError(f"scores are {text!r}, but the selector {options.select!r} does not look at scores")
    if wanted.checkpoint is None and not (options.fine if wanted.kind.name == "gens" else options.coarse):
        stage, option = ("fine", "--no-fine") if wanted.kind.name == "gens" else ("coarse", "--no-coarse")
        raise InputError(f"scores are {text!r}, which the {stage} stage makes; leave out {option}")


class AskKeywords(TypedDict, total=False):
    """The fields of :class:`AskOptions` as keywords of a call."""

    frames: int
    window: int
    coarse: bool
    fine: bool
    strict: bool
    min_score: int
    gap_seconds: float | None
    window_mode: WindowMode
    segments: int
    context_seconds: float
    features: bool
    select: str | None
    scores: str | None
    seed: int | None
    look_for: Sequence[str]


GENS_ALONE: Final[Mapping[str, str]] = {
    "window": "--window-frames",
    "window_mode": "--window",
    "segments": "--segments",
    "context_seconds": "--context",
    "min_score": "--min-score",
}
"""What says how GenS reads and scores, and nothing else; with the option of the command line."""

_OF_A_MODE: Final[Mapping[str, WindowMode]] = {"segments": "segments", "context_seconds": "context"}
"""The only mode in which they decide anything."""


def only_said(**options: object) -> AskKeywords:
    """The options that a caller said: one that is None was not.

    >>> only_said(frames=8, window=None)
    {'frames': 8}
    """
    return cast("AskKeywords", {name: value for name, value in options.items() if value is not None})


def read_options(**said: Unpack[AskKeywords]) -> AskOptions:
    """The options of a question, from those that the caller said; one that is None was not said.

    Raises:
        InputError: a value is not legal, or one that was said would decide nothing beside the others.
    """
    said = only_said(**said)
    options = AskOptions(**said)
    if not options.features and not options.fine:
        raise InputError(
            "features is False (--no-features), which is for GenS, and the fine stage is left out; leave out "
            "--no-features or --no-fine"
        )
    for name, value in said.items():
        if name in GENS_ALONE and not options.fine:
            raise InputError(
                f"{name} is {value!r} ({GENS_ALONE[name]}), which is for GenS, and the fine stage is left out; leave "
                f"out {GENS_ALONE[name]} or --no-fine"
            )
        mode = _OF_A_MODE.get(name)
        if mode is not None and options.window_mode != mode:
            raise InputError(
                f"{name} is {value!r} ({GENS_ALONE[name]}), which decides nothing where window_mode is "
                f"{options.window_mode!r}; take --window {mode}, or leave out {GENS_ALONE[name]}"
            )
    if options.seed is not None:
        _check_seed(options.seed, options.select)
    return options


def _check_seed(seed: int, select: str | None) -> None:
    """Refuse a seed that no draw goes by."""
    if select is None:
        raise InputError(f"seed is {seed}, which is for selectors that draw; name one with select, or leave out seed")
    wanted = parse_selector(select)
    if not wanted.selector.draws:
        raise InputError(f"seed is {seed}, but the selector {select!r} does not draw; leave out seed")
    if wanted.seed is not None:
        raise InputError(f"seed is {seed}, and the selector {select!r} says its own; say it once")


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
