"""Takes what the benchmark of the fine stage measures: prints it as it comes, and loses nothing."""

from __future__ import annotations

import json
import math
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.latency.fine.floors import synchronise
from bench.memory import resident_mb
from bench.report import print_table, write_result
from hybrid.errors import first_line

if TYPE_CHECKING:
    import torch

__all__ = ["Measured", "Record"]

HEADER = ("way", "tokens", "questions", "s/question", "least", "x upstream", "x strong", "floor s", "% of floor", "MB")


@dataclass(frozen=True, slots=True)
class Measured:
    """One way: seconds a question (the middle one of the repeats, and the least), its floor if it has one."""

    way: str
    tokens: int
    questions: int
    seconds: float
    least_seconds: float
    floor_seconds: float | None
    peak_mb: float | None


class Record:
    """What was measured, and what was not.

    Args:
        about: circumstances of the result.
        out: kept up to date; None: only printed.
        device: whose queue is drained, and whose memory is looked at.
        until: value of ``time.perf_counter`` after which nothing is begun; None: no limit.
        keep_going: note a failure instead of raising it.
        only: attempt only what begins with one of these; None: everything.
    """

    def __init__(
        self,
        about: dict[str, Any],
        out: Path | None,
        *,
        device: torch.device,
        until: float | None,
        keep_going: bool,
        only: Sequence[str] | None = None,
    ) -> None:
        self._about, self._out, self._device = about, out, device
        self._until, self._keep_going, self._only = until, keep_going, only
        self.rows: list[Measured] = []
        self._more: dict[str, Any] = {}
        self._skipped: list[str] = []
        self._failed: dict[str, str] = {}

    def measure(
        self,
        way: str,
        tokens: int,
        run: Callable[[int], object],
        *,
        repeats: int,
        questions: int = 1,
        floor: float | None = None,
        optional: bool = False,
    ) -> None:
        """Time ``run(0)``, ``run(1)`` ... after a ``run(-1)`` that does not count; seconds are those of a question."""

        def all_of_it() -> None:
            self._reset_peak()
            self._timed(run, -1)
            times = [self._timed(run, turn) / questions for turn in range(repeats)]
            self.add(way, tokens, times, questions=questions, floor=floor)

        self.attempt(f"{way}, {tokens} tokens", all_of_it, optional=optional)

    def add(
        self, way: str, tokens: int, times: Sequence[float], *, questions: int = 1, floor: float | None = None
    ) -> None:
        """Note seconds a question."""
        row = Measured(way, tokens, questions, statistics.median(times), min(times), floor, self._peak_mb())
        self.rows.append(row)
        share = f", {100 * floor / row.seconds:.0f} % of the floor {floor:.5f}" if floor is not None else ""
        print(
            f"{way}, {tokens} tokens, {questions} at once: {row.seconds:.5f} s (least {row.least_seconds:.5f}){share}"
        )
        self._keep()

    def attempt(self, name: str, do: Callable[[], Any], *, optional: bool = False) -> None:
        """Do it, if it is wanted and there is time, and note what it gives."""
        if self._only is not None and not name.startswith(tuple(self._only)):
            return
        if self._until is not None and time.perf_counter() > self._until:
            self._skipped.append(name)
            print(f"{name}: not measured, the time is up", flush=True)
            return
        started = time.perf_counter()
        try:
            result = do()
        except Exception as exc:  # a benchmark that measures a dozen ways should not lose them to the thirteenth
            if not (self._keep_going or optional):
                raise
            self._failed[name] = first_line(exc)
            traceback.print_exc()
        else:
            if result is not None:
                self._more[name] = result
        print(f"  [{name}: {time.perf_counter() - started:.1f} s in all]", flush=True)
        self._keep()

    def finish(self) -> None:
        """Print the table, the bars and the last line."""
        print_table(HEADER, [self._cells(row) for row in self.rows])
        for tokens in sorted({row.tokens for row in self.rows}):
            self._bars(tokens)
        write_result("fine", self._figures(), self._out, run=self._about)

    def _figures(self) -> dict[str, Any]:
        return {
            "rows": [asdict(row) for row in self.rows],
            **self._more,
            "not_measured": self._skipped,
            "failed": self._failed,
        }

    def _keep(self) -> None:
        if self._out is not None:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            document = {"benchmark": "fine", **self._about, **self._figures()}
            self._out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def _timed(self, run: Callable[[int], object], turn: int) -> float:
        synchronise(self._device)
        started = time.perf_counter()
        run(turn)
        synchronise(self._device)
        return time.perf_counter() - started

    def _reset_peak(self) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)

    def _peak_mb(self) -> float:
        if self._device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self._device) / 2**20
        return resident_mb()

    def _best(self, tokens: int, begins: str) -> float | None:
        return min(
            (row.seconds for row in self.rows if row.tokens == tokens and row.way.startswith(begins)), default=None
        )

    def _cells(self, row: Measured) -> list[str]:
        upstream, strong = (self._best(row.tokens, begins) for begins in ("upstream", "strong"))
        return [
            row.way,
            str(row.tokens),
            str(row.questions),
            f"{row.seconds:.4g}",
            f"{row.least_seconds:.4g}",
            "" if upstream is None else f"{upstream / row.seconds:.1f}",
            "" if strong is None else f"{strong / row.seconds:.1f}",
            "" if row.floor_seconds is None else f"{row.floor_seconds:.3g}",
            "" if row.floor_seconds is None else f"{100 * row.floor_seconds / row.seconds:.0f}",
            "" if row.peak_mb is None else f"{row.peak_mb:.0f}",
        ]

    def _bars(self, tokens: int) -> None:
        upstream = self._best(tokens, "upstream")
        if upstream is None:
            return
        print(f"speed against upstream, {tokens} tokens (each # is a factor of 2^(1/4))")
        for row in self.rows:
            if row.tokens == tokens and not row.way.startswith(" "):
                bar = "#" * max(0, round(4 * math.log2(max(upstream / row.seconds, 1))))
                print(f"  {row.way:28} {upstream / row.seconds:8.1f} {bar}")
