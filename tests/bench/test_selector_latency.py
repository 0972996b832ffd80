"""The port that AKS is timed against, and the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.latency import selectors
from hybrid.selectors.aks import aks
from hybrid.selectors.registry import SELECTORS


@pytest.mark.parametrize("depth", [0, 1, 3, 5])
@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.8])
def test_the_port_chooses_the_same_frames(depth: int, threshold: float) -> None:
    rng = np.random.default_rng(depth)
    for scores in (rng.random(500), rng.integers(0, 9, size=700).astype(float)):
        expected = selectors.ported_aks(scores.tolist(), 32, depth=depth, threshold=threshold)
        assert aks(scores, 32, depth=depth, threshold=threshold, faithful=True).tolist() == expected


def test_every_selector_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    selectors.main(["--frames", "200", "--budget", "16", "--dimension", "16", "--repeat", "1"])
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert tuple(document["milliseconds"]) == SELECTORS.names
    assert all(ms > 0 for ms in document["milliseconds"].values())
    assert len(document["aks_against_port"]) == 2
    assert document["settings"]["environment"].keys() == selectors.ONE_THREAD.keys()


def test_the_command_runs_with_one_thread_whatever_the_caller_has(tmp_path: Path) -> None:
    few = [
        "--frames",
        "200",
        "--budget",
        "16",
        "--dimension",
        "16",
        "--repeat",
        "1",
        "--out",
        str(tmp_path / "out.json"),
    ]
    root = Path(selectors.__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-m", "bench.latency.selectors", *few], env=environment, cwd=root, check=True)
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["settings"]["environment"] == selectors.ONE_THREAD
    assert "bench.latency.selectors --frames 200" in document["command"]
