"""The options of each verb as keywords of a Python call; None: not set.

Written by ``python -m hybrid.options.write_keywords`` from the fields of the options classes. Do not edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from hybrid.scorers.spec import ScorerSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from hybrid.options.ask import AskOptions, WindowMode
    from hybrid.selectors.spec import SelectorSpec

__all__ = ["AskKeywords", "SearchKeywords"]


class AskKeywords(TypedDict, total=False):
    """The options of :class:`AskOptions`."""

    frames: int | None
    window_mode: WindowMode | None
    window: int | None
    segments: int | None
    context_seconds: float | None
    fine: bool | None
    coarse: bool | None
    features: bool | None
    strict: bool | None
    min_score: int | None
    gap_seconds: float | None
    select: str | SelectorSpec | None
    scores: str | ScorerSpec | None
    look_for: str | Sequence[str] | None
    seed: int | None


class SearchKeywords(TypedDict, total=False):
    """The options of :class:`SearchOptions`."""

    videos: Sequence[str | Path] | None
    under: Sequence[str | Path] | None
    since: datetime | None
    top: int | None
    fine: int | None
    exact: bool | None
    strict: bool | None
    threads: int | None
    ask: AskOptions | AskKeywords | None
