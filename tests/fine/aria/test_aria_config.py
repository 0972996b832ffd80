"""Settings that transformers' Aria cannot represent are refused by name; sizes and rules come out as they must."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import ModelLoadError
from hybrid.fine.aria.convert.config import AriaSizes, patch_to_query
from hybrid.fine.aria.convert.convert import convert_gens

SIZES = AriaSizes(
    vocabulary=448,
    hidden=48,
    layers=3,
    experts=8,
    expert_width=20,
    shared_experts=2,
    key_width=48,
    vision_hidden=32,
    vision_layers=2,
    vision_width=64,
    position_side=70,
    queries=24,
)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("model_type", "llava"),
        ("model_type", ...),
        ("mm_projector", "mlp"),
        ("mm_projector", ...),  # the published class then has an MLP
        ("vision_feature_select_strategy", "default"),
        ("vision_feature_select_strategy", ...),  # the same: the first patch would be dropped
        ("mlp_post_norm", True),
        ("text_config", ...),
        ("vision_config", ...),
        ("text_config.model_type", "llama"),
        ("text_config.scoring_func", "sigmoid"),
        ("text_config.norm_topk_prob", "yes"),
        ("text_config.first_k_dense_replace", 1),
        ("text_config.moe_layer_freq", 2),
        ("text_config.attention_bias", True),
        ("text_config.rope_scaling", {"type": "linear", "factor": 2.0}),
        ("text_config.hidden_act", "gelu"),
        ("text_config.tie_word_embeddings", True),
        ("vision_config.model_type", "clip_vision_model"),
        ("text_config.num_attention_heads", ...),
        ("text_config.rope_theta", ...),
        ("text_config.num_experts_per_tok", 0),
        ("text_config.max_position_embeddings", ...),
        ("vision_config.num_attention_heads", ...),
        # These would be found out by the first question, after the hour that 50 GB take.
        ("text_config.num_attention_heads", 4.0),
        ("text_config.num_experts_per_tok", 2.5),
        ("text_config.num_key_value_heads", "4"),
        ("text_config.max_position_embeddings", 65536.5),
        ("text_config.rms_norm_eps", "1e-6"),
        ("vision_config.layer_norm_eps", -1e-6),
        ("torch_dtype", "int8"),
        ("image_token_index", "<|img|>"),
        ("image_token_index", 10**6),
        ("eos_token_id", "</s>"),
        ("eos_token_id", [2, "</s>"]),
        ("tokens_per_image", True),
        ("tokens_per_image", [16, 32]),
        ("tokens_per_image", 16),
        ("tokens_per_image", "many"),
        ("tokens_per_image", []),
        ("text_config.hidden_size", 64),
        ("text_config.vocab_size", 32000),
        ("text_config.num_hidden_layers", 4),
        ("text_config.n_routed_experts", 16),
        ("text_config.moe_intermediate_size", 40),
        ("text_config.n_shared_experts", 1),
        ("vision_config.hidden_size", 64),
        ("vision_config.num_hidden_layers", 27),
        ("vision_config.intermediate_size", 65),
        ("vision_config.image_size", 490),
        ("vision_config.patch_size", 16),
    ],
)
def test_a_wrong_setting_is_named(
    source_copy: Path, tmp_path: Path, edit_json: Callable[..., None], place: str, value: Any
) -> None:
    edit_json(source_copy / "config.json", place, value)
    with pytest.raises(ModelLoadError) as caught:
        convert_gens(source_copy, tmp_path / "native")
    text = str(caught.value)
    assert place in text
    assert "\n" not in text
    if value is not ... and not isinstance(value, dict):
        assert repr(value) in text or "tokens_per_image" in text
    assert not (tmp_path / "native").exists()


@pytest.mark.parametrize(("key", "value"), [("num_attention_heads", 5), ("num_experts_per_tok", 9)])
def test_numbers_that_do_not_fit(
    source_copy: Path, tmp_path: Path, edit_json: Callable[..., None], key: str, value: int
) -> None:
    edit_json(source_copy / "config.json", f"text_config.{key}", value)
    with pytest.raises(ModelLoadError, match="do not fit"):
        convert_gens(source_copy, tmp_path / "native")


def test_what_a_config_leaves_out_is_as_in_the_published_class(
    source_copy: Path, tmp_path: Path, edit_json: Callable[..., None]
) -> None:
    for place in ("text_config.norm_topk_prob", "text_config.hidden_size", "vision_config.patch_size"):
        edit_json(source_copy / "config.json", place, ...)
    done = convert_gens(source_copy, tmp_path / "native")
    assert done.norm_topk_prob is False
    config = json.loads((done.folder / "config.json").read_text())
    assert config["text_config"]["norm_topk_prob"] is False
    assert config["text_config"]["hidden_size"] == 48


@pytest.mark.parametrize(
    ("rule", "side", "expected"),
    [
        ([16, 24], 70, {"1225": 16, "4900": 24}),
        ([24, 16], 70, {"1225": 16, "4900": 24}),
        # A frame of 490 pixels fills this grid, so it is not "fewer patches than the grid has".
        ([16, 24], 35, {"1225": 24}),
        (24, 70, {"1225": 24}),
        (24, 35, {"1225": 24}),
    ],
)
def test_queries_by_patches(rule: Any, side: int, expected: dict[str, int]) -> None:
    from dataclasses import replace

    assert patch_to_query({"tokens_per_image": rule}, replace(SIZES, position_side=side)) == expected


def test_a_config_that_is_no_object(source_copy: Path, tmp_path: Path) -> None:
    (source_copy / "config.json").write_text("[]")
    with pytest.raises(ModelLoadError, match="no JSON object"):
        convert_gens(source_copy, tmp_path / "native")
