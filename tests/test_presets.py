"""Presets name models; those of the tiny one are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.errors import InputError
from hybrid.presets import PRESETS, check_preset


def test_the_models_of_the_field() -> None:
    assert (PRESETS["gens-3b"].encoder, PRESETS["gens-3b"].sampler) == (
        "ViT-B-32/laion2b_s34b_b79k",
        "yaolily/GenS-qwen2d5-vl-3b",
    )
    assert PRESETS["gens-aria"].sampler == "yaolily/GenS"
    assert set(PRESETS) == {"gens-3b", "gens-aria", "tiny"}


def test_an_unknown_preset_names_the_legal_ones() -> None:
    with pytest.raises(
        InputError, match=r"no preset 'tinny'; did you mean 'tiny'\? Legal are gens-3b, gens-aria, tiny"
    ):
        check_preset("tinny")


def test_the_tiny_models_are_shipped_and_small() -> None:
    encoder, sampler = Path(PRESETS["tiny"].encoder.removeprefix("local-dir:")), Path(PRESETS["tiny"].sampler)
    assert {"open_clip_config.json", "open_clip_model.safetensors"} <= {place.name for place in encoder.iterdir()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "hybrid_prompt.json"}
    assert wanted <= {place.name for place in sampler.iterdir()}
    size = sum(place.stat().st_size for folder in (encoder, sampler) for place in folder.iterdir())
    assert size <= 12_000_000
