"""The operations of which the fine stage consists, one by one, in the sizes of Qwen2.5-VL-3B.

``python -m bench.latency.fine.kernels`` on a CUDA device. Short ones are timed as CUDA graphs of many,
over weights that together are larger than the device's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from hybrid.fine.decoding.attention import prefix_part
from hybrid.fine.decoding.prefix_cache import Prefix

HIDDEN, JOINED, GATES, VOCABULARY = 2048, 2560, 22016, 151936
HEADS, GROUP, WIDTH, PREFIX = 2, 8, 128, 6034
PRODUCTS = {
    "qkv": (JOINED, HIDDEN),
    "output": (HIDDEN, HIDDEN),
    "gate_up": (GATES, HIDDEN),
    "down": (HIDDEN, GATES // 2),
    "head": (VOCABULARY, HIDDEN),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all, print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--splits", type=int, nargs="+", default=[16, 32, 64])
    arguments = parser.parse_args(argv)
    found: list[tuple[str, float, str]] = []

    def note(name: str, microseconds: float, *, moved: float = 0.0, flops: float = 0.0) -> None:
        rate = f"{moved / microseconds / 1e6:.2f} TB/s" if moved else f"{flops / microseconds / 1e6:.0f} TFLOP/s"
        found.append((name, microseconds, rate if moved or flops else ""))
        print(f"{name:48} {microseconds:10.2f} us  {found[-1][2]}", flush=True)

    with torch.inference_mode():
        for rows in arguments.rows:
            _products(rows, note)
        _attention(arguments.rows, arguments.splits, note)
        _reading(note)
        _small(note)
    print_table(("operation", "us", "rate"), [(name, f"{time:.2f}", rate) for name, time, rate in found])
    write_result(
        "fine_kernels",
        {
            "device": torch.cuda.get_device_name(),
            "rows": [{"operation": name, "microseconds": time, "rate": rate} for name, time, rate in found],
        },
        arguments.out,
    )


def draw(*shape: int) -> torch.Tensor:
    """Random numbers on the device."""
    return torch.randn(*shape, device="cuda").to(torch.bfloat16)


def short(runs: Sequence[Callable[[], Any]], *, calls: int = 24) -> float:
    """Microseconds of one call, in a CUDA graph of many that take turns."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for run in runs:
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in range(calls):
            runs[call % len(runs)]()
    return long(graph.replay) / calls


def long(run: Callable[[], Any], *, repeats: int = 7) -> float:
    """Microseconds of one call, the middle one of several."""
    times = []
    for _ in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(float(start.elapsed_time(end)) * 1e3)
    return sorted(times[2:])[repeats // 2]


def _products(rows: int, note: Callable[..., None]) -> None:
    for name, (out, width) in PRODUCTS.items():
        copies = max(2, min(24, 2**28 // (out * width)))
        weights = [draw(out, width) for _ in range(copies)]
        states = draw(rows, width)
        runs = [partial(functional.linear, states, weight) for weight in weights]
        note(f"{name}, {rows} rows", short(runs), moved=2 * out * width)


def _attention(all_rows: Sequence[int], all_splits: Sequence[int], note: Callable[..., None]) -> None:
    from hybrid.fine.decoding.shared_prefix_attention import SharedPrefixAttention

    for rows in all_rows:
        for different in sorted({1, rows}):
            prefixes = [
                Prefix(draw(4, HEADS, PREFIX, WIDTH), draw(4, HEADS, PREFIX, WIDTH), PREFIX, torch.tensor([0]))
                for _ in range(different)
            ]
            query, new = draw(rows, HEADS, GROUP, WIDTH), draw(2, rows, HEADS, WIDTH)
            keys, values = draw(2, rows, HEADS, 512, WIDTH)
            lengths = torch.full((rows,), 150, device="cuda")
            for splits in [*all_splits, None]:
                attention = SharedPrefixAttention(
                    rows=rows,
                    heads=HEADS,
                    group=GROUP,
                    width=WIDTH,
                    scale=WIDTH**-0.5,
                    dtype=torch.bfloat16,
                    device=torch.device("cuda"),
                    splits=splits,
                )
                attention.set_prefixes([prefixes[row % different] for row in range(rows)])
                runs = [partial(attention, layer, query, new[0], new[1], keys, values, lengths) for layer in range(4)]
                moved = 4 * HEADS * WIDTH * (different * PREFIX + rows * 150)
                name = f"attention, {rows} rows, {different} prefixes, {splits or attention.splits} splits"
                note(name + ("" if splits else " (chosen)"), short(runs), moved=moved)


def _reading(note: Callable[..., None]) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    for name, (out, width) in list(PRODUCTS.items())[:4]:
        states, weight = draw(PREFIX, width), draw(out, width)
        note(
            f"{name}, {PREFIX} tokens", long(partial(functional.linear, states, weight)), flops=2 * PREFIX * out * width
        )
    query, key, value = (draw(1, heads, PREFIX, WIDTH) for heads in (HEADS * GROUP, HEADS, HEADS))
    flops = 2 * PREFIX**2 * HEADS * GROUP * WIDTH

    def causal() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    note("causal attention, as torch chooses", long(causal), flops=flops)
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        try:
            with sdpa_kernel(backend):
                note(f"causal attention, {backend.name}", long(causal), flops=flops)
        except RuntimeError as exc:
            print(f"causal attention, {backend.name}: {exc}")
    for tokens in (110, 3520):
        several = draw(tokens, HEADS, GROUP, WIDTH)
        run = partial(prefix_part, several, key[0], value[0], scale=0.1)
        note(f"{tokens} tokens over a prefix", long(run), flops=4 * tokens * PREFIX * HEADS * GROUP * WIDTH)


def _small(note: Callable[..., None]) -> None:
    from hybrid.fine.decoding.fused_kernels import add_norm, gate, rotate_inplace

    for tokens in (1, 32, PREFIX):
        hidden, change, weight = draw(tokens, HIDDEN), draw(tokens, HIDDEN), draw(HIDDEN)
        joined = draw(tokens, GATES)
        heads = draw(tokens, HEADS * (GROUP + 2), WIDTH)
        rotation = draw(tokens, 1, WIDTH), draw(tokens, 1, WIDTH)
        runs: dict[str, tuple[Callable[[], Any], int]] = {
            "add_norm": (partial(add_norm, hidden, change, weight, epsilon=1e-6), 8 * hidden.numel()),
            "gate": (partial(gate, joined), 3 * joined.numel()),
            "rotate": (partial(rotate_inplace, heads, rotation, heads=HEADS * (GROUP + 1)), 4 * heads.numel()),
        }
        for name, (run, moved) in runs.items():
            note(f"{name}, {tokens} tokens", short([run]), moved=moved)


if __name__ == "__main__":
    run_command(main)
