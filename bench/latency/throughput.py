"""Indexing real videos: the pipeline beside its stages one after another, and memory over a hundred videos.

``python -m bench.latency.throughput FILMS [--videos 6] [--seconds 20] [--repeats 3] [--out FILE]``

FILMS is a folder of real films; stretches of them are cut (:mod:`bench.robustness.small_videos`). Each stage
has a core to itself: decoding one thread, CLIP one thread. Measured are

* each stage alone over all videos: decode, embed (frames lie ready in memory),
  write (vectors lie ready): their sum is the time of the stages one after another;
* ``index`` as it is, where decoding runs ahead of embedding in a bounded queue.

Once with the bundled small encoder, where decoding is the slowest stage, and once with a ViT-B-32 of random
weights, where embedding is. Runs are interleaved, so that a busy minute of a shared machine hits all alike,
and CPU time is given beside wall time. The pipeline cannot take less than its slowest stage, nor less than
the CPU time of all stages divided by the cores that it gets; the latter is ``bound_by_processors``. How well
it overlaps shows where stages take no processor (:mod:`bench.latency.paced`), as embedding does on a GPU.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.clock import Seconds, timed
from bench.command import make_parser, run_command
from bench.latency.videos import repeat
from bench.memory import resident_mb
from bench.report import print_table, write_result
from bench.robustness.small_videos import write_small_videos
from hybrid.engine.frames.decode_ahead import MAX_PREFETCHED_VIDEOS
from indexes.archive.new_index import NewIndex

STAGES = ("decode", "embed", "write")
TARGET = 1.15
PACES = ((0.04, 0.04), (0.02, 0.04))
"""Seconds that decoding and embedding a frame take, where they take no processor."""

LONG_TIMES = 10
"""So many times as long as a short video is the long one."""

PACED_FIGURES = (
    "decode_seconds_a_frame",
    "embed_seconds_a_frame",
    "pipeline_to_slowest_stage",
    "one_after_another_to_pipeline",
)

LARGE_SHARE = 4
"""The large encoder gets a quarter of the videos: it takes some hundred times as long for each."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("films", type=Path)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="least length of a video")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, default=100, help="videos for the memory figures")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hybrid-bench-videos")
    arguments = parser.parse_args(argv)
    films = sorted(path for path in arguments.films.iterdir() if path.is_file())
    name = f"real-{arguments.seconds:g}s"
    videos = write_small_videos(films, arguments.folder / name, arguments.videos, seconds=arguments.seconds)
    many = write_small_videos(films, arguments.folder / "real-3s", arguments.many, seconds=3.0)
    load_before = os.getloadavg()[0]
    memory = _memory(many)  # first, so that no other model is in memory
    settings = _measure_settings(videos, arguments.repeats)
    paced = _all_paced(videos)
    _print(settings, paced, memory)
    write_result(
        "throughput",
        {
            "load_before_and_after": [load_before, os.getloadavg()[0]],
            "videos": len(videos),
            "least_seconds": arguments.seconds,
            "medians_of": arguments.repeats,
            "settings": settings,
            "paced": paced,
            "memory": memory,
        },
        arguments.out,
    )


