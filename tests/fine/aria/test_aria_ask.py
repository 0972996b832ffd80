"""From the published layout to an answer: convert-gens, then ask, over a folder of images.

The checkpoint is made to speak: its layers add nothing, and its output layer follows each token by
one other, so that the reply is known. All the rest is the usual way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from hybrid.answers import Answer
from hybrid.cli.app import app
from hybrid.values import ByteArray

REPLY = ['{"', "1", "-", "2", '":', "Ġ", "5", "}", "<|im_end|>"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def speaking_source(aria_sources: dict[bool, Path], tmp_path: Path) -> Path:
    """A checkpoint in the published layout that replies ``{"1-2": 5}`` to everything."""
    from transformers import PreTrainedTokenizerFast

    folder = Path(shutil.copytree(aria_sources[False], tmp_path / "speaking"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    last = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)[-1]
    chain = [last, *tokenizer.convert_tokens_to_ids(REPLY)]
    assert None not in chain
    assert len(set(chain)) == len(chain)
    path = folder / "model-00001-of-00001.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if name.startswith("language_model") and ("o_proj" in name or "down_proj" in name):
            tensor.zero_()
    table, output = (tensors[f"language_model.{name}.weight"] for name in ("model.embed_tokens", "lm_head"))
    table.zero_()
    output.zero_()
    for direction, (token, following) in enumerate(pairwise(chain)):
        table[token, direction] = output[following, direction] = 1.0
    save_file(tensors, path)
    return folder


@pytest.fixture
def images(tmp_path: Path, make_frames: Callable[..., list[ByteArray]]) -> Path:
    """A folder of five numbered images: one a second."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, frame in enumerate(make_frames(5, 160, 90)):
        Image.fromarray(np.asarray(frame)).save(folder / f"sec{number:03d}.png")
    return folder


def options(archive: Path, clip_folder: Path, sampler: Path) -> list[Any]:
    return [
        "--archive",
        archive,
        "--preset",
        "gens-aria",
        "--encoder",
        f"local-dir:{clip_folder}",
        "--sampler",
        sampler,
        "--device",
        "cpu",
        "--json",
    ]


def test_convert_then_ask(speaking_source: Path, images: Path, clip_folder: Path, tmp_path: Path) -> None:
    dest = tmp_path / "native"
    told = run("convert-gens", speaking_source, dest, "--json", "--shard-gigabytes", "0.001")
    document = json.loads(told.stdout)
    assert document["norm_topk_prob"] is False
    assert document["files"] > 1
    assert "for a window of 256 frames" in document["needs"]
    again = run("convert-gens", speaking_source, dest, "--shard-gigabytes", "0.001")
    assert f"--preset gens-aria --sampler {dest}" in again.stdout
    assert "of them there before" in again.stdout
    assert run("convert-gens", speaking_source, tmp_path / "other", "--shard-gigabytes", "inf").exit_code == 2

    common = options(tmp_path / "archive", clip_folder, dest)
    for extra in (["--window", "4", "--strict"], ["--no-coarse", "--window", "3", "--strict"]):
        asked = run("ask", images, "What happens after the door opens?", "--frames", "2", *extra, *common)
        assert asked.exit_code == 0, asked.output
        answer = Answer.from_json(asked.stdout)
        stage = next(stage for stage in answer.stages if stage.name == "gens")
        assert (stage.ran, stage.model, stage.device) == (True, str(dest), "cpu")
        assert stage.fallback_reason is None
        assert set(stage.details["reply_status"]) == {"ok"} or stage.details["windows"] == 2
        assert {frame.gens_score for frame in answer.frames} == {5}
        assert answer.reply is not None
        assert answer.reply.splitlines()[0] == '{"1-2": 5}'
    # Windows of three: positions 1 and 2 are frames 1 and 2, then 4 (the second window has two frames).
    assert [frame.ordinal for frame in answer.frames] in ([1, 2], [1, 4], [2, 4])


def test_the_published_layout_is_no_sampler(
    speaking_source: Path, images: Path, clip_folder: Path, tmp_path: Path
) -> None:
    common = options(tmp_path / "archive", clip_folder, speaking_source)
    answer = Answer.from_json(run("ask", images, "Who?", *common).stdout)
    stage = next(stage for stage in answer.stages if stage.name == "gens")
    assert stage.fallback_reason is not None
    assert f"hybrid convert-gens {speaking_source} FOLDER" in stage.fallback_reason
    assert answer.frames


@pytest.mark.parametrize("extra", [[], ["--no-fine", "--select", "top_k", "--scores", "gens:{sampler}"]])
def test_a_form_for_replies_is_refused_and_not_left_out(
    images: Path, aria_folder: Path, clip_folder: Path, tmp_path: Path, extra: list[str]
) -> None:
    from hybrid.errors import InputError

    common = options(tmp_path / "archive", clip_folder, aria_folder)
    chosen = [word.format(sampler=aria_folder) for word in extra]
    with pytest.raises(InputError, match=f"{aria_folder} is on Aria, .*; leave out --constrained"):
        run("ask", images, "Who?", "--constrained", *chosen, *common)


def test_a_word_that_is_no_loading(images: Path, clip_folder: Path, tmp_path: Path) -> None:
    from hybrid.errors import InputError

    with pytest.raises(InputError, match="8bit or 4bit"):
        run("ask", images, "Who?", *options(tmp_path / "a", clip_folder, tmp_path), "--loading", "tiny")


def test_a_source_that_cannot_be_converted_is_one_line(aria_copy: Path, tmp_path: Path) -> None:
    from hybrid.errors import ModelLoadError

    with pytest.raises(ModelLoadError, match="model_type 'aria'"):
        run("convert-gens", aria_copy, tmp_path / "native")
    assert "as much again" in run("convert-gens", "--help").stdout


def test_the_golden_weights_survive_the_command(golden_source: Callable[[str], Path], tmp_path: Path) -> None:
    source = golden_source("norm")
    assert run("convert-gens", source, tmp_path / "native").exit_code == 0
    found = load_file(next((tmp_path / "native").glob("*.safetensors")))
    kept = load_file(source / "model.safetensors")["language_model.lm_head.weight"]
    assert torch.equal(found["lm_head.weight"], kept)
