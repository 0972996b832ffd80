"""The CUDA path: its kernels in Triton's interpreter, and the whole of it where there is a device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.values import ByteArray


def test_kernels_in_the_interpreter() -> None:
    """Runs ``interpreted_split_kv.py``, all of which has to pass."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    tests = Path(__file__).with_name("interpreted_split_kv.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(tests), "-q", "-p", "no:cacheprovider"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=tests.parent.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout


def test_graphs_are_refused_without_cuda(gens_folder: Path) -> None:
    from hybrid.errors import InputError
    from hybrid.gens.load import load_scorer
    from hybrid.gens.loop.options import LoopOptions

    with pytest.raises(InputError, match="graphs need a CUDA device"):
        load_scorer(gens_folder, device="cpu", loop=LoopOptions(graphs=True))


@pytest.mark.gpu
@pytest.mark.parametrize("constrained", [False, True])
def test_graphs_write_the_same_replies_on_cuda(
    gens_folder: Path, make_frames: Callable[..., list[ByteArray]], constrained: bool
) -> None:
    from hybrid.gens.load import load_scorer
    from hybrid.gens.loop.options import LoopOptions

    found = []
    for graphs in (False, True):
        options = LoopOptions(constrained=constrained, batch=3, graphs=graphs)
        scorer: Any = load_scorer(gens_folder, device="cuda", dtype="float32", loop=options)
        windows = [scorer.encode_frames(make_frames(count, seed=count)) for count in (3, 9)]
        questions = ["When?", "Who enters?", "What happens then, and why?", "?"]
        found.append([reply.text for reply in scorer.score_many(windows * 2, questions)])
    assert found[0] == found[1]
