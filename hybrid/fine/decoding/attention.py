"""Attention in parts: over a shared prefix, over each row's own tail, and the two merged.

Softmax over a union of keys follows from the softmax over each part and the logarithm of its
normaliser (log-sum-exp), as in FlashAttention (arXiv 2205.14135) and, for prefixes that several
rows share, in Hydragen (arXiv 2402.05099). So the keys of a window are read once for all questions
about it, and are never copied.

Queries of all heads that share a key head are stacked into one tile. Shapes: T tokens, N rows, K key
heads, G query heads per key head, D values per head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["causal_attention", "merge_parts", "prefix_part", "suffix_part", "tail_part"]

_LARGEST_SCORES = 2**26
"""Scores that the plain way holds at once, before it goes on in blocks of queries."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Each token looks at itself and at those before it.

    Args:
        query: [T, K * G, D].
        key: [K, T, D].
        value: [K, T, D].
        scale: of the products.

    Returns:
        [T, K * G, D].
    """
    mixed = functional.scaled_dot_product_attention(
        query.transpose(0, 1)[None], key[None], value[None], is_causal=True, scale=scale, enable_gqa=True
    )
    return mixed[0].transpose(0, 1)


def prefix_part(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    """All queries look at all keys of one prefix.

    Args:
        query: [T, K, G, D].
        key: [K, P, D].
        value: [K, P, D].
        scale: of the products.

    Returns:
        The mixture [T, K, G, D], and the log-sum-exp of the scores, float32 [T, K, G].
    """
    tokens, heads, group, width = query.shape
    tile = query.transpose(0, 1).reshape(1, heads, tokens * group, width)
    mixed, weight = _attend(tile, key[None], value[None], causal=False, scale=scale)
    mixed = mixed[0].reshape(heads, tokens, group, width).transpose(0, 1)
    return mixed, weight[0].reshape(heads, tokens, group).transpose(0, 1)


def suffix_part(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    """Within each row, each token looks at itself and at those before it.

    Args:
        query: [N, S, K, G, D]; rows shorter than S are filled up at their end, and what comes out
            there means nothing.
        key: [N, S, K, D].
        value: [N, S, K, D].
        scale: of the products.

    Returns:
        The mixture [N, S, K, G, D], and the log-sum-exp of the scores, float32 [N, S, K, G].
    """
    rows, length, heads, group, width = query.shape
    flat = query.reshape(rows, length, heads * group, width).transpose(1, 2)
    # The tails are short: repeating them costs less than a mask.
    keys, values = (part.transpose(1, 2).repeat_interleave(group, dim=1) for part in (key, value))
    mixed, weight = _attend(flat, keys, values, causal=True, scale=scale)
    shape = (rows, heads, group, length)
    return mixed.reshape(*shape, width).permute(0, 3, 1, 2, 4), weight.reshape(shape).permute(0, 3, 1, 2)


def tail_part(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    """One query a row over the keys of its own tail.

    Args:
        query: [N, K, G, D].
        key: [N, K, S, D], of which each row uses the first ``lengths``.
        value: [N, K, S, D].
        lengths: int64 [N], at least 1.
        scale: of the products.

    Returns:
        The mixture [N, K, G, D], and the log-sum-exp of the scores, float32 [N, K, G].
    """
    scores = torch.matmul(query, key.mT).float() * scale
    beyond = torch.arange(key.shape[2], device=key.device) >= lengths[:, None]
    scores = scores.masked_fill(beyond[:, None, None], float("-inf"))
    weight = scores.logsumexp(-1)
    return torch.matmul((scores - weight[..., None]).exp().to(value.dtype), value), weight


def merge_parts(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """The mixture over the keys of both parts, in the dtype of the first: [..., D]."""
    (left, left_weight), (right, right_weight) = one, other
    share = torch.sigmoid(left_weight - right_weight)[..., None]
    return (left.float() * share + right.float() * (1 - share)).to(left.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """[B, H, T, D] over [B, H, S, D]: the mixture and its float32 log-sum-exp [B, H, T].

    torch's kernels compute the log-sum-exp, but its public function does not return it; the
    operators below it do.
    """
    if query.device.type == "cpu":
        mixed, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scale
        )
        return mixed, weight
    if query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16):
        result = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, scale=scale)
        return result[0], result[1][..., : query.shape[2]]
    return plain_attention(query, key, value, causal=causal, scale=scale)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """What the kernels compute, in the open: the reference in tests, and the way on other devices."""
    block = max(1, _LARGEST_SCORES // (query.shape[0] * query.shape[1] * key.shape[2]))
    parts = []
    for start in range(0, query.shape[2], block):
        scores = torch.matmul(query[:, :, start : start + block], key.mT).float() * scale
        if causal:
            positions = torch.arange(start, start + scores.shape[2], device=query.device)
            beyond = torch.arange(key.shape[2], device=query.device) > positions[:, None]
            scores = scores.masked_fill(beyond, float("-inf"))
        weight = scores.logsumexp(-1)
        parts.append((torch.matmul((scores - weight[..., None]).exp().to(value.dtype), value), weight))
    return torch.cat([mixed for mixed, _ in parts], dim=2), torch.cat([weight for _, weight in parts], dim=2)
