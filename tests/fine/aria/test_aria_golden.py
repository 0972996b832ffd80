"""Converted golden checkpoints against outputs of the published code, in float32.

tests/data/yi_vl holds one set of random weights, read with ``norm_topk_prob`` true and false.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hybrid.fine.aria.convert.convert import convert_gens
from hybrid.fine.aria.frames import encode_pixels
from hybrid.fine.aria.load import load_model
from hybrid.fine.aria.writer import Reader, greedy_tokens
from hybrid.fine.checkpoint import find_checkpoint

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "yi_vl"
IMAGE = 9
NEW_TOKENS = 12

Opened = Callable[..., Any]


def golden_pixels() -> torch.Tensor:
    """The pictures of the golden outputs: a formula, computed in float64, then cast."""
    image, channel, y, x = (
        torch.arange(count, dtype=torch.float64).reshape([-1 if side == place else 1 for side in range(4)])
        for place, count in enumerate((2, 3, 490, 490))
    )
    return torch.sin(0.011 * (image + 1) * y + 0.017 * (channel + 1) * x + image).float()


@pytest.fixture
def opened(golden_source: Callable[[str], Path], tmp_path: Path) -> Opened:
    """``opened("norm")``: the golden checkpoint after conversion, through the loader of the scorer."""

    def open_golden(kind: str, **options: Any) -> Any:
        folder = convert_gens(golden_source(kind), tmp_path / f"native-{kind}", **options).folder
        return load_model(find_checkpoint(folder), device=torch.device("cpu"), dtype=torch.float32)

    return open_golden


def expected(kind: str) -> dict[str, torch.Tensor]:
    return dict(load_file(GOLDEN / kind / "expected.safetensors"))


def embed(model: Any, ids: list[int], features: torch.Tensor) -> torch.Tensor:
    """A prompt with one placeholder per image, as the published code expands it."""
    table = model.model.language_model.embed_tokens
    pieces, images = [], iter(features)
    for number in ids:
        pieces.append(next(images) if number == IMAGE else table(torch.tensor([number])))
    return torch.cat(pieces)


def all_logits(model: Any, embeddings: torch.Tensor) -> torch.Tensor:
    states = model.model.language_model(inputs_embeds=embeddings[None]).last_hidden_state
    return model.lm_head(states)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["norm", "nonorm"])
def test_features_and_logits_of_the_published_code(opened: Opened, kind: str) -> None:
    golden, model = expected(kind), opened(kind, shard_bytes=300_000)
    features = encode_pixels(model, golden_pixels())
    assert features.shape == golden["image_features"].shape
    torch.testing.assert_close(features, golden["image_features"], rtol=0, atol=1e-5)
    logits = all_logits(model, embed(model, golden["input_ids"][0].tolist(), features))
    assert float(golden["logits"].abs().max()) > 3, "the logits are so small that the tolerance proves nothing"
    torch.testing.assert_close(logits, golden["logits"], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_twelve_greedy_tokens_of_the_published_code(opened: Opened) -> None:
    golden, model = expected("norm"), opened("norm")
    ids = golden["input_ids"][0].tolist()
    reader = Reader(model)
    state = reader.read(embed(model, ids, encode_pixels(model, golden_pixels())))
    found = greedy_tokens(model, reader, state, seen=ids, end_ids=(), limit=NEW_TOKENS, penalty=1.0)
    assert [*ids, *found] == golden["generated"][0].tolist()


@torch.inference_mode()
@pytest.mark.parametrize("pieces", [[1], [3, 17], [20, 1, 1]])
def test_a_prompt_read_in_pieces_gives_the_same_logits(opened: Opened, pieces: list[int]) -> None:
    """The cache goes on behind what was read before, and going back to there leaves no trace."""
    golden, model = expected("norm"), opened("norm")
    embeddings = embed(model, golden["input_ids"][0].tolist(), golden["image_features"])
    reader = Reader(model)
    reader.read(embeddings[: pieces[0]])
    reader.read(torch.randn(5, embeddings.shape[1]))
    reader.forget(pieces[0])
    place = pieces[0]
    for size in [*pieces[1:], len(embeddings) - sum(pieces)]:
        state = reader.read(embeddings[place : place + size])
        place += size
        torch.testing.assert_close(model.lm_head(state), golden["logits"][0, place - 1], rtol=0, atol=1e-4)
    assert reader.length == len(embeddings)


@torch.inference_mode()
def test_without_its_router_the_other_checkpoint_is_wrong(opened: Opened, tmp_path: Path) -> None:
    """The golden logits can tell: transformers by itself is off by a thousand times the tolerance and more."""
    golden, model = expected("nonorm"), opened("nonorm")
    config = tmp_path / "native-nonorm" / "config.json"
    document = json.loads(config.read_text())
    assert document["text_config"]["norm_topk_prob"] is False
    document["text_config"]["norm_topk_prob"] = True
    config.write_text(json.dumps(document))
    uncorrected = load_model(find_checkpoint(config.parent), device=torch.device("cpu"), dtype=torch.float32)
    embeddings = embed(model, golden["input_ids"][0].tolist(), golden["image_features"])
    assert float((all_logits(uncorrected, embeddings) - golden["logits"]).abs().max()) > 0.1
    assert float((all_logits(model, embeddings) - golden["logits"]).abs().max()) < 1e-4


@torch.inference_mode()
def test_a_mask_of_the_padding_changes_nothing_that_we_use(opened: Opened) -> None:
    """The published code hands no mask on; ours has none to hand on, so black padding is looked at."""
    model = opened("norm")
    pixels = golden_pixels()
    pixels[:, :, 336:] = -1.0
    mask = torch.ones(2, 490, 490, dtype=torch.bool)
    mask[:, 336:] = False
    masked = model.model.get_image_features(pixel_values=pixels, pixel_mask=mask, return_dict=True).pooler_output
    assert float((encode_pixels(model, pixels) - masked).abs().max()) > 1e-3