def _measure_settings(videos: Sequence[Path], repeats: int) -> dict[str, Any]:
    from bench.latency.whole_index import ARCHITECTURE, make_checkpoint
    from hybrid.clip.registry import load_encoder
    from hybrid.engine.frames import decode_ahead as decoding
    from hybrid.frames.registry import open_source
    from hybrid.presets import PRESETS
    from hybrid.runtime import settle_process

    settle_process()
    import torch

    torch.set_num_threads(1)
    # One thread for decoding, as one for embedding: a core for each stage.
    one_thread = mock.patch.object(decoding, "open_source", functools.partial(open_source, threads=1))
    with one_thread, tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder) / ARCHITECTURE)
        small = load_encoder(PRESETS["tiny"].encoder, device="cpu")
        large = load_encoder(f"local-dir:{checkpoint}", device="cpu", dtype="float32")
        few = videos[: max(1, len(videos) // LARGE_SHARE)]
        return {
            "small encoder": _measure(small, videos, repeats),
            f"{ARCHITECTURE}, float32": _measure(large, few, repeats),
        }


def _measure(encoder: Any, videos: Sequence[Path], repeats: int) -> dict[str, Any]:
    _turn(encoder, videos[:1])  # warms up
    turns = [_turn(encoder, videos) for _ in range(repeats)]
    medians = {
        part: Seconds(*(statistics.median(turn[part][i] for turn in turns) for i in range(2))) for part in turns[0]
    }
    one_after_another = sum(medians[stage].wall for stage in STAGES)
    pipeline = medians["pipeline"]
    bound = sum(medians[stage].cpu for stage in STAGES) / (pipeline.cpu / pipeline.wall)
    slowest = max(STAGES, key=lambda stage: medians[stage].wall)
    ratios = [turn["pipeline"].wall / max(turn[stage].wall for stage in STAGES) for turn in turns]
    return {
        "videos": [video.name for video in videos],
        "seconds": {part: {"wall": one.wall, "cpu": one.cpu} for part, one in medians.items()},
        "slowest_stage": slowest,
        "pipeline_to_slowest_stage": statistics.median(ratios),
        "of_each_turn": ratios,
        "target": TARGET,
        "one_after_another_to_pipeline": one_after_another / medians["pipeline"].wall,
        "pipeline_cores_used": pipeline.cpu / pipeline.wall,
        "bound_by_processors": bound,
        "pipeline_to_that_bound": pipeline.wall / bound,
    }


def _turn(encoder: Any, videos: Sequence[Path]) -> dict[str, Seconds]:
    """Every stage alone and the pipeline, each over all videos."""
    from hybrid.engine import Engine
    from hybrid.frames.registry import open_source
    from hybrid.options.engine import EngineOptions
    from hybrid.values import Sampling
    from indexes.open_archive import open_archive

    def decode() -> list[list[Any]]:
        found = []
        for video in videos:
            with open_source(video, Sampling(), threads=1) as source:
                found.append([frame for batch in source.read() for frame in batch.rgb])
        return found

    frames, decoding = timed(decode)
    vectors, embedding = timed(lambda: [np.concatenate(list(encoder.encode_frames(each))) for each in frames])
    with tempfile.TemporaryDirectory() as folder, open_archive(Path(folder) / "archive") as archive:
        engine = Engine(archive, EngineOptions(preset="tiny", device="cpu"), encoder=encoder)
        _, pipeline = timed(lambda: _index(engine, videos))
        manifests = {manifest.source.path: manifest for manifest in archive.manifests()}
        timelines = [archive.timeline(manifests[str(video.absolute())]) for video in videos]
        with open_archive(Path(folder) / "other") as other:

            def write() -> None:
                for video, timeline, block in zip(videos, timelines, vectors, strict=True):
                    manifest = manifests[str(video.absolute())]
                    other.commit(
                        manifest.video_id,
                        NewIndex(
                            timeline=timeline,
                            vectors=block,
                            config=manifest.config,
                            source=manifest.source,
                            video=manifest.video,
                        ),
                    )

            _, writing = timed(write)
    return {"decode": decoding, "embed": embedding, "write": writing, "pipeline": pipeline}


def _index(engine: Any, videos: Sequence[Path], *, after_each: Callable[[], None] = lambda: None) -> None:
    """As ``hybrid index`` does it in one process, which names the videos that come next."""

    for number, video in enumerate(videos):
        engine.index(video, following=videos[number + 1 :][:MAX_PREFETCHED_VIDEOS])
        after_each()


def _all_paced(videos: Sequence[Path]) -> list[dict[str, Any]]:
    long = repeat(videos[0], times=LONG_TIMES)
    ways = [("short videos, one engine", videos, 1), ("short videos, two side by side", videos, 2)]
    ways += [("one long video, one engine", [long], 1)]
    return [_paced(name, chosen, engines, *paces) for name, chosen, engines in ways for paces in PACES]


def _paced(
    name: str, videos: Sequence[Path], engines: int, decode_seconds: float, embed_seconds: float
) -> dict[str, Any]:
    """The pipeline over stages that take a stated time and no processor."""
    from bench.latency.paced import PacedEncoder, recorded
    from hybrid.engine import Engine
    from hybrid.engine.frames import decode_ahead as decoding
    from hybrid.options.engine import EngineOptions
    from indexes.open_archive import open_archive

    sources = recorded(videos, decode_seconds)
    frames = sum(source.frames for source in sources.values())
    encoder: Any = PacedEncoder(embed_seconds)

    def index(folder: str, share: Sequence[Path]) -> None:
        with open_archive(folder) as archive:
            engine = Engine(archive, EngineOptions(preset="tiny", device="cpu"), encoder=encoder)
            _index(engine, share)

    replayed = mock.patch.object(decoding, "open_source", lambda path, *_, **__: sources[Path(path)])
    with replayed, tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(engines) as pool:
        shares = [videos[number::engines] for number in range(engines)]
        _, took = timed(lambda: list(pool.map(functools.partial(index, folder), shares)))
    slowest = frames * max(decode_seconds, embed_seconds)
    return {
        "what": name,
        "decode_seconds_a_frame": decode_seconds,
        "embed_seconds_a_frame": embed_seconds,
        "videos": len(videos),
        "frames": frames,
        "engines": engines,
        "pipeline_seconds": took.wall,
        "pipeline_cpu_seconds": took.cpu,
        "pipeline_to_slowest_stage": took.wall / slowest,
        "one_after_another_to_pipeline": frames * (decode_seconds + embed_seconds) / took.wall,
        "target": TARGET,
    }


def _memory(videos: Sequence[Path]) -> dict[str, Any]:
    """Memory of this process after each of many videos."""
    from hybrid.engine import Engine

    held: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Engine.open(folder, preset="tiny", device="cpu") as engine:
        _index(engine, videos, after_each=lambda: held.append(resident_mb()))
    late = held[len(held) // 4 :]
    slope = float(np.polyfit(np.arange(len(late)), late, 1)[0])
    return {
        "videos": len(held),
        "mb_after_video": {str(count): round(held[count - 1], 1) for count in _marks(len(held))},
        "mb_a_video_over_the_last_three_quarters": slope,
        "least_mb": min(late),
        "most_mb": max(late),
    }


def _marks(count: int) -> list[int]:
    return sorted({1, *range(10, count + 1, 10), count})


def _print(settings: dict[str, Any], paced: Sequence[dict[str, Any]], memory: dict[str, Any]) -> None:
    print_table(
        ["encoder", "part", "wall s", "CPU s"],
        [
            [name, part, f"{one['wall']:.2f}", f"{one['cpu']:.2f}"]
            for name, setting in settings.items()
            for part, one in setting["seconds"].items()
        ],
    )
    for name, setting in settings.items():
        print(
            f"{name}: the pipeline takes {setting['pipeline_to_slowest_stage']:.2f}x its slowest stage "
            f"({setting['slowest_stage']}; target {TARGET}), the stages one after another "
            f"{setting['one_after_another_to_pipeline']:.2f}x the pipeline"
        )
    print_table(
        ["without processor", "decode s", "embed s", "pipeline / slowest", "one after another / pipeline"],
        [[result["what"], *(f"{result[name]:.2f}" for name in PACED_FIGURES)] for result in paced],
    )
    print_table(["after video", "MB"], [[count, mb] for count, mb in memory["mb_after_video"].items()])
    print(f"{memory['mb_a_video_over_the_last_three_quarters']:.3f} MB a video over the last three quarters")


if __name__ == "__main__":
    run_command(main)
