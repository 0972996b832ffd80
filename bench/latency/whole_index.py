"""The whole index of one video: where the time goes, and how much memory it takes.

``python -m bench.latency.whole_index VIDEO [--dtype bfloat16] [--out FILE]``

The encoder is a ViT-B-32 of open_clip with random weights (its speed does not depend on them), made
in a temporary folder and loaded as any local checkpoint. Indexing runs in a process of its own, so
that its peak memory is its own; the model's share is measured by loading it and encoding one batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.command import make_parser, run_command
from bench.memory import most_resident_mb, resident_mb
from bench.report import print_table, write_result

ARCHITECTURE = "ViT-B-32"


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sampling", default="exact")
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.inner is not None:
        print(json.dumps(measure(arguments.video, arguments.inner, arguments.dtype, arguments.sampling)))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder) / ARCHITECTURE)
        command = [sys.executable, "-m", "bench.latency.whole_index", str(arguments.video), "--inner", str(checkpoint)]
        command += ["--dtype", arguments.dtype, "--sampling", arguments.sampling]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    print_table(["part", "seconds"], [[part, f"{seconds:.1f}"] for part, seconds in result["seconds"].items()])
    print(
        f"{result['frames']} frames of {result['duration_seconds']:.0f} s in {result['wall_seconds']:.1f} s; "
        f"peak {result['peak_mb']:.0f} MB, {result['above_model_mb']:.0f} MB above the model's"
    )
    write_result("whole_index", {"encoder": ARCHITECTURE, **result}, arguments.out)


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint of the true size with random weights."""
    from hybrid.runtime import ensure_torchvision

    ensure_torchvision()
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def measure(video: Path, checkpoint: Path, dtype: str, sampling: str) -> dict[str, Any]:
    """Index the video in this process, with the settings of the command line's."""
    from hybrid.runtime import settle_process

    settle_process()
    import numpy as np

    from hybrid.clip.open_clip import CPU_BATCH
    from hybrid.clip.registry import load_encoder
    from hybrid.engine import Engine
    from indexes.archive.writer import Archive  # noqa: F401  (its import counts as the model's share, not as the index's)

    encoder = load_encoder(f"local-dir:{checkpoint}", dtype=dtype)
    frames = [np.zeros((720, 1280, 3), dtype=np.uint8)] * CPU_BATCH
    list(encoder.encode_frames(frames))
    del frames
    model_mb = resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.open(folder, encoder=f"local-dir:{checkpoint}", dtype=dtype, sampling=sampling)  # type: ignore[arg-type]
        engine = Engine(engine.archive, engine.settings, encoder=encoder)
        started, cpu_before = time.perf_counter(), time.process_time()
        with most_resident_mb() as most:
            result = engine.index(video)
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu_before
        again = engine.index(video)
    assert again.outcome == "unchanged"
    return {
        "video": video.name,
        "duration_seconds": result.duration_seconds,
        "frames": result.frames,
        "frames_decoded": result.frames_decoded,
        "dtype": dtype,
        "sampling": sampling,
        "seconds": dict(result.seconds),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "model_mb": model_mb,
        "peak_mb": most[0],
        "above_model_mb": most[0] - model_mb,
    }


if __name__ == "__main__":
    run_command(main)
