"""The fine stage on CUDA: the tokens of ``generate``, recorded or not, and the kernels against 64 bits.

These tests need nothing that is not on a machine for the fine stage alone (no index, no video library).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.decoding.prefix_cache import Prefix
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.writer import replies_of
from hybrid.values import ByteArray
from tests.fine.reading import read_many, reply_pattern

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
LIMIT = 22
QUESTIONS = ("Who enters the room?", "When?", "What is it that the maid does after the hair is styled, and why?", "?")
SIZES = ((112, 112), (140, 84))


@dataclass(frozen=True)
class Case:
    """Windows, and what ``generate`` on the same device replies to each pair of window and question alone."""

    spec: PromptSpec
    windows: list[list[ByteArray]]
    replies: dict[tuple[int, int], list[int]]

    def pairs(self) -> list[tuple[int, int]]:
        return sorted(self.replies)


@pytest.fixture(scope="module", autouse=True)
def exact_float32() -> Iterator[None]:
    """cuDNN's convolution, which the reference uses for patches, is allowed 10 bits of mantissa by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module", params=SIZES, ids=["square", "wide"])
def case(
    request: pytest.FixtureRequest, gens_folder: Path, make_frames: Callable[..., Any], reference_inputs: Any
) -> Case:
    spec = PromptSpec(max_new_tokens=LIMIT, frame_size=request.param)
    windows = [make_frames(count, *request.param, seed=count) for count in (3, 5, 17)]
    return Case(spec, windows, replies_of_generate(gens_folder, windows, spec, reference_inputs, torch.float32))


def replies_of_generate(
    folder: Path, windows: list[list[ByteArray]], spec: PromptSpec, reference_inputs: Any, dtype: torch.dtype
) -> dict[tuple[int, int], list[int]]:
    from transformers import Qwen2_5_VLForConditionalGeneration

    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    model = model.eval().to(DEVICE)
    replies = {}
    for window, frames in enumerate(windows):
        for question, text in enumerate(QUESTIONS):
            inputs = {name: part.to(DEVICE) for name, part in reference_inputs(frames, text, spec).items()}
            with torch.inference_mode():
                written = model.generate(**inputs, max_new_tokens=LIMIT, do_sample=False)[0]
            replies[window, question] = written[inputs["input_ids"].shape[1] :].tolist()
    return replies


@pytest.fixture(scope="module")
def load(gens_folder: Path, case: Case) -> Callable[..., Any]:
    def make(dtype: str = "float32", **options: Any) -> Any:
        return load_scorer(gens_folder, device=DEVICE, dtype=dtype, prompt=case.spec, loop=LoopOptions(**options))

    return make


