"""Presets name models; the tiny one makes its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid.errors import InputError, ModelLoadError
from hybrid.models.tiny import tiny_encoder, tiny_sampler
from hybrid.presets import PRESETS, encoder_of, sampler_of


def test_the_models_of_the_field() -> None:
    assert (encoder_of("gens-3b"), sampler_of("gens-3b")) == (
        "ViT-B-32/laion2b_s34b_b79k",
        "yaolily/GenS-qwen2d5-vl-3b",
    )
    assert PRESETS["gens-aria"].sampler == "yaolily/GenS"
    with pytest.raises(ModelLoadError, match="gens-aria does not run its GenS yet"):
        sampler_of("gens-aria")
    assert set(PRESETS) == {"gens-3b", "gens-aria", "tiny"}


@pytest.mark.parametrize("ask", [encoder_of, sampler_of])
def test_an_unknown_preset_names_the_legal_ones(ask: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match="gens-3b, gens-aria, tiny"):
        ask("large")


def test_tiny_models_are_made_once_and_whole(tmp_path: Path) -> None:
    encoder, sampler = tiny_encoder(tmp_path), tiny_sampler(tmp_path)
    files = {place: place.stat().st_mtime_ns for place in tmp_path.rglob("*.safetensors")}
    assert len(files) == 2
    assert (tiny_encoder(tmp_path), tiny_sampler(tmp_path)) == (encoder, sampler)
    assert {place: place.stat().st_mtime_ns for place in files} == files
    assert Path(encoder.removeprefix("local-dir:"), "open_clip_config.json").is_file()
    assert Path(sampler, "config.json").is_file()


def test_a_making_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "gens.unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{")
    assert len(Path(tiny_sampler(tmp_path), "config.json").read_text()) > 100
    assert not unfinished.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelLoadError, match="HYBRID_CACHE"):
        tiny_sampler(tmp_path / "file")
