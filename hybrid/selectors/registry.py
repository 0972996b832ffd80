"""All selectors by name, and one call for all of them.

A selector is a plain function, one a file. The names of its parameters are what it needs:

* ``seconds``, ``scores``, ``similarities``, ``gens_scores``, ``embeddings``, ``query``, ``prompts``,
  ``score_frames``: attributes of :class:`~hybrid.selectors.candidates.Candidates`; one that defaults to None
  is passed where the candidates have it;
* ``frames``: the budget, always passed;
* ``faithful``: True reproduces the authors' code with its quirks, False (the default) corrects them;
* ``seed``: of a method that draws at random;
* every other parameter has a default and is an option of the method: int, float or bool, or ``float | None``.

A new one is a file that ends in ``SELECTOR = Selector(RULE, ...)``, and a line below.
"""

from __future__ import annotations

from typing import Any

from hybrid.registry import Registry
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["SELECTORS", "select"]

_FILES = (
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
"""The files of this folder that hold a selector, simple ones first; a selector has the name of its file."""

SELECTORS: Registry[Selector] = Registry("selector", "SELECTOR", {name: f"{__package__}.{name}" for name in _FILES})


def select(name: str, candidates: Candidates, frames: int, **options: Any) -> IntArray:
    """Choose frames with the selector of that name; see :meth:`hybrid.selectors.selector.Selector.select`."""
    return SELECTORS.find(name).select(candidates, frames, **options)
