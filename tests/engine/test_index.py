"""Indexing through the engine: what is stored, what is not done twice, what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hybrid.answers import Answer
from hybrid.clip.open_clip import ClipEncoder
from hybrid.engine import Engine
from hybrid.engine.models import ModelPool
from hybrid.errors import (
    ArchiveFormatError,
    FrameDecodeError,
    IndexMismatchError,
    InputError,
    VideoError,
    VideoOpenError,
)
from hybrid.frames.registry import open_source
from hybrid.testing.untrained_clip import make_untrained_clip
from hybrid.values import Sampling

OpenEngine = Callable[..., Engine]
backends = pytest.mark.parametrize("backend", ["faiss", "lancedb"])


@pytest.fixture
def open_engine(open_engine: OpenEngine) -> OpenEngine:
    """Engines for which no sampler was named, so that nothing but CLIP is indexed (features: test_features.py)."""
    return partial(open_engine, sampler=None)


@backends
def test_the_index_holds_the_vectors_of_the_frames_at_their_times(
    open_engine: OpenEngine, demo_clip: Path, tiny_encoder: ClipEncoder, backend: str
) -> None:
    engine = open_engine(backend=backend)
    result = engine.index(demo_clip)
    assert (result.outcome, result.status, result.missing) == ("indexed", "done", 0)
    timeline = engine.archive.timeline(result.video_id)
    with open_source(demo_clip, Sampling()) as source:
        batches = list(source.read())
    frames = [image for batch in batches for image in batch.rgb]
    np.testing.assert_array_equal(timeline.pts_seconds, np.concatenate([b.pts_seconds for b in batches]))
    np.testing.assert_array_equal(timeline.frame_numbers, np.concatenate([b.frame_numbers for b in batches]))
    expected = np.concatenate(list(tiny_encoder.encode_frames(frames)))
    np.testing.assert_allclose(engine.archive.read(result.video_id), expected, atol=1e-3)
    # 29.97 frames a second: the frame at 20 s is the 599th, shown at 19.987 s, not "20 * 30".
    assert timeline.frame_numbers[20] == 599
    assert timeline.pts_seconds[20] == pytest.approx(599 * 1001 / 30000, abs=1e-4)


@backends
def test_the_second_time_there_is_nothing_to_do(
    open_engine: OpenEngine, demo_clip: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_engine(backend=backend).index(demo_clip)

    def must_not_open(*_: object, **__: object) -> None:
        pytest.fail("an unchanged video was opened again")

    monkeypatch.setattr("hybrid.engine.frames.decode_ahead.open_source", must_not_open)
    result = open_engine().index(demo_clip)
    assert (result.outcome, result.frames_decoded) == ("unchanged", 0)


def test_a_moved_video_is_known_by_its_content(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    engine = open_engine()
    first = engine.index(demo_clip)
    moved = tmp_path / "renamed.mp4"
    shutil.copy(demo_clip, moved)
    again = engine.index(moved)
    assert (again.outcome, again.video_id) == ("unchanged", first.video_id)


def test_changed_content_is_noticed_even_with_the_old_size_and_time(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    engine = open_engine()
    video = tmp_path / "video.mp4"
    shutil.copy(demo_clip, video)
    first = engine.index(video)
    before = video.stat()
    data = bytearray(video.read_bytes())
    data[-1] ^= 1
    video.write_bytes(data)
    os.utime(video, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert engine.index(video).video_id != first.video_id


@pytest.mark.parametrize(
    ("change", "says"),
    [({"rate": 2.0}, "rate: 1.0 -> 2.0"), ({"sampling": "keyframes"}, "policy: exact -> keyframes")],
)
def test_a_changed_configuration_is_noticed(
    open_engine: OpenEngine, demo_clip: Path, change: dict[str, object], says: str
) -> None:
    open_engine().index(demo_clip)
    engine = open_engine(**change)
    result = engine.index(demo_clip)
    assert result.outcome == "indexed"
    assert result.changed == (says,)
    assert engine.index(demo_clip).outcome == "unchanged"


def test_asking_with_another_encoder_is_refused_with_the_command_that_mends_it(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    open_engine().index(demo_clip)
    other = make_untrained_clip(tmp_path / "other-clip", seed=5)
    engine = open_engine(encoder=f"local-dir:{other}")
    with pytest.raises(IndexMismatchError, match=r"encoder\.model: tiny-clip -> other-clip.*hybrid index .*clip\.mp4"):
        engine.ask(demo_clip, "a red circle", fine=False)
    same_name = make_untrained_clip(tmp_path / "elsewhere" / "tiny-clip", seed=5)
    with pytest.raises(IndexMismatchError, match=r"encoder\.weights.*hybrid index .*clip\.mp4"):
        open_engine(encoder=f"local-dir:{same_name}").ask(demo_clip, "a red circle", fine=False)
    assert "encoder.weights" in " ".join(engine.index(demo_clip).changed)
    assert engine.ask(demo_clip, "a red circle", fine=False).frames


def test_asking_takes_rate_and_policy_from_the_index(open_engine: OpenEngine, demo_clip: Path) -> None:
    open_engine(rate=0.5).index(demo_clip)
    answer = open_engine().ask(demo_clip, "a red circle", fine=False, frames=100)
    assert [frame.ordinal for frame in answer.frames] == list(range(21))
    with pytest.raises(IndexMismatchError, match=r"rate: 0\.5 -> 1\.0"):
        open_engine(rate=1.0).ask(demo_clip, "a red circle", fine=False)


def test_an_index_in_another_precision_is_used_as_it_is_unless_one_is_asked_for(
    open_engine: OpenEngine, demo_clip: Path
) -> None:
    open_engine(dtype="bfloat16").index(demo_clip)
    automatic = open_engine()
    assert automatic.index(demo_clip).outcome == "unchanged"
    assert automatic.ask(demo_clip, "a red circle", fine=False).frames
    with pytest.raises(IndexMismatchError, match=r"encoder\.precision: bfloat16 -> float32"):
        open_engine(dtype="float32").ask(demo_clip, "a red circle", fine=False)


def test_a_frame_that_is_held_is_embedded_once(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine(rate=60.0)
    seen: list[int] = []
    real = ModelPool(engine.settings).encoder_for(None)

    class Counting:
        name, device, identity = real.name, real.device, real.identity

        def encode_frames(self, frames):
            def counted():
                for frame in frames:
                    seen.append(1)
                    yield frame

            return real.encode_frames(counted())

        encode_text = real.encode_text

    result = Engine(engine.archive, engine.settings, encoder=Counting()).index(demo_clip)
    vectors = engine.archive.read(result.video_id)
    timeline = engine.archive.timeline(result.video_id)
    assert result.frames == len(vectors) == len(timeline) > 2300
    assert len(seen) == len(np.unique(timeline.pts_seconds)) < 1201
    same = np.flatnonzero(np.diff(timeline.pts_seconds) == 0)
    np.testing.assert_array_equal(vectors[same], vectors[same + 1])


def test_a_damaged_index_is_made_anew(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    first = engine.index(demo_clip)
    (manifest,) = engine.archive.folder.rglob("manifest.json")
    manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])
    again = open_engine().index(demo_clip)
    assert (again.outcome, again.video_id, again.frames) == ("indexed", first.video_id, first.frames)
    assert open_engine().archive.verify(first.video_id).frames == first.frames


@pytest.mark.parametrize("content", [b"", b"This is no video.", bytes(range(256)) * 64])
def test_what_is_no_video_is_refused_and_leaves_nothing(
    open_engine: OpenEngine, tmp_path: Path, content: bytes
) -> None:
    engine = open_engine()
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(content)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        engine.index(bad)
    assert list(engine.archive.manifests()) == []


def test_a_path_that_is_not_there_is_refused(open_engine: OpenEngine, tmp_path: Path) -> None:
    with pytest.raises(VideoOpenError, match="no such file"):
        open_engine().index(tmp_path / "nothing.mp4")


def test_real_files_are_indexed_or_refused_with_a_reason(open_engine: OpenEngine, shared_data: Path) -> None:
    engine = open_engine()
    for video in sorted((shared_data / "videos").iterdir()):
        try:
            result = engine.index(video)
        except (VideoOpenError, FrameDecodeError) as exc:
            pytest.fail(f"{video.name}: {exc}")
        assert result.frames >= 1, video.name
        if video.name == "corrupted.mp4":
            assert result.note
    assert len(list(engine.archive.manifests())) == 8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"preset": "big"}, InputError),
        ({"rate": 0.0}, InputError),
        ({"sampling": "some"}, InputError),
        ({"decoder": "vlc"}, InputError),
        ({"backend": "sqlite"}, InputError),
        ({"prompt": "/no/such/prompt.json"}, InputError),
    ],
)
def test_options_that_are_not_legal_are_refused_at_once(
    open_engine: OpenEngine, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        open_engine(**options)


def test_the_backend_of_an_archive_cannot_be_changed_in_passing(open_engine: OpenEngine) -> None:
    open_engine(backend="faiss")
    with pytest.raises(ArchiveFormatError, match="faiss"):
        open_engine(backend="lancedb")


def test_a_video_that_changes_while_it_is_indexed_is_not_stored(
    open_engine: OpenEngine, demo_clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(demo_clip.read_bytes())
    engine = open_engine()
    real = ModelPool(engine.settings).encoder_for(None)

    class Changing:
        name, device, identity = real.name, real.device, real.identity
        encode_text = real.encode_text

        def encode_frames(self, frames):
            yield from real.encode_frames(frames)
            video.write_bytes(demo_clip.read_bytes() + b"more")

    with pytest.raises(VideoError, match="changed while it was indexed"):
        Engine(engine.archive, engine.settings, encoder=Changing()).index(video)
    assert list(engine.archive.manifests()) == []


def test_a_cut_file_is_partial(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    import av

    whole = tmp_path / "whole.mkv"
    with av.open(str(demo_clip)) as source, av.open(str(whole), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    engine = open_engine()
    assert engine.index(whole).status == "done"
    result = engine.index(cut)
    assert result.status == "partial"
    assert "cut" in str(result.note)
    assert 0 < result.frames < 41


def test_a_name_that_is_not_text_is_indexed(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    video = tmp_path / os.fsdecode(b"cl\xffip.mp4")
    video.write_bytes(demo_clip.read_bytes())
    engine = open_engine()
    result = engine.index(video)
    assert engine.archive.require(result.video_id).source.path == str(video)
    answer = engine.ask(video, "a red circle", fine=False)
    assert Answer.from_json(answer.to_json()) == answer


def test_an_encoder_without_a_precision_is_unchanged_the_second_time(open_engine: OpenEngine, demo_clip: Path) -> None:
    engine = open_engine()
    real = ModelPool(engine.settings).encoder_for(None)

    class Plain:
        name, device, identity = "plain", "cpu", {"model": "plain"}
        encode_frames, encode_text = real.encode_frames, real.encode_text

    mine = Engine(engine.archive, engine.settings, encoder=Plain())
    assert mine.index(demo_clip).outcome == "indexed"
    assert mine.index(demo_clip).outcome == "unchanged"


def test_options_that_are_not_said_stay_as_they_were(open_engine: OpenEngine, demo_clip: Path) -> None:
    open_engine(rate=0.5, sampling="keyframes", dtype="bfloat16").index(demo_clip)
    assert open_engine().index(demo_clip).outcome == "unchanged"
    changed = open_engine(rate=0.25).index(demo_clip)
    assert changed.outcome == "indexed"
    engine = open_engine()
    config = engine.archive.require(changed.video_id).config
    assert (config.rate, config.policy) == (0.25, "keyframes")
    assert config.encoder["precision"] == "float32"
    assert engine.index(demo_clip).outcome == "unchanged"
