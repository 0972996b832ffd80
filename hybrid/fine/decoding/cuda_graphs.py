"""Decoding steps that are recorded once and replayed: CUDA graphs.

A step of a small batch is some thousand short kernels, and starting them one by one from Python takes
ten times as long as they run. Recorded as a CUDA graph, they start at once. A recording has fixed
shapes and fixed addresses: there is one per number of rows (rounded up to a power of two), and
all state that changes from step to step is in buffers on the device.

Where there is no CUDA device the same steps run without being recorded, which is how they are tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hybrid.fine.decoding.decoder_layers import TextStack
from hybrid.fine.decoding.prefix_cache import Prefix
from hybrid.fine.decoding.rows import RowBuffers, decode_step
from hybrid.fine.decoding.sampling import Choice
from hybrid.fine.decoding.shared_prefix_attention import SharedPrefixAttention

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RecordedSteps"]

_WARM_UPS = 2
_LEAST_ROOM = 512
"""Tokens of a tail that there is room for from the start: when buffers move, every graph is recorded again."""


@dataclass(slots=True, eq=False)
class _Recording:
    """Steps with so many rows: their attention, and, once recorded, the graph and where its tokens appear."""

    attention: SharedPrefixAttention
    made_for: tuple[int, ...] = ()
    graph: Any = None
    tokens: Tensor | None = None


class RecordedSteps:
    """A :class:`hybrid.fine.decoding.rows.Steps` that replays recordings.

    Args:
        stack: the model.
        buffers: of the rows.
        choice: chooses.
        most: how many rows there can be.
    """

    def __init__(self, stack: TextStack, buffers: RowBuffers, choice: Choice, *, most: int) -> None:
        self._stack = stack
        self._buffers = buffers
        self._choice = choice
        self._most = most
        self._recordings: dict[tuple[int, int], _Recording] = {}

    def __call__(self, prefixes: Sequence[Prefix], *, longest: int, count: int) -> Tensor:
        """See :class:`hybrid.fine.decoding.rows.Steps`."""
        rows = min(self._most, 1 << (len(prefixes) - 1).bit_length())
        self._buffers.reserve(self._most, max(longest + count, _LEAST_ROOM))
        recording = self._recordings.get((rows, count))
        if recording is None:
            recording = self._recordings[rows, count] = _Recording(self._attention(rows))
        recording.attention.set_prefixes(prefixes)
        # Rows beyond those at work compute something nobody reads, on a tail that must not grow.
        self._buffers.lengths[len(prefixes) : rows] = 0
        if self._stack.device.type != "cuda":
            return self._steps(recording.attention, rows, count)[: len(prefixes)]
        if recording.made_for != self._addresses():
            self._record(recording, rows, count)
        recording.graph.replay()
        assert recording.tokens is not None
        return recording.tokens[: len(prefixes)]

    def _steps(self, attention: SharedPrefixAttention, rows: int, count: int) -> Tensor:
        steps = [decode_step(self._stack, self._buffers, self._choice, attention, rows=rows) for _ in range(count)]
        return torch.stack(steps, dim=1)

    def _record(self, recording: _Recording, rows: int, count: int) -> None:
        """Record the steps; the state that the warm-up changed is restored."""
        recording.graph = recording.tokens = None
        state = [*self._buffers.state(), *self._choice.state()]
        before = [tensor.clone() for tensor in state]

        def put_back() -> None:
            for tensor, saved in zip(state, before, strict=True):
                tensor.copy_(saved)

        # On a stream of its own, as recording demands; the first passes compile kernels and size workspaces.
        stream = torch.cuda.Stream(self._stack.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._stack.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._steps(recording.attention, rows, count)
                put_back()
        torch.cuda.current_stream(self._stack.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on with the device meanwhile: an engine encodes frames in one of its own.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            tokens = self._steps(recording.attention, rows, count)
        put_back()
        recording.graph, recording.tokens, recording.made_for = graph, tokens, self._addresses()

    def _addresses(self) -> tuple[int, ...]:
        """The addresses of all that a recording reads or writes."""
        tensors = [self._buffers.keys, self._buffers.values, *self._buffers.state(), *self._choice.state()]
        return tuple(tensor.data_ptr() for tensor in [*tensors, *self._choice.constants()])

    def _attention(self, rows: int) -> SharedPrefixAttention:
        stack = self._stack
        return SharedPrefixAttention(
            rows=rows,
            heads=stack.heads,
            group=stack.group,
            width=stack.width,
            scale=stack.scale,
            dtype=stack.dtype,
            device=stack.device,
        )
