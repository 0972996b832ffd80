"""The engine puts the stages in order; it is the only place that knows all of them."""

from __future__ import annotations

from hybrid.engine.ask.events import Answered, AskEvent, SpansChanged
from hybrid.engine.engine import Engine
from hybrid.engine.index.indexing import IndexResult
from hybrid.options.ask import AskOptions

__all__ = ["Answered", "AskEvent", "AskOptions", "Engine", "IndexResult", "SpansChanged"]
