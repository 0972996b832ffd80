"""One selector: its function, and what a reader wants to know of it. What it needs is read from its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Any, get_type_hints

from hybrid.values import IntArray

__all__ = ["NEEDS", "Selector"]

NEEDS = ("seconds", "scores", "score_frames", "similarities", "gens_scores", "embeddings", "query", "prompts")
"""What a selector can need: the attributes of the candidates."""

_SCORES = frozenset({"scores", "score_frames", "similarities", "gens_scores"})


@dataclass(frozen=True, slots=True)
class Selector:
    """A rule that chooses frames.

    Attributes:
        name: the name of its file.
        choose: called with keywords; gives int64 rows.
        summary: one line.
        source: paper or project that it comes from.
        partial: what is not as published because it is not known; empty if nothing.
    """

    name: str
    choose: Callable[..., IntArray]
    summary: str
    source: str
    partial: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Which attributes of the candidates it cannot do without."""
        return tuple(
            need for need in NEEDS if need in self._parameters and self._parameters[need].default is Parameter.empty
        )

    @property
    def takes(self) -> tuple[str, ...]:
        """Which attributes of the candidates it looks at where they are there: parameters that default to None."""
        return tuple(need for need in NEEDS if need in self._parameters and need not in self.needs)

    @property
    def uses_scores(self) -> bool:
        """Whether it goes by scores of frames, and not by embeddings or times alone."""
        return not _SCORES.isdisjoint({*self.needs, *self.takes})

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options with their defaults."""
        known = {*NEEDS, "frames", "faithful", "seed"}
        return {name: p.default for name, p in self._parameters.items() if name not in known}

    @property
    def option_types(self) -> Mapping[str, Any]:
        """The types of its options, as they are annotated."""
        types = get_type_hints(self.choose)
        return {name: types[name] for name in self.options}

    @property
    def option_texts(self) -> tuple[str, ...]:
        """Its options as they are written, with their defaults; ``faithful`` and ``seed`` where it has them."""
        written = [f"{name}={str(default).lower()}" for name, default in self.options.items()]
        if self.draws:
            written.append(f"seed={self.default_seed}")
        return (*written, *(["faithful"] if self.has_quirks else []))

    @property
    def default_seed(self) -> int:
        """The seed of its draws if nobody says one; 0 if it draws nothing."""
        return int(self._parameters["seed"].default) if self.draws else 0

    @property
    def draws(self) -> bool:
        """Whether it draws at random, from a seed."""
        return "seed" in self._parameters

    @property
    def has_quirks(self) -> bool:
        """Whether the authors' code differs from what it does by default."""
        return "faithful" in self._parameters

    @property
    def _parameters(self) -> Mapping[str, Parameter]:
        return _parameters_of(self.choose)


@cache
def _parameters_of(choose: Callable[..., IntArray]) -> Mapping[str, Parameter]:
    """Read once: every call asks what a selector needs, and reading takes longer than some of them."""
    return signature(choose).parameters
