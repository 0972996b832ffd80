"""Small operations of a layer as one Triton kernel each, for CUDA.

Between the products of matrices a layer adds, normalises, rotates and gates. One after another, in
torch, these are some thirty short kernels a layer; a decoding step then takes longer to start and end
kernels than to read the weights. Values are rounded where the operations of transformers round them,
so that the results are the same but for the order of one sum.

This module needs Triton and is imported only where it is used. It is compared with torch's operations
in Triton's interpreter on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_norm", "gate", "rotate_inplace"]

_HEADS_AT_ONCE = 8
_GATE_BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _add_norm(  # type: ignore[no-untyped-def]
    hidden, change, weight, added, normed, epsilon, W: tl.constexpr, BLOCK: tl.constexpr, ADDS: tl.constexpr
):
    """One token."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < W
    state = tl.load(hidden + token * W + columns, mask=inside, other=0.0)
    if ADDS:
        more = tl.load(change + token * W + columns, mask=inside, other=0.0)
        state = (state.to(tl.float32) + more.to(tl.float32)).to(state.dtype)
        tl.store(added + token * W + columns, state, mask=inside)
    full = state.to(tl.float32)
    size = tl.rsqrt(tl.sum(full * full, axis=0) / W + epsilon)
    factor = tl.load(weight + columns, mask=inside, other=0.0)
    result = (full * size).to(state.dtype).to(tl.float32) * factor.to(tl.float32)
    tl.store(normed + token * W + columns, result.to(state.dtype), mask=inside)


def add_norm(hidden: Tensor, change: Tensor | None, weight: Tensor, *, epsilon: float) -> tuple[Tensor, Tensor]:
    """``hidden + change`` (arXiv 1512.03385), and that after a root mean square norm (arXiv 1910.07467).

    Args:
        hidden: [T, W], contiguous.
        change: [T, W], contiguous; None: nothing is added.
        weight: [W].
        epsilon: added to the mean square.

    Returns:
        The sum and its norm, [T, W] each.
    """
    tokens, width = hidden.shape
    added = hidden if change is None else torch.empty_like(hidden)
    normed = torch.empty_like(hidden)
    if tokens:
        block = triton.next_power_of_2(width)
        adds, warps = change is not None, 8 if block >= 2048 else 4
        more = hidden if change is None else change
        _add_norm[(tokens,)](
            hidden, more, weight, added, normed, epsilon, W=width, BLOCK=block, ADDS=adds, num_warps=warps
        )
    return added, normed


@triton.jit  # type: ignore[untyped-decorator]
def _gate(joined, result, W: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < W
    opening = tl.load(joined + token * (2 * W) + columns, mask=inside, other=0.0)
    passing = tl.load(joined + token * (2 * W) + W + columns, mask=inside, other=0.0)
    full = opening.to(tl.float32)
    opened = (full / (1.0 + tl.exp(-full))).to(opening.dtype).to(tl.float32)
    tl.store(result + token * W + columns, (opened * passing.to(tl.float32)).to(opening.dtype), mask=inside)


def gate(joined: Tensor) -> Tensor:
    """SiLU of the first half of the values, times the second half (arXiv 2002.05202): [T, 2 W] -> [T, W]."""
    tokens, width = len(joined), joined.shape[1] // 2
    result = joined.new_empty(tokens, width)
    if tokens:
        _gate[(tokens, triton.cdiv(width, _GATE_BLOCK))](joined, result, W=width, BLOCK=_GATE_BLOCK)
    return result


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(  # type: ignore[no-untyped-def]
    joined, cosine, sine, stride, HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr
):
    """Some heads of one token."""
    token = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.arange(0, HALF)
    inside = (heads < HEADS)[:, None]
    lefts = joined + token * stride + heads[:, None] * (2 * HALF) + columns[None, :]
    left, right = tl.load(lefts, mask=inside, other=0.0), tl.load(lefts + HALF, mask=inside, other=0.0)
    # Both halves turn by the same angles.
    by_cosine = tl.load(cosine + token * (2 * HALF) + columns).to(tl.float32)[None, :]
    by_sine = tl.load(sine + token * (2 * HALF) + columns).to(tl.float32)[None, :]
    kind = left.dtype
    left, right = left.to(tl.float32), right.to(tl.float32)
    new_left = (left * by_cosine).to(kind).to(tl.float32) + (-right * by_sine).to(kind).to(tl.float32)
    new_right = (right * by_cosine).to(kind).to(tl.float32) + (left * by_sine).to(kind).to(tl.float32)
    tl.store(lefts, new_left.to(kind), mask=inside)
    tl.store(lefts + HALF, new_right.to(kind), mask=inside)


def rotate_inplace(joined: Tensor, rotation: tuple[Tensor, Tensor], *, heads: int) -> None:
    """Rotary embedding (arXiv 2104.09864) of the first ``heads`` heads, in place.

    Args:
        joined: [T, all heads, D], contiguous; D a power of two.
        rotation: cosine and sine, [T, 1, D] each, contiguous, with equal halves, in the dtype of ``joined``.
        heads: how many are rotated.
    """
    tokens, _, width = joined.shape
    if tokens:
        _rotate[(tokens, triton.cdiv(heads, _HEADS_AT_ONCE))](
            joined, *rotation, joined.stride(0), HEADS=heads, HALF=width // 2, BLOCK=_HEADS_AT_ONCE
        )
