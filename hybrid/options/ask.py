"""How a question is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from hybrid.errors import InputError
from hybrid.options.field import Choice, Options, Range, Requirement, documented, option
from hybrid.scorers.spec import ScorerSpec, parse_scorer
from hybrid.selectors.ranking import check_budget
from hybrid.selectors.spec import SelectorSpec, parse_selector
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import DEFAULT_CONTEXT_SECONDS, DEFAULT_FRAMES, DEFAULT_SEGMENTS, DEFAULT_WINDOW, is_number

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hybrid.options.keywords import AskKeywords

__all__ = ["AskOptions", "WindowMode"]

WindowMode = Literal["scattered", "context", "segments"]
"""``scattered``: GenS reads the frames that are most similar to the question, wherever they lie, as
it was published. ``context``: the best of them and the frames right before and after each, as many in
all. ``segments``: it reads the segments of the video that are most similar; these are the same for all
questions, which share what is read of them."""

_FOR_GENS: Final = Requirement(
    "fine", True, "is for GenS, and the fine stage is left out; leave out {flag} or --no-fine"
)


def _for_mode(mode: WindowMode) -> tuple[Requirement, ...]:
    message = "decides nothing where window_mode is {other}; take --window {required}, or leave out {flag}"
    return _FOR_GENS, Requirement("window_mode", mode, message)


def _read_window(text: str, given: Mapping[str, object]) -> dict[str, object]:
    """What ``--window`` sets: the mode, or the number of scattered frames."""
    if text in get_args(WindowMode):
        return {"window_mode": text}
    try:
        size = int(text)
    except ValueError:
        legal = ", ".join(get_args(WindowMode))
        raise InputError(f"--window is {text!r}; legal are {legal}, or a number of frames") from None
    if given.get("window") is not None:
        raise InputError(
            f"--window is {size} and --window-frames {given['window']}, which both say how many frames GenS reads; "
            "leave out one"
        )
    return {"window_mode": "scattered", "window": size}


def _read_size(value: Any) -> int:
    if value in get_args(WindowMode):
        raise InputError(f"window is {value!r}; it is a number of frames, the mode is window_mode={value!r}")
    if not is_number(value, Integral):
        raise InputError(f"window is {value!r}; it must be a whole number of frames")
    return int(value)


def _read_selector(value: str | SelectorSpec) -> SelectorSpec:
    if not isinstance(value, str | SelectorSpec):
        raise InputError(f"select is {value!r}; it must be a selector's text, such as 'aks' or 'aks:depth=3'")
    return parse_selector(value) if isinstance(value, str) else value


def _read_scores(value: str | ScorerSpec) -> ScorerSpec:
    if not isinstance(value, str | ScorerSpec):
        raise InputError(f"scores is {value!r}; it must be a text, such as 'clip' or 'blip-itm:CHECKPOINT'")
    return parse_scorer(value) if isinstance(value, str) else value


def _read_texts(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    # A text is a sequence too: of letters.
    texts = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"look_for is {list(texts)}; each must be a text that names what can be seen")
    return texts


@documented
@dataclass(frozen=True, slots=True, init=False, repr=False)
class AskOptions(Options):
    """How a question is answered: what :meth:`hybrid.engine.Engine.ask` takes, as one object."""

    frames: int = option(DEFAULT_FRAMES, "How many frames to select at most.", parse=check_budget)
    window_mode: WindowMode = option(
        "scattered",
        "What GenS reads: scattered, context or segments; on the command line also a number of scattered frames.",
        flag="--window",
        panel="window",
        legal=Choice(get_args(WindowMode)),
        keywords_of_text=_read_window,
        requires=(_FOR_GENS,),
    )
    window: int = option(
        DEFAULT_WINDOW,
        "How many frames GenS reads at once, and how many the coarse stage passes on.",
        flag="--window-frames",
        panel="window",
        parse=_read_size,
        legal=Range(1, unit="frame"),
        requires=(_FOR_GENS,),
    )
    segments: int = option(
        DEFAULT_SEGMENTS,
        "With --window segments: how many of them GenS reads.",
        panel="window",
        legal=Range(1, unit="segment"),
        requires=_for_mode("segments"),
    )
    context_seconds: float = option(
        DEFAULT_CONTEXT_SECONDS,
        "With --window context: seconds before and after a frame that are read with it.",
        flag="--context",
        panel="window",
        legal=Range(0, unit="second"),
        requires=_for_mode("context"),
    )
    fine: bool = option(True, "Without GenS: the most similar frames are the answer.", flag="--no-fine", panel="stages")
    coarse: bool = option(
        True, "Without CLIP: GenS reads the whole video in consecutive windows.", flag="--no-coarse", panel="stages"
    )
    features: bool = option(
        True,
        "Neither take GenS's features of frames from the archive nor store them.",
        flag="--no-features",
        panel="stages",
        requires=(_FOR_GENS,),
    )
    strict: bool = option(False, "Fail where a stage cannot do what it was asked to.", panel="stages")
    min_score: int = option(
        DEFAULT_MIN_SCORE,
        "Least GenS score (1-5) of a frame that belongs to a span.",
        panel="spans",
        legal=Range(1, 5),
        requires=(_FOR_GENS,),
    )
    gap_seconds: float | None = option(
        None,
        "Seconds between two stretches that are still one span.",
        flag="--gap",
        panel="spans",
        default_text="one sampling interval",
        legal=Range(0, unit="second"),
    )
    select: SelectorSpec | None = option(
        None,
        "Selector that chooses the frames: aks, aks:depth=3,faithful; see: hybrid selectors.",
        panel="selection",
        default_text="the best scores",
        parse=_read_selector,
        accepts="str | SelectorSpec",
    )
    scores: ScorerSpec | None = option(
        None,
        "What the selector goes by: clip, gens, or a model that sees every frame: blip-itm:CHECKPOINT ...",
        panel="selection",
        default_text="GenS's, or without GenS the similarities",
        parse=_read_scores,
        accepts="str | ScorerSpec",
    )
    look_for: tuple[str, ...] = option(
        (),
        "For --select tifre: a text to find, 'a photo of a dog'; may come many times.",
        panel="selection",
        default_text="made from the question's words",
        parse=_read_texts,
        accepts="str | Sequence[str]",
    )
    seed: int | None = option(
        None,
        "Seed of a selector that draws.",
        panel="selection",
        default_text="the one in select, or the selector's",
        flag=None,
    )

    if TYPE_CHECKING:

        def __init__(self, **given: Unpack[AskKeywords]) -> None: ...

    def check(self) -> None:
        """Refuse what does not go together, before any work is done.

        Raises:
            InputError: some options contradict each other, or nothing would go by one of them.
        """
        if self.window_mode != "scattered" and not self.coarse:
            raise InputError(
                f"the coarse stage chooses what GenS reads in the mode {self.window_mode!r}; without it GenS reads "
                "the whole video anyway; leave out --no-coarse or --window"
            )
        if self.look_for:
            self._check_texts()
        if self.scores is not None:
            self._check_scores(self.scores)
        if not self.coarse and not self.fine:
            raise InputError("neither the coarse nor the fine stage is asked for; leave out --no-coarse or --no-fine")
        if self.seed is not None:
            self._check_seed()

    def _check_texts(self) -> None:
        if self.select is None or "prompts" not in self.select.selector.needs:
            raise InputError(
                f"look_for ({', '.join(map(repr, self.look_for))}) is for selectors that compare frames with texts of "
                "their own; take --select tifre, or leave out --look-for"
            )

    def _check_scores(self, scores: ScorerSpec) -> None:
        text = repr(scores.text)
        if self.select is None:
            raise InputError(f"scores are {text}, which are for a selector; name one with --select (hybrid selectors)")
        if not self.select.selector.uses_scores:
            raise InputError(f"scores are {text}, but the selector {self.select.text!r} does not look at scores")
        if scores.checkpoint is None and not (self.fine if scores.kind.name == "gens" else self.coarse):
            stage, flag = ("fine", "--no-fine") if scores.kind.name == "gens" else ("coarse", "--no-coarse")
            raise InputError(f"scores are {text}, which the {stage} stage makes; leave out {flag}")

    def _check_seed(self) -> None:
        if self.select is None:
            raise InputError(
                f"seed is {self.seed}, which is for selectors that draw; name one with select, or leave out seed"
            )
        if not self.select.selector.draws:
            raise InputError(
                f"seed is {self.seed}, but the selector {self.select.text!r} does not draw; leave out seed"
            )
        if self.select.seed is not None:
            raise InputError(f"seed is {self.seed}, and the selector {self.select.text!r} has its own; set it once")

    @property
    def scores_text(self) -> str | None:
        """The scores that the selector goes by, as they were written; None: not set."""
        return None if self.scores is None else self.scores.text

    @property
    def scores_need_model(self) -> bool:
        """Whether the selector goes by scores of a model of their own, not by those of a stage that runs anyway."""
        return self.scores is not None and self.scores.checkpoint is not None
