"""Opening converted checkpoints: what is refused, and what keeps a wrong transformers out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.errors import InputError, ModelLoadError
from hybrid.fine.aria.fitness import check_transformers, check_version
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.load import load_scorer


def refusal(folder: Any, **options: Any) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_scorer(folder, device="cpu", **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_published_layout_names_the_command(aria_sources: dict[bool, Path]) -> None:
    text = refusal(aria_sources[True])
    assert f"hybrid convert-gens {aria_sources[True]} FOLDER" in text
    assert "--sampler FOLDER" in text


@pytest.mark.parametrize("version", ["4.45.0", "4.51.3", "4.55.4", "4.56.2", "4.57.1", "4.57.6", "dev"])
def test_versions_that_are_wrong_are_refused(version: str) -> None:
    with pytest.raises(ModelLoadError, match="pip install"):
        check_version(version)


@pytest.mark.parametrize("version", ["4.52.4", "4.54.1", "5.0.0", "5.17.0", "5.23.0", "5.24.0.dev0", "6.0.0"])
def test_others_are_tried_out(version: str) -> None:
    check_version(version)


@pytest.fixture
def native_config(aria_folder: Path) -> Any:
    from transformers import AriaConfig

    return AriaConfig.from_pretrained(aria_folder)


def test_wrong_positions_of_patches_are_found(native_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers 4.55 to 4.57 had them: nearly every patch one position too early."""
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings

    right = Idefics3VisionEmbeddings.forward

    def shifted(self: Any, pixel_values: Any, patch_attention_mask: Any) -> Any:
        place = torch.roll(self.position_embedding.weight, 1, dims=0)
        self.position_embedding.weight.copy_(place)
        return right(self, pixel_values, patch_attention_mask)

    check_transformers(native_config)
    monkeypatch.setattr(Idefics3VisionEmbeddings, "forward", shifted)
    with pytest.raises(ModelLoadError, match="wrong positions"):
        check_transformers(native_config)


def test_another_mixture_of_experts_is_found(native_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For both kinds of checkpoint: the halves of the first projection the other way round."""
    from transformers.models.aria.modeling_aria import AriaTextMoELayer

    right = AriaTextMoELayer.forward

    def swapped(self: Any, hidden_states: Any) -> Any:
        parts = dict(self.experts.named_parameters())
        fused = parts.get("gate_up_proj", parts.get("fc1.weight"))
        assert fused is not None
        fused.copy_(torch.cat(fused.chunk(2, dim=-1)[::-1], dim=-1))
        return right(self, hidden_states)

    for normalised in (True, False):
        native_config.text_config.norm_topk_prob = normalised
        check_transformers(native_config)
    monkeypatch.setattr(AriaTextMoELayer, "forward", swapped)
    for normalised in (True, False):
        native_config.text_config.norm_topk_prob = normalised
        with pytest.raises(ModelLoadError, match="mixes the experts"):
            check_transformers(native_config)


def test_a_router_that_is_not_corrected_is_found(native_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    native_config.text_config.norm_topk_prob = False
    monkeypatch.setattr("hybrid.fine.aria.fitness.leave_weights_unnormalised", lambda layer: None)
    with pytest.raises(ModelLoadError, match="mixes the experts"):
        check_transformers(native_config)


def test_a_router_of_another_build_is_refused() -> None:
    from hybrid.fine.aria.router import leave_weights_unnormalised

    class Layer:
        router = torch.nn.Identity()
        experts = torch.nn.Identity()

    with pytest.raises(ModelLoadError, match="Identity"):
        leave_weights_unnormalised(Layer())


def test_a_key_that_does_not_fit_is_named(aria_copy: Path) -> None:
    """A checkpoint that lacks a tensor must not run on random numbers in its place."""
    from safetensors.torch import load_file, save_file

    index = aria_copy / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    name = "model.language_model.layers.1.mlp.router.weight"
    path = aria_copy / places["weight_map"].pop(name)
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    index.write_text(json.dumps(places))
    text = refusal(aria_copy)
    assert "missing keys" in text
    assert "layers.1.mlp.router" in text


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-", "tokenizer.json"])
def test_a_missing_file_is_named(aria_copy: Path, name: str) -> None:
    next(place for place in sorted(aria_copy.iterdir()) if place.name.startswith(name)).unlink()
    assert name in refusal(aria_copy)


def test_a_cut_file_is_named(aria_copy: Path) -> None:
    path = sorted(aria_copy.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-10])
    assert f"{path} is cut" in refusal(aria_copy)


@pytest.mark.parametrize("place", ["text_config", "projector_patch_to_query_dict"])
def test_a_config_of_something_else(aria_copy: Path, edit_json: Callable[..., None], place: str) -> None:
    edit_json(aria_copy / "config.json", place, ...)
    assert "convert it again" in refusal(aria_copy)


def test_a_tokenizer_of_something_else(aria_copy: Path, edit_json: Callable[..., None], gens_folder: Path) -> None:
    edit_json(aria_copy / "config.json", "image_token_index", 10)
    assert "its tokenizer has <|img|> as 9, its config.json as 10" in refusal(aria_copy)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (aria_copy / file).write_bytes((gens_folder / file).read_bytes())
    assert "no token <fim_prefix>" in refusal(aria_copy)


def test_settings_that_are_not_followed_are_refused(aria_copy: Path, edit_json: Callable[..., None]) -> None:
    edit_json(aria_copy / "generation_config.json", "num_beams", 4)
    assert "num_beams" in refusal(aria_copy)


def test_options_for_the_other_kind_are_refused(aria_folder: Path, gens_folder: Path) -> None:
    with pytest.raises(InputError, match="cannot be held to their form yet; leave out --constrained"):
        load_scorer(aria_folder, device="cpu", loop=LoopOptions(constrained=True))
    with pytest.raises(InputError, match="checkpoints on Aria"):
        load_scorer(gens_folder, device="cpu", loading="4bit")
    with pytest.raises(InputError, match="legal are"):
        load_scorer(aria_folder, device="cpu", loading="3bit")
