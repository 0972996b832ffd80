"""How a selector is asked for in one text, with the options that its papers and releases differ in.

    NAME                           as it is by default
    NAME:OPTION=VALUE,OPTION=VALUE with options; of a switch the name is enough (aks:depth=3,threshold=0.2,faithful)

Besides a selector's own options (``hybrid selectors``) there are ``faithful``, where its authors' code has quirks that
are mended by default, and ``seed=N``, where it draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import Any, Final, get_args

import numpy as np

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import find_selector, select
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["SelectorSpec", "parse_selector"]

FAITHFUL: Final = "faithful"
SEED: Final = "seed"
_KINDS: Final[dict[type, str]] = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "none"}
_TEXTS_KEPT: Final = 64
_SWITCH: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class SelectorSpec:
    """Which selector a caller asked for.

    Attributes:
        text: as it was written.
        selector: of that name.
        options: its own that were said, by name.
        faithful: whether the authors' quirks are wanted.
        seed: of its draws; None if not said.
    """

    text: str
    selector: Selector
    options: Mapping[str, Any]
    faithful: bool = False
    seed: int | None = None

    def choose(self, candidates: Candidates, frames: int, *, seed: int | None = None) -> IntArray:
        """Choose frames; see :func:`hybrid.selectors.registry.select`. The text's own seed goes before ``seed``."""
        own = self.seed if self.seed is not None else seed
        return select(self.selector.name, candidates, frames, faithful=self.faithful, seed=own, **self.options)

    def record(self, *, seed: int | None = None) -> dict[str, Any]:
        """Everything that decides the choice besides the candidates, ready for ``json.dumps``: all options that it has,
        said or not, and the seed if it draws.

        Args:
            seed: as for :meth:`choose`.
        """
        drawn = next(value for value in (self.seed, seed, self.selector.default_seed) if value is not None)
        return {
            "selector": self.selector.name,
            "options": {**self.selector.options, **self.options},
            **({FAITHFUL: self.faithful} if self.selector.has_quirks else {}),
            **({SEED: drawn} if self.selector.draws else {}),
        }


@lru_cache(maxsize=_TEXTS_KEPT)
def parse_selector(text: str) -> SelectorSpec:
    """The selector that a text asks for, its options tried on a few made-up frames. A text is read once: each step of
    each question asks, and trying takes longer than some of the rules.

    >>> parse_selector("aks:depth=3,faithful").record()
    {'selector': 'aks', 'options': {'depth': 3, 'threshold': 0.8, 'least_std': -100.0}, 'faithful': True}

    Raises:
        InputError: a selector or an option of it is not known, a value is not legal, or an option is said twice.
    """
    name, colon, rest = text.partition(":")
    selector = find_selector(name)
    said: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        option, value = _option(part.strip(), selector, text)
        if option in said:
            raise InputError(f"the selector is {text!r}, which says {option} twice; say it once")
        said[option] = value
    own = {option: value for option, value in said.items() if option not in (FAITHFUL, SEED)}
    wanted = SelectorSpec(text, selector, own, bool(said.get(FAITHFUL, False)), said.get(SEED))
    if said:
        _try(wanted)
    return wanted


def _option(part: str, selector: Selector, text: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    kinds: dict[str, tuple[type, ...]] = {option: _kinds(kind) for option, kind in selector.option_types.items()}
    if selector.has_quirks:
        kinds[FAITHFUL] = (bool,)
    if selector.draws:
        kinds[SEED] = (int,)
    if name not in kinds:
        legal = ", ".join(selector.option_texts) or "none"
        raise InputError(
            f"the selector is {text!r}, but {selector.name} has no option {name!r}; its options are: {legal} "
            "(see: hybrid selectors)"
        )
    if not equals and kinds[name] == (bool,):
        return name, True
    for kind in kinds[name]:
        found = _value(value.strip(), kind)
        if found is not None:
            return name, found[0]
    wanted = " or ".join(_KINDS[kind] for kind in kinds[name])
    raise InputError(f"the selector is {text!r}, but {name} is {value!r}; it must be {wanted}: {name}=VALUE")


def _kinds(annotated: Any) -> tuple[type, ...]:
    """The types of an option: of ``float | None`` both."""
    return get_args(annotated) or (annotated,)


def _value(text: str, kind: type) -> tuple[Any] | None:
    """The value that a text stands for, in a tuple, as it may be None; None if it stands for none of this kind."""
    if kind is NoneType:
        return (None,) if text.lower() == "none" else None
    if kind is bool:
        return (_SWITCH[text.lower()],) if text.lower() in _SWITCH else None
    try:
        number = kind(text)
    except ValueError:
        return None
    return (number,) if math.isfinite(number) else None


def _try(wanted: SelectorSpec) -> None:
    """Choose two of four made-up frames, so that a value out of range is refused before any work is done."""
    vectors = np.eye(4, dtype=np.float32)
    scores = np.array([0.1, 0.9, 0.2, 0.6])
    candidates = Candidates(
        seconds=np.arange(4.0),
        scores=scores,
        embeddings=vectors,
        query=vectors[1],
        prompts=vectors[1:2],
        score_frames=scores.__getitem__,
    )
    try:
        wanted.choose(candidates, 2)
    except InputError as exc:
        raise InputError(f"the selector is {wanted.text!r}: {exc}") from exc
