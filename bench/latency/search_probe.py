"""One search of a whole archive, cold and then warm, measured in a process of its own.

``python bench/latency/search_probe.py ARCHIVE exact|approximate DIMENSION`` prints one JSON line. It finds what
it needs in earlier versions too, so that :mod:`bench.latency.two_versions` can run it over an earlier checkout.

``cold``: the first question to an archive that was just opened, its files dropped from the system's memory before
(the backend's package is imported already); ``warm``: the median of the following questions, the archive kept
open. Milliseconds of CPU time and of wall time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import operator
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.latency.video_vectors import VideoWorld


def first_of(*names: str) -> Any:
    """The first of some names (``module:attribute``) that this version has: rooms are moved from version to version."""
    for name in names:
        module, _, attribute = name.partition(":")
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            return operator.attrgetter(attribute)(importlib.import_module(module))
    raise SystemExit(f"this version has none of {', '.join(names)}")


open_archive = first_of("indexes.open_archive:open_archive", "indexes.archive:Archive.open")
search_archive_vectors = first_of(
    "indexes.search.archive_search:search_archive_vectors", "indexes.archive_search:search_archive_vectors"
)
SearchParams = first_of(
    "indexes.ann.search_params:SearchParams", "indexes.ann.search_params:Effort", "indexes.effort:Effort"
)
_KEYWORD = "params" if SearchParams.__name__ == "SearchParams" else "effort"

TOP = 256
WARM = 12
_ABOUT = (3, 100)
"""Video and number of frames that the questions are made from; the archive need not hold them."""


def drop_from_memory(folder: Path) -> None:
    """Tell the system to forget the files below a folder, so that reading them takes the disk."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(handle)  # What is not on disk yet cannot be dropped.
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def measure(folder: Path, kind: str, dimension: int) -> dict[str, float]:
    """Milliseconds of the first and of later questions, as CPU time and as wall time."""
    world = VideoWorld(dimension)
    about = world.video(*_ABOUT)
    queries = [world.query(number, about[number % len(about)]) for number in range(WARM + 1)]
    params = SearchParams() if kind == "approximate" else None
    times = []
    with open_archive(folder, create=False) as archive:
        importlib.import_module(archive.backend)  # Imports are no part of the measurement.
        drop_from_memory(folder)
        for query in queries:
            wall, cpu = time.perf_counter(), time.process_time()
            found = search_archive_vectors(archive, list(archive.manifests()), query, TOP, **{_KEYWORD: params})
            times.append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
            assert found.hits, "nothing was found"
            assert not found.failed, found.failed
    warm_ms, warm_cpu_ms = (statistics.median(column) for column in zip(*times[1:], strict=True))
    return {"cold_ms": times[0][0], "cold_cpu_ms": times[0][1], "warm_ms": warm_ms, "warm_cpu_ms": warm_cpu_ms}


if __name__ == "__main__":
    np.seterr(all="raise")
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
