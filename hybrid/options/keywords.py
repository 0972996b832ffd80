"""The options of each verb as keywords of a Python call; None: not set.

Written by ``python -m hybrid.options.write_keywords`` from the fields of the options classes. Do not edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from hybrid.fine.prompt import PromptSpec
    from hybrid.options.field import Options
    from hybrid.scorers.spec import ScorerSpec
    from hybrid.selectors.spec import SelectorSpec

__all__ = ["AskKeywords", "EngineKeywords", "IndexKeywords", "RunKeywords", "SearchKeywords"]


class AskKeywords(TypedDict, total=False):
    """Of :class:`hybrid.options.ask.AskOptions`."""

    frames: int | None
    window_mode: Literal["scattered", "context", "segments"] | None
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


class EngineKeywords(TypedDict, total=False):
    """Of :class:`hybrid.options.engine.EngineOptions`."""

    preset: str | None
    encoder: str | Path | None
    sampler: str | Path | None
    prompt: str | Path | PromptSpec | None
    loading: str | None
    constrained: bool | None
    rate: float | None
    sampling: Literal["exact", "keyframes"] | None
    decoder: str | None
    device: str | None
    dtype: str | None
    batch_size: int | None


class IndexKeywords(TypedDict, total=False):
    """Of :class:`hybrid.options.index.IndexOptions`."""

    features: bool | None
    lock_seconds: float | None


class RunKeywords(TypedDict, total=False):
    """Of :class:`hybrid.options.index.RunOptions`."""

    features: bool | None
    lock_seconds: float | None
    workers: int | None
    retry_failed: bool | None
    approximate_from: int | None


class SearchKeywords(TypedDict, total=False):
    """Of :class:`hybrid.options.search.SearchOptions`."""

    videos: Sequence[str | Path] | None
    under: Sequence[str | Path] | None
    since: datetime | str | None
    top: int | None
    fine: int | None
    exact: bool | None
    strict: bool | None
    threads: int | None
    ask: Options | AskKeywords | None
