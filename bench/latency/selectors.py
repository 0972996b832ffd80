"""How long each selector takes to choose, once scores and embeddings are there.

``python -m bench.latency.selectors [--frames 3600] [--budget 64] [--dimension 512] [--repeat 9] [--out FILE]``

Scores and embeddings are synthetic: scenes of five seconds with drift, scores that rise around a few moments. Each
figure is the median CPU time of the repetitions after one for warming up (with one thread that is the time an idle
machine takes, and a busy one does not change it). FOCUS asks for its scores; asking costs nothing here.

AKS is also measured against a straightforward port of its published procedure: Python lists halved level by level,
and ``heapq.nlargest`` over each, which is how its authors' script does it. Both must choose the same frames.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import circumstances, print_table, write_result
from hybrid.selectors.aks import aks
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import NAMES, select

TARGET_MS = 50.0
AKS_SETTINGS = ({"depth": 5, "threshold": 0.8}, {"depth": 3, "threshold": 0.2})


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=3600)
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    candidates = made_candidates(arguments.frames, arguments.dimension)
    budget, repeat = arguments.budget, arguments.repeat
    selectors = {name: milliseconds(partial(select, name, candidates, budget), repeat) for name in NAMES}
    print_table(
        ["selector", "ms", f"under {TARGET_MS:g} ms"],
        [[name, f"{ms:.2f}", "yes" if ms < TARGET_MS else "NO"] for name, ms in selectors.items()],
    )
    comparison = [compare_aks(candidates, budget, repeat, settings) for settings in AKS_SETTINGS]
    for row in comparison:
        print(
            f"AKS depth {row['depth']} threshold {row['threshold']}: {row['ours_ms']:.2f} ms, "
            f"port {row['port_ms']:.2f} ms: {row['ratio']:.1f} times"
        )
    write_result(
        {
            "benchmark": "selectors",
            **circumstances(),
            "settings": {
                "frames": arguments.frames,
                "budget": budget,
                "dimension": arguments.dimension,
                "repeat": repeat,
                "target_ms": TARGET_MS,
            },
            "milliseconds": selectors,
            "aks_against_port": comparison,
        },
        arguments.out,
    )


def made_candidates(frames: int, dimension: int) -> Candidates:
    """Candidates of a made-up video, one a second, with everything that a selector can need."""
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(frames // 5 + 1, dimension))[np.arange(frames) // 5]
    raw = 2 * rng.normal(size=dimension) + scenes + 0.2 * rng.normal(size=(frames, dimension))
    vectors = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    seconds = np.arange(frames, dtype=np.float64)
    moments = rng.uniform(0, frames, size=6)
    peaks = np.exp(-(((seconds[:, None] - moments) / 12) ** 2)).max(axis=1)
    scores = 0.2 + 0.1 * peaks + 0.01 * rng.normal(size=frames)
    return Candidates(
        seconds=seconds,
        scores=scores,
        embeddings=vectors,
        query=vectors[int(moments[0])],
        prompts=vectors[:4],
        score_frames=lambda rows: scores[rows],
    )


def compare_aks(candidates: Candidates, budget: int, repeat: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Time AKS and the port on the same scores.

    Raises:
        AssertionError: they choose different frames, so that their times mean nothing.
    """
    assert candidates.scores is not None
    scores = candidates.scores
    as_list = scores.tolist()
    ours = partial(aks, scores, budget, faithful=True, **settings)
    port = partial(ported_aks, as_list, budget, **settings)
    assert ours().tolist() == port(), "AKS and the port choose different frames"
    ours_ms, port_ms = milliseconds(ours, repeat), milliseconds(port, repeat)
    return {**settings, "ours_ms": ours_ms, "port_ms": port_ms, "ratio": port_ms / ours_ms}


def ported_aks(scores: list[float], budget: int, *, depth: int, threshold: float) -> list[int]:
    """AKS step by step over lists, as its paper and script describe it."""
    low, high = min(scores), max(scores)
    waiting = [([(score - low) / (high - low) for score in scores], list(range(len(scores))), 0)]
    chosen: list[int] = []
    while waiting:
        z, rows, level = waiting.pop()
        top = [z[i] for i in heapq.nlargest(budget, range(len(z)), key=z.__getitem__)]
        if float(np.mean(top)) - float(np.mean(z)) > threshold or level == depth:
            best = heapq.nlargest(budget // 2**level, range(len(z)), key=z.__getitem__)
            chosen.extend(rows[i] for i in best)
        else:
            half = len(z) // 2
            waiting.append((z[:half], rows[:half], level + 1))
            waiting.append((z[half:], rows[half:], level + 1))
    return sorted(chosen)


def milliseconds(action: Callable[[], object], repeat: int) -> float:
    """CPU time: the median of some runs after one that does not count."""
    action()
    times = []
    for _ in range(repeat):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
