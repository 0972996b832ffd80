"""A made-up archive of the benchmarks is a real one: as many videos and frames as its size says, whatever was there."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench.latency.archive.filling import fill
from indexes.open_archive import open_archive


@pytest.mark.parametrize("backend", ["faiss", "lancedb"])
def test_it_holds_the_videos_of_its_size(tmp_path: Path, backend: str) -> None:
    arguments = argparse.Namespace(dimension=16, shake=0.1, backend=backend)
    assert fill(tmp_path / "archive", "3x20", arguments)["filled_videos"] == 3
    assert fill(tmp_path / "archive", "2x20", arguments)["filled_videos"] == 0
    with open_archive(tmp_path / "archive", backend=backend) as archive:
        assert len(list(archive.manifests())) == 2
        assert archive.read(f"{1:032x}").shape == (20, 16)
