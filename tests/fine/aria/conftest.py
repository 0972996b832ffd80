"""Checkpoints in the published layout of GenS on Aria: the golden ones, and a small one with a tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "yi_vl"

MakeSource = Callable[..., Path]


@pytest.fixture
def golden_source(tmp_path: Path) -> Callable[[str], Path]:
    """``golden_source("norm")``: the golden checkpoint, with a tokenizer file that nobody reads."""

    def make(kind: str) -> Path:
        folder = tmp_path / f"golden-{kind}"
        folder.mkdir()
        shutil.copy(GOLDEN / "model.safetensors", folder)
        shutil.copy(GOLDEN / kind / "config.json", folder)
        (folder / "tokenizer.json").write_text("{}")
        return folder

    return make


@pytest.fixture(scope="session")
def aria_sources(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """``norm_topk_prob`` -> a small untrained checkpoint in the published layout."""
    from hybrid.testing.untrained_aria import make_untrained_aria

    folder = tmp_path_factory.mktemp("aria-source")
    return {norm: make_untrained_aria(folder / str(norm), norm_topk_prob=norm, seed=7) for norm in (True, False)}


@pytest.fixture(scope="session")
def aria_folders(aria_sources: dict[bool, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The same, converted."""
    from hybrid.fine.aria.convert.convert import convert_gens

    folder = tmp_path_factory.mktemp("aria")
    return {
        norm: convert_gens(source, folder / str(norm), shard_bytes=400_000).folder
        for norm, source in aria_sources.items()
    }


@pytest.fixture(scope="session")
def aria_folder(aria_folders: dict[bool, Path]) -> Path:
    return aria_folders[True]


@pytest.fixture
def source_copy(aria_sources: dict[bool, Path], tmp_path: Path) -> Path:
    """A copy of the small source that a test may damage."""
    return Path(shutil.copytree(aria_sources[True], tmp_path / "source"))


@pytest.fixture
def aria_copy(aria_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small converted checkpoint that a test may damage."""
    return Path(shutil.copytree(aria_folder, tmp_path / "aria"))


@pytest.fixture(scope="session")
def aria_scorer(aria_folder: Path) -> Any:
    """Our scorer on the small checkpoint; replies of at most 24 tokens."""
    return load_short(aria_folder)


@pytest.fixture(scope="session")
def make_aria_scorer() -> Callable[..., Any]:
    return load_short


def load_short(folder: Path, *, dtype: str = "float32", loading: str | None = None, **changes: Any) -> Any:
    from dataclasses import replace

    from hybrid.fine.aria.prompt import GENS_ARIA
    from hybrid.fine.load import load_scorer

    spec = replace(GENS_ARIA, **{"max_new_tokens": 24, **changes})
    return load_scorer(folder, device="cpu", dtype=dtype, prompt=spec, loading=loading)


@pytest.fixture(scope="session")
def edit_json() -> Callable[..., None]:
    """``edit_json(path, "text_config.hidden_act", "gelu")`` changes one value; ``...`` removes it."""

    def edit(path: Path, place: str, value: Any) -> None:
        document = json.loads(path.read_text())
        *outer, last = place.split(".")
        part = document
        for name in outer:
            part = part[name]
        if value is ...:
            part.pop(last, None)
        else:
            part[last] = value
        path.write_text(json.dumps(document))

    return edit
