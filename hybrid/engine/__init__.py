"""The engine puts the stages in order; it is the only place that knows all of them."""

from __future__ import annotations

from hybrid.engine.engine import Engine
from hybrid.engine.indexing import IndexResult
from hybrid.engine.streaming import SpanUpdate
from hybrid.options.ask import AskOptions

__all__ = ["AskOptions", "Engine", "IndexResult", "SpanUpdate"]
