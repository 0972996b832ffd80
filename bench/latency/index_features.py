"""What GenS's features cost when a video is indexed, and what they save when it is asked.

``python -m bench.latency.index_features [VIDEO] [--preset tiny] [--encoder E] [--sampler S] [--out FILE]``

In one run, medians of interleaved repeats: the index without features, the vision encoder alone on the
same frames (decoded before), and the index with features, where one decoding feeds both; then a
question whose frames are decoded and encoded anew, and the same question from stored features, with
nothing read of the window before (cold) and with its prefix kept from another question (warm).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.command import make_parser, run_command
from bench.report import print_table, write_result

QUESTIONS = ("When is the red circle seen?", "When does the blue square move?")
MOST_RATIO = 1.1
"""Of the index with features to the sum of its two encoders: decoding once must not be lost again."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("video", type=Path, nargs="?", help="the bundled one if not said")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--encoder")
    parser.add_argument("--sampler")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    result = measure(arguments)
    print_table(["what", "seconds"], [[name, f"{seconds:.3f}"] for name, seconds in result["seconds"].items()])
    print()
    print_table(
        ["ratio", "value", "target"],
        [
            [name, f"{value:.2f}", f"<= {MOST_RATIO}" if name == "index" else ""]
            for name, value in result["ratios"].items()
        ],
    )
    write_result("index_features", result, arguments.out)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, in this process, with the settings of the command line's."""
    from hybrid.runtime import settle_process

    settle_process()
    from hybrid.demo import demo_video
    from hybrid.engine import Engine
    from hybrid.engine.models import ModelPool
    from hybrid.fine.interface import FeatureModel
    from hybrid.options.engine import EngineOptions
    from indexes.open_archive import open_archive

    video = arguments.video or demo_video()
    settings = EngineOptions(
        preset=arguments.preset, encoder=arguments.encoder, sampler=arguments.sampler, device=arguments.device
    )
    settings.check()
    load_before = os.getloadavg()[0]
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def open_engine(name: str) -> Engine:
            return Engine(open_archive(Path(folder) / name), settings, encoder=encoder, fine_model=scorer)

        models = ModelPool(settings)
        encoder, scorer = models.encoder_for(None), models.fine_model()
        assert isinstance(scorer, FeatureModel)
        frames = _frames(open_engine("frames"), video)
        for turn in range(arguments.repeats):
            _timed(taken, "index, CLIP only", lambda: open_engine(f"plain-{turn}").index(video, features=False))  # noqa: B023
            _timed(taken, "vision encoder alone", lambda: _tower(scorer, frames))
            with open_engine(f"both-{turn}") as engine:
                _timed(taken, "index with features", lambda: engine.index(video, features=True))
                _questions(engine, scorer, video, arguments.window, taken)
        stored = next(iter(engine.archive.manifests()))
        (listed,) = engine.archive.feature_lists(stored)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    both = seconds["index, CLIP only"] + seconds["vision encoder alone"]
    return {
        "video": video.name,
        "frames": stored.frames,
        "frames_encoded": int(listed.present.sum()),
        "feature_bytes": listed.size_bytes,
        "encoder": encoder.name,
        "sampler": scorer.name,
        "device": scorer.device,
        "repeats": arguments.repeats,
        "load_before_and_after": [load_before, os.getloadavg()[0]],
        "seconds": seconds,
        "ratios": {
            "index": seconds["index with features"] / both,
            "question, fresh to cold": seconds["question, fresh"] / seconds["question, features stored"],
            "question, fresh to warm": seconds["question, fresh"] / seconds["question, window read before"],
        },
    }


def _frames(engine: Any, video: Path) -> list[Any]:
    """The frames that the tower sees, in the size that it looks at, decoded before any clock runs."""
    result = engine.index(video, features=False)
    timeline = engine.archive.timeline(result.video_id)
    ordinals = timeline.ordinals[timeline.distinct_rows()].tolist()
    return [image for _, image in engine.read_frames(video, ordinals)]


def _tower(scorer: Any, frames: Sequence[Any]) -> None:
    from hybrid.engine.features.encoder import Tower

    with Tower(scorer) as tower:
        for frame in frames:
            tower.push(frame)
        tower.flush()


def _questions(engine: Any, scorer: Any, video: Path, window: int, taken: dict[str, list[float]]) -> None:
    """A question from the frames, from the store, and from the store with the window's prefix kept."""
    first, second = QUESTIONS

    def forget() -> None:
        scorer.prefix_cache.clear()

    forget()
    _timed(taken, "question, fresh", lambda: engine.ask(video, first, window=window, features=False))
    forget()
    _timed(taken, "question, features stored", lambda: engine.ask(video, first, window=window))
    forget()
    # A window of the whole video is the same for every question.
    engine.ask(video, second, window=window)
    _timed(taken, "question, window read before", lambda: engine.ask(video, first, window=window))


def _timed(taken: dict[str, list[float]], name: str, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    taken.setdefault(name, []).append(time.perf_counter() - started)


if __name__ == "__main__":
    run_command(main)
