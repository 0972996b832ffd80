"""Indexing the bundled video and asking it, measured in a process of its own.

``python bench/latency/question_probe.py`` prints one JSON line. It uses the public face alone, so that
:mod:`bench.latency.two_versions` can run it over an earlier checkout. Seconds of CPU time and of wall time:

``index``: the whole index with the tiny CLIP. ``cold``: the first question, which makes the features of its frames.
``warm``: the median of questions whose window is read anew and whose features are stored. ``many``: 32 questions about
one window, read once. Models are loaded before; replies are of the model's own length.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

WARM = 6
MANY = 32
COLOURS = ("red", "blue", "green", "yellow", "white", "orange")
SHAPES = ("circle", "square", "star", "triangle")


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of CPU time and of wall time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure() -> dict[str, float]:
    """All times by name."""
    from hybrid import Engine
    from hybrid.demo import demo_video

    questions = [f"When can the {colour} {shape} be seen?" for shape in SHAPES for colour in COLOURS]
    questions += [f"What comes right after the {colour} {SHAPES[0]}?" for colour in COLOURS]
    questions += [f"What comes right before the {colour} {SHAPES[1]}?" for colour in COLOURS][: MANY - len(questions)]
    video = demo_video()
    with tempfile.TemporaryDirectory() as folder:
        with Engine.open(f"{folder}/loading", preset="tiny", device="cpu") as engine:
            engine.ask(video, questions[0])  # models are loaded, libraries imported
        with Engine.open(f"{folder}/archive", preset="tiny", device="cpu") as engine:
            engine.ask(video, questions[0], fine=False)
            engine.ask(video, questions[0])
        with Engine.open(f"{folder}/measured", preset="tiny", device="cpu") as engine:
            found = {
                "index": timed(lambda: engine.index(video)),
                "cold": timed(lambda: engine.ask(video, questions[1])),
            }
            warm = [timed(lambda q=q: engine.ask(video, q, window=48)) for q in questions[2 : 2 + WARM]]  # type: ignore[misc]
            found["warm"] = (statistics.median(cpu for cpu, _ in warm), statistics.median(wall for _, wall in warm))
            found["many"] = timed(lambda: engine.ask_many(video, questions[:MANY], window_mode="segments", segments=1))
    return {
        f"{name}_{kind}": value
        for name, both in found.items()
        for kind, value in zip(("cpu_seconds", "wall_seconds"), both, strict=True)
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
