"""Decoders and encoders are registered by their own names, and one more takes one file and one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hybrid.cli.app import app
from hybrid.clip.interface import FrameEncoder
from hybrid.clip.registry import ENCODERS, encoder_name_of, identity_of_name, load_encoder
from hybrid.engine import Engine
from hybrid.engine.settings import stored_decoder
from hybrid.errors import IndexMismatchError, InputError, VideoOpenError
from hybrid.frames.decoders.folder import FolderSource
from hybrid.frames.registry import DECODERS, DEFAULT_DECODER, FOLDER, open_source
from hybrid.registry import Registry
from hybrid.values import ByteArray, Sampling
from indexes.format.manifest import IndexConfig
from tests.contracts.test_frame_source import DECODER

GREYS = ["20", "240", "30", "250", "40", "40"]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for registry in (DECODERS, ENCODERS):
        monkeypatch.setattr(registry, "_modules", dict(registry._modules))


@pytest.fixture
def grey_video(tmp_path: Path) -> Path:
    video = tmp_path / "greys.txt"
    video.write_text("\n".join(GREYS))
    return video


@pytest.mark.parametrize("name", DECODER)
def test_a_decoder_is_registered_by_its_own_name(name: str) -> None:
    assert DECODERS.find(name).name == name


def test_folders_are_named_in_an_index_as_their_source_is() -> None:
    assert FolderSource.name == FOLDER
    assert FOLDER not in DECODERS.names
    assert DEFAULT_DECODER in DECODERS.names


@pytest.mark.parametrize("name", ENCODERS.names)
def test_a_kind_of_encoder_is_registered_by_its_own_name(name: str) -> None:
    assert ENCODERS.find(name).name == name


def test_an_unknown_decoder_is_refused_everywhere(grey_video: Path, tmp_path: Path) -> None:
    says = "'decrod'.*did you mean 'decord'.*egal are '?pyav'?, '?decord"
    for path in (grey_video, tmp_path):
        with pytest.raises(InputError, match=says):
            open_source(path, Sampling(), decoder="decrod")
    with pytest.raises(InputError, match=says):
        Engine.open(tmp_path / "archive", preset="tiny", decoder="decrod")
    command = ["index", str(grey_video), "--archive", str(tmp_path / "archive"), "--decoder", "decrod"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code != 0
    assert "did you mean 'decord'" in " ".join(str(result.exception or result.output).split())
    assert not (tmp_path / "archive").exists()


def test_an_index_of_an_unknown_decoder_is_not_read_with_another(
    tmp_path: Path, restored: None, grey_video: Path
) -> None:
    DECODERS.register("grey_lines", "tests.contracts.toys.grey_lines")
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu", decoder="grey_lines") as engine:
        engine.index(grey_video)
    del DECODERS._modules["grey_lines"]
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu") as engine:
        says = r"made with the decoder 'grey_lines', which is not known here; .* --decoder pyav"
        with pytest.raises(VideoOpenError, match=says):
            list(engine.read_frames(grey_video, [0]))
        answer = engine.ask(grey_video, "Is it bright?", frames=2)
        assert any("which is not known here" in str(stage.fallback_reason) for stage in answer.stages)
        assert len(answer.frames) == 2


@pytest.mark.parametrize("name", [*DECODERS.names, FOLDER])
def test_frames_are_read_again_with_the_decoder_of_the_index(name: str) -> None:
    config = IndexConfig(encoder={"model": "x"}, rate=1.0, policy="exact", decoder=name)
    assert stored_decoder(config, Path("video.mp4")) == name


def test_one_more_decoder_takes_one_file_and_one_line(
    tmp_path: Path, clip_folder: Path, restored: None, grey_video: Path
) -> None:
    DECODERS.register("grey_lines", "tests.contracts.toys.grey_lines")
    archive, encoder = tmp_path / "archive", f"local-dir:{clip_folder}"
    command = ["index", str(grey_video), "--archive", str(archive), "--encoder", encoder, "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--decoder", "grey_lines", "--workers", "0"])
    assert result.exit_code == 0, result.output
    # Another process, which sets no decoder, reads the frames with that of the index.
    with Engine.open(archive, encoder=encoder, device="cpu") as engine:
        assert len(engine.archive.timeline(engine.archive.identify(grey_video))) == len(GREYS)
        answer = engine.ask(grey_video, "Is it bright?", frames=3, fine=False)
        assert len(answer.frames) == 3
        frames = dict(engine.read_frames(grey_video, [1, 4]))
        assert [int(rgb.mean()) for rgb in frames.values()] == [240, 40]
        assert engine.archive.require(answer.video_id).config.decoder == "grey_lines"
        assert engine.index(grey_video).outcome == "unchanged"


def test_one_more_encoder_takes_one_file_and_one_line(tmp_path: Path, restored: None, clip_folder: Path) -> None:
    ENCODERS.register("brightness", "tests.contracts.toys.brightness")
    DECODERS.register("grey_lines", "tests.contracts.toys.grey_lines")
    video = tmp_path / "greys.txt"
    video.write_text("\n".join(GREYS))
    archive = tmp_path / "archive"
    with Engine.open(archive, encoder="brightness:64", device="cpu", decoder="grey_lines") as engine:
        engine.index(video)
        bright = engine.ask(video, "Where is it bright?", frames=2, fine=False)
        dark = engine.ask(video, "Where is it dark?", frames=2, fine=False)
    assert [frame.ordinal for frame in bright.frames] == [1, 3]
    assert [frame.ordinal for frame in dark.frames] == [0, 2]
    with Engine.open(archive, encoder=f"local-dir:{clip_folder}", device="cpu") as engine:
        with pytest.raises(IndexMismatchError, match=r"encoder\.encoder: .*--encoder brightness:64"):
            engine.ask(video, "Where is it bright?", fine=False)


@pytest.fixture(scope="module", params=["local-dir", "folder", "hf-hub", "brightness"])
def encoder(
    request: pytest.FixtureRequest, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrameEncoder]:
    """One encoder of every form of name, those of the toy included."""
    names = {"local-dir": f"local-dir:{clip_folder}", "folder": str(clip_folder), "hf-hub": "hf-hub:made/clip"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ENCODERS, "_modules", {**ENCODERS._modules, "brightness": "tests.contracts.toys.brightness"})
        if request.param == "hf-hub":
            cache = tmp_path_factory.mktemp("hub")
            commit = "0" * 40
            (cache / "models--made--clip" / "refs").mkdir(parents=True)
            (cache / "models--made--clip" / "refs" / "main").write_text(commit)
            shutil.copytree(clip_folder, cache / "models--made--clip" / "snapshots" / commit)
            patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        yield load_encoder(names.get(request.param, "brightness:64"), device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def pictures() -> list[ByteArray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 60 * k + 1, (40 + k, 64, 3), dtype=np.uint8) for k in range(5)]


def vectors_of(encoder: FrameEncoder, frames: list[ByteArray]) -> Any:
    return np.concatenate(list(encoder.encode_frames(frames)))


def test_frames_become_unit_vectors_in_order(encoder: FrameEncoder, pictures: list[ByteArray]) -> None:
    vectors = vectors_of(encoder, pictures)
    assert vectors.dtype == np.float32
    assert vectors.shape[0] == len(pictures)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[::-1], vectors_of(encoder, pictures[::-1]), atol=1e-5)
    assert not np.allclose(vectors[0], vectors[-1], atol=1e-4)
    assert list(encoder.encode_frames([])) == []


def test_a_text_is_a_unit_vector_of_the_same_space(encoder: FrameEncoder, pictures: list[ByteArray]) -> None:
    text = encoder.encode_text("a red circle")
    assert text.vector.dtype == np.float32
    assert text.vector.shape == vectors_of(encoder, pictures[:1])[0].shape
    assert np.linalg.norm(text.vector) == pytest.approx(1, abs=1e-5)
    assert 0 < text.tokens <= text.context_length
    assert text.note is None
    with pytest.raises(InputError):
        encoder.encode_text("  ")


def test_an_identity_names_the_kind_and_holds_what_the_name_says(encoder: FrameEncoder) -> None:
    assert encoder.identity["encoder"] in (*ENCODERS.names, "brightness")
    assert identity_of_name(encoder.name).items() <= encoder.identity.items()
    assert encoder.identity["model"] in encoder_name_of(encoder.identity)
    assert json.loads(json.dumps(dict(encoder.identity))) == dict(encoder.identity)
    assert encoder.device == "cpu"


@pytest.mark.parametrize(
    ("name", "guess"),
    [("local-dri:folder", "local-dir"), ("hfhub:a/b", "hf-hub"), ("openclip:ViT-B-32/openai", "open_clip")],
)
def test_an_unknown_kind_of_encoder_is_refused(name: str, guess: str, tmp_path: Path) -> None:
    says = rf"no kind of encoder '.*'; did you mean '{guess}'. Legal are open_clip"
    with pytest.raises(InputError, match=says):
        load_encoder(name)
    with pytest.raises(InputError, match=says):
        Engine.open(tmp_path / "archive", encoder=name)


def test_a_registry_imports_an_entry_when_it_is_asked_for() -> None:
    registry: Registry[Any] = Registry("thing", "THING", {"there": "no.such.module"})
    assert registry.names == ("there",)
    with pytest.raises(ModuleNotFoundError):
        registry.find("there")
