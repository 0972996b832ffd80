"""How much memory there is: as the machine tells it, and as a container bounds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.runtime import free_host_bytes

GB = 10**9
MEMINFO = "MemTotal:       64000000 kB\nMemFree:          500000 kB\nMemAvailable:   30000000 kB\n"


def system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_cached_files_give_way(tmp_path: Path) -> None:
    """A machine that has read files has next to nothing free, and nearly all of it to give."""
    assert free_host_bytes(root=system(tmp_path, {"proc/meminfo": MEMINFO})) == 30_000_000 * 1024


@pytest.mark.parametrize("content", ["", "MemAvailable:\n", "MemAvailable: many kB\n", "\xff"])
def test_a_system_that_does_not_tell(tmp_path: Path, content: str) -> None:
    assert free_host_bytes(root=tmp_path) is None
    assert free_host_bytes(root=system(tmp_path, {"proc/meminfo": content})) is None


def group(folder: str, limit: str, used: int, *, cached: int = 0) -> dict[str, str]:
    stat = f"anon 5\ninactive_file {cached}\nactive_file {cached}\n"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": f"{used}\n", f"{folder}/memory.stat": stat}


@pytest.mark.parametrize(
    ("own", "outer", "expected"),
    [
        ("max", "max", 30_000_000 * 1024),
        (f"{8 * GB}\n", "max", 3 * GB + 2 * GB),
        (f"{8 * GB}\n", f"{7 * GB}\n", 1 * GB),
        (f"{2 * GB}\n", "max", 0),
    ],
)
def test_the_tightest_group_counts(tmp_path: Path, own: str, outer: str, expected: int) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/slice/job\n",
        **group("sys/fs/cgroup/slice/job", own, 5 * GB, cached=GB),
        **group("sys/fs/cgroup/slice", outer, 6 * GB),
    }
    assert free_host_bytes(root=system(tmp_path, files)) == expected


def test_a_container_sees_its_own_group_as_the_first(tmp_path: Path) -> None:
    """Version 1: the path is that of the host, which is not there inside."""
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/0f\n4:memory:/docker/0f\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"active_file 9\ntotal_active_file {GB}\ntotal_inactive_file {GB}\n",
    }
    assert free_host_bytes(root=system(tmp_path, files)) == 3 * GB
