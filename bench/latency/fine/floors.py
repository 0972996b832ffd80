"""The least time in which a device could do the fine stage, at the rates that it reaches in plain operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.latency.fine.inputs import SIDE
from bench.latency.fine.models import Shape

if TYPE_CHECKING:
    import torch

__all__ = ["Floors", "device_rates", "synchronise"]


@dataclass(frozen=True, slots=True)
class Floors:
    """Seconds a question that no implementation can go below.

    Attributes:
        shape: of the model.
        value_bytes: size of a weight.
        rates: of the device, see :func:`device_rates`.
        frames: of a window.
        tokens: of a reply.
        prefix, suffix: tokens of a window and of a question.
        head_rows: rows of the output layer that have to be read.
    """

    shape: Shape
    value_bytes: int
    rates: dict[str, float]
    frames: int
    tokens: int
    prefix: int
    suffix: int
    head_rows: int

    def upstream(self) -> float:
        """Vision, reading, and one row of decoding."""
        return self._vision() + self.cold()

    def cold(self) -> float:
        """Reading, and one row of decoding."""
        return self.read() + self.warm()

    def read(self) -> float:
        """Reading a window."""
        return self._flops(self.shape.read_flops(self.prefix))

    def warm(self) -> float:
        """Reading the question, and one row of decoding."""
        return self.question() + self._decode(rows=1, prefixes=1)

    def many(self, rows: int) -> float:
        """The same for many questions about one window together."""
        return self.question() + self._decode(rows=rows, prefixes=1) / rows

    def distinct(self, windows: int) -> float:
        """One question each about new windows together."""
        return self.read() + self.question() + self._decode(rows=windows, prefixes=windows) / windows

    def segments(self, windows: int) -> float:
        """One question about many windows that are known."""
        return windows * self.question() + self._decode(rows=windows, prefixes=windows)

    def question(self) -> float:
        """Reading a question behind its window."""
        return self._flops(self.shape.read_flops(self.suffix, before=self.prefix))

    def step(self, *, rows: int, prefixes: int) -> float:
        """One step with so many rows that read so many different prefixes."""
        read = self.shape.step_bytes(
            rows=rows,
            tails=self.suffix + self.tokens // 2,
            prefixes=prefixes * self.prefix,
            value_bytes=self.value_bytes,
            head_rows=self.head_rows,
        )
        flops = rows * self.shape.read_flops(1, before=self.prefix + self.suffix)
        return max(read / self.rates["bytes"], self._flops(flops))

    def _decode(self, *, rows: int, prefixes: int) -> float:
        """All steps but the first token, which comes with the question."""
        return (self.tokens - 1) * self.step(rows=rows, prefixes=prefixes)

    def _vision(self) -> float:
        shape = self.shape
        weights = shape.vision_layers * (
            4 * shape.vision_hidden**2 + 3 * shape.vision_hidden * shape.vision_intermediate
        )
        return self._flops(2 * weights * (SIDE // 14) ** 2 * self.frames)

    def _flops(self, flops: float) -> float:
        return flops / self.rates["flops"]


def device_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Operations a second in a product of large matrices, and bytes a second (of a read on CPUs, of a copy on CUDA)."""
    import torch

    cuda = device.type == "cuda"
    size = 8192 if cuda else 1024
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    many = torch.ones((2**32 if cuda else 2**27) // dtype.itemsize, device=device, dtype=dtype)
    target = torch.empty_like(many) if cuda else many

    def best(run: Callable[[], object], times: int) -> float:
        """Seconds of one, of several behind one another."""
        found = []
        for _ in range(4):
            synchronise(device)
            started = time.perf_counter()
            for _ in range(times):
                run()
            synchronise(device)
            found.append((time.perf_counter() - started) / times)
        return min(found)

    flops = 2 * size**3 / best(lambda: one @ other, 10 if cuda else 2)
    if cuda:
        return {"flops": flops, "bytes": 2 * many.nbytes / best(lambda: target.copy_(many), 5)}
    return {"flops": flops, "bytes": many.nbytes / best(lambda: many.sum(), 2)}


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
