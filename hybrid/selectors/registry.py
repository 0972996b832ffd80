"""All selectors by name, what each of them needs, and one call for all.

A selector is a plain function in a file of its own. The names of its parameters say what it needs:

* ``seconds``, ``scores``, ``similarities``, ``gens_scores``, ``embeddings``, ``query``, ``prompts``,
  ``score_frames``: see :class:`~hybrid.selectors.candidates.Candidates`; one that defaults to None is
  given where it is there;
* ``frames``: the budget, always there;
* ``faithful``: True reproduces the authors' code with its quirks, False (the default) mends them;
* ``seed``: there if the method draws at random;
* what else it has, with a default, is an option of the method: an int, float or bool, or ``float | None``.

A new one is a file that ends in ``SELECTOR = Selector(...)``, and its line in ``NAMES``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.ranking import check_budget
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["NAMES", "find_selector", "select", "selectors"]

NAMES = (
    "uniform",
    "top_k",
    "best_first",
    "stratified",
    "bin_max",
    "aks",
    "bolt",
    "tass",
    "q_frame",
    "f2c",
    "dig",
    "mdp3",
    "adard_key",
    "maxinfo",
    "tifre",
    "focus",
    "coverage",
)
"""Each is a file of this folder, and the name under which the selector is asked for."""


def find_selector(name: str) -> Selector:
    """The selector of that name; only its own file is imported.

    Raises:
        InputError: there is none of that name.
    """
    if name not in NAMES:
        raise InputError(f"there is no selector {name!r}; legal are {', '.join(NAMES)}")
    selector: Selector = import_module(f"hybrid.selectors.{name}").SELECTOR
    return selector


def selectors() -> tuple[Selector, ...]:
    """All selectors, simple ones first."""
    return tuple(find_selector(name) for name in NAMES)


def select(
    name: str,
    candidates: Candidates,
    frames: int,
    *,
    faithful: bool = False,
    seed: int | None = None,
    **options: Any,
) -> IntArray:
    """Choose frames with the selector of that name.

    Args:
        name: see :data:`NAMES`.
        candidates: must hold what the selector needs.
        frames: the budget, at least 1.
        faithful: reproduce the authors' code with its quirks. By default what is broken in it is
            mended, as the selector's docstring says.
        seed: of the methods that draw at random, if it is not the one that they have themselves; the others do
            not look at it.
        options: of that selector.

    Returns:
        int64 rows in time order. By default none twice and at most ``frames``; a faithful method
        may repeat rows, return nothing, or go beyond the budget where its authors' code does.

    Raises:
        InputError: an unknown selector or option, a budget below 1, or candidates that lack
            something that the selector needs.
    """
    selector = find_selector(name)
    frames = check_budget(frames)
    lacking = [need for need in selector.needs if getattr(candidates, need) is None]
    if lacking:
        raise InputError(
            f"the selector {name!r} needs {' and '.join(lacking)}, which these candidates do not have; "
            f"it needs {', '.join(selector.needs)}"
        )
    unknown = [option for option in options if option not in selector.options]
    if unknown:
        legal = ", ".join(selector.options) or "none"
        raise InputError(f"the selector {name!r} has no option {unknown[0]!r}; its options are: {legal}")
    if len(candidates) == 0:
        return np.zeros(0, dtype=np.int64)
    arguments: dict[str, Any] = {need: getattr(candidates, need) for need in (*selector.needs, *selector.takes)}
    if selector.has_quirks:
        arguments["faithful"] = faithful
    if selector.draws and seed is not None:
        arguments["seed"] = seed
    rows: IntArray = np.sort(selector.choose(frames=frames, **arguments, **options))
    return rows
