"""A selector with its options, parsed from one text.

    NAME                           with its default options
    NAME:OPTION=VALUE,OPTION=VALUE a switch needs no value (aks:depth=3,threshold=0.2,faithful)

``hybrid selectors`` lists the options. Every selector whose authors' code has quirks also takes ``faithful``, which
reproduces them; every selector that draws takes ``seed=N``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType
from typing import Any, Final, get_args

import numpy as np

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import SELECTORS
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["SelectorSpec", "parse_selector"]

_FAITHFUL: Final = "faithful"
_SEED: Final = "seed"
_KINDS: Final[dict[type, str]] = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "none"}
_CONSTANTS: Final[dict[type, dict[str, Any]]] = {bool: {"true": True, "false": False}, NoneType: {"none": None}}


@dataclass(frozen=True, slots=True)
class SelectorSpec:
    """A selector with its options.

    Attributes:
        text: as it was written.
        selector: the selector of that name.
        options: the selector's own options that the text sets.
        faithful: whether the authors' quirks are reproduced.
        seed: of the draws; None if the text sets none.
    """

    text: str
    selector: Selector
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    faithful: bool = False
    seed: int | None = None

    def __str__(self) -> str:
        return self.text

    def choose(self, candidates: Candidates, frames: int, *, seed: int | None = None) -> IntArray:
        """Choose frames as :meth:`~hybrid.selectors.selector.Selector.select` does; the text's own seed wins."""
        own = seed if self.seed is None else self.seed
        return self.selector.select(candidates, frames, faithful=self.faithful, seed=own, **self.options)

    def record(self, *, seed: int | None = None) -> dict[str, Any]:
        """Everything that decides the choice besides the candidates, ready for ``json.dumps``: all options, set or
        not, and the seed if the selector draws.

        Args:
            seed: as for :meth:`choose`.
        """
        drawn = next(value for value in (self.seed, seed, self.selector.default_seed) if value is not None)
        return {
            "selector": self.selector.name,
            "options": {**self.selector.options, **self.options},
            **({_FAITHFUL: self.faithful} if self.selector.has_quirks else {}),
            **({_SEED: drawn} if self.selector.draws else {}),
        }


@lru_cache(maxsize=64)
def parse_selector(text: str) -> SelectorSpec:
    """Parse a selector with its options; the options are tried on a few made-up frames.

    >>> parse_selector("aks:depth=3,faithful").record()
    {'selector': 'aks', 'options': {'depth': 3, 'threshold': 0.8, 'least_std': -100.0}, 'faithful': True}

    Raises:
        InputError: an unknown selector or option, an illegal value, or an option that is set twice.
    """
    name, colon, rest = text.partition(":")
    selector = SELECTORS.find(name)
    options: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        option, value = _parse_option(part.strip(), selector, text)
        if option in options:
            raise InputError(f"the selector is {text!r}, which sets {option} twice; set it once")
        options[option] = value
    given = bool(options)
    faithful, seed = options.pop(_FAITHFUL, False), options.pop(_SEED, None)
    spec = SelectorSpec(text, selector, options, faithful, seed)
    if given:
        _try(spec)
    return spec


def _parse_option(part: str, selector: Selector, text: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    # An option's type may be a union: of float | None both.
    kinds = {option: get_args(kind) or (kind,) for option, kind in selector.option_types.items()}
    if selector.has_quirks:
        kinds[_FAITHFUL] = (bool,)
    if selector.draws:
        kinds[_SEED] = (int,)
    if name not in kinds:
        legal = ", ".join(selector.option_texts) or "none"
        raise InputError(
            f"the selector is {text!r}, but {selector.name} has no option {name!r}; its options are: {legal} "
            "(see: hybrid selectors)"
        )
    if not equals and kinds[name] == (bool,):
        return name, True
    for kind in kinds[name]:
        try:
            return name, _parse_value(value.strip(), kind)
        except (ValueError, KeyError, OverflowError):
            continue
    legal = " or ".join(_KINDS[kind] for kind in kinds[name])
    raise InputError(f"the selector is {text!r}, but {name} is {value!r}; it must be {legal}: {name}=VALUE")


def _parse_value(text: str, kind: type) -> Any:
    if kind in _CONSTANTS:
        return _CONSTANTS[kind][text.lower()]
    number = kind(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def _try(spec: SelectorSpec) -> None:
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
        spec.choose(candidates, 2)
    except InputError as exc:
        raise InputError(f"the selector is {spec.text!r}: {exc}") from exc
