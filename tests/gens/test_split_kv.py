"""The kernels of the CUDA path where there is no CUDA: in Triton's interpreter, and compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


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


def compiled(kernel: Any, kinds: dict[str, str], sizes: dict[str, Any], **options: Any) -> str:
    """PTX of a kernel for a Hopper GPU, which compiling needs not; all but single numbers are aligned."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    order = kernel.arg_names
    whole = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(order)
        if name not in sizes and name not in ("layer", "scale", "epsilon")
    }
    kinds = {**kinds, **dict.fromkeys(sizes, "constexpr")}
    source = ASTSource(kernel, {name: kinds[name] for name in order}, constexprs=sizes, attrs=whole)
    return str(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])


def test_keys_are_read_sixteen_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys found through a table could be read value by value."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from hybrid.gens.loop.split_kv import _over_ranges

    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not set
    kinds = {
        **dict.fromkeys(("query", "key", "value", "tail_keys", "tail_values"), "*bf16"),
        **dict.fromkeys(("query_stride", "new_stride", "row_stride", "head_stride", "layer"), "i32"),
        **dict.fromkeys(("lengths", "tile_keys", "tile_values"), "*i64"),
        **dict.fromkeys(("tile_lengths", "tile_rows"), "*i32"),
        **dict.fromkeys(("mixtures", "weights"), "*fp32"),
        "scale": "fp32",
    }
    sizes = {"K": 2, "G": 8, "D": 128, "M": 16, "MT": 16, "N": 64, "SPLITS": 60, "TAILS": 4}
    text = compiled(_over_ranges, kinds, sizes)
    assert text.count("cp.async.cg") >= 32
    # The new key and value are read by themselves; nothing else.
    assert len(re.findall(r"ld\.global[^\n]*\.b16", text)) <= 4


def test_weights_are_asked_for_before_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights of a program in wide reads, ahead of the wait for the kernel before, and all else behind it."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from hybrid.gens.loop.one_row import _norm_rotate

    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    names = ("hidden", "change", "norm", "added", "weight", "bias", "cosine", "sine", "result")
    sizes = {"W": 2048, "BLOCK": 2048, "R": 2, "HALF": 64, "HEADS": 18, "ADDS": True, "BIAS": True, "EARLY": True}
    text = compiled(
        _norm_rotate, {**dict.fromkeys(names, "*bf16"), "epsilon": "fp32"}, sizes, num_warps=4, launch_pdl=True
    )
    before, after = text.split("griddepcontrol.wait")
    # Of 16 bytes, by 128 threads.
    assert len(re.findall(r"ld\.global[^\n]*v4\.b32", before)) == 2 * 2 * 2048 * 2 // (16 * 128)
    assert "st.global" not in before
    assert "ld.global" in after


def test_graphs_are_refused_without_cuda(gens_folder: Path) -> None:
    from hybrid.errors import InputError
    from hybrid.gens.load import load_scorer
    from hybrid.gens.loop.options import LoopOptions

    with pytest.raises(InputError, match="graphs need a CUDA device"):
        load_scorer(gens_folder, device="cpu", loop=LoopOptions(graphs=True))
