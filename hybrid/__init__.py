"""hybrid: from hours of video and a question to the few frames and time spans that answer it.

The public names are imported when they are first used, so that ``import hybrid`` costs nothing and
loads neither torch nor an index library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hybrid.version import __version__

if TYPE_CHECKING:
    from hybrid.answers import Answer, AnswerFrame, SearchResult, Span, Stage
    from hybrid.engine import Answered, Engine, IndexResult, SpansChanged
    from hybrid.errors import HybridError
    from hybrid.fine.interface import FineModel, WindowScores
    from hybrid.fine.prompt import PromptSpec
    from hybrid.frames.interface import FrameSource
    from hybrid.frames.registry import open_source
    from hybrid.options.ask import AskOptions
    from hybrid.options.engine import EngineOptions
    from hybrid.options.index import IndexOptions
    from hybrid.options.search import SearchOptions
    from hybrid.presets import Preset
    from hybrid.values import Hits, Sampling, Timeline, Window

_HOMES = {
    "SearchOptions": "hybrid.options.search",
    "IndexOptions": "hybrid.options.index",
    "EngineOptions": "hybrid.options.engine",
    "AskOptions": "hybrid.options.ask",
    "Answer": "hybrid.answers",
    "Answered": "hybrid.engine",
    "SpansChanged": "hybrid.engine",
    "AnswerFrame": "hybrid.answers",
    "Engine": "hybrid.engine",
    "FineModel": "hybrid.fine.interface",
    "FrameSource": "hybrid.frames.interface",
    "Hits": "hybrid.values",
    "HybridError": "hybrid.errors",
    "IndexResult": "hybrid.engine",
    "Preset": "hybrid.presets",
    "PromptSpec": "hybrid.fine.prompt",
    "Sampling": "hybrid.values",
    "SearchResult": "hybrid.answers",
    "Span": "hybrid.answers",
    "Stage": "hybrid.answers",
    "Timeline": "hybrid.values",
    "Window": "hybrid.values",
    "WindowScores": "hybrid.fine.interface",
    "open_source": "hybrid.frames.registry",
}

__all__ = [
    "Answer",
    "AnswerFrame",
    "Answered",
    "AskOptions",
    "Engine",
    "EngineOptions",
    "FineModel",
    "FrameSource",
    "Hits",
    "HybridError",
    "IndexOptions",
    "IndexResult",
    "Preset",
    "PromptSpec",
    "Sampling",
    "SearchOptions",
    "SearchResult",
    "Span",
    "SpansChanged",
    "Stage",
    "Timeline",
    "Window",
    "WindowScores",
    "__version__",
    "open_source",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
