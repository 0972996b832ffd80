"""Reading one question behind a known window, recorded once per length and replayed as a CUDA graph.

A hundred tokens through all layers are a few milliseconds of work for a GPU, and ten times as long to
start from Python, operation by operation. The recording reads a fixed number of tokens, of which the last
ones may mean nothing; what lies behind a token does not change what comes out for it.

Several questions at once keep the device busy by themselves, and are read without a recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hybrid.gens.loop.attention import suffix_part
from hybrid.gens.loop.choose import Choice
from hybrid.gens.loop.graphs import LEAST_ROOM, capture
from hybrid.gens.loop.prefixes import Prefix
from hybrid.gens.loop.rows import RowBuffers, begin_rows, read_suffixes
from hybrid.gens.loop.split_kv import SharedPrefixAttention
from hybrid.gens.loop.stack import TextStack

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RecordedQuestions"]

_STEP = 64
"""Lengths of recordings are multiples of it."""
_SPLITS = 6
"""Ranges of the prefix; with those for the question a power of two, and the same for all lengths."""


@dataclass(slots=True, eq=False)
class _Recording:
    """Reading so many tokens: its attention, what it reads, and, once recorded, the graph and its result.

    Attributes:
        ids: int64 [S].
        places: int64 [S]: 0, 1, 2 ...
        start: int64 [1]: position of the first token.
        last: int64 [1]: place of the last token that means something.
        hidden: [1, hidden]: its state after the last norm.
    """

    attention: SharedPrefixAttention
    ids: Tensor
    places: Tensor
    start: Tensor
    last: Tensor
    made_for: tuple[int, ...] = ()
    graph: Any = None
    hidden: Tensor | None = None


class RecordedQuestions:
    """A :class:`hybrid.gens.loop.rows.Questions` that replays recordings for a single new row.

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
        self._recordings: dict[int, _Recording] = {}

    def __call__(self, prefixes: Sequence[Prefix], suffixes: Sequence[Sequence[int]], *, first_row: int) -> Tensor:
        """See :func:`hybrid.gens.loop.rows.read_suffixes`."""
        tokens = len(suffixes[0])
        if len(suffixes) > 1 or first_row > 0 or tokens > LEAST_ROOM:
            return read_suffixes(self._stack, self._buffers, self._choice, prefixes, suffixes, first_row=first_row)
        size = -(-tokens // _STEP) * _STEP
        self._buffers.reserve(self._most, LEAST_ROOM)
        recording = self._recordings.get(size)
        if recording is None:
            recording = self._recordings[size] = self._make(size)
        prefix = prefixes[0]
        recording.attention.set_prefixes([prefix] * size)
        recording.ids.copy_(torch.tensor([*suffixes[0], *([0] * (size - tokens))]))
        recording.start.fill_(prefix.next_position)
        recording.last.fill_(tokens - 1)
        return begin_rows(
            self._buffers,
            self._choice,
            self._states(recording),
            slice(0, 1),
            lengths=recording.last + 1,
            positions=recording.start + tokens,
        )

    def _states(self, recording: _Recording) -> Tensor:
        if self._stack.device.type != "cuda":
            return self._read(recording)
        keys, values = self._buffers.keys, self._buffers.values
        made_for = (*keys.shape, keys.data_ptr(), values.data_ptr())
        if recording.made_for != made_for:
            recording.graph = recording.hidden = None
            # Nothing to put back: the tail of the first row, which nobody uses yet, is all that changes.
            recording.graph, recording.hidden = capture(lambda: self._read(recording), self._stack.device, lambda: None)
            recording.made_for = made_for
        recording.graph.replay()
        assert recording.hidden is not None
        return recording.hidden

    def _read(self, recording: _Recording) -> Tensor:
        """Keep the keys and values in the tail of the first row; the last token's state [1, hidden]."""
        stack, size = self._stack, len(recording.ids)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            self._buffers.keys[layer, 0, :, :size] = key.transpose(0, 1)
            self._buffers.values[layer, 0, :, :size] = value.transpose(0, 1)
            mixed, weight = suffix_part(query[None], key[None], value[None], scale=stack.scale)
            return recording.attention.over_prefix(layer, query, mixed[0], weight[0])

        rotation = stack.rotation(recording.places + recording.start)
        return stack.forward(stack.embed(recording.ids), rotation, attend)[recording.last]

    def _make(self, size: int) -> _Recording:
        stack = self._stack
        numbers = torch.arange(size, device=stack.device)
        return _Recording(
            attention=SharedPrefixAttention(
                rows=size,
                heads=stack.heads,
                group=stack.group,
                width=stack.width,
                scale=stack.scale,
                dtype=stack.dtype,
                device=stack.device,
                splits=_SPLITS,
            ),
            ids=numbers.clone(),
            places=numbers,
            start=numbers[:1].clone(),
            last=numbers[:1].clone(),
        )
