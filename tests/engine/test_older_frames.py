"""An index made by older rules, of a file whose frames are others now, is known as such and never mixed with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import blake3
import pytest

from hybrid.answers import Answer, Stage
from hybrid.engine import Engine
from hybrid.engine.batch.estimate import estimate_run
from hybrid.errors import StageFailedError, VideoOpenError
from hybrid.frames.rules import FRAME_RULES, VIDEO_CHANGES, Indexed, frames_changed_reason
from hybrid.values import SamplingPolicy
from indexes.format.manifest import parse_manifest
from indexes.maintenance.transfer import copy_index, export_index, import_index, read_export
from indexes.open_archive import open_archive
from tests.engine.conftest import Counted, counted_from
from tests.frames.test_display import APERTURES, PIXEL_CROPS, TURNED, with_aperture, with_matrix, with_pixel_crop
from tests.make_kinds import KINDS
from tests.make_videos import encode, x264

OpenEngine = Callable[..., Engine]
CASES = Path(__file__).parent.parent / "data" / "cases"
QUESTION = "a red circle"


@pytest.fixture
def scorer(tiny_scorer: object) -> Counted:
    return counted_from(tiny_scorer)


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    return shutil.copy(CASES / "hflip.mp4", tmp_path / "mirrored.mp4")


def without_rules(data: bytes) -> bytes:
    """A manifest file without the number of rules, and with the digest of the rest (docs/format.md)."""
    document = json.loads(data)
    del document["frame_rules"], document["digest"]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    document["digest"] = blake3.blake3(text.encode()).hexdigest(length=16)
    return json.dumps(document).encode()


def as_of_old(engine: Engine) -> None:
    """Make every manifest what the version before wrote: without a number of rules."""
    for manifest in engine.archive.manifests():
        path = engine.archive.folder / "videos" / manifest.video_id / "manifest.json"
        path.write_bytes(without_rules(path.read_bytes()))
        assert engine.archive.require(manifest.video_id).frame_rules == 1


def stage(answer: Answer, name: str) -> Stage:
    return next(stage for stage in answer.stages if stage.name == name)


def rules_of(engine: Engine) -> list[int]:
    return [manifest.frame_rules for manifest in engine.archive.manifests()]


def test_asking_an_index_of_other_frames_does_not_read_the_video(open_engine: OpenEngine, mirrored: Path) -> None:
    engine = open_engine()
    engine.index(mirrored, features=False)
    as_of_old(engine)
    answer = engine.ask(mirrored, QUESTION, frames=4)
    reason = stage(answer, "frames").fallback_reason or ""
    assert "made by older rules" in reason
    assert "display matrix, which mirrors" in reason
    assert f"hybrid index {mirrored} --archive {engine.archive.uri}" in reason
    assert not stage(answer, "gens").ran
    assert len(answer.frames) == 4  # of the coarse stage, which reads the index alone
    with pytest.raises(StageFailedError, match="older rules"):
        engine.ask(mirrored, QUESTION, strict=True)
    with pytest.raises(VideoOpenError, match="older rules"):
        list(engine.read_frames(mirrored, [0, 1]))


def test_stored_features_of_old_frames_and_new_frames_do_not_meet(
    open_engine: OpenEngine, mirrored: Path, scorer: Counted
) -> None:
    engine = open_engine(scorer=scorer)
    engine.index(mirrored, features=False)
    engine.ask(mirrored, QUESTION, window=3)  # stores the features of three of its eight frames
    assert sum(scorer.encoded) == 3
    as_of_old(engine)
    stored = engine.ask(mirrored, QUESTION, window=3)
    assert stage(stored, "gens").ran  # from features alone: they and the vectors are of the same frames
    mixed = engine.ask(mirrored, QUESTION, window=8)
    assert sum(scorer.encoded) == 3
    assert "older rules" in (stage(mixed, "frames").fallback_reason or "")
    assert engine.index(mirrored, features=False).outcome == "indexed"
    assert not engine.archive.feature_lists(next(iter(engine.archive.manifests())))
    again = engine.ask(mirrored, QUESTION, window=8)
    assert stage(again, "frames").fallback_reason is None
    assert sum(scorer.encoded) == 3 + 8


def test_indexing_again_makes_it_anew_and_says_why(open_engine: OpenEngine, mirrored: Path) -> None:
    engine = open_engine()
    assert engine.index(mirrored).outcome == "indexed"
    assert rules_of(engine) == [FRAME_RULES]
    assert engine.index(mirrored).outcome == "unchanged"
    as_of_old(engine)
    estimate = estimate_run(engine.archive, [mirrored], engine.settings)
    assert (estimate.indexed, estimate.replaced) == (0, 1)
    result = engine.index(mirrored)
    assert result.outcome == "indexed"
    assert result.changed == ("frames: its display matrix, which mirrors or is singular, is read rightly now",)
    assert rules_of(engine) == [FRAME_RULES]
    assert engine.index(mirrored).outcome == "unchanged"
    assert stage(engine.ask(mirrored, QUESTION), "frames").fallback_reason is None


def test_an_index_of_the_same_frames_is_taken_as_it_is(
    open_engine: OpenEngine, demo_clip: Path, scorer: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(scorer=scorer)
    engine.index(demo_clip, features=True)
    encoded = sum(scorer.encoded)
    as_of_old(engine)
    assert stage(engine.ask(demo_clip, QUESTION), "frames").fallback_reason is None
    assert estimate_run(engine.archive, [demo_clip], engine.settings).indexed == 1
    assert engine.index(demo_clip, features=True).outcome == "unchanged"
    assert rules_of(engine) == [FRAME_RULES]
    assert sum(scorer.encoded) == encoded  # features are still there
    engine.archive.verify(engine.archive.identify(demo_clip))

    def must_not_open(*_: object, **__: object) -> None:
        pytest.fail("a video that was looked at already was opened again")

    monkeypatch.setattr("hybrid.frames.rules.open_stream", must_not_open)
    assert engine.index(demo_clip, features=True).outcome == "unchanged"


def test_a_folder_of_16_bit_images_is_made_anew(open_engine: OpenEngine, tmp_path: Path) -> None:
    folder = shutil.copytree(CASES / "gray16", tmp_path / "frames")
    engine = open_engine()
    engine.index(folder)
    as_of_old(engine)
    result = engine.index(folder)
    assert result.changed == ("frames: 4 of its images have grey of 16 bits, which is scaled now",)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    plain = encode(folder / "plain.mp4", "libx264", options=x264(), gop=30, frames=60)
    turned = {name: with_matrix(folder / f"{k}.mp4", plain, TURNED[name]) for k, name in enumerate(TURNED)}
    return {
        **turned,
        "packed": CASES / "xvid_packed.avi",
        "programme stream": CASES / "dvd.vob",
        "not packed": encode(folder / "mpeg4.avi", "mpeg4", options={"bf": "2", "b": "1M"}, gop=50, frames=60),
        "pixel crop": with_pixel_crop(folder / "crop.mkv", PIXEL_CROPS[0]),
        "aperture": with_aperture(folder / "crop.mp4", APERTURES[0]),
        "no aperture": with_aperture(folder / "no_crop.mp4", APERTURES[4]),
        "left crop": encode(folder / "l.mkv", "libx264", options=x264(x264_params="crop-rect=16,8,4,2"), frames=30),
        "other crop": encode(folder / "r.mkv", "libx264", options=x264(x264_params="crop-rect=0,8,4,2"), frames=30),
    }


CHANGED = {"mirrored", "upside down", "transposed", "transversed", "mirrored, halved", "zeros", "one zero"}
CHANGED |= {"pixel crop", "aperture", "left crop", "packed", "programme stream"}


def test_the_files_that_are_read_otherwise_are_known(kinds: dict[str, Path]) -> None:
    reasons = {
        name: frames_changed_reason(path, since=1, decoder="pyav", policy="exact") for name, path in kinds.items()
    }
    assert {name for name, reason in reasons.items() if reason is not None} == CHANGED
    of_exact = {change.reason for change in VIDEO_CHANGES if "key frames" not in change.reason}
    assert set(filter(None, reasons.values())) == of_exact
    for name in CHANGED:
        assert frames_changed_reason(kinds[name], since=FRAME_RULES, decoder="pyav", policy="exact") is None
        assert frames_changed_reason(kinds[name], since=1, decoder="decord", policy="exact") is None


def test_the_number_travels_with_an_index(open_engine: OpenEngine, mirrored: Path, tmp_path: Path) -> None:
    engine = open_engine()
    video_id = engine.index(mirrored).video_id
    export_index(engine.archive, engine.archive.require(video_id), tmp_path / "new.hybrid")
    as_of_old(engine)
    export_index(engine.archive, engine.archive.require(video_id), tmp_path / "old.hybrid")
    with open_archive(tmp_path / "other") as other:
        for name, rules in (("old", 1), ("new", FRAME_RULES)):
            import_index(other, read_export(tmp_path / f"{name}.hybrid"), replace=True)
            assert other.require(video_id).frame_rules == rules
            other.remove(video_id)
        copy_index(engine.archive, other, engine.archive.require(video_id))
        assert other.require(video_id).frame_rules == 1


def test_a_manifest_that_states_none_is_of_the_first_rules(open_engine: OpenEngine, mirrored: Path) -> None:
    engine = open_engine()
    video_id = engine.index(mirrored).video_id
    data = without_rules(engine.archive.require(video_id).to_bytes())
    assert parse_manifest(data, video_id=video_id, where="here").frame_rules == 1


def test_key_frames_without_a_proven_rule_are_others(tmp_path: Path) -> None:
    """Of H.263 in AVI, whose packets all bear the key flag, each was decoded alone."""
    made = {kind.name: kind.make(tmp_path) for kind in KINDS if kind.name in ("h263p_avi", "avc_mp4", "mjpeg_mov")}
    reasons = {
        (name, policy): frames_changed_reason(path, since=1, decoder="pyav", policy=policy)
        for name, path in made.items()
        for policy in get_args(SamplingPolicy)
    }
    assert {about for about, reason in reasons.items() if reason is not None} == {("h263p_avi", "keyframes")}
    assert "no entry rule is proven" in str(reasons["h263p_avi", "keyframes"])


@pytest.mark.parametrize(
    ("name", "indexed", "reason"),
    [
        ("last_1h.mp4", Indexed(3607.96, False, 0), "8.00 s long by today's rules, not 3607.96 s"),
        ("subs.mkv", Indexed(8.0, True, 0), "was taken for cut, and is whole"),
        ("pid_change.ts", Indexed(8.0, False, 0), "is not read whole, which was not noticed"),
        ("cat.webm", Indexed(8.0, False, 0), "is not read whole, which was not noticed"),
        ("subs.mkv", Indexed(8.0, False, 0), None),
        ("subs.mkv", Indexed(8.0, True, 2), None),
    ],
)
def test_a_length_that_is_judged_otherwise_makes_another_index(name: str, indexed: Indexed, reason: str | None) -> None:
    found = frames_changed_reason(CASES / name, since=1, decoder="pyav", policy="exact", indexed=indexed)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)
