"""Attention of one decoding step on CUDA: prefixes split over the device and read once, in Triton.

With two key heads, one program per head would leave most of a GPU idle. So the keys of a prefix are
split into ranges, which are worked on side by side and merged by their log-sum-exp (Flash-Decoding,
pytorch.org/blog/flash-decoding). And rows that share a prefix form one tile of queries, all heads of a
key head included, so that its keys and values are read once for all of them (Hydragen, arXiv
2402.05099). A row's own tail is one more range, to which its program adds the new token.

Which rows share which prefix is not part of the program: it reads that, and the addresses of the prefixes,
from tables on the device. So one CUDA graph serves any set of rows.

This module needs Triton and is imported only where it is used. The reference is
:mod:`hybrid.fine.decoding.attention`; the kernels are compared with it in Triton's interpreter on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from hybrid.errors import InputError
from hybrid.fine.decoding.prefix_cache import Prefix

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SharedPrefixAttention"]

TILE_QUERIES = 64
"""Queries in a tile: rows of one prefix times the query heads of a key head."""
TAIL_QUERIES = 16
"""The smallest tile that the tensor cores take."""
RANGE_KEYS = 64
"""Keys that a program looks at in one turn."""


@triton.jit  # type: ignore[untyped-decorator]
def _mix(queries, keys, values, start, stop, scale, top, total, mixed, D: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Queries [M, D] go on over the keys from ``start`` to ``stop``.

    The state per query is the greatest score so far [M], the sum of the exponentials below it [M] and the
    sum of the values so weighted [M, D].
    """
    width = tl.arange(0, D)
    for first in range(start, stop, N):
        positions = first + tl.arange(0, N)
        inside = positions < stop
        key = tl.load(keys + positions[:, None] * D + width[None, :], mask=inside[:, None], other=0.0)
        scores = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        weights = tl.exp(scores - higher[:, None])
        shrink = tl.exp(top - higher)
        value = tl.load(values + positions[:, None] * D + width[None, :], mask=inside[:, None], other=0.0)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        total = total * shrink + tl.sum(weights, axis=1)
        top = higher
    return top, total, mixed


