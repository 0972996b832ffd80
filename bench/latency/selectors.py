"""How long each selector takes to choose, once scores and embeddings are there.

``python -m bench.latency.selectors [--frames 3600] [--budget 64] [--dimension 512] [--repeat 31] [--out FILE]``

Scores and embeddings are synthetic: scenes of five seconds with drift, scores that rise around a few moments. Each
figure is the median CPU time of the repetitions after one for warming up, with one thread of numpy's linear algebra:
with several, waiting threads would count as well. Neighbours on a shared machine, whose caches are shared too, can
double it. FOCUS asks for its scores; asking costs nothing here.

AKS is also measured against a straightforward port of its published procedure: Python lists halved level by level,
and ``heapq.nlargest`` over each, which is how its authors' script does it. Both must choose the same frames. They take
turns, and the ratio is the median of those of the turns, so that what slows the machine down slows both.
"""

from __future__ import annotations

import heapq
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from hybrid.selectors.aks import aks
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import SELECTORS, select

TARGET_MS = 50.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Read by the libraries that numpy is built with, when it is imported."""
AKS_SETTINGS = ({"depth": 5, "threshold": 0.8}, {"depth": 3, "threshold": 0.2})


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--frames", type=int, default=3600)
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=31)
    arguments = parser.parse_args(argv)
    candidates = made_candidates(arguments.frames, arguments.dimension)
    budget, repeat = arguments.budget, arguments.repeat
    selectors = {name: milliseconds(partial(select, name, candidates, budget), repeat) for name in SELECTORS.names}
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
        "selectors",
        {
            "settings": {
                "frames": arguments.frames,
                "budget": budget,
                "dimension": arguments.dimension,
                "repeat": repeat,
                "target_ms": TARGET_MS,
                "environment": {name: os.environ.get(name) for name in ONE_THREAD},
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
    turns = [(_once(ours), _once(port)) for _ in range(repeat)]
    return {
        **settings,
        "ours_ms": statistics.median(own for own, _ in turns),
        "port_ms": statistics.median(other for _, other in turns),
        "ratio": statistics.median(other / own for own, other in turns),
    }


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
    return statistics.median(_once(action) for _ in range(repeat))


def _once(action: Callable[[], object]) -> float:
    """CPU time of one run in milliseconds."""
    started = time.process_time()
    action()
    return 1000 * (time.process_time() - started)


def _with_one_thread() -> None:
    """Begin anew with one thread, unless this process was: numpy is imported by now."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        command = [sys.executable, "-m", "bench.latency.selectors", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **ONE_THREAD})


if __name__ == "__main__":
    _with_one_thread()
    run_command(main)
