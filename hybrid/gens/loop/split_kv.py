"""Attention of one decoding step on CUDA: prefixes split over the device and read once, in Triton.

With two key heads, one program per head would leave most of a GPU idle. So the keys of a prefix are
split into ranges, which are worked on side by side and merged by their log-sum-exp (Flash-Decoding,
pytorch.org/blog/flash-decoding). And rows that share a prefix form one tile of queries, all heads of a
key head included, so that its keys and values are read once for all of them (Hydragen, arXiv
2402.05099). A row's own tail is one more range.

Which rows share which prefix is not part of the program: it reads that, and where the prefixes lie,
from tables on the device. So one CUDA graph serves whatever rows come and go.

This module needs Triton and is imported only where it is used. The reference is
:mod:`hybrid.gens.loop.attention`. The kernels are proven against it in Triton's interpreter on a CPU;
their speed has not been measured yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from hybrid.errors import InputError
from hybrid.gens.loop.prefixes import Prefix

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
def _mix(queries, keys, values, start, stop, scale, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Queries [M, D] over the keys from ``start`` to ``stop``: the mixture [M, D] and its log-sum-exp [M]."""
    width = tl.arange(0, D)
    top = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)
    for first in range(start, stop, N):
        places = first + tl.arange(0, N)
        inside = places < stop
        key = tl.load(keys + places[:, None] * D + width[None, :], mask=inside[:, None], other=0.0)
        scores = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        weights = tl.exp(scores - higher[:, None])
        shrink = tl.exp(top - higher)
        value = tl.load(values + places[:, None] * D + width[None, :], mask=inside[:, None], other=0.0)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        total = total * shrink + tl.sum(weights, axis=1)
        top = higher
    # A range without keys has the weight 0 in the merger, and must not be divided by 0.
    empty = total == 0.0
    mixed = mixed / tl.where(empty, 1.0, total)[:, None]
    return mixed, tl.where(empty, float("-inf"), top + tl.log(tl.where(empty, 1.0, total)))


