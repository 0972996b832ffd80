"""The kernels of the CUDA path where there is no CUDA: in Triton's interpreter, and compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_keys_are_read_sixteen_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled for a Hopper GPU, which needs none: keys found through a table could be read value by value."""
    triton = pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hybrid.fine.decoding.shared_prefix_attention import _over_ranges

    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not set
    sizes = {"K": 2, "G": 8, "D": 128, "M": 16, "MT": 16, "N": 64, "SPLITS": 64}
    kinds = {
        **dict.fromkeys(("query", "key", "value", "tail_keys", "tail_values"), "*bf16"),
        **dict.fromkeys(("query_stride", "new_stride", "row_stride", "head_stride", "layer"), "i32"),
        **dict.fromkeys(("lengths", "tile_keys", "tile_values"), "*i64"),
        **dict.fromkeys(("tile_lengths", "tile_rows"), "*i32"),
        **dict.fromkeys(("mixtures", "weights"), "*fp32"),
        "scale": "fp32",
        **dict.fromkeys(sizes, "constexpr"),
    }
    order = _over_ranges.arg_names
    whole = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(order)
        if name not in sizes and name not in ("layer", "scale")
    }
    source = ASTSource(_over_ranges, {name: kinds[name] for name in order}, constexprs=sizes, attrs=whole)
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    assert text.count("cp.async.cg") >= 32
    # The new key and value are read by themselves; nothing else.
    assert len(re.findall(r"ld\.global[^\n]*\.b16", text)) <= 4


def test_graphs_are_refused_without_cuda(gens_folder: Path) -> None:
    from hybrid.errors import InputError
    from hybrid.fine.decoding.options import LoopOptions
    from hybrid.fine.load import load_scorer

    with pytest.raises(InputError, match="graphs cannot be used: the model is on cpu"):
        load_scorer(gens_folder, device="cpu", loop=LoopOptions(graphs=True))


@pytest.mark.parametrize(("group", "width", "fits"), [(8, 128, True), (1, 32, True), (7, 128, False), (8, 80, False)])
def test_only_heads_that_the_kernels_have_tiles_for_are_recorded_unasked(group: int, width: int, fits: bool) -> None:
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    import torch

    from hybrid.errors import InputError
    from hybrid.fine.decoding.options import fits_tiles
    from hybrid.fine.decoding.shared_prefix_attention import SharedPrefixAttention

    assert fits_tiles(group=group, width=width) == fits
    made = {"rows": 4, "heads": 2, "scale": 1.0, "dtype": torch.float32, "device": torch.device("cpu"), "splits": 2}
    if fits:
        SharedPrefixAttention(group=group, width=width, **made)
    else:
        with pytest.raises(InputError, match="graphs need"):
            SharedPrefixAttention(group=group, width=width, **made)


def test_a_machine_that_cannot_compile_is_found_out_when_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    import torch

    from hybrid.fine.decoding import options

    def fail(device: torch.device, dtype: torch.dtype) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    where = {"group": 8, "width": 128, "dtype": torch.bfloat16}
    cuda = torch.device("cuda")
    monkeypatch.setattr(options, "_try_a_kernel", fail)
    assert options.graphs_unavailable_reason(cuda, **where) == (
        "a first kernel failed (RuntimeError: Failed to find C compiler.)"
    )
    monkeypatch.setattr(options, "_try_a_kernel", lambda device, dtype: None)
    assert options.graphs_unavailable_reason(cuda, **where) is None
    assert "no tiles for 7" in str(options.graphs_unavailable_reason(cuda, **{**where, "group": 7}))
    assert "on cpu" in str(options.graphs_unavailable_reason(torch.device("cpu"), **where))
