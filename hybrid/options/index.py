"""How a video, or a run over many, is indexed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.options.engine import GENS
from hybrid.options.field import Options, Range, documented, option

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hybrid.options.keywords import IndexKeywords, RunKeywords

__all__ = ["IndexOptions", "RunOptions"]


@documented
@dataclass(frozen=True, slots=True, init=False, repr=False)
class IndexOptions(Options):
    """How a video is indexed: what :meth:`hybrid.engine.Engine.index` takes, as one object."""

    features: bool | None = option(
        None,
        "Run the sampler's vision encoder too, so that questions need no decoding.",
        flag="--features/--no-features",
        panel=GENS,
        default_text="with --sampler",
    )
    lock_seconds: float = option(
        600.0,
        "How long to wait for another process that indexes the same video.",
        legal=Range(0, unit="second"),
        flag=None,
    )

    if TYPE_CHECKING:

        def __init__(self, **given: Unpack[IndexKeywords]) -> None: ...


@documented
@dataclass(frozen=True, slots=True, init=False, repr=False)
class RunOptions(IndexOptions):
    """How a run over many videos indexes them: those of one video, and these."""

    workers: int | None = option(
        None,
        "Processes that index at once; 0: this one.",
        panel="run",
        default_text="by cores and videos",
        legal=Range(0),
    )
    retry_failed: bool = option(False, "Try videos again that failed before; without paths, only those.", panel="run")
    approximate_from: int | None = option(
        None,
        "Make an approximate index from so many frames on; one that is there is kept up.",
        panel="run",
        default_text="1048576",
        legal=Range(0, unit="frame"),
    )

    if TYPE_CHECKING:

        def __init__(self, **given: Unpack[RunKeywords]) -> None: ...
