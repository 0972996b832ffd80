"""One scorer of every kind, on small checkpoints that are saved to disk and loaded as the published ones are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from hybrid.scorers.interface import VideoScorer
from hybrid.scorers.spec import load_video_scorer
from hybrid.values import ByteArray

MakeSpec = Callable[[str], str]


@pytest.fixture(scope="session")
def spec_of(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path, gens_folder: Path) -> MakeSpec:
    """``spec_of(kind)``: what ``--scores`` would say."""
    from tests.scorers import checkpoints as made

    folder = tmp_path_factory.mktemp("scorers")

    @lru_cache
    def spec(kind: str) -> str:
        if kind == "clip":
            return f"clip:local-dir:{clip_folder}"
        if kind == "gens":
            # What it writes is noise; eight tokens of it are enough.
            shutil.copytree(gens_folder, folder / "gens")
            (folder / "gens" / "hybrid_prompt.json").write_text('{"max_new_tokens": 8}')
            return f"gens:{folder / 'gens'}"
        if kind == "blip-itm":
            return f"blip-itm:{made.make_blip(folder / 'blip')}"
        if kind == "yes":
            return f"yes:{made.make_llava(folder / 'llava')}"
        if kind == "tspo":
            return f"tspo:{made.make_tspo(folder / 'tspo')}"
        return f"peek:{made.make_peek(folder / 'peek.safetensors', 64)},encoder=local-dir:{clip_folder}"

    return spec


@pytest.fixture(scope="session")
def scorer_of(spec_of: MakeSpec) -> Callable[..., VideoScorer]:
    """``scorer_of(kind, batch_size=...)``: loaded once."""

    @lru_cache
    def scorer(kind: str, batch_size: int | None = None) -> VideoScorer:
        return load_video_scorer(spec_of(kind), device="cpu", batch_size=batch_size)

    return scorer


@pytest.fixture(scope="session")
def frames() -> list[ByteArray]:
    """Seven pictures that differ, wider than high."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (7, 5, 7, 3), dtype=np.uint8)
    return [np.ascontiguousarray(picture.repeat(8, axis=0).repeat(8, axis=1)) for picture in coarse]
