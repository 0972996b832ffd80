"""Conversion: the right bits in the right place, the same after a kill, and one clear error for every fault."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hybrid.errors import HybridError, InputError, ModelLoadError, SaveError
from hybrid.fine.aria.convert.convert import UNFINISHED, convert_gens
from hybrid.fine.aria.convert.mapping import NativeTensor
from hybrid.fine.aria.convert.shards import plan_shards

SHARD = 150_000
WEIGHTS = "model-00001-of-00001.safetensors"

EditJson = Callable[..., None]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found.update(load_file(file))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(place.relative_to(folder)): place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def refusal(source: Any, dest: Path, kind: type[HybridError] = ModelLoadError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        convert_gens(source, dest, **options)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    names = dict.fromkeys(tensors, WEIGHTS)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_every_tensor_is_where_transformers_expects_it(aria_sources: dict[bool, Path], tmp_path: Path) -> None:
    """The table of the mapping, restated with torch on whole tensors."""
    source = tensors_of(aria_sources[True])
    native = tensors_of(convert_gens(aria_sources[True], tmp_path / "native", shard_bytes=SHARD).folder)
    expected: dict[str, torch.Tensor] = {}
    for name, tensor in source.items():
        if ".experts." in name:
            continue
        new = name.replace("vision_tower.vision_model.", "vision_tower.").replace("ln_kv", "layer_norm_kv")
        new = new.replace("ln_ffn", "layer_norm").replace(".ffn.", ".feed_forward.").replace("mlp.gate.", "mlp.router.")
        new = new.replace("language_model.model.", "language_model.")
        expected["lm_head.weight" if "lm_head" in name else "model." + new] = tensor
    for layer in range(3):
        place = f"language_model.model.layers.{layer}.mlp.experts."
        gate, up, down = (
            torch.stack([source[f"{place}{expert}.{part}_proj.weight"] for expert in range(8)])
            for part in ("gate", "up", "down")
        )
        new = f"model.language_model.layers.{layer}.mlp.experts."
        expected[new + "fc1.weight"] = torch.cat([gate.transpose(1, 2), up.transpose(1, 2)], dim=2)
        expected[new + "fc2.weight"] = down.transpose(1, 2)
    expected["model.vision_tower.post_layernorm.weight"] = torch.ones(32)
    expected["model.vision_tower.post_layernorm.bias"] = torch.zeros(32)
    assert native.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(native[name], tensor), name


def test_bfloat16_passes_bit_for_bit(aria_sources: dict[bool, Path], tmp_path: Path) -> None:
    source = Path(shutil.copytree(aria_sources[True], tmp_path / "source"))
    change_weights(source, lambda found: found.update({name: value.bfloat16() for name, value in found.items()}))
    native = tensors_of(convert_gens(source, tmp_path / "native").folder)
    whole = tensors_of(convert_gens(aria_sources[True], tmp_path / "whole").folder)
    assert {tensor.dtype for tensor in native.values()} == {torch.bfloat16}
    for name, tensor in whole.items():
        assert torch.equal(native[name], tensor.bfloat16()), name


def test_files_are_small_listed_and_read_by_safetensors(aria_sources: dict[bool, Path], tmp_path: Path) -> None:
    done = convert_gens(aria_sources[True], tmp_path / "native", shard_bytes=SHARD)
    files = sorted(done.folder.glob("*.safetensors"))
    assert len(files) == done.files > 4
    index = json.loads((done.folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {name: file.name for file in files for name in load_file(file)}
    assert index["metadata"]["total_size"] == done.weight_bytes
    largest = max(tensor.nbytes for tensor in tensors_of(done.folder).values())
    assert all(file.stat().st_size <= max(SHARD, largest) + 20_000 for file in files)
    assert done.parameters == sum(tensor.numel() for tensor in tensors_of(done.folder).values())


def test_small_files_come_along_and_code_does_not(source_copy: Path, tmp_path: Path, edit_json: EditJson) -> None:
    edit_json(source_copy / "tokenizer_config.json", "auto_map", {"AutoTokenizer": ["tokenization_yi.Tokenizer", None]})
    (source_copy / "tokenization_yi.py").write_text("raise SystemExit('code of a checkpoint ran')")
    done = convert_gens(source_copy, tmp_path / "native").folder
    assert (done / "tokenizer.json").read_bytes() == (source_copy / "tokenizer.json").read_bytes()
    assert "auto_map" not in json.loads((done / "tokenizer_config.json").read_text())
    assert not list(done.glob("*.py"))
    config = json.loads((done / "config.json").read_text())
    assert config["model_type"] == "aria"
    assert config["projector_patch_to_query_dict"] == {"1225": 16, "4900": 24}
    assert config["text_config"]["intermediate_size"] == 20
    assert config["text_config"]["norm_topk_prob"] is True
    assert json.loads((done / "generation_config.json").read_text())["eos_token_id"] == 2
    assert "norm_topk_prob" not in (done / "README.md").read_text()


def test_a_folder_that_needs_another_router_says_so(aria_folders: dict[bool, Path]) -> None:
    assert "Do not run this folder with transformers alone" in (aria_folders[False] / "README.md").read_text()


def pickle_source(folder: Path, *, files: int, old: bool = False) -> None:
    """The same tensors in torch's ``.bin`` files."""
    tensors = tensors_of(folder)
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    names = sorted(tensors)
    places = {name: f"pytorch_model-{i % files + 1:05d}-of-{files:05d}.bin" for i, name in enumerate(names)}
    for file in set(places.values()):
        held = {name: tensors[name] for name in names if places[name] == file}
        torch.save(held, folder / file, _use_new_zipfile_serialization=not old)
    if files == 1:
        (folder / places[names[0]]).rename(folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize(("files", "old"), [(1, False), (3, False), (3, True)])
def test_bin_files_give_the_same_weights(
    source_copy: Path, aria_sources: dict[bool, Path], tmp_path: Path, files: int, old: bool
) -> None:
    pickle_source(source_copy, files=files, old=old)
    for name in ("native", "reference"):
        convert_gens(source_copy if name == "native" else aria_sources[True], tmp_path / name, shard_bytes=SHARD)
    found, expected = (contents(tmp_path / name) for name in ("native", "reference"))
    for record in (found, expected):
        record.pop("hybrid_conversion.json")  # it names the files of the source
    assert found == expected


def test_bin_files_hold_tensors_or_are_refused(source_copy: Path, tmp_path: Path) -> None:
    pickle_source(source_copy, files=1)
    path = source_copy / "pytorch_model.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in refusal(source_copy, tmp_path / "a")
    torch.save({"weights": os.path.join}, path)
    assert "holds more than tensors" in refusal(source_copy, tmp_path / "b")
    torch.save([torch.zeros(3)], path)
    assert "something else than named tensors" in refusal(source_copy, tmp_path / "c")


DRIVER = """
import sys, time
from pathlib import Path
from hybrid.fine.aria.convert.convert import convert_gens

def tell(done, total):
    if done >= total * float(sys.argv[3]):
        print("here", flush=True)
        time.sleep(600)

convert_gens(sys.argv[1], Path(sys.argv[2]), shard_bytes=int(sys.argv[4]), tell=tell)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_killed_and_run_again_gives_the_same_bytes(
    aria_sources: dict[bool, Path], tmp_path: Path, share: float
) -> None:
    dest, reference = tmp_path / "native", tmp_path / "reference"
    whole = convert_gens(aria_sources[True], reference, shard_bytes=SHARD)
    command = [sys.executable, "-c", DRIVER, str(aria_sources[True]), str(dest), str(share), str(SHARD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert (dest / UNFINISHED).is_file()
    assert list(dest.glob("*.unfinished")), "it was not killed within a file"
    assert not (dest / "config.json").exists()
    finished = {place: place.stat().st_mtime_ns for place in dest.glob("*.safetensors")}
    assert (len(finished) > 0) == (share > 0)
    again = convert_gens(aria_sources[True], dest, shard_bytes=SHARD)
    assert again.files_kept == len(finished) < again.files == whole.files
    assert {place: place.stat().st_mtime_ns for place in finished} == finished, "a finished file was written again"
    assert contents(dest) == contents(reference)


def test_an_unfinished_conversion_is_no_checkpoint(aria_copy: Path) -> None:
    from hybrid.fine.load import load_scorer

    (aria_copy / UNFINISHED).write_text("{}")
    with pytest.raises(ModelLoadError, match="run hybrid convert-gens again"):
        load_scorer(aria_copy, device="cpu")


def test_a_complete_conversion_is_left_alone(source_copy: Path, tmp_path: Path) -> None:
    dest = tmp_path / "native"
    convert_gens(source_copy, dest)
    before = {place: place.stat().st_mtime_ns for place in dest.iterdir()}
    again = convert_gens(source_copy, dest)
    assert again.files_kept == again.files
    assert {place: place.stat().st_mtime_ns for place in dest.iterdir()} == before


def test_a_lost_file_of_a_complete_conversion_is_made_again(source_copy: Path, tmp_path: Path) -> None:
    dest = tmp_path / "native"
    convert_gens(source_copy, dest, shard_bytes=SHARD)
    before = contents(dest)
    lost = sorted(dest.glob("*.safetensors"))[2]
    lost.write_bytes(lost.read_bytes()[:-1])
    again = convert_gens(source_copy, dest, shard_bytes=SHARD)
    assert again.files_kept == again.files - 1
    assert contents(dest) == before
    for name in ("config.json", "tokenizer.json"):
        (dest / name).unlink()
    (dest / "README.md").write_text("mine")
    assert convert_gens(source_copy, dest, shard_bytes=SHARD).files_kept == again.files
    assert contents(dest) == {**before, "README.md": b"mine"}


@pytest.mark.parametrize("pickled", [False, True])
def test_weights_that_were_trained_further_are_another_source(source_copy: Path, tmp_path: Path, pickled: bool) -> None:
    """Same names, shapes and sizes; to call the folder complete would leave the old weights in use."""

    def train(found: dict[str, torch.Tensor]) -> None:
        found.update({name: tensor + 1e-3 for name, tensor in found.items()})

    change_weights(source_copy, lambda found: None)
    further = Path(shutil.copytree(source_copy, tmp_path / "further"))
    change_weights(further, train)
    if pickled:
        pickle_source(source_copy, files=1)
        pickle_source(further, files=1)
    copy = Path(shutil.copytree(source_copy, tmp_path / "copy"))
    convert_gens(source_copy, tmp_path / "native")
    assert "another source" in refusal(further, tmp_path / "native", InputError)
    again = convert_gens(copy, tmp_path / "native")
    assert again.files_kept == again.files


def test_a_source_that_changed_meanwhile_is_noticed(source_copy: Path, tmp_path: Path) -> None:
    dest = tmp_path / "native"

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_gens(source_copy, dest, shard_bytes=SHARD, tell=stop)
    os.utime(source_copy / WEIGHTS, ns=(1, 1))
    assert "changed since" in refusal(source_copy, dest, InputError, shard_bytes=SHARD)


def test_a_folder_with_something_else_is_not_touched(source_copy: Path, tmp_path: Path, edit_json: EditJson) -> None:
    dest = tmp_path / "native"
    dest.mkdir()
    (dest / "mine.txt").touch()
    assert "mine.txt" in refusal(source_copy, dest, InputError)
    assert "is not empty" in refusal(source_copy, source_copy, InputError)
    for folder in (dest, source_copy):
        assert not list(folder.glob(".*")), "a lock was left in a folder that is not ours"
    assert "is a file" in refusal(source_copy, dest / "mine.txt", InputError)
    (dest / "mine.txt").unlink()
    convert_gens(source_copy, dest)
    assert "other settings" in refusal(source_copy, dest, InputError, shard_bytes=SHARD)
    edit_json(source_copy / "config.json", "text_config.rope_theta", 1e6)
    assert "another source" in refusal(source_copy, dest, InputError)
    assert "shard_bytes is 0" in refusal(source_copy, tmp_path / "other", InputError, shard_bytes=0)


def test_two_at_once(source_copy: Path, tmp_path: Path) -> None:
    dest = tmp_path / "native"
    dest.mkdir()
    with FileLock(dest / ".converting.lock"):
        assert "another process" in refusal(source_copy, dest, SaveError)


def test_too_little_room(source_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage._replace(free=1_000_000))
    assert "has room for 0.0 GB" in refusal(source_copy, tmp_path / "native", SaveError)


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.1.mlp.experts.5.up_proj.weight",
        "language_model.model.layers.0.mlp.gate.weight",
        "language_model.model.layers.2.self_attn.k_proj.weight",
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
        "multi_modal_projector.query",
        "multi_modal_projector.cross_attn.ln_kv.bias",
        "vision_tower.vision_model.embeddings.position_embedding.weight",
        "vision_tower.vision_model.encoder.layers.1.mlp.fc2.bias",
    ],
)
def test_a_missing_tensor_is_named(source_copy: Path, tmp_path: Path, name: str) -> None:
    change_weights(source_copy, lambda found: found.__delitem__(name))
    assert name in refusal(source_copy, tmp_path / "native")
    assert not (tmp_path / "native").exists(), "something was written for a source that cannot be converted"


def test_a_tensor_that_has_no_place_is_named(source_copy: Path, tmp_path: Path) -> None:
    change_weights(source_copy, lambda found: found.update({"language_model.extra.weight": torch.zeros(3)}))
    assert "language_model.extra.weight" in refusal(source_copy, tmp_path / "native")


def test_computed_buffers_are_passed_over(source_copy: Path, tmp_path: Path) -> None:
    buffers = {
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(6),
        "vision_tower.vision_model.embeddings.position_ids": torch.zeros(4900, dtype=torch.int64),
    }
    change_weights(source_copy, lambda found: found.update(buffers))
    assert not [name for name in tensors_of(convert_gens(source_copy, tmp_path / "n").folder) if name in buffers]


@pytest.mark.parametrize(
    ("tensor", "complaint"), [(torch.zeros(21, 48), "[21, 48]"), (torch.zeros(20, 48, dtype=torch.int32), "I32")]
)
def test_a_tensor_of_another_kind_is_named(
    source_copy: Path, tmp_path: Path, tensor: torch.Tensor, complaint: str
) -> None:
    name = "language_model.model.layers.1.mlp.experts.3.gate_proj.weight"
    change_weights(source_copy, lambda found: found.update({name: tensor}))
    text = refusal(source_copy, tmp_path / "native")
    assert complaint in text


@pytest.mark.parametrize("keep", [0, 5, 2000, -1])
def test_a_cut_file_is_named(source_copy: Path, tmp_path: Path, keep: int) -> None:
    path = source_copy / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    text = refusal(source_copy, tmp_path / "native")
    assert str(path) in text
    assert "cut" in text
    assert "download it again" in text


def test_a_file_that_is_cut_while_it_is_read_is_named(source_copy: Path, tmp_path: Path) -> None:
    path = source_copy / WEIGHTS
    size = path.stat().st_size

    def cut(done: int, total: int) -> None:
        os.truncate(path, size // 3)

    assert "is cut: it ends within" in refusal(source_copy, tmp_path / "native", shard_bytes=SHARD, tell=cut)


def test_missing_and_damaged_files_are_named(source_copy: Path, tmp_path: Path) -> None:
    index = source_copy / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"]["language_model.model.norm.weight"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps(listed))
    assert "model-00002-of-00002.safetensors" in refusal(source_copy, tmp_path / "n")
    shutil.copy(source_copy / WEIGHTS, source_copy / "model-00002-of-00002.safetensors")
    save_file({"other": torch.zeros(1)}, source_copy / "model-00002-of-00002.safetensors")
    assert "does not hold language_model.model.norm.weight" in refusal(source_copy, tmp_path / "n")
    index.write_text("[]")
    assert "lists no weights" in refusal(source_copy, tmp_path / "n")
    index.unlink()
    assert "has no weights" in refusal(source_copy, tmp_path / "n")
    (source_copy / "tokenizer.json").unlink()
    assert "tokenizer.json" in refusal(source_copy, tmp_path / "n")
    (source_copy / "config.json").unlink()
    assert "config.json" in refusal(source_copy, tmp_path / "n")
    assert "there is no folder" in refusal(tmp_path / "nowhere", tmp_path / "n")


def test_a_faulty_small_file_costs_no_work(source_copy: Path, tmp_path: Path) -> None:
    (source_copy / "generation_config.json").write_text("{")
    assert "generation_config.json" in refusal(source_copy, tmp_path / "native")
    assert not (tmp_path / "native").exists()


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30), limit=st.integers(1, 100))
def test_files_hold_every_tensor_once_in_order(sizes: list[int], limit: int) -> None:
    tensors = [NativeTensor(str(number), (size,), (), (), "zeros", "F32") for number, size in enumerate(sizes)]
    shards = plan_shards(tensors, limit=limit)
    assert [tensor for shard in shards for tensor in shard.tensors] == tensors
    assert all(len(shard.tensors) == 1 or sum(tensor.size for tensor in shard.tensors) <= limit for shard in shards)
    assert all(len(shard.header) % 8 == 0 for shard in shards)
