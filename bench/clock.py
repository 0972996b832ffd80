"""Times of calls, as they pass and as the processor is busy for this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Seconds", "timed"]

Result = TypeVar("Result")


class Seconds(NamedTuple):
    """How long a call took."""

    wall: float
    cpu: float


def timed(action: Callable[..., Result], *arguments: Any, **options: Any) -> tuple[Result, Seconds]:
    """What a call returns, and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = action(*arguments, **options)
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)
