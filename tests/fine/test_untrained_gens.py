"""The untrained checkpoint: small, plainly labelled, the same bytes for a seed, and like the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybrid.testing.untrained_gens import make_untrained_gens
from tests.forked import fork_server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_seed_same_bytes(gens_folder: Path, tmp_path: Path) -> None:
    """Also in another process, where hashes of strings are salted otherwise."""
    process = fork_server().Process(target=make_untrained_gens, args=(tmp_path / "again",))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert contents(tmp_path / "again") == contents(gens_folder)


def test_another_seed_changes_the_weights_only(gens_folder: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    other = contents(make_untrained_gens(tmp_path / "other", seed=1))
    mine = contents(gens_folder)
    assert {name for name in mine if mine[name] != other[name]} == {"model.safetensors", "README.md"}
    assert torch.equal(torch.get_rng_state(), before), "making a checkpoint disturbs the caller's random numbers"


def test_it_says_what_it_is(gens_folder: Path, reference_model: Any) -> None:
    readme = (gens_folder / "README.md").read_text()
    assert "untrained" in readme
    assert "noise" in readme
    parameters = sum(parameter.numel() for parameter in reference_model.parameters())
    assert f"{parameters:,}" in readme
    assert 300_000 < parameters < 1_000_000


def test_it_has_the_form_of_the_published_ones(gens_folder: Path, reference_tokenizer: Any) -> None:
    config = json.loads((gens_folder / "config.json").read_text())
    assert config["model_type"] == "qwen2_5_vl"
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert json.loads((gens_folder / "generation_config.json").read_text())["repetition_penalty"] == 1.05
    # Every digit is a token of its own, as with Qwen: the length of a label depends on it.
    assert reference_tokenizer.tokenize('"250-255": 5') == ['"', *"250", "-", *"255", '":', "Ġ", "5"]
    text = 'Any text, "é", 日本, \U0001f600 and\n {"1": 5}.'
    assert reference_tokenizer.decode(reference_tokenizer(text)["input_ids"]) == text
