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

from hybrid.fine.decoding.attention import merge_parts, prefix_part, tail_part
from hybrid.fine.decoding.cuda_graphs import RecordedSteps
from hybrid.fine.decoding.decoder_layers import TextStack, _rotate
from hybrid.fine.decoding.fused_kernels import add_norm, gate, rotate_inplace
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.decoding.prefix_cache import Prefix
from hybrid.fine.decoding.shared_prefix_attention import SharedPrefixAttention
from hybrid.fine.qwen.load import QwenScorer
from hybrid.values import ByteArray
from tests.fine.reading import read_many

assert os.environ.get("TRITON_INTERPRET") == "1"


def prefix_of(generator: torch.Generator, layers: int, heads: int, length: int, width: int, dtype: Any) -> Prefix:
    keys, values = (torch.randn(layers, heads, length, width, generator=generator).to(dtype) for _ in range(2))
    return Prefix(keys, values, next_position=length, token_ids=torch.tensor([0]))


# Rows per prefix; key heads, query heads per key head, values per head; lengths of the prefixes.
CASES = [
    ([1], (2, 8, 16), [130]),
    ([5], (2, 2, 32), [64]),
    ([3, 1, 4], (1, 4, 16), [200, 1, 65]),
    ([9, 2], (1, 8, 16), [70, 300]),
    ([1, 1, 1, 1], (2, 1, 16), [5, 64, 63, 129]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("counts", "sizes", "lengths"), CASES)
def test_kernels_against_the_reference(
    counts: list[int], sizes: tuple[int, int, int], lengths: list[int], dtype: torch.dtype
) -> None:
    heads, group, width = sizes
    generator = torch.Generator().manual_seed(3)
    layers, room, used = 2, 40, sum(counts)
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
        own[0] = 0  # nothing but the new token
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


@pytest.mark.parametrize("width", [64, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
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
    rotate_inplace(heads, rotation, heads=10)
    torch.testing.assert_close(heads, expected, **tolerance)


@pytest.mark.parametrize("constrained", [False, True])
def test_recorded_steps_write_the_same_replies(
    make_scorer: Callable[..., Any], make_frames: Callable[..., list[ByteArray]], constrained: bool
) -> None:
    """The steps that CUDA would record, with rows filled up to a power of two and several steps at once."""
    plain = make_scorer(max_new_tokens=4)
    scorer = QwenScorer(plain._checkpoint, plain.prompt, LoopOptions(constrained=constrained, batch=3))
    windows = [scorer.encode_frames(make_frames(count, seed=count)) for count in (1, 2)]
    pairs = [(windows[0], "When?"), (windows[1], "Who enters?"), (windows[0], "What?")]
    features, questions = zip(*pairs, strict=True)
    expected = read_many(scorer, features, questions)
    runner = scorer.writer.scheduler
    runner._count = 2
    # The questions are read without the kernels: that would take minutes here.
    stack = TextStack(runner._stack._model, sections=(2, 3, 3), fused=True)
    assert stack._fused is not None
    runner._steps = RecordedSteps(stack, runner._buffers, runner._choice, most=3)
    ours = read_many(scorer, features, questions)
    assert [reply.text for reply in ours] == [reply.text for reply in expected]
    # In so few tokens the form leaves little room.
    assert constrained or len({reply.text for reply in ours}) > 1