def run(scorer: Any, case: Case, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The tokens of the replies to pairs, all in one run."""
    features = [scorer.encode_frames(frames) for frames in case.windows]
    requests = scorer.writer.prompts([features[window] for window, _ in pairs], [QUESTIONS[q] for _, q in pairs])
    return [list(reply.ids) for reply in replies_of(scorer.writer.scheduler.run(requests))]


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_any_batch_gives_the_tokens_of_generate(load: Callable[..., Any], case: Case, batch: int, graphs: bool) -> None:
    """Mixed windows and questions; with few rows, finished ones are refilled, and prefixes are used again."""
    pairs = case.pairs()[::-1] + case.pairs()[::2]
    scorer = load(batch=batch, graphs=graphs)
    assert run(scorer, case, pairs) == [case.replies[pair] for pair in pairs]
    assert run(scorer, case, case.pairs()[:1]) == [case.replies[case.pairs()[0]]]
    assert scorer.prefix_cache.counts.misses == len(case.windows)


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_windows_that_leave_and_come_back(load: Callable[..., Any], case: Case, graphs: bool) -> None:
    """From the device to page-locked memory and back, between recordings that point to them."""
    probe = load()
    run(probe, case, case.pairs())
    largest = max(prefix.nbytes for prefix in probe.prefix_cache._near.values())
    scorer = load(graphs=graphs, prefix_bytes=largest, host_bytes=10**9)
    for pair in sorted(case.pairs(), key=lambda pair: (pair[1], pair[0])):
        assert run(scorer, case, [pair]) == [case.replies[pair]]
    assert scorer.prefix_cache.counts.host_hits > 0


def test_a_form_gives_the_same_with_and_without_recordings(load: Callable[..., Any], case: Case) -> None:
    found = []
    for graphs in (False, True):
        scorer = load(constrained=True, batch=3, graphs=graphs)
        windows = [scorer.encode_frames(frames) for frames in case.windows]
        scored = read_many(scorer, [windows[w] for w, _ in case.pairs()], [QUESTIONS[q] for _, q in case.pairs()])
        for (window, _), reply in zip(case.pairs(), scored, strict=True):
            assert reply_pattern(0, len(case.windows[window]) - 1).fullmatch(reply.text)
            assert bool(json.loads(reply.text)) == bool(reply.scores)
        found.append([reply.text for reply in scored])
    assert found[0] == found[1]


def test_recordings_keep_no_window_alive(load: Callable[..., Any], case: Case) -> None:
    scorer = load(graphs=True)
    run(scorer, case, case.pairs())
    kept = scorer.prefix_cache.used_bytes[0]
    before = torch.cuda.memory_allocated()
    scorer.prefix_cache.clear()
    assert before - torch.cuda.memory_allocated() >= kept > 0


def test_most_first_tokens_are_those_of_generate_in_16_bits(
    load: Callable[..., Any], case: Case, gens_folder: Path, reference_inputs: Any
) -> None:
    expected = replies_of_generate(gens_folder, case.windows, case.spec, reference_inputs, torch.bfloat16)
    for graphs in (False, True):
        ours = run(load("bfloat16", graphs=graphs), case, case.pairs())
        pairs = list(zip(ours, expected.values(), strict=True))
        first = sum(mine[0] == other[0] for mine, other in pairs)
        whole = sum(mine == other for mine, other in pairs)
        print(f"bfloat16, graphs {graphs}: {first} of {len(pairs)} first tokens, {whole} whole replies agree")
        assert first > len(pairs) / 2


def error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative, in the Euclidean norm; NaN counts as infinite."""
    value = float((ours.double() - exact).norm() / exact.norm())
    return value if value == value else float("inf")


LIMITS = {torch.float32: 2e-6, torch.bfloat16: 6e-3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("used", "rows", "lengths"), [(1, 1, [6034]), (5, 8, [6034, 63]), (32, 32, [6034, 1, 700])])
def test_attention_against_64_bits(used: int, rows: int, lengths: list[int], dtype: torch.dtype) -> None:
    """In the sizes of Qwen2.5-VL-3B; in 32 bits with narrower heads, as nobody uses it and it compiles for minutes."""
    from hybrid.fine.decoding.shared_prefix_attention import SharedPrefixAttention

    width = 128 if dtype == torch.bfloat16 else 32
    layers, heads, group, room, scale = 2, 2, 8, 192, width**-0.5
    generator = torch.Generator(DEVICE).manual_seed(rows)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=DEVICE).to(dtype)

    prefixes = [
        Prefix(draw(layers, heads, length, width), draw(layers, heads, length, width), length, torch.tensor([0]))
        for length in lengths
    ]
    of_row = [prefixes[row % len(prefixes)] for row in range(used)]
    attention = SharedPrefixAttention(
        rows=rows, heads=heads, group=group, width=width, scale=scale, dtype=dtype, device=torch.device(DEVICE)
    )
    attention.set_prefixes(of_row)
    for layer in range(layers):
        # As in the loop: parts of one product, and slices of larger buffers.
        joined = draw(rows, heads * (group + 2), width)
        query = joined[:, : heads * group].view(rows, heads, group, width)
        key, value = joined[:, heads * group : heads * (group + 1)], joined[:, heads * (group + 1) :]
        keys, values = (draw(rows + 3, heads, room, width)[:rows] for _ in range(2))
        own = torch.randint(0, room, (rows,), generator=generator, device=DEVICE)
        attention._mixtures.fill_(float("nan"))
        attention._result.fill_(float("nan"))
        ours = attention(layer, query, key, value, keys, values, own)
        for row in range(rows):
            parts = []
            for new, tails, kind in ((key, keys, "keys"), (value, values, "values")):
                near = [getattr(of_row[row], kind)[layer]] if row < used else []
                parts.append(torch.cat([*near, tails[row, :, : own[row]], new[row, :, None]], dim=1).double())
            scores = torch.einsum("kgd,ksd->kgs", query[row].double(), parts[0]) * scale
            exact = torch.einsum("kgs,ksd->kgd", scores.softmax(-1), parts[1])
            assert error(ours[row], exact) < LIMITS[dtype]
        assert torch.equal(keys[torch.arange(rows), :, own], key)
        assert torch.equal(values[torch.arange(rows), :, own], value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("tokens", [1, 32, 1000])
def test_small_operations_against_64_bits(tokens: int, dtype: torch.dtype) -> None:
    from hybrid.fine.decoding.decoder_layers import _rotate
    from hybrid.fine.decoding.fused_kernels import add_norm, gate, rotate_inplace

    generator = torch.Generator(DEVICE).manual_seed(tokens)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=DEVICE).to(dtype)

    hidden, change, weight = draw(tokens, 2048), draw(tokens, 2048), draw(2048)
    added, normed = add_norm(hidden, change, weight, epsilon=1e-6)
    assert torch.equal(added, hidden + change)
    exact = added.double()
    exact = exact * (exact.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    assert error(normed, exact) < LIMITS[dtype]
    joined = draw(tokens, 2 * 11008)
    opening, passing = joined.double().chunk(2, dim=-1)
    assert error(gate(joined), torch.nn.functional.silu(opening) * passing) < LIMITS[dtype]
    heads, angles = draw(tokens, 20, 128), draw(tokens, 1, 64).float().repeat(1, 1, 2)
    rotation = angles.cos().to(dtype), angles.sin().to(dtype)
    rotated = _rotate(heads[:, :18].double(), (rotation[0].double(), rotation[1].double()))
    exact = torch.cat([rotated, heads[:, 18:].double()], dim=1)
    rotate_inplace(heads, rotation, heads=18)
    assert error(heads, exact) < LIMITS[dtype]


def test_another_thread_may_use_the_device_while_steps_are_recorded(load: Callable[..., Any], case: Case) -> None:
    stop, failed = threading.Event(), []

    def work() -> None:
        try:
            while not stop.is_set():
                # New sizes all the time, so that the allocator has to ask the device for memory.
                size = 1 + int(torch.randint(0, 2**22, ()))
                assert float(torch.ones(size, device=DEVICE).sum()) == size
                torch.cuda.empty_cache()
        except BaseException as exc:  # told by the assertion below
            failed.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert run(load(graphs=True), case, case.pairs()) == [case.replies[pair] for pair in case.pairs()]
    finally:
        stop.set()
        thread.join()
    assert not failed
