"""The parts of the loop: attention in pieces, the choice of a token, and what the cache keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hybrid.errors import ModelError
from hybrid.fine.decoding.attention import (
    causal_attention,
    merge_parts,
    plain_attention,
    prefix_part,
    suffix_part,
    tail_part,
)
from hybrid.fine.decoding.options import LoopOptions, prefix_budgets
from hybrid.fine.decoding.prefix_cache import Prefix, PrefixCache
from hybrid.fine.decoding.sampling import FreeChoice, penalised
from hybrid.fine.interface import read_window
from hybrid.runtime import free_host_bytes

SHAPES = st.tuples(
    st.integers(1, 3), st.integers(1, 4), st.sampled_from([8, 16]), st.integers(1, 70), st.integers(1, 20)
)


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=generator).to(dtype)


def whole(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """torch's own attention over all keys at once: query [T, K, G, D], key [K, S, D], hidden [T, S]."""
    tokens, heads, group, width = query.shape
    flat = query.double().reshape(tokens, heads * group, width).transpose(0, 1)
    keys, values = (part.double().repeat_interleave(group, dim=0) for part in (key, value))
    mask = torch.zeros(hidden.shape, dtype=torch.float64).masked_fill(hidden, float("-inf"))
    mixed = functional.scaled_dot_product_attention(flat, keys, values, attn_mask=mask, scale=0.3)
    return mixed.transpose(0, 1).reshape(query.shape)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 10**6), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_prefix_and_suffix_together_are_attention_over_both(
    shape: tuple[int, int, int, int, int], seed: int, dtype: torch.dtype
) -> None:
    heads, group, width, before, length = shape
    generator = torch.Generator().manual_seed(seed)
    query = draw(generator, length, heads, group, width, dtype=dtype)
    keys, values = (draw(generator, heads, before + length, width, dtype=dtype) for _ in range(2))
    near = prefix_part(query, keys[:, :before], values[:, :before], scale=0.3)
    own = (part[:, before:].transpose(0, 1)[None] for part in (keys, values))
    mixed, weight = suffix_part(query[None], *own, scale=0.3)
    ours = merge_parts(near, (mixed[0], weight[0]))
    places = torch.arange(before + length)
    expected = whole(query, keys, values, places > before + torch.arange(length)[:, None])
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 10**6), rows=st.integers(1, 5))
def test_prefix_and_tails_together_are_attention_over_both(
    shape: tuple[int, int, int, int, int], seed: int, rows: int
) -> None:
    heads, group, width, before, room = shape
    generator = torch.Generator().manual_seed(seed)
    query = draw(generator, rows, heads, group, width, dtype=torch.float32)
    key, value = (draw(generator, heads, before, width, dtype=torch.float32) for _ in range(2))
    tails = [draw(generator, rows, heads, room, width, dtype=torch.float32) for _ in range(2)]
    lengths = torch.randint(1, room + 1, (rows,), generator=generator)
    ours = merge_parts(
        prefix_part(query, key, value, scale=0.3), tail_part(query, tails[0], tails[1], lengths, scale=0.3)
    )
    for row in range(rows):
        keys, values = (torch.cat([part, tail[row]], dim=1) for part, tail in zip((key, value), tails, strict=True))
        hidden = torch.arange(before + room)[None] >= before + lengths[row]
        expected = whole(query[row : row + 1], keys, values, hidden)
        torch.testing.assert_close(ours[row : row + 1].double(), expected, rtol=1e-5, atol=1e-5)


def test_causal_attention_and_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from hybrid.fine.decoding import attention

    generator = torch.Generator().manual_seed(1)
    query = draw(generator, 50, 2, 3, 8, dtype=torch.float32)
    key, value = (draw(generator, 2, 50, 8, dtype=torch.float32) for _ in range(2))
    hidden = torch.arange(50) > torch.arange(50)[:, None]
    expected = whole(query, key, value, hidden)
    ours = causal_attention(query.flatten(1, 2), key, value, scale=0.3).reshape(query.shape)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)
    # In blocks of seven queries.
    monkeypatch.setattr(attention, "_LARGEST_SCORES", 7 * 6 * 50)
    flat = query.flatten(1, 2).transpose(0, 1)[None]
    repeated = [part.repeat_interleave(3, dim=0)[None] for part in (key, value)]
    mixed, weight = plain_attention(flat, *repeated, causal=True, scale=0.3)
    torch.testing.assert_close(mixed[0].transpose(0, 1).reshape(query.shape).double(), expected, rtol=1e-5, atol=1e-5)
    scores = (flat @ repeated[0].mT * 0.3).masked_fill(hidden, float("-inf"))
    torch.testing.assert_close(weight, scores.logsumexp(-1))


