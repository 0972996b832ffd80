"""A layer for one token on CUDA: its products with the weights, and all around them, in four Triton kernels.

A step with one row reads every weight once and does next to nothing with it. Libraries of matrix
products are made for more rows, and the norm before, the rotation or the gate behind a product are
kernels of their own. Here each program asks for its rows of the weights first, and norms the token
while they are on their way; what belongs together behind the product (the halves that a rotation turns,
a gate and what passes it) is computed by one program. Values are rounded where the operations of
transformers round them, as in :mod:`hybrid.gens.loop.fused`.

With ``early`` a kernel is started before the one ahead of it has ended (programmatic dependent launch,
CUDA C++ Programming Guide, section 4.5): it loads weights, which never change, and then waits for the
other. Every kernel here waits before it reads or writes anything else, so that nothing runs ahead by more
than that.

This module needs Triton and is imported only where it is used. It is compared with torch's operations
in Triton's interpreter on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from triton.language.extra import cuda as tl_cuda

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LARGEST_WIDTH", "Sizes", "norm_gate", "norm_rotate", "product"]

LARGEST_WIDTH = 8192
"""Of a token's state: a program holds all of it."""
_LONGEST_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a product is cut: rows of the weights in a program (a power of two), and its warps."""

    rows: int
    warps: int


ROTATED, GATED, PLAIN, LONG = Sizes(2, 4), Sizes(4, 4), Sizes(2, 4), Sizes(2, 8)


@triton.jit  # type: ignore[untyped-decorator]
def _wait(EARLY: tl.constexpr):  # type: ignore[no-untyped-def]
    """Let the next kernel be started, and wait for the one ahead."""
    if EARLY:
        tl_cuda.gdc_launch_dependents()
        tl_cuda.gdc_wait()


@triton.jit  # type: ignore[untyped-decorator]
def _normed(hidden, change, norm, added, epsilon, number, W: tl.constexpr, BLOCK: tl.constexpr, ADDS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The token's state with its change, after the norm: float32 [BLOCK]; the first program keeps the sum."""
    places = tl.arange(0, BLOCK)
    inside = places < W
    factor = tl.load(norm + places, mask=inside, other=0.0)
    state = tl.load(hidden + places, mask=inside, other=0.0)
    if ADDS:
        more = tl.load(change + places, mask=inside, other=0.0)
        state = (state.to(tl.float32) + more.to(tl.float32)).to(state.dtype)
        if number == 0:
            tl.store(added + places, state, mask=inside)
    full = state.to(tl.float32)
    size = tl.rsqrt(tl.sum(full * full, axis=0) / W + epsilon)
    result = (full * size).to(state.dtype).to(tl.float32) * factor.to(tl.float32)
    return result.to(state.dtype).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _norm_rotate(  # type: ignore[no-untyped-def]
    hidden,
    change,
    norm,
    added,
    weight,
    bias,
    cosine,
    sine,
    result,
    epsilon,
    W: tl.constexpr,
    BLOCK: tl.constexpr,
    R: tl.constexpr,
    HALF: tl.constexpr,
    HEADS: tl.constexpr,
    ADDS: tl.constexpr,
    BIAS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Some places of the left half of one head, and the same of its right half."""
    number = tl.program_id(0)
    head = number // (HALF // R)
    turns = (number % (HALF // R)) * R + tl.arange(0, R)
    left = head * (2 * HALF) + turns
    places = tl.arange(0, BLOCK)
    inside = (places < W)[None, :]
    of_left = weight + left[:, None] * W + places[None, :]
    lefts = tl.load(of_left, mask=inside, other=0.0)
    rights = tl.load(of_left + HALF * W, mask=inside, other=0.0)
    _wait(EARLY)
    normed = _normed(hidden, change, norm, added, epsilon, number, W, BLOCK, ADDS)
    one = tl.sum(lefts.to(tl.float32) * normed[None, :], axis=1)
    other = tl.sum(rights.to(tl.float32) * normed[None, :], axis=1)
    if BIAS:
        one += tl.load(bias + left).to(tl.float32)
        other += tl.load(bias + left + HALF).to(tl.float32)
    kind = result.dtype.element_ty
    one, other = one.to(kind).to(tl.float32), other.to(kind).to(tl.float32)
    if head < HEADS:
        by_cosine, by_sine = tl.load(cosine + turns).to(tl.float32), tl.load(sine + turns).to(tl.float32)
        turned = (one * by_cosine).to(kind).to(tl.float32) + (-other * by_sine).to(kind).to(tl.float32)
        other = (other * by_cosine).to(kind).to(tl.float32) + (one * by_sine).to(kind).to(tl.float32)
        one = turned
    tl.store(result + left, one.to(kind))
    tl.store(result + left + HALF, other.to(kind))


@triton.jit  # type: ignore[untyped-decorator]
def _norm_gate(  # type: ignore[no-untyped-def]
    hidden,
    change,
    norm,
    added,
    weight,
    result,
    epsilon,
    W: tl.constexpr,
    BLOCK: tl.constexpr,
    R: tl.constexpr,
    OUT: tl.constexpr,
    ADDS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Some gates, and what passes them."""
    number = tl.program_id(0)
    gates = number * R + tl.arange(0, R)
    there = gates < OUT
    places = tl.arange(0, BLOCK)
    inside = there[:, None] & (places < W)[None, :]
    of_gate = weight + gates[:, None] * W + places[None, :]
    opening = tl.load(of_gate, mask=inside, other=0.0)
    passing = tl.load(of_gate + OUT * W, mask=inside, other=0.0)
    _wait(EARLY)
    normed = _normed(hidden, change, norm, added, epsilon, number, W, BLOCK, ADDS)
    kind = result.dtype.element_ty
    one = tl.sum(opening.to(tl.float32) * normed[None, :], axis=1).to(kind).to(tl.float32)
    other = tl.sum(passing.to(tl.float32) * normed[None, :], axis=1).to(kind).to(tl.float32)
    opened = (one / (1.0 + tl.exp(-one))).to(kind).to(tl.float32)
    tl.store(result + gates, (opened * other).to(kind), mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _product(  # type: ignore[no-untyped-def]
    state,
    weight,
    result,
    W: tl.constexpr,
    BLOCK: tl.constexpr,
    R: tl.constexpr,
    OUT: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Some rows of the weights."""
    rows = tl.program_id(0) * R + tl.arange(0, R)
    there = rows < OUT
    of_row = weight + rows[:, None] * W
    places = tl.arange(0, BLOCK)
    part = tl.load(of_row + places[None, :], mask=there[:, None] & (places < W)[None, :], other=0.0)
    _wait(EARLY)
    values = tl.load(state + places, mask=places < W, other=0.0)
    total = part.to(tl.float32) * values.to(tl.float32)[None, :]
    for first in tl.static_range(BLOCK, W, BLOCK):
        further = first + places
        part = tl.load(of_row + further[None, :], mask=there[:, None] & (further < W)[None, :], other=0.0)
        values = tl.load(state + further, mask=further < W, other=0.0)
        total += part.to(tl.float32) * values.to(tl.float32)[None, :]
    tl.store(result + rows, tl.sum(total, axis=1).to(result.dtype.element_ty), mask=there)


def norm_rotate(
    hidden: Tensor,
    change: Tensor | None,
    norm: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rotation: tuple[Tensor, Tensor],
    *,
    epsilon: float,
    heads: int,
    early: bool = False,
    sizes: Sizes | None = None,
) -> tuple[Tensor, Tensor]:
    """``hidden + change``; and that normed, multiplied with the weights, and its first heads rotated.

    Args:
        hidden: [1, W], contiguous.
        change: [1, W], contiguous; None: nothing is added.
        norm: [W]: weight of the root mean square norm.
        weight: [all heads * D, W], contiguous; D a power of two of at least 4.
        bias: [all heads * D], or None.
        rotation: cosine and sine, [1, 1, D] each, contiguous, with equal halves, in the dtype of ``hidden``.
        epsilon: of the norm.
        heads: how many are rotated.
        early: start before the kernel ahead has ended; needs compute capability 9.
        sizes: how the product is cut; by default as suits an H200.

    Returns:
        The sum [1, W], and the rotated product [1, all heads, D].
    """
    sizes = sizes or ROTATED
    width = rotation[0].shape[-1]
    half, rows = width // 2, min(sizes.rows, width // 2)
    added = hidden if change is None else torch.empty_like(hidden)
    result = hidden.new_empty(1, len(weight) // width, width)
    _norm_rotate[(len(weight) // (2 * rows),)](
        hidden,
        hidden if change is None else change,
        norm,
        added,
        weight,
        weight if bias is None else bias,
        *rotation,
        result,
        epsilon,
        R=rows,
        HALF=half,
        HEADS=heads,
        BIAS=bias is not None,
        **_common(hidden, change, early, sizes),
    )
    return added, result


def norm_gate(
    hidden: Tensor,
    change: Tensor | None,
    norm: Tensor,
    weight: Tensor,
    *,
    epsilon: float,
    early: bool = False,
    sizes: Sizes | None = None,
) -> tuple[Tensor, Tensor]:
    """``hidden + change``; and that normed, multiplied with the weights, and SiLU of one half times the other.

    Args:
        hidden: [1, W], contiguous.
        change: [1, W], contiguous; None: nothing is added.
        norm: [W]: weight of the root mean square norm.
        weight: [2 V, W], contiguous.
        epsilon: of the norm.
        early: start before the kernel ahead has ended; needs compute capability 9.
        sizes: how the product is cut; by default as suits an H200.

    Returns:
        The sum [1, W], and the gated product [1, V].
    """
    sizes = sizes or GATED
    out = len(weight) // 2
    added = hidden if change is None else torch.empty_like(hidden)
    result = hidden.new_empty(1, out)
    _norm_gate[(triton.cdiv(out, sizes.rows),)](
        hidden,
        hidden if change is None else change,
        norm,
        added,
        weight,
        result,
        epsilon,
        R=sizes.rows,
        OUT=out,
        **_common(hidden, change, early, sizes),
    )
    return added, result


def product(state: Tensor, weight: Tensor, *, early: bool = False, sizes: Sizes | None = None) -> Tensor:
    """The weights [V, W] times one state [1, W], both contiguous: [1, V].

    Args:
        state: one token's.
        weight: of a linear layer without a bias.
        early: start before the kernel ahead has ended; needs compute capability 9.
        sizes: how the product is cut; by default as suits an H200.
    """
    out, width = weight.shape
    sizes = sizes or (PLAIN if width <= _LONGEST_BLOCK else LONG)
    result = state.new_empty(1, out)
    _product[(triton.cdiv(out, sizes.rows),)](
        state,
        weight,
        result,
        W=width,
        BLOCK=min(_LONGEST_BLOCK, triton.next_power_of_2(width)),
        R=sizes.rows,
        OUT=out,
        EARLY=early,
        num_warps=sizes.warps,
        **_launch(early),
    )
    return result


def _common(hidden: Tensor, change: Tensor | None, early: bool, sizes: Sizes) -> dict[str, Any]:
    width = hidden.shape[1]
    return {
        "W": width,
        "BLOCK": triton.next_power_of_2(width),
        "ADDS": change is not None,
        "EARLY": early,
        "num_warps": sizes.warps,
        **_launch(early),
    }


def _launch(early: bool) -> dict[str, Any]:
    return {"launch_pdl": True} if early else {}
