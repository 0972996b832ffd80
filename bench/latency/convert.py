"""Convert a synthetic checkpoint with the real shapes of GenS on Aria: speed, and memory at most.

``python -m bench.latency.convert [--gigabytes 5] [--folder DIR] [--out FILE]``

The checkpoint has Aria's vision encoder, resampler, vocabulary and layers, in bfloat16, but only as many
layers of the language model (1.7 GB each) as the size allows; its values are random. Source and
result are deleted in the end. The converter runs in a process of its own, whose peak of resident
memory is the system's count (Linux). It reads what was just written, so that the source may be in
the file cache; the result is flushed to disk. ``copy`` is the same files copied and flushed by
``shutil``, for comparison.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from hybrid.testing.untrained_aria import ARIA_SIZES, UntrainedSizes, make_untrained_aria, published_shapes

ITEMSIZE = 2
SHARD_BYTES = 1_500_000_000

_CHILD = """
import json, resource, sys
from pathlib import Path
from hybrid.fine.aria.convert.convert import convert_gens

def peak_mb():
    # Not getrusage: its count goes on from the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

before = peak_mb()
done = convert_gens(sys.argv[1], Path(sys.argv[2]), shard_bytes=int(sys.argv[3]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "seconds": done.seconds, "weight_bytes": done.weight_bytes, "files": done.files,
    "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": peak_mb(), "start_mb": before,
}))
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="where there is room for twice that; the system's if not said")
    arguments = parser.parse_args(argv)
    sizes = sizes_for(arguments.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="convert-") as root:
        source = Path(root) / "source"
        make_untrained_aria(source, sizes=sizes, dtype="bfloat16", shard_bytes=SHARD_BYTES)
        converted = convert(source, Path(root) / "native")
        shutil.rmtree(Path(root) / "native")
        converted["copy_seconds"] = copy(source, Path(root) / "copy")
    size = converted["weight_bytes"]
    converted["mb_per_second"] = size / 1e6 / converted["seconds"]
    converted["copy_mb_per_second"] = size / 1e6 / converted["copy_seconds"]
    converted["mb_per_cpu_second"] = size / 1e6 / converted["cpu_seconds"]
    shards = {"shards": -(-size // SHARD_BYTES), "largest_tensor_mb": largest_tensor(sizes) / 2**20}
    print_table(
        ["", "s", "CPU s", "MB/s", "peak MiB"],
        [
            ["convert", *(f"{converted[key]:.1f}" for key in ("seconds", "cpu_seconds", "mb_per_second", "peak_mb"))],
            ["copy", f"{converted['copy_seconds']:.1f}", "", f"{converted['copy_mb_per_second']:.1f}", ""],
        ],
    )
    settings = {"gigabytes": arguments.gigabytes, "layers": sizes.layers, "shard_bytes": SHARD_BYTES, **shards}
    write_result("convert", {"settings": settings, "result": converted}, arguments.out)


def sizes_for(size: float) -> UntrainedSizes:
    """Aria with as many layers as come nearest to so many bytes, at least one."""
    of_one, of_two = (bytes_of(replace(ARIA_SIZES, layers=layers)) for layers in (1, 2))
    return replace(ARIA_SIZES, layers=max(1, 1 + round((size - of_one) / (of_two - of_one))))


def bytes_of(sizes: UntrainedSizes) -> int:
    """Of all weights."""
    return ITEMSIZE * sum(prod(shape) for _, shape in published_shapes(sizes))


def largest_tensor(sizes: UntrainedSizes) -> int:
    """Bytes of the largest single tensor of the source, which the converter has to hold."""
    return ITEMSIZE * max(prod(shape) for _, shape in published_shapes(sizes))


def convert(source: Path, dest: Path) -> dict[str, Any]:
    """One conversion in a fresh process."""
    command = [sys.executable, "-c", _CHILD, str(source), str(dest), str(SHARD_BYTES)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result


def copy(source: Path, dest: Path) -> float:
    """Seconds to copy the weights and flush them."""
    dest.mkdir()
    started = time.perf_counter()
    for file in sorted(source.glob("*.safetensors")):
        shutil.copyfile(file, dest / file.name)
        with (dest / file.name).open("rb") as copied:
            os.fsync(copied.fileno())
    return time.perf_counter() - started


if __name__ == "__main__":
    run_command(main)
