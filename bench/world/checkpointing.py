"""What the training scripts share: where a run stands, its log, and how its rate changes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch

__all__ = ["Run", "learning_rate"]


def learning_rate(step: int, *, steps: int, peak: float, warm_up: int) -> float:
    """Up in a line, then down along a cosine to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


class Run:
    """A folder that holds a run's state, replaced as a whole, and its log, one JSON object per line.

    Args:
        folder: made if it is not there.
        name: of the files.
        every_seconds: how often the state is written.
    """

    def __init__(self, folder: Path, name: str, *, every_seconds: float = 60.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / f"{name}.pt"
        self._log = folder / f"{name}.jsonl"
        self._every = every_seconds
        self._saved = self._started = time.monotonic()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Time that the run has taken, earlier parts included."""
        return self._before + time.monotonic() - self._started

    def resume(self) -> dict[str, Any] | None:
        """The state that was written last, or None at the beginning."""
        if not self._state.is_file():
            return None
        state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        self._before = float(state["seconds"])
        self._started = time.monotonic()
        return state

    def save(self, state: dict[str, Any], *, now: bool = False) -> bool:
        """Write the state, if it is time to, such that a kill leaves the old one or the new one.

        Returns:
            Whether it was time.
        """
        if not now and time.monotonic() - self._saved < self._every:
            return False
        unfinished = self._state.with_suffix(".unfinished")
        torch.save({**state, "seconds": self.seconds}, unfinished)
        unfinished.replace(self._state)
        self._saved = time.monotonic()
        return True

    def log(self, **values: Any) -> None:
        """Add a line to the log and print it."""
        line = json.dumps({**values, "seconds": round(self.seconds, 1)})
        with self._log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
