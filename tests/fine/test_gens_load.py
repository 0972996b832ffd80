"""Opening checkpoints: what is found, what is refused, and that every failure is one readable error."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError
from hybrid.fine.checkpoint import find_checkpoint
from hybrid.fine.interface import read_window
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import GENS_QWEN


def edit(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (document | changes).items() if value is not ...}))


def refusal(folder: Any, **options: Any) -> str:
    """The text of the error, which is one line."""
    with pytest.raises(ModelLoadError) as caught:
        load_scorer(folder, device="cpu", **options)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


def test_identity_tells_what_was_loaded(gens_folder: Path) -> None:
    scorer: Any = load_scorer(gens_folder, device="cpu")
    assert scorer.name == scorer.identity["name"] == str(gens_folder)
    assert scorer.device == "cpu"
    assert scorer.prompt.frame_size == (112, 112)
    assert scorer.identity["dtype"] == "float32"
    # The prompt beside the checkpoint was read.
    assert scorer.prompt.max_new_tokens == 64
    assert scorer.identity["prompt"] == scorer.prompt.digest != GENS_QWEN.digest
    again: Any = load_scorer(gens_folder, device="cpu", dtype="bfloat16", prompt=GENS_QWEN)
    assert again.prompt is GENS_QWEN
    differing = {key for key in scorer.identity if scorer.identity[key] != again.identity[key]}
    assert differing == {"dtype", "prompt"}


def test_hashes_see_one_changed_bit(checkpoint_copy: Path) -> None:
    before = find_checkpoint(checkpoint_copy)
    digests = before.weights_digest(), before.settings_digest()
    weights = checkpoint_copy / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    after = find_checkpoint(checkpoint_copy)
    assert after.weights_digest() != digests[0]
    assert after.settings_digest() == digests[1]
    edit(checkpoint_copy / "generation_config.json", repetition_penalty=1.1)
    assert after.settings_digest() != digests[1]


def test_hash_of_a_file_of_several_chunks(checkpoint_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.fine.checkpoint._HASH_CHUNK", 1 << 16)
    files = find_checkpoint(checkpoint_copy)
    first = files.weights_digest()
    assert first == files.weights_digest()
    raw = bytearray(files.weights[0].read_bytes())
    raw[200_000] ^= 1
    files.weights[0].write_bytes(raw)
    assert files.weights_digest() != first


def test_sharded_checkpoint_is_the_same_model(
    checkpoint_copy: Path, reference_model: Any, make_scorer: Callable[..., Any], make_frames: Callable[..., Any]
) -> None:
    (checkpoint_copy / "model.safetensors").unlink()
    reference_model.save_pretrained(checkpoint_copy, max_shard_size="500KB")
    files = find_checkpoint(checkpoint_copy)
    assert len(files.weights) > 2
    assert files.parameters == sum(parameter.numel() for parameter in reference_model.parameters())
    frames = make_frames(2)
    assert (
        read_window(make_scorer(checkpoint_copy), frames, "Who?").text
        == read_window(make_scorer(), frames, "Who?").text
    )
    files.weights[1].unlink()
    assert files.weights[1].name in refusal(checkpoint_copy)


@pytest.mark.parametrize("name", ["no/such/folder", "./gens", "gens", "/nowhere/gens", "~/nowhere-gens", "C:\\gens"])
def test_missing_folder(name: str) -> None:
    assert name in refusal(name)
    assert "there is no folder" in refusal(name)
    assert "there is no folder" in refusal(Path(name))


@pytest.mark.parametrize("name", ["yaolily/GenS-qwen2d5-vl-3b", "yaolily/GenS-qwen2d5-vl-3b@main"])
def test_hub_name_without_a_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    text = refusal(name)
    assert name in text
    assert "hf download yaolily/GenS-qwen2d5-vl-3b" in text
    assert "--sampler FOLDER" in text


def test_impossible_hub_name() -> None:
    assert "neither a folder nor a hub name" in refusal("a b/c d")


def test_hub_cache_is_used_offline(gens_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--small-gens"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(gens_folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    scorer = load_scorer("someone/small-gens", device="cpu")
    assert scorer.name == "someone/small-gens"
    assert scorer.identity["revision"] == commit


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(checkpoint_copy: Path, name: str) -> None:
    (checkpoint_copy / name).unlink()
    assert name in refusal(checkpoint_copy)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"x" * 5000])
def test_damaged_file_is_one_error(checkpoint_copy: Path, name: str, content: bytes) -> None:
    (checkpoint_copy / name).write_bytes(content)
    refusal(checkpoint_copy)


@pytest.mark.parametrize("keep", [0, 4, 100, 20_000, -1])
def test_cut_weights(checkpoint_copy: Path, keep: int) -> None:
    path = checkpoint_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    text = refusal(checkpoint_copy)
    assert str(path) in text
    assert "download it again" in text


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    packed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + raw[8 + length :])


@pytest.mark.parametrize("key", ["model.language_model.layers.0.mlp.up_proj.weight", "visual.merger.mlp.0.weight"])
def test_missing_key_is_named(checkpoint_copy: Path, key: str) -> None:
    """A checkpoint that lacks a tensor must not run on random numbers in its place."""

    def rename(header: dict[str, Any]) -> None:
        found = next(name for name in header if name.endswith(key.removeprefix("model.language_model.")))
        header["nobody.knows.this"] = header.pop(found)

    rewrite_header(checkpoint_copy / "model.safetensors", rename)
    text = refusal(checkpoint_copy)
    assert "missing keys" in text
    assert key.rpartition("layers.0.")[2] in text


@pytest.mark.parametrize(
    ("text", "vision"), [("model.", "visual."), ("model.language_model.", "model.visual.")], ids=["2025", "later"]
)
@pytest.mark.parametrize("head", [False, True])
def test_layouts_of_published_weights(
    checkpoint_copy: Path,
    make_scorer: Callable[..., Any],
    make_frames: Callable[..., Any],
    text: str,
    vision: str,
    head: bool,
) -> None:
    """Tensors were named otherwise before transformers 4.52; some files also hold the tied output layer."""
    from safetensors.torch import load_file, save_file

    path = checkpoint_copy / "model.safetensors"
    renamed: dict[str, Any] = {}
    for name, tensor in load_file(path).items():
        bare = name.removeprefix("model.").removeprefix("language_model.")
        renamed[vision + bare.removeprefix("visual.") if bare.startswith("visual.") else text + bare] = tensor
    if head:
        renamed["lm_head.weight"] = renamed[text + "embed_tokens.weight"].clone()
    save_file(renamed, path, metadata={"format": "pt"})
    frames = make_frames(2)
    assert (
        read_window(make_scorer(checkpoint_copy), frames, "Who?").text
        == read_window(make_scorer(), frames, "Who?").text
    )


def test_weights_of_another_size(checkpoint_copy: Path) -> None:
    config = json.loads((checkpoint_copy / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 256
    (checkpoint_copy / "config.json").write_text(json.dumps(config))
    assert "config.json" in refusal(checkpoint_copy) or "cannot be loaded" in refusal(checkpoint_copy)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [("yi_vl", "hybrid convert-gens"), ("aria", "490x490"), ("llama", "'llama'"), (..., "None")],
)
def test_other_architectures(checkpoint_copy: Path, kind: Any, complaint: str) -> None:
    edit(checkpoint_copy / "config.json", model_type=kind)
    assert complaint in refusal(checkpoint_copy)


def test_original_aria_checkpoint_is_named(shared_data: Path) -> None:
    assert "original GenS on Aria" in refusal(shared_data / "golden" / "yi_vl-tiny-norm")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size"),
        ({"num_beams": 4}, "num_beams"),
        ({"suppress_tokens": [3]}, "suppress_tokens"),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
    ],
)
def test_settings_that_are_not_followed_are_refused(
    checkpoint_copy: Path, changes: dict[str, Any], complaint: str
) -> None:
    edit(checkpoint_copy / "generation_config.json", **changes)
    assert complaint in refusal(checkpoint_copy)


def test_sampling_settings_do_no_harm(checkpoint_copy: Path) -> None:
    """Qwen2.5-VL ships do_sample and a temperature near 0; decoding is greedy all the same."""
    edit(checkpoint_copy / "generation_config.json", do_sample=True, temperature=1e-6, top_k=1, top_p=0.001)
    load_scorer(checkpoint_copy, device="cpu")


def test_patches_that_do_not_fit_the_model(checkpoint_copy: Path) -> None:
    edit(checkpoint_copy / "preprocessor_config.json", patch_size=16)
    edit(checkpoint_copy / "hybrid_prompt.json", frame_size=[128, 128])
    assert "patch, merge and temporal sizes (14, 2, 2)" in refusal(checkpoint_copy)


def test_tokens_that_do_not_fit_the_model(checkpoint_copy: Path) -> None:
    edit(checkpoint_copy / "config.json", image_token_id=3)
    assert "<|image_pad|>" in refusal(checkpoint_copy)


def test_bad_prompts(checkpoint_copy: Path) -> None:
    edit(checkpoint_copy / "hybrid_prompt.json", frame_size=[100, 112])
    assert "multiples of 28" in refusal(checkpoint_copy)
    edit(checkpoint_copy / "hybrid_prompt.json", colour="red")
    assert "colour" in refusal(checkpoint_copy)


def test_weights_that_no_memory_holds(gens_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are read: the system would end the process without a word."""
    monkeypatch.setattr("hybrid.fine.pretrained.free_host_bytes", lambda: 100_000)
    with pytest.raises(OutOfMemoryError, match=r"this machine has 0\.0 GB of memory free.*--dtype bfloat16"):
        load_scorer(gens_folder, device="cpu")


def test_bad_device_and_dtype(gens_folder: Path) -> None:
    with pytest.raises(InputError):
        load_scorer(gens_folder, device="abacus")
    with pytest.raises(InputError):
        load_scorer(gens_folder, device="cpu", dtype="int3")


def test_tokenizer_that_cannot_keep_a_question_apart(
    gens_folder: Path, reference_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With such a tokenizer a question that contains <|image_pad|> would stand for a frame."""
    kind = type(reference_tokenizer)
    encode = kind.encode

    def careless(self: Any, text: str, **options: Any) -> Any:
        return encode(self, text, **(options | {"split_special_tokens": False}))

    monkeypatch.setattr(kind, "encode", careless)
    assert "as plain text" in refusal(gens_folder)
