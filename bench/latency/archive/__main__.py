"""Archives of many videos: opening, searching one and all, adding one, and what they take on disk.

``python -m bench.latency.archive --sizes 100x3600 1000x3600 10000x1020 [--backend faiss] [--folder DIR] [--out FILE]``

The vectors are made up (see :mod:`bench.latency.video_vectors`): what is found is compared with what an exact
search of the same vectors finds, and says nothing about how good the answers are. Filling goes
through the archive's own writer, but without waiting for the disk (``fsync`` does nothing meanwhile); the
cost of adding a video is measured with it. Times are given twice, as they passed and as the processor was
busy for this process: on a machine that others use too, only the second means much.
With ``--out`` results are added to those of other sizes in that file, and the curves drawn beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.command import make_parser, run_command
from bench.latency.archive.figures import (
    TOP,
    adding,
    make_queries,
    one_video,
    opening,
    raw_scan,
    sizes_on_disk,
)
from bench.latency.archive.filling import add, fill
from bench.latency.archive.quantisers import other_methods
from bench.latency.archive.recall import recall_and_speed
from bench.latency.archive.report import draw, merged, show
from bench.latency.video_vectors import VideoWorld
from bench.report import circumstances
from indexes.open_archive import open_archive


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--sizes", nargs="+", default=["100x3600"], help="videos x frames of each")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--shake", type=float, default=0.04, help="how restless the made-up videos are")
    parser.add_argument("--content", type=float, default=0.45, help="how much of a query is about a frame")
    parser.add_argument("--backend", choices=["faiss", "lancedb"], default="faiss")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--methods", action="store_true", help="compare other codes too (small archives only)")
    parser.add_argument("--folder", type=Path, help="where archives are made and kept; what is there is not made again")
    arguments = parser.parse_args(argv)
    results = [measure(size, arguments) for size in arguments.sizes]
    for result in results:
        show(result)
    final: dict[str, Any] = {"benchmark": "archive", "archives": results}
    if arguments.out is not None:
        final = merged(final, arguments.out)
        arguments.out.write_text(json.dumps(final, indent=2) + "\n", encoding="utf-8")
        draw(final["archives"], arguments.out.with_suffix(".png"))
    print(json.dumps({"benchmark": "archive", "archives": results}))


def measure(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one archive."""
    videos, frames = (int(number) for number in size.split("x"))
    backend: str = arguments.backend
    world = VideoWorld(arguments.dimension, shake=arguments.shake, content=arguments.content)
    root = arguments.folder or Path(tempfile.mkdtemp())
    name = f"{backend}-{size}-{arguments.dimension}-{arguments.shake:g}"
    folder = root / name
    try:
        figures: dict[str, Any] = {"frames": videos * frames}
        # In a process of its own: what that leaves behind in memory would be in the way of what is measured here.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures |= pool.submit(fill, folder, size, arguments).result()
        figures |= opening(folder)
        with open_archive(folder, create=False) as archive:
            queries = make_queries(world, videos, frames, arguments.queries)
            figures |= one_video(archive, queries)
            figures |= raw_scan(archive, queries[:5])
            curve = recall_and_speed(archive, queries, figures)
            figures |= sizes_on_disk(archive)
            methods = other_methods(archive, frames, queries) if arguments.methods else None
        figures |= adding(
            folder, root / f"{name}-empty", lambda a, number: add(a, world, number, frames), videos, backend
        )
    finally:
        if arguments.folder is None:
            shutil.rmtree(root, ignore_errors=True)
    shape = {"videos": videos, "frames_each": frames, "dimension": arguments.dimension, "shake": arguments.shake}
    how = {"backend": backend, "content": arguments.content, "top": TOP, "queries": len(queries), **circumstances()}
    return {**shape, **how, "figures": figures, "curve": curve, "methods": methods}


if __name__ == "__main__":
    run_command(main)