@triton.jit  # type: ignore[untyped-decorator]
def _keep(mixtures, weights, slot, used, top, total, mixed, D: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write the mixture [M, D] and its log-sum-exp [M] to their slots."""
    # A range without keys has the weight 0 in the merger, and must not be divided by 0.
    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    width = tl.arange(0, D)
    tl.store(mixtures + slot[:, None] * D + width[None, :], mixed / total[:, None], mask=used[:, None])
    tl.store(weights + slot, tl.where(empty, float("-inf"), top + tl.log(total)), mask=used)


# Arguments of kernels stand together by what they belong to.
# fmt: off
@triton.jit  # type: ignore[untyped-decorator]
def _over_tail(  # type: ignore[no-untyped-def]
    query, query_stride, key, value, new_stride,
    tail_keys, tail_values, row_stride, head_stride, lengths,
    mixtures, weights, scale, row, head,
    K: tl.constexpr, G: tl.constexpr, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr, SPLITS: tl.constexpr,
):
    """One row, with its new token, over its own tail."""
    width, slots = tl.arange(0, D), tl.arange(0, M)
    used = slots < G
    row = row.to(tl.int64)
    heads = head * G + slots
    queries = tl.load(query + row * query_stride + heads[:, None] * D + width[None, :], mask=used[:, None], other=0.0)
    own = row * row_stride + head * head_stride
    length = tl.load(lengths + row)
    fresh = row * new_stride + head * D + width
    new_key, new_value = tl.load(key + fresh), tl.load(value + fresh)
    # Written for the steps to come; in this one the new token is where the mixture begins.
    tl.store(tail_keys + own + length * D + width, new_key)
    tl.store(tail_values + own + length * D + width, new_value)
    top = tl.sum(queries.to(tl.float32) * new_key.to(tl.float32)[None, :], axis=1) * scale
    total = tl.full([M], 1.0, tl.float32)
    mixed = tl.zeros([M, D], tl.float32) + new_value.to(tl.float32)[None, :]
    top, total, mixed = _mix(queries, tail_keys + own, tail_values + own, 0, length, scale, top, total, mixed, D, N)
    slot = (row * (K * G) + heads) * (SPLITS + 1) + SPLITS
    _keep(mixtures, weights, slot, used, top, total, mixed, D)


@triton.jit  # type: ignore[untyped-decorator]
def _over_prefix(  # type: ignore[no-untyped-def]
    query, query_stride,
    tile_keys, tile_values, tile_rows,
    mixtures, weights, layer, scale, tile, head, split, length,
    K: tl.constexpr, G: tl.constexpr, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr, SPLITS: tl.constexpr,
):
    """One tile of rows over one range of their prefix."""
    width, slots = tl.arange(0, D), tl.arange(0, M)
    rows = tl.load(tile_rows + tile * (M // G) + slots // G)
    used = rows >= 0
    heads = head * G + slots % G
    queries = tl.load(
        query + (rows.to(tl.int64) * query_stride + heads * D)[:, None] + width[None, :], mask=used[:, None], other=0.0
    )
    offset = (layer.to(tl.int64) * K + head) * length * D
    # Addresses out of a table could be anything; without this, values would be read two bytes at a time.
    keys = tl.multiple_of(tl.load(tile_keys + tile).to(tl.pointer_type(query.dtype.element_ty)), 16) + offset
    values = tl.multiple_of(tl.load(tile_values + tile).to(tl.pointer_type(query.dtype.element_ty)), 16) + offset
    share = tl.cdiv(tl.cdiv(length, SPLITS), N) * N
    start = split * share
    stop = tl.minimum(start + share, length)
    top = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)
    top, total, mixed = _mix(queries, keys, values, start, stop, scale, top, total, mixed, D, N)
    slot = (rows.to(tl.int64) * (K * G) + heads) * (SPLITS + 1) + split
    _keep(mixtures, weights, slot, used, top, total, mixed, D)


@triton.jit(do_not_specialize=["layer"])  # type: ignore[untyped-decorator]
def _over_ranges(  # type: ignore[no-untyped-def]
    query, query_stride, key, value, new_stride,
    tail_keys, tail_values, row_stride, head_stride, lengths,
    tile_keys, tile_values, tile_lengths, tile_rows,
    mixtures, weights, layer, scale,
    K: tl.constexpr, G: tl.constexpr, D: tl.constexpr,
    M: tl.constexpr, MT: tl.constexpr, N: tl.constexpr, SPLITS: tl.constexpr,
):
    """For one key head: one row over its own tail, or one tile of rows over one range of their prefix."""
    number, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if split == SPLITS:
        _over_tail(
            query, query_stride, key, value, new_stride,
            tail_keys, tail_values, row_stride, head_stride, lengths,
            mixtures, weights, scale, number, head, K, G, D, MT, N, SPLITS,
        )
    else:
        length = tl.load(tile_lengths + number)
        if length > 0:
            _over_prefix(
                query, query_stride,
                tile_keys, tile_values, tile_rows,
                mixtures, weights, layer, scale, number, head, split, length, K, G, D, M, N, SPLITS,
            )
# fmt: on


@triton.jit  # type: ignore[untyped-decorator]
def _merge(mixtures, weights, result, D: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """All ranges of one query head of one row."""
    head = tl.program_id(0).to(tl.int64)
    parts, width = tl.arange(0, PADDED), tl.arange(0, D)
    there = parts < PARTS
    weight = tl.load(weights + head * PARTS + parts, mask=there, other=float("-inf"))
    share = tl.exp(weight - tl.max(weight, axis=0))
    # Ranges that nobody wrote hold anything; they are not even read.
    mixed = tl.load(
        mixtures + (head * PARTS + parts[:, None]) * D + width[None, :], mask=(share > 0.0)[:, None], other=0.0
    )
    merged = tl.sum(mixed * share[:, None], axis=0) / tl.sum(share, axis=0)
    tl.store(result + head * D + width, merged.to(result.dtype.element_ty))


class SharedPrefixAttention:
    """The attention of decoding steps with a fixed number of rows, with its tables.

    Args:
        rows: number of rows in a step.
        heads: key heads K.
        group: query heads per key head G.
        width: values per head D, a power of two of at least 16.
        scale: of the products.
        dtype: of keys and values.
        device: where all of it lies.
        splits: ranges per prefix; by default as many as fill the device, and 3 on a CPU.

    Raises:
        InputError: the model's heads do not fit into tiles.
    """

    def __init__(
        self,
        *,
        rows: int,
        heads: int,
        group: int,
        width: int,
        scale: float,
        dtype: torch.dtype,
        device: torch.device,
        splits: int | None = None,
    ) -> None:
        self._heads, self._group, self._width, self._scale = heads, group, width, scale
        self._tile_queries = max(TAIL_QUERIES, triton.next_power_of_2(min(TILE_QUERIES, rows * group)))
        if group > TAIL_QUERIES or self._tile_queries % group:
            raise InputError(f"graphs need 1, 2, 4, 8 or 16 query heads per key head; this model has {group}")
        if width < 16 or width & (width - 1):
            raise InputError(f"graphs need heads of 16, 32, 64, 128 ... values; this model has {width}")
        self._rows_per_tile = self._tile_queries // group
        tiles = -(-rows // self._rows_per_tile)
        self.splits = splits or _splits(device, programs=tiles * heads)
        self._keys, self._values = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self._lengths = torch.zeros(rows, dtype=torch.int32, device=device)
        self._rows = torch.full((rows, self._rows_per_tile), -1, dtype=torch.int32, device=device)
        parts = self.splits + 1
        self._mixtures = torch.zeros(rows, heads, group, parts, width, dtype=torch.float32, device=device)
        self._weights = torch.full((rows, heads, group, parts), float("-inf"), dtype=torch.float32, device=device)
        self._set: list[tuple[int, int, int]] = []
        self._result = torch.zeros(rows, heads, group, width, dtype=dtype, device=device)

    def set_prefixes(self, prefixes: Sequence[Prefix]) -> None:
        """Write the tables for rows with these prefixes, in the order of the rows; further rows have none."""
        # By address, so that no prefix is kept alive here; another prefix at the same address reads the same.
        of_row = [(prefix.keys.data_ptr(), prefix.values.data_ptr(), prefix.length) for prefix in prefixes]
        if of_row == self._set:
            return
        self._set = of_row
        tiles: list[tuple[tuple[int, int, int], list[int]]] = []
        open_tiles: dict[tuple[int, int, int], list[int]] = {}
        for row, prefix in enumerate(of_row):
            tile = open_tiles.get(prefix)
            if tile is None or len(tile) == self._rows_per_tile:
                open_tiles[prefix] = tile = []
                tiles.append((prefix, tile))
            tile.append(row)
        spare = len(self._keys) - len(tiles)
        self._keys.copy_(torch.tensor([prefix[0] for prefix, _ in tiles] + [0] * spare))
        self._values.copy_(torch.tensor([prefix[1] for prefix, _ in tiles] + [0] * spare))
        self._lengths.copy_(torch.tensor([prefix[2] for prefix, _ in tiles] + [0] * spare, dtype=torch.int32))
        members = [rows + [-1] * (self._rows_per_tile - len(rows)) for _, rows in tiles]
        members += [[-1] * self._rows_per_tile] * spare
        self._rows.copy_(torch.tensor(members, dtype=torch.int32))
        # A row without a prefix has its tail only; what its other ranges held must not count.
        self._weights.fill_(float("-inf"))

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, lengths: Tensor
    ) -> Tensor:
        """Write the new tokens behind their tails, and mix; see :data:`hybrid.fine.decoding.rows.Mix`.

        Args:
            layer: which.
            query: [rows, K, G, D], of which rows may lie apart.
            key, value: [rows, K, D], of which rows may lie apart, both alike.
            keys, values: [rows, K, room, D] in one layout, D contiguous.
            lengths: int64 [rows]: tokens that the tails hold already.

        Returns:
            [rows, K, G, D]; overwritten by the next call.
        """
        rows = len(query)
        assert query.stride()[1:] == (self._group * self._width, self._width, 1)
        assert key.stride() == value.stride() == (key.stride(0), self._width, 1)
        assert keys.stride() == values.stride()
        assert keys.stride()[2:] == (self._width, 1)
        # Values of 32 bits fill the memory that is shared within a program.
        stages = 3 if query.dtype.itemsize == 2 else 1
        # fmt: off
        _over_ranges[(rows, self._heads, self.splits + 1)](
            query, query.stride(0), key, value, key.stride(0),
            keys, values, keys.stride(0), keys.stride(1), lengths,
            self._keys, self._values, self._lengths, self._rows,
            self._mixtures, self._weights, layer, self._scale,
            K=self._heads, G=self._group, D=self._width,
            M=self._tile_queries, MT=TAIL_QUERIES, N=RANGE_KEYS, SPLITS=self.splits, num_stages=stages,
        )
        # fmt: on
        parts = self.splits + 1
        padded = triton.next_power_of_2(parts)
        warps = 8 if padded > 32 else 4
        _merge[(rows * self._heads * self._group,)](
            self._mixtures, self._weights, self._result, D=self._width, PARTS=parts, PADDED=padded, num_warps=warps
        )
        return self._result


def _splits(device: torch.device, *, programs: int) -> int:
    """Ranges per prefix, so that the tiles of one prefix give every multiprocessor two programs."""
    if device.type != "cuda":
        return 3
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    target = max(1, 2 * processors // programs)
    return min(64, max(4, 1 << (target.bit_length() - 1)))
