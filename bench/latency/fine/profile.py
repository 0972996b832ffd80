"""Where the time of reading and decoding goes, kernel by kernel, and how long the device waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from bench.latency.fine.ways import Ours
from hybrid.fine.features import FrameFeatures

__all__ = ["profile_ours"]

_TOP = 14
_NAME = 72


def profile_ours(
    ours: Ours, features: Sequence[FrameFeatures], questions: Iterator[str], *, rows: int
) -> dict[str, Any]:
    """Print the longest kernels of four situations, and the share of the time in which the device worked.

    Args:
        ours: on which.
        features: of windows.
        questions: without end.
        rows: how many are written together in the last one.
    """
    window = features[0]

    def ask(count: int) -> None:
        ours.run([window] * count, [next(questions) for _ in range(count)])

    def read() -> None:
        ours.forget()
        request = ours.scorer.writer.prompts([window], [next(questions)])[0]
        with torch.inference_mode():
            request.make_prefix()

    found = {}
    for name, run in (
        ("reading a window", read),
        ("a warm question", lambda: ask(1)),
        (f"{rows} questions about one window", lambda: ask(rows)),
    ):
        ask(rows)
        ask(1)
        run()
        found[name] = _profile(name, run)
    return found


def _profile(name: str, run: Callable[[], None]) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    activities = [torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        run()
        if cuda:
            torch.cuda.synchronize()
    device_type = "CUDA" if cuda else "CPU"
    spans = [
        (event.time_range.start, event.time_range.end, event.name)
        for event in profiler.events()
        if event.device_type.name == device_type
    ]
    totals: dict[str, list[float]] = defaultdict(list)
    for start, end, kernel in spans:
        totals[kernel].append(end - start)
    busy, last = 0.0, float("-inf")
    for start, end, _ in sorted(spans):
        busy += max(0.0, end - max(start, last))
        last = max(last, end)
    whole = (last - min(start for start, _, _ in spans)) if spans else 0.0
    longest = sorted(totals.items(), key=lambda item: -sum(item[1]))[:_TOP]
    print(f"{name}: {len(spans)} kernels in {whole / 1e3:.2f} ms, of which the device worked {busy / 1e3:.2f} ms")
    for kernel, times in longest:
        print(f"  {sum(times) / 1e3:9.3f} ms {len(times):6} x {sum(times) / len(times):8.2f} us  {kernel[:_NAME]}")
    return {
        "kernels": len(spans),
        "milliseconds": whole / 1e3,
        "busy_milliseconds": busy / 1e3,
        "longest": [[kernel[:_NAME], len(times), sum(times) / 1e3] for kernel, times in longest],
    }
