"""The rows that are being decoded: each has a prefix that it shares, and a tail of its own.

The tail of a row holds the keys and values of its question and of its reply. All tails lie in one
buffer per kind, rows that are at work at its front, so that a step works on plain slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from hybrid.fine.decoding.attention import causal_attention, merge_parts, prefix_part, suffix_part, tail_part
from hybrid.fine.decoding.decoder_layers import TextStack
from hybrid.fine.decoding.prefix_cache import Prefix
from hybrid.fine.decoding.sampling import Choice

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Groups",
    "Mix",
    "PlainSteps",
    "RowBuffers",
    "Steps",
    "decode_step",
    "group_rows",
    "read_prefix",
    "read_suffixes",
]

_ROOM_STEP = 64

Mix = Callable[[int, "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]
"""(layer, query [N, K, G, D], new key [N, K, D], new value [N, K, D], keys [N, K, room, D] and values
[N, K, room, D] of the tails, lengths of these int64 [N]) -> mixture [N, K, G, D] over the prefix and the
tail of each row. The new keys and values are written behind the tails, and belong to them."""


class RowBuffers:
    """The state of each row on the model's device.

    Attributes:
        keys, values: [layers, rows, K, room, D].
        tokens: int64 [rows]: the token that each row reads next.
        positions: int64 [rows]: its position.
        lengths: int64 [rows]: how many tokens its tail holds already.

    Args:
        stack: of whose sizes they are.
        rows: how many there can be.
    """

    def __init__(self, stack: TextStack, *, rows: int) -> None:
        self._stack = stack
        self._most = rows
        shape = (stack.layers, 0, stack.heads, 0, stack.width)
        self.keys = torch.empty(shape, dtype=stack.dtype, device=stack.device)
        self.values = self.keys.clone()
        self.tokens, self.positions, self.lengths = (
            torch.zeros(rows, dtype=torch.int64, device=stack.device) for _ in range(3)
        )

    def state(self) -> tuple[Tensor, ...]:
        """What a step changes in place, without the keys and values."""
        return self.tokens, self.positions, self.lengths

    @property
    def room(self) -> int:
        """Tokens that a tail can hold."""
        return int(self.keys.shape[3])

    def reserve(self, rows: int, room: int) -> None:
        """Make room for so many rows with tails of ``room`` tokens; their contents stay."""
        old_rows, old_room = self.keys.shape[1], self.room
        if rows <= old_rows and room <= old_room:
            return
        # Grown by half at least, so that a long reply does not copy all tails again and again.
        new_rows = old_rows if rows <= old_rows else min(self._most, max(rows, 2 * old_rows))
        new_room = old_room if room <= old_room else max(room, old_room * 3 // 2)
        new_room = -(-new_room // _ROOM_STEP) * _ROOM_STEP
        stack = self._stack
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = torch.zeros(
                (stack.layers, new_rows, stack.heads, new_room, stack.width), dtype=stack.dtype, device=stack.device
            )
            new[:, :old_rows, :, :old_room] = old
            setattr(self, name, new)

    def drop(self) -> None:
        """Give the memory back."""
        self.keys, self.values = (part[:, :0, :, :0].clone() for part in (self.keys, self.values))

    def move(self, source: int, target: int, length: int) -> None:
        """Row ``source``, whose tail holds ``length`` tokens, goes on as row ``target``."""
        for tails in (self.keys, self.values):
            tails[:, target, :, :length] = tails[:, source, :, :length]
        for buffer in (self.tokens, self.positions, self.lengths):
            buffer[target] = buffer[source]


Groups = list[tuple[Prefix, "Tensor | None"]]
"""Each prefix once, with its rows, int64. None: the prefix is that of all rows."""


def group_rows(prefixes: Sequence[Prefix], device: torch.device) -> Groups:
    """Groups for rows with these prefixes, in the order of the rows."""
    by_prefix: dict[int, tuple[Prefix, list[int]]] = {}
    for row, prefix in enumerate(prefixes):
        by_prefix.setdefault(id(prefix), (prefix, []))[1].append(row)
    if len(by_prefix) == 1:
        return [(prefixes[0], None)]
    return [(prefix, torch.tensor(rows, device=device)) for prefix, rows in by_prefix.values()]


def _over_prefixes(query: Tensor, groups: Groups, layer: int, scale: float) -> tuple[Tensor, Tensor]:
    """Queries [T, K, G, D] over the prefixes of their groups, whose members are tokens."""
    mixed = torch.empty_like(query)
    weight = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    for prefix, members in groups:
        if members is None:
            return prefix_part(query, prefix.keys[layer], prefix.values[layer], scale=scale)
        part = prefix_part(query[members], prefix.keys[layer], prefix.values[layer], scale=scale)
        mixed[members], weight[members] = part
    return mixed, weight


class Steps(Protocol):
    """Runs a few decoding steps with all active rows."""

    def __call__(self, prefixes: Sequence[Prefix], *, longest: int, count: int) -> Tensor:
        """Read and choose ``count`` tokens in each of the first rows.

        Args:
            prefixes: of these rows.
            longest: the length of the longest of their tails, with the token that is read first.
            count: how many steps. A row that is finished before runs on; its further tokens mean nothing.

        Returns:
            int64 [rows, count]: the tokens that were chosen.
        """


class PlainSteps:
    """A :class:`Steps` with torch's own attention, one operation after another.

    Args:
        stack: the model.
        buffers: of the rows.
        choice: chooses.
    """

    def __init__(self, stack: TextStack, buffers: RowBuffers, choice: Choice) -> None:
        self._stack = stack
        self._buffers = buffers
        self._choice = choice

    def __call__(self, prefixes: Sequence[Prefix], *, longest: int, count: int) -> Tensor:
        """See :class:`Steps`."""
        stack, buffers = self._stack, self._buffers
        buffers.reserve(len(prefixes), longest + count)
        groups = group_rows(prefixes, stack.device)
        steps = []
        numbers = torch.arange(len(prefixes), device=stack.device)
        for step in range(count):
            after = buffers.lengths[: len(prefixes)] + 1
            mix = _plain_mix(groups, numbers, after, scale=stack.scale, longest=longest + step)
            steps.append(decode_step(stack, buffers, self._choice, mix, rows=len(prefixes)))
        return torch.stack(steps, dim=1)


def _plain_mix(groups: Groups, numbers: Tensor, after: Tensor, *, scale: float, longest: int) -> Mix:
    """For rows with these numbers, whose tails will have these lengths after this step."""

    def mix(
        layer: int, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, lengths: Tensor
    ) -> Tensor:
        keys[numbers, :, lengths] = key
        values[numbers, :, lengths] = value
        own = tail_part(query, keys[:, :, :longest], values[:, :, :longest], after, scale=scale)
        return merge_parts(_over_prefixes(query, groups, layer, scale), own)

    return mix


def decode_step(stack: TextStack, buffers: RowBuffers, choice: Choice, mix: Mix, *, rows: int) -> Tensor:
    """Read one token in each of the first rows, and choose the next one.

    Args:
        stack: the model.
        buffers: of the rows; changed in place.
        choice: chooses; its state is changed in place too.
        mix: attention over the prefixes and tails of these rows.
        rows: how many are at work.

    Returns:
        int64 [rows]: the tokens that were chosen, which the next step reads.
    """
    at_work = slice(rows)
    lengths, positions = buffers.lengths[at_work], buffers.positions[at_work]

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return mix(layer, query, key, value, buffers.keys[layer, at_work], buffers.values[layer, at_work], lengths)

    hidden = stack.forward(stack.embed(buffers.tokens[at_work]), stack.rotation(positions), attend)
    tokens = choice.pick(hidden, at_work)
    buffers.tokens[at_work] = tokens
    lengths.add_(1)
    positions.add_(1)
    return tokens


def read_prefix(
    stack: TextStack, embeddings: Tensor, positions: Tensor, *, next_position: int, token_ids: Tensor
) -> Prefix:
    """The keys and values of a prefix; no row's question is needed for them.

    Args:
        stack: the model.
        embeddings: [P, hidden], in its dtype and on its device.
        positions: int64 [3, P] or [P].
        next_position: the position of the token that follows.
        token_ids: int64, on its device: each token of the prefix once.
    """
    shape = (stack.layers, stack.heads, len(embeddings), stack.width)
    keys = torch.empty(shape, dtype=stack.dtype, device=stack.device)
    values = torch.empty_like(keys)

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys[layer], values[layer] = key.transpose(0, 1), value.transpose(0, 1)
        if len(query) == 0:
            return query
        mixed = causal_attention(query.flatten(1, 2), keys[layer], values[layer], scale=stack.scale)
        return mixed.reshape(query.shape)

    none = torch.zeros(0, dtype=torch.int64, device=stack.device)
    stack.forward(embeddings, stack.rotation(positions), attend, last_queries=none)
    return Prefix(keys=keys, values=values, next_position=next_position, token_ids=token_ids)


def read_suffixes(
    stack: TextStack,
    buffers: RowBuffers,
    choice: Choice,
    prefixes: Sequence[Prefix],
    suffixes: Sequence[Sequence[int]],
    *,
    first_row: int,
) -> Tensor:
    """Read the questions of new rows, all in one pass, and choose the first token of each reply.

    The tokens of all questions lie behind one another without padding; only their short attention
    among themselves is padded.

    Args:
        stack: the model.
        buffers: of the rows, with room for the new ones; changed in place.
        choice: chooses; the rows were opened.
        prefixes: one per new row.
        suffixes: token ids behind the prefix, one list per new row, none empty.
        first_row: the number of the first new row; the others follow.

    Returns:
        int64 [new rows]: the tokens that were chosen.
    """
    device = stack.device
    sizes = torch.tensor([len(suffix) for suffix in suffixes])
    longest = int(sizes.max())
    # Indices of the tokens in an array of [N, S]; a mask would make the device wait for the host.
    inside = torch.nonzero((torch.arange(longest) < sizes[:, None]).flatten())[:, 0].to(device)
    ends = (sizes.cumsum(0) - 1).to(device)
    starts = torch.tensor([prefix.next_position for prefix in prefixes])
    positions = torch.cat([start + torch.arange(int(size)) for start, size in zip(starts, sizes, strict=True)])
    ids = torch.tensor([token for suffix in suffixes for token in suffix], device=device)
    rows = slice(first_row, first_row + len(suffixes))
    lengths = sizes.to(device)
    by_token = group_rows([p for p, size in zip(prefixes, sizes, strict=True) for _ in range(int(size))], device)
    by_row = group_rows(prefixes, device)

    def spread(flat: Tensor) -> Tensor:
        """[T, ...] -> [N, S, ...], filled up with zeros."""
        padded = flat.new_zeros((len(suffixes) * longest, *flat.shape[1:]))
        return padded.index_copy_(0, inside, flat).view(len(suffixes), longest, *flat.shape[1:])

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = spread(key), spread(value)
        tails = (buffers.keys[layer, rows], buffers.values[layer, rows])
        for tail, part in zip(tails, (keys, values), strict=True):
            tail[:, :, :longest] = part.transpose(1, 2)
        if layer == stack.layers - 1:  # one query a row: its last token's
            own = tail_part(query, tails[0][:, :, :longest], tails[1][:, :, :longest], lengths, scale=stack.scale)
            return merge_parts(_over_prefixes(query, by_row, layer, stack.scale), own)
        mixed, weight = suffix_part(spread(query), keys, values, scale=stack.scale)
        own = (mixed.flatten(0, 1)[inside], weight.flatten(0, 1)[inside])
        return merge_parts(_over_prefixes(query, by_token, layer, stack.scale), own)

    rotation = stack.rotation(positions.to(device))
    hidden = stack.forward(stack.embed(ids), rotation, attend, last_queries=ends)
    tokens = choice.pick(hidden, rows, check=True)
    buffers.tokens[rows] = tokens
    buffers.lengths[rows] = lengths
    buffers.positions[rows] = (starts + sizes).to(device)
    return tokens
