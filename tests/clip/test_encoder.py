"""The CLIP encoder against open_clip itself, on a small checkpoint of the true architecture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid.clip.open_clip import ClipEncoder, canonical_name
from hybrid.clip.registry import load_encoder
from hybrid.errors import InputError, ModelLoadError, OutOfMemoryError
from hybrid.testing.untrained_clip import make_untrained_clip
from hybrid.values import ByteArray


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> ClipEncoder:
    return load_encoder(f"local-dir:{clip_folder}", device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def pictures() -> list[ByteArray]:
    rng = np.random.default_rng(7)
    sizes = [(48, 64), (90, 160), (64, 64), (200, 100)] * 3
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes][:11]


def vectors_of(encoder: ClipEncoder, frames: list[ByteArray]) -> np.ndarray:
    return np.concatenate(list(encoder.encode_frames(frames)))


def test_vectors_are_those_of_open_clip(encoder: ClipEncoder, clip_folder: Path, pictures: list[ByteArray]) -> None:
    import open_clip
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    model.eval()
    with torch.inference_mode():
        pixels = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
        expected = model.encode_image(pixels, normalize=True).numpy()
        text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["a red circle"]), normalize=True)
    np.testing.assert_allclose(vectors_of(encoder, pictures), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_text("a red circle").vector, text[0].numpy(), atol=1e-6)


def test_vectors_have_length_one_and_keep_their_order(encoder: ClipEncoder, pictures: list[ByteArray]) -> None:
    vectors = vectors_of(encoder, pictures)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([vectors_of(encoder, [picture]) for picture in pictures])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)


def test_blocks_hold_a_fixed_number_of_frames(encoder: ClipEncoder, pictures: list[ByteArray]) -> None:
    assert [len(block) for block in encoder.encode_frames(pictures)] == [4, 4, 3]
    assert list(encoder.encode_frames([])) == []


def test_a_device_that_is_too_small_for_a_batch_takes_it_in_parts(
    clip_folder: Path, encoder: ClipEncoder, pictures: list[ByteArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load_encoder(str(clip_folder), device="cpu", batch_size=8)
    real, sizes = small.model.encode_image, []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 3:
            raise RuntimeError("CUDA error: out of memory")
        sizes.append(len(pixels))
        return real(pixels)

    monkeypatch.setattr(small.model, "encode_image", encode)
    np.testing.assert_allclose(vectors_of(small, pictures), vectors_of(encoder, pictures), atol=1e-5)
    assert sum(sizes) == len(pictures)
    monkeypatch.setattr(small.model, "encode_image", lambda pixels: encode(pixels.repeat(9, 1, 1, 1)))
    with pytest.raises(OutOfMemoryError):
        vectors_of(small, pictures)


def test_frames_are_taken_as_they_are_needed(encoder: ClipEncoder, pictures: list[ByteArray]) -> None:
    taken = 0

    def counted() -> Iterator[ByteArray]:
        nonlocal taken
        for picture in pictures:
            taken += 1
            yield picture

    next(encoder.encode_frames(counted()))
    assert taken == 4


def test_a_text_that_is_too_long_is_said(encoder: ClipEncoder) -> None:
    assert encoder.encode_text("a red circle").note is None
    long = encoder.encode_text("a red circle and " * 40)
    assert long.tokens > long.context_length == 77
    assert long.note is not None
    assert str(long.tokens) in long.note


@pytest.mark.parametrize(("words", "fits"), [(75, True), (76, False)])
def test_the_limit_is_counted_with_the_marks_of_start_and_end(encoder: ClipEncoder, words: int, fits: bool) -> None:
    text = encoder.encode_text(" ".join(["red"] * words))
    assert text.tokens == words + 2
    assert (text.note is None) == fits


def test_an_empty_question_is_refused(encoder: ClipEncoder) -> None:
    with pytest.raises(InputError, match="empty"):
        encoder.encode_text("  \n")


def test_the_identity_tells_weights_preprocessing_and_precision_apart(
    encoder: ClipEncoder, clip_folder: Path, tmp_path: Path
) -> None:
    same = load_encoder(str(clip_folder), device="cpu")
    assert same.identity == encoder.identity
    half = load_encoder(str(clip_folder), device="cpu", dtype="bfloat16")
    assert {key for key in half.identity if half.identity[key] != same.identity[key]} == {"precision"}

    other = make_untrained_clip(tmp_path / clip_folder.name, seed=1)
    changed = load_encoder(str(other), device="cpu").identity
    assert {key for key in changed if changed[key] != same.identity[key]} == {"weights"}

    config = json.loads((other / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["interpolation"] = "bilinear"
    shutil.copy(clip_folder / "open_clip_model.safetensors", other)
    (other / "open_clip_config.json").write_text(json.dumps(config))
    changed = load_encoder(str(other), device="cpu").identity
    assert {key for key in changed if changed[key] != same.identity[key]} == {"preprocess"}


def test_half_precision_is_close(encoder: ClipEncoder, clip_folder: Path, pictures: list[ByteArray]) -> None:
    half = load_encoder(str(clip_folder), device="cpu", dtype="bfloat16")
    cosines = (vectors_of(encoder, pictures) * vectors_of(half, pictures)).sum(axis=1)
    assert cosines.min() > 0.999


def test_the_same_seed_makes_the_same_checkpoint(clip_folder: Path, tmp_path: Path) -> None:
    again = make_untrained_clip(tmp_path / "again")
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        assert (again / name).read_bytes() == (clip_folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", ("ViT-B-32", "laion2b_s34b_b79k")),
        ("ViT-L-14/weights/file.pt", ("ViT-L-14", "weights/file.pt")),
        ("hf-hub:a/b", ("hf-hub:a/b", None)),
        ("local-dir:/a/b", ("local-dir:/a/b", None)),
    ],
)
def test_names_of_the_field(name: str, parts: tuple[str, str | None]) -> None:
    assert canonical_name(name) == parts


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("ViT-B-32", InputError, "ARCHITECTURE/TAG"),
        ("ViT-B-33/openai", InputError, "ViT-B-16"),
        ("ViT-B-32/no_such_tag", InputError, "laion2b_s34b_b79k"),
        ("ViT-B-32/openai", InputError, "ViT-B-32-quickgelu/openai"),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", InputError, "no pretrained tag"),
        ("local-dir:/no/such/folder", ModelLoadError, "open_clip_config.json"),
        ("hf-hub:no/such-model", ModelLoadError, "--preset tiny"),
    ],
)
def test_a_name_that_cannot_be_loaded_says_what_would(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        load_encoder(name, device="cpu")


def test_a_cut_checkpoint_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(clip_folder, broken)
    weights = broken / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_encoder(str(broken), device="cpu")


def test_a_folder_without_weights_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    with pytest.raises(ModelLoadError):
        load_encoder(f"local-dir:{tmp_path}", device="cpu")


def test_an_unknown_device_or_precision_is_refused(clip_folder: Path) -> None:
    with pytest.raises(InputError, match="device is 'gpu'"):
        load_encoder(str(clip_folder), device="gpu")
    with pytest.raises(InputError, match="'float32'"):
        load_encoder(str(clip_folder), device="cpu", dtype="int8")
    with pytest.raises(InputError, match="batch_size"):
        load_encoder(str(clip_folder), device="cpu", batch_size=0)


@pytest.mark.gpu
def test_vectors_on_cuda_are_close_to_those_on_the_cpu(
    encoder: ClipEncoder, clip_folder: Path, pictures: list[ByteArray]
) -> None:
    on_cuda = load_encoder(str(clip_folder), device="cuda", dtype="float32")
    np.testing.assert_allclose(vectors_of(on_cuda, pictures), vectors_of(encoder, pictures), atol=1e-3)