@triton.jit(do_not_specialize=["layer"])  # type: ignore[untyped-decorator]
def _over_prefixes(  # type: ignore[no-untyped-def]
    query,
    tile_keys,
    tile_values,
    tile_lengths,
    tile_rows,
    mixtures,
    weights,
    layer,
    scale,
    K: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One tile of rows over one range of their prefix, for one key head."""
    tile, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(tile_lengths + tile)
    if length == 0:
        return
    slots = tl.arange(0, M)
    rows = tl.load(tile_rows + tile * (M // G) + slots // G)
    width = tl.arange(0, D)
    heads = (rows.to(tl.int64) * K + head) * G + slots % G
    used = rows >= 0
    queries = tl.load(query + heads[:, None] * D + width[None, :], mask=used[:, None], other=0.0)
    offset = (layer.to(tl.int64) * K + head) * length * D
    keys = tl.load(tile_keys + tile).to(tl.pointer_type(query.dtype.element_ty)) + offset
    values = tl.load(tile_values + tile).to(tl.pointer_type(query.dtype.element_ty)) + offset
    share = tl.cdiv(tl.cdiv(length, SPLITS), N) * N
    start = split * share
    mixed, weight = _mix(queries, keys, values, start, tl.minimum(start + share, length), scale, D, M, N)
    # One place more than there are ranges: the last one is the tail's.
    place = heads * (SPLITS + 1) + split
    tl.store(mixtures + place[:, None] * D + width[None, :], mixed, mask=used[:, None])
    tl.store(weights + place, weight, mask=used)


@triton.jit  # type: ignore[untyped-decorator]
def _over_tails(  # type: ignore[no-untyped-def]
    query,
    keys,
    values,
    row_stride,
    head_stride,
    lengths,
    mixtures,
    weights,
    scale,
    K: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One row over its own tail, for one key head."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slots = tl.arange(0, M)
    used = slots < G
    width = tl.arange(0, D)
    heads = (row * K + head) * G + slots
    queries = tl.load(query + heads[:, None] * D + width[None, :], mask=used[:, None], other=0.0)
    offset = row * row_stride + head * head_stride
    length = tl.load(lengths + row)
    mixed, weight = _mix(queries, keys + offset, values + offset, 0, length, scale, D, M, N)
    place = heads * (SPLITS + 1) + SPLITS
    tl.store(mixtures + place[:, None] * D + width[None, :], mixed, mask=used[:, None])
    tl.store(weights + place, weight, mask=used)


@triton.jit  # type: ignore[untyped-decorator]
def _merge(mixtures, weights, result, D: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """All ranges of one query head of one row."""
    head = tl.program_id(0).to(tl.int64)
    parts, width = tl.arange(0, PADDED), tl.arange(0, D)
    there = parts < PARTS
    weight = tl.load(weights + head * PARTS + parts, mask=there, other=float("-inf"))
    share = tl.exp(weight - tl.max(weight, axis=0))
    mixed = tl.load(mixtures + (head * PARTS + parts[:, None]) * D + width[None, :], mask=there[:, None], other=0.0)
    # Ranges that nobody wrote hold anything; their share is 0, and 0 times anything must be 0.
    mixed = tl.where(share[:, None] > 0.0, mixed * share[:, None], 0.0)
    merged = tl.sum(mixed, axis=0) / tl.sum(share, axis=0)
    tl.store(result + head * D + width, merged.to(result.dtype.element_ty))


class SharedPrefixAttention:
    """The attention of decoding steps with a fixed number of rows, with its tables.

    Args:
        rows: how many rows a step has.
        heads: key heads K.
        group: query heads per key head G.
        width: values per head D, a power of two.
        scale: of the products.
        dtype: of keys and values.
        device: where all of it lies.

    Attributes:
        splits: ranges per prefix; as many as fill the device, and 3 on a CPU in Triton's interpreter.

    Raises:
        InputError: the model's heads do not fit into tiles.
    """

    def __init__(
        self, *, rows: int, heads: int, group: int, width: int, scale: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._heads, self._group, self._width, self._scale = heads, group, width, scale
        self._tile_queries = max(TAIL_QUERIES, triton.next_power_of_2(min(TILE_QUERIES, rows * group)))
        if group > TAIL_QUERIES or self._tile_queries % group:
            raise InputError(f"graphs need 1, 2, 4, 8 or 16 query heads per key head; this model has {group}")
        self._rows_per_tile = self._tile_queries // group
        self.splits = _splits(device, rows=rows, heads=heads)
        self._keys, self._values = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self._lengths = torch.zeros(rows, dtype=torch.int32, device=device)
        self._rows = torch.full((rows, self._rows_per_tile), -1, dtype=torch.int32, device=device)
        parts = self.splits + 1
        self._mixtures = torch.zeros(rows, heads, group, parts, width, dtype=torch.float32, device=device)
        self._weights = torch.full((rows, heads, group, parts), float("-inf"), dtype=torch.float32, device=device)
        self._set: tuple[Prefix, ...] = ()
        self._result = torch.zeros(rows, heads, group, width, dtype=dtype, device=device)

    def set_prefixes(self, prefixes: Sequence[Prefix]) -> None:
        """Write the tables for rows with these prefixes, in the order of the rows; further rows have none."""
        if len(prefixes) == len(self._set) and all(a is b for a, b in zip(prefixes, self._set, strict=True)):
            return
        self._set = tuple(prefixes)
        tiles: list[tuple[Prefix, list[int]]] = []
        by_prefix: dict[int, list[int]] = {}
        for row, prefix in enumerate(prefixes):
            tile = by_prefix.get(id(prefix))
            if tile is None or len(tile) == self._rows_per_tile:
                by_prefix[id(prefix)] = tile = []
                tiles.append((prefix, tile))
            tile.append(row)
        count = len(self._keys)
        keys, values, lengths = [0] * count, [0] * count, [0] * count
        rows = torch.full((count, self._rows_per_tile), -1, dtype=torch.int32)
        for number, (prefix, members) in enumerate(tiles):
            keys[number], values[number] = prefix.keys.data_ptr(), prefix.values.data_ptr()
            lengths[number] = prefix.length
            rows[number, : len(members)] = torch.tensor(members, dtype=torch.int32)
        self._keys.copy_(torch.tensor(keys))
        self._values.copy_(torch.tensor(values))
        self._lengths.copy_(torch.tensor(lengths, dtype=torch.int32))
        self._rows.copy_(rows)
        # A row without a prefix has its tail only; what its other ranges held must not count.
        self._weights.fill_(float("-inf"))

    def __call__(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """Mix; see :data:`hybrid.gens.loop.rows.Mix`. All rows of the step take part.

        Args:
            layer: which.
            query: [rows, K, G, D].
            keys: [rows, K, room, D], of which each row uses the first ``lengths``; D is contiguous.
            values: [rows, K, room, D], in the same layout.
            lengths: int64 [rows], at least 1.

        Returns:
            [rows, K, G, D]; overwritten by the next call.
        """
        rows, query = len(query), query.contiguous()
        sizes: dict[str, Any] = {"K": self._heads, "G": self._group, "D": self._width, "N": RANGE_KEYS}
        _over_prefixes[(len(self._keys), self._heads, self.splits)](
            query,
            self._keys,
            self._values,
            self._lengths,
            self._rows,
            self._mixtures,
            self._weights,
            layer,
            self._scale,
            M=self._tile_queries,
            SPLITS=self.splits,
            **sizes,
        )
        _over_tails[(rows, self._heads)](
            query,
            keys,
            values,
            keys.stride(0),
            keys.stride(1),
            lengths,
            self._mixtures,
            self._weights,
            self._scale,
            M=TAIL_QUERIES,
            SPLITS=self.splits,
            **sizes,
        )
        parts = self.splits + 1
        _merge[(rows * self._heads * self._group,)](
            self._mixtures,
            self._weights,
            self._result,
            D=self._width,
            PARTS=parts,
            PADDED=triton.next_power_of_2(parts),
        )
        return self._result


def _splits(device: torch.device, *, rows: int, heads: int) -> int:
    """Ranges per prefix, so that even a single tile gives every multiprocessor two programs."""
    if device.type != "cuda":
        return 3
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return int(min(64, max(4, triton.next_power_of_2(-(-2 * processors // heads)) // max(1, rows // 8))))