@pytest.mark.parametrize("penalty", [0.5, 1.05, 1.3, 2.0])
@pytest.mark.parametrize("shift", [-8.0, 0.0, 8.0])
def test_repetition_penalty_on_logits_of_both_signs(penalty: float, shift: float) -> None:
    """With all logits negative the penalty works the other way round; a whole model seldom shows that."""
    from transformers import RepetitionPenaltyLogitsProcessor

    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(50, 40, generator=generator) + shift
    ids = torch.randint(0, 40, (50, 30), generator=generator)
    seen = torch.zeros(50, 40, dtype=torch.bool).scatter_(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    ours = penalised(logits, seen, penalty=penalty)
    assert torch.equal(ours, expected)
    assert (ours.argmax(-1) != logits.argmax(-1)).any()


def test_of_equals_the_first() -> None:
    head = torch.tensor([[0.0], [3.0], [3.0], [1.0]])
    choice = FreeChoice(head, rows=2, end_ids=frozenset({1}), penalty=1.0)
    assert choice.pick(torch.ones(2, 1), slice(0, 2)).tolist() == [1, 1]
    assert choice.closes(1)
    assert not choice.closes(2)


def test_weights_that_give_no_numbers_are_said(gens_folder: Any) -> None:
    from hybrid.fine.load import load_scorer

    scorer: Any = load_scorer(gens_folder, device="cpu")
    scorer._checkpoint.model.lm_head.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        read_window(scorer, [np.zeros((8, 8, 3), dtype=np.uint8)], "a red circle")


def prefix_of(tokens: int, fill: float = 0.0) -> Prefix:
    """One layer, one head, four values: 32 bytes a token."""
    keys = torch.full((1, 1, tokens, 4), fill)
    return Prefix(keys, keys + 0.5, next_position=tokens, token_ids=torch.tensor([1]))


def take(cache: PrefixCache, key: str, tokens: int = 1) -> tuple[Prefix, bool]:
    prefix = prefix_of(tokens, fill=float(len(key)))
    return cache.take(key, prefix.nbytes, lambda: prefix)


def test_the_longest_unused_prefix_goes_first() -> None:
    cache = PrefixCache(device_bytes=96, host_bytes=32)
    for key in "abc":
        cache.release(take(cache, key)[0])
    cache.release(take(cache, "a")[0])
    cache.release(take(cache, "d")[0])  # b goes to the host
    assert [key in cache._near for key in "abcd"] == [True, False, True, True]
    assert list(cache._far) == ["b"]
    prefix, reused = take(cache, "b")  # back it comes, and c goes, for whom there is room again
    assert reused
    assert torch.equal(prefix.keys, prefix_of(1, fill=1.0).keys)
    assert torch.equal(prefix.values, prefix_of(1, fill=1.0).values)
    assert list(cache._far) == ["c"]
    cache.release(take(cache, "e")[0])  # a goes to the host, c for good
    assert "c" not in cache
    assert cache.used_bytes == (96, 32)
    assert (cache.counts.hits, cache.counts.host_hits, cache.counts.misses) == (1, 1, 5)


def test_what_is_read_stays() -> None:
    cache = PrefixCache(device_bytes=64, host_bytes=0)
    held, _ = take(cache, "a", tokens=2)
    assert not cache.has_room("b", 32)
    assert cache.has_room("a", 64)
    big, _ = take(cache, "b", tokens=9)  # over the budget, but it is asked about now
    assert "a" in cache
    cache.release(held)
    assert "a" not in cache
    assert "b" in cache
    cache.release(big)
    assert "b" not in cache, "larger than the budget: not kept"
    assert cache.has_room("c", 10**9), "with nothing held, one prefix of any size may be taken"


@settings(max_examples=60, deadline=None)
@given(
    budgets=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    calls=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60),
)
def test_the_cache_never_mixes_up_or_exceeds(budgets: tuple[int, int], calls: list[tuple[str, bool]]) -> None:
    cache = PrefixCache(device_bytes=budgets[0], host_bytes=budgets[1])
    held: list[Prefix] = []
    for key, release_first in calls:
        if release_first and held:
            cache.release(held.pop(0))
        size = 1 + "abcdef".index(key)
        fill = float(size)
        prefix, _ = cache.take(key, 32 * size, lambda size=size, fill=fill: prefix_of(size, fill))
        assert prefix.length == size
        assert bool((prefix.keys == fill).all())
        held.append(prefix)
        near, far = cache.used_bytes
        assert far <= budgets[1]
        assert near <= max(budgets[0], sum({id(each): each.nbytes for each in held}.values()))
    for prefix in held:
        cache.release(prefix)
    assert cache.used_bytes[0] <= budgets[0]
    cache.clear()
    assert cache.used_bytes == (0, 0)


def test_a_host_that_gives_no_memory_costs_the_prefix_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PrefixCache(device_bytes=32, host_bytes=10**6)
    cache.release(cache.take("a", 32, lambda: prefix_of(1))[0])

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", refuse)
        cache.release(cache.take("b", 32, lambda: prefix_of(1))[0])
    assert "b" in cache
    assert "a" not in cache
    assert (cache.counts.to_host, cache.counts.dropped) == (0, 1)


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="the system does not tell")
def test_the_budget_counts_cached_files_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that has read its checkpoint from disk would keep hardly any window, without a word."""
    monkeypatch.setattr("hybrid.fine.decoding.options.MOST_CPU_BYTES", 2**60)
    told = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    expected = free_host_bytes()
    assert expected is not None
    assert expected <= 1.1 * 1024 * int(told["MemAvailable:"])
    assert prefix_budgets(LoopOptions(), torch.device("cpu"))[0] == pytest.approx(expected / 4, rel=0.1)
