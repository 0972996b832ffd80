"""The kernels and the recorded steps of the CUDA path, in Triton's interpreter on a CPU.

Run by ``test_split_kv.py`` in a process of its own, as ``TRITON_INTERPRET=1`` has to be set before
anything imports Triton.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from hybrid.gens.loop import one_row, questions
from hybrid.gens.loop.attention import merge_parts, prefix_part, tail_part
from hybrid.gens.loop.fused import add_norm, gate, rotate_in_place
from hybrid.gens.loop.graphs import RecordedSteps
from hybrid.gens.loop.one_row import Sizes, norm_gate, norm_rotate, product
from hybrid.gens.loop.options import SWITCHES, LoopOptions
from hybrid.gens.loop.prefixes import Prefix
from hybrid.gens.loop.questions import RecordedQuestions
from hybrid.gens.loop.rows import RowBuffers, read_suffixes
from hybrid.gens.loop.split_kv import SharedPrefixAttention
from hybrid.gens.loop.stack import TextStack, _rotate
from hybrid.gens.qwen import QwenScorer
from hybrid.values import ByteArray

assert os.environ.get("TRITON_INTERPRET") == "1"


def prefix_of(generator: torch.Generator, layers: int, heads: int, length: int, width: int, dtype: Any) -> Prefix:
    keys, values = (torch.randn(layers, heads, length, width, generator=generator).to(dtype) for _ in range(2))
    return Prefix(keys, values, next_position=length, token_ids=torch.tensor([0]))


# Rows per prefix; key heads, query heads per key head, values per head; lengths of the prefixes; room of a tail.
CASES = [
    ([1], (1, 8, 16), [130], 150, torch.float16),
    ([2, 1], (2, 2, 16), [200, 65], 80, torch.float32),
    ([5, 1], (1, 16, 16), [70, 1], 20, torch.float16),
]


@pytest.mark.parametrize(("counts", "sizes", "lengths", "room", "dtype"), CASES)
def test_kernels_against_the_reference(
    counts: list[int], sizes: tuple[int, int, int], lengths: list[int], room: int, dtype: torch.dtype
) -> None:
    heads, group, width = sizes
    generator = torch.Generator().manual_seed(3)
    layers, used = 2, sum(counts)
    rows = 1 << (used - 1).bit_length()
    prefixes = [prefix_of(generator, layers, heads, length, width, dtype) for length in lengths]
    # Rows of a prefix do not lie together.
    of_row = [prefix for prefix, count in zip(prefixes, counts, strict=True) for _ in range(count)]
    of_row = [of_row[place] for place in torch.randperm(used, generator=generator).tolist()]
    attention = SharedPrefixAttention(
        rows=rows, heads=heads, group=group, width=width, scale=0.3, dtype=dtype, device=torch.device("cpu")
    )
    tolerance = 2e-6 if dtype == torch.float32 else 2e-3
    for trial in range(2):  # the second time with fewer rows, over what the first one left behind
        used -= trial
        attention.set_prefixes(of_row[:used])
        query = torch.randn(rows, heads, group, width, generator=generator).to(dtype)
        tails = torch.randn(2, rows, heads, room, width, generator=generator).to(dtype)
        # As a slice of a larger buffer, as in the loop.
        keys, values = (torch.cat([part, part], dim=2)[:, :, :room] for part in tails)
        own = torch.randint(0, room, (rows,), generator=generator)
        own[0], own[-1] = 0, room - 1  # nothing but the new token; a full tail
        # Rows that lie apart, as parts of one product of matrices do.
        new = torch.randn(2, rows, 3 * heads, width, generator=generator).to(dtype)[:, :, heads : 2 * heads]
        ours = attention(trial, query, new[0], new[1], keys, values, own)
        for part, tails_now in zip(new, (keys, values), strict=True):
            assert torch.equal(tails_now[torch.arange(rows), :, own], part), "the new token was not kept"
        tail = tail_part(query, keys, values, own + 1, scale=0.3)
        for row in range(rows):
            one = (query[row : row + 1], (tail[0][row : row + 1], tail[1][row : row + 1]))
            expected = one[1][0]
            if row < used:
                prefix = of_row[row]
                near = prefix_part(one[0], prefix.keys[trial], prefix.values[trial], scale=0.3)
                expected = merge_parts(near, one[1])
            torch.testing.assert_close(ours[row : row + 1], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("width", "dtype"), [(64, torch.float32), (100, torch.float16)])
def test_small_operations_against_torch(width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-3, "atol": 1e-3}
    hidden, change = torch.randn(2, 3, width, generator=generator).to(dtype)
    weight = torch.randn(width, generator=generator).to(dtype)
    for more in (None, change):
        added, normed = add_norm(hidden, more, weight, epsilon=1e-6)
        expected = hidden if more is None else hidden + more
        assert torch.equal(added, expected)
        scale = expected.float().pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()
        torch.testing.assert_close(normed, weight * (expected.float() * scale).to(dtype), **tolerance)
    joined = torch.randn(3, 2 * width, generator=generator).to(dtype)
    opening, passing = joined.chunk(2, dim=-1)
    torch.testing.assert_close(gate(joined), torch.nn.functional.silu(opening) * passing, **tolerance)
    heads = torch.randn(3, 12, 16, generator=generator).to(dtype)
    angles = torch.randn(3, 1, 8, generator=generator).repeat(1, 1, 2)
    rotation = angles.cos().to(dtype), angles.sin().to(dtype)
    expected = torch.cat([_rotate(heads[:, :10], rotation), heads[:, 10:]], dim=1)
    rotate_in_place(heads, rotation, heads=10)
    torch.testing.assert_close(heads, expected, **tolerance)


@pytest.mark.parametrize(("width", "dtype"), [(24, torch.float32), (64, torch.float16)])
def test_products_of_one_row_against_torch(width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    tolerance = {"rtol": 2e-6, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 4e-3, "atol": 4e-3}
    hidden, change, norm = draw(1, width), draw(1, width), draw(width)
    for more, bias in ((None, None), (change, draw(5 * 16))):
        summed = hidden if more is None else hidden + more
        normed = add_norm(hidden, more, norm, epsilon=1e-6)[1]
        weight = draw(5 * 16, width) / width**0.5
        angles = torch.randn(1, 1, 8, generator=generator).repeat(1, 1, 2)
        rotation = angles.cos().to(dtype), angles.sin().to(dtype)
        joined = functional.linear(normed, weight, bias).view(1, 5, 16)
        expected = torch.cat([_rotate(joined[:, :4], rotation), joined[:, 4:]], dim=1)
        added, rotated = norm_rotate(hidden, more, norm, weight, bias, rotation, epsilon=1e-6, heads=4)
        assert torch.equal(added, summed)
        torch.testing.assert_close(rotated, expected, **tolerance)
        weight = draw(2 * 11, width) / width**0.5
        added, gated = norm_gate(hidden, more, norm, weight, epsilon=1e-6)
        assert torch.equal(added, summed)
        torch.testing.assert_close(gated, gate(functional.linear(normed, weight)), **tolerance)
    weight = draw(3, width) / width**0.5
    torch.testing.assert_close(product(hidden, weight), functional.linear(hidden, weight), **tolerance)


def test_a_product_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_row, "_LONGEST_BLOCK", 32)
    generator = torch.Generator().manual_seed(9)
    state, weight = (torch.randn(rows, 75, generator=generator) for rows in (1, 5))
    torch.testing.assert_close(product(state, weight), functional.linear(state, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("constrained", [False, True])
def test_recorded_steps_write_the_same_replies(
    make_scorer: Callable[..., Any],
    make_frames: Callable[..., list[ByteArray]],
    monkeypatch: pytest.MonkeyPatch,
    constrained: bool,
) -> None:
    """The steps that CUDA would record: two free rows, and one in a form without the kernels for one row."""
    monkeypatch.setenv(SWITCHES, "one_row")
    plain = make_scorer(max_new_tokens=5 if constrained else 3)
    scorer = QwenScorer(plain._checkpoint, plain.prompt, LoopOptions(constrained=constrained, batch=2))
    windows = [scorer.encode_frames(make_frames(count, seed=count)) for count in (1, 2)]
    pairs = [(windows[0], "When?"), (windows[1], "Who enters?")][: 1 if constrained else 2]
    features, asked = zip(*pairs, strict=True)
    expected = scorer.score_many(features, asked)
    runner = scorer._runner
    runner._count = 2
    # The questions are read without the kernels: that would take minutes here.
    stack = TextStack(runner._stack._model, sections=(2, 3, 3), fused=True)
    assert stack._fused is not None
    assert stack._one_row is None
    runner._steps = RecordedSteps(stack, runner._buffers, runner._choice, most=2)
    ours = scorer.score_many(features, asked)
    assert [reply.text for reply in ours] == [reply.text for reply in expected]
    assert constrained or len({reply.text for reply in ours}) == 2


def test_one_row_goes_through_the_layers_as_several_do(
    make_scorer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROTATED", "GATED", "PLAIN"):
        monkeypatch.setattr(one_row, name, Sizes(16, 4))
    plain = make_scorer(max_new_tokens=7)._runner._stack
    fused = TextStack(plain._model, sections=(2, 3, 3), fused=True)
    assert fused._one_row is not None
    hidden, rotation = plain.embed(torch.tensor([7])), plain.rotation(torch.tensor([5]))
    kept: list[torch.Tensor] = []

    def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        kept.extend((query.clone(), key.clone(), value.clone()))
        return query * (1 + layer) + (key + value)[:, :, None]

    with torch.inference_mode():
        expected = plain.forward(hidden, rotation, attend)
        ours = fused.forward(hidden, rotation, attend)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    half = len(kept) // 2
    for one, other in zip(kept[:half], kept[half:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_recorded_questions_leave_what_plain_ones_leave(
    make_scorer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A length between two recordings, and then a shorter one over what the first left behind."""
    monkeypatch.setattr(questions, "_STEP", 4)
    scorer = make_scorer(max_new_tokens=7)
    stack, choice = scorer._runner._stack, scorer._runner._choice
    generator = torch.Generator().manual_seed(11)
    prefix = prefix_of(generator, stack.layers, stack.heads, 30, stack.width, stack.dtype)
    plain, recorded = RowBuffers(stack, rows=2), RowBuffers(stack, rows=2)
    read = RecordedQuestions(stack, recorded, choice, most=2)
    for length in (7, 3):
        suffix = torch.randint(0, 200, (length,), generator=generator).tolist()
        plain.reserve(2, 512)
        with torch.inference_mode():
            choice.open(0, torch.tensor(suffix), limit=7, tables=None)
            expected = read_suffixes(stack, plain, choice, [prefix], [suffix], first_row=0)
            choice.open(0, torch.tensor(suffix), limit=7, tables=None)  # without what was chosen
            assert torch.equal(read([prefix], [suffix], first_row=0), expected)
        for one, other in zip(plain.state(), recorded.state(), strict=True):
            assert torch.equal(one[:1], other[:1])
        for one, other in ((plain.keys, recorded.keys), (plain.values, recorded.values)):
            torch.testing.assert_close(one[:, :1, :, :length], other[:, :1, :, :length], rtol=1e-4, atol=1e-4)
