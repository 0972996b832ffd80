"""One selector: its function and its description. What it needs follows from its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from typing import Any, get_type_hints

import numpy as np

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.ranking import check_budget
from hybrid.values import IntArray

__all__ = ["NEEDS", "Selector"]

NEEDS = ("seconds", "scores", "score_frames", "similarities", "gens_scores", "embeddings", "query", "prompts")
"""What a selector can need: the attributes of the candidates."""

_SCORES = frozenset({"scores", "score_frames", "similarities", "gens_scores"})


@dataclass(frozen=True)
class Selector:
    """A rule that chooses frames.

    Attributes:
        choose: the rule, which gives the selector its name; called with keywords and a legal budget, it returns int64
            rows in any order.
        summary: one line.
        source: paper or project that it comes from.
        partial: what differs from the published method because it is not known; empty if nothing.
    """

    choose: Callable[..., IntArray]
    summary: str
    source: str
    partial: str = ""

    def select(
        self,
        candidates: Candidates,
        frames: int,
        *,
        faithful: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> IntArray:
        """Choose frames.

        Args:
            candidates: must have what the selector needs.
            frames: the budget, at least 1.
            faithful: reproduce the authors' code with its quirks. By default they are corrected, as the rule's
                docstring says.
            seed: of the draws; by default the rule's own. Ignored by rules that do not draw.
            options: of this selector.

        Returns:
            int64 rows in time order. By default each once and at most ``frames``; a faithful rule may repeat rows,
            return none, or exceed the budget where its authors' code does.

        Raises:
            InputError: an unknown option, a budget below 1, or candidates without something that the rule needs.
        """
        frames = check_budget(frames)
        lacking = [need for need in self.needs if getattr(candidates, need) is None]
        if lacking:
            raise InputError(
                f"the selector {self.name!r} needs {' and '.join(lacking)}, which these candidates do not have; "
                f"it needs {', '.join(self.needs)}"
            )
        unknown = [option for option in options if option not in self.options]
        if unknown:
            legal = ", ".join(self.options) or "none"
            raise InputError(f"the selector {self.name!r} has no option {unknown[0]!r}; its options are: {legal}")
        if len(candidates) == 0:
            return np.zeros(0, dtype=np.int64)
        arguments = {need: getattr(candidates, need) for need in (*self.needs, *self.takes)}
        if self.has_quirks:
            arguments["faithful"] = faithful
        if self.draws and seed is not None:
            arguments["seed"] = seed
        rows: IntArray = np.sort(self.choose(frames=frames, **arguments, **options))
        return rows

    @property
    def name(self) -> str:
        """The name of the rule, which is that of its file, too."""
        return self.choose.__name__

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The attributes of the candidates that it requires."""
        return tuple(
            need for need in NEEDS if need in self._parameters and self._parameters[need].default is Parameter.empty
        )

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """The attributes of the candidates that it uses where they exist: parameters that default to None."""
        return tuple(need for need in NEEDS if need in self._parameters and need not in self.needs)

    @property
    def uses_scores(self) -> bool:
        """Whether it uses scores of frames, and not only embeddings or times."""
        return not _SCORES.isdisjoint({*self.needs, *self.takes})

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """Its options with their defaults."""
        common = {*NEEDS, "frames", "faithful", "seed"}
        return {name: p.default for name, p in self._parameters.items() if name not in common}

    @property
    def option_types(self) -> Mapping[str, Any]:
        """The annotated types of its options."""
        types = get_type_hints(self.choose)
        return {name: types[name] for name in self.options}

    @property
    def option_texts(self) -> tuple[str, ...]:
        """Its options with their defaults, as they are written; ``faithful`` and ``seed`` where it has them."""
        written = [f"{name}={str(default).lower()}" for name, default in self.options.items()]
        if self.draws:
            written.append(f"seed={self.default_seed}")
        return (*written, *(["faithful"] if self.has_quirks else []))

    @property
    def default_seed(self) -> int:
        """The default seed of its draws; 0 if it draws nothing."""
        return int(self._parameters["seed"].default) if self.draws else 0

    @property
    def draws(self) -> bool:
        """Whether it draws at random, from a seed."""
        return "seed" in self._parameters

    @property
    def has_quirks(self) -> bool:
        """Whether the authors' code differs from its default behaviour."""
        return "faithful" in self._parameters

    @cached_property
    def _parameters(self) -> Mapping[str, Parameter]:
        """Read once: reading takes longer than some of the rules."""
        return signature(self.choose).parameters
