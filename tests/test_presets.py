"""Presets name models; those of the tiny one are shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid.errors import InputError
from hybrid.models.tiny import tiny_encoder, tiny_sampler
from hybrid.presets import PRESETS, encoder_of, sampler_of


def test_the_models_of_the_field() -> None:
    assert (encoder_of("gens-3b"), sampler_of("gens-3b")) == (
        "ViT-B-32/laion2b_s34b_b79k",
        "yaolily/GenS-qwen2d5-vl-3b",
    )
    assert sampler_of("gens-aria") == "yaolily/GenS"
    assert set(PRESETS) == {"gens-3b", "gens-aria", "tiny"}


@pytest.mark.parametrize("ask", [encoder_of, sampler_of])
def test_an_unknown_preset_names_the_legal_ones(ask: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match="gens-3b, gens-aria, tiny"):
        ask("large")


def test_the_tiny_models_are_shipped_and_small() -> None:
    encoder, sampler = Path(tiny_encoder().removeprefix("local-dir:")), Path(tiny_sampler())
    assert {"open_clip_config.json", "open_clip_model.safetensors"} <= {place.name for place in encoder.iterdir()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "hybrid_prompt.json"}
    assert wanted <= {place.name for place in sampler.iterdir()}
    size = sum(place.stat().st_size for folder in (encoder, sampler) for place in folder.iterdir())
    assert size <= 12_000_000
