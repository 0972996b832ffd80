"""What a run would make of GenS's features is told from small files: nothing is downloaded, and nothing read twice."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hybrid.engine import Engine
from hybrid.engine.batch.estimate import RunEstimate, estimate_run
from hybrid.errors import ModelLoadError
from hybrid.fine.checkpoint import CheckpointFiles, CheckpointNotHereError, find_checkpoint
from hybrid.fine.feature_maker import find_feature_maker
from hybrid.fine.interface import FeatureModel
from hybrid.fine.known_weights import KnownWeights
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import GENS_QWEN, PromptSpec
from hybrid.options.engine import EngineOptions

OpenEngine = Callable[..., Engine]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that knows nothing, and an empty cache of it; what it is asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield asked
    server.shutdown()
    server.server_close()


def cached(tmp_path: Path, folder: Path, *, without: str = "nothing") -> str:
    """A checkpoint in the hub's cache, but for some of its files; its name."""
    repository = tmp_path / "hub" / "models--someone--small-gens"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, repository / "snapshots" / COMMIT, ignore=shutil.ignore_patterns(without))
    return "someone/small-gens"


def estimated(engine: Engine, videos: list[Path], **settings: object) -> RunEstimate:
    return estimate_run(engine.archive, videos, EngineOptions(**{**engine.settings.given, **settings}))  # type: ignore[arg-type]


def test_a_dry_run_asks_no_hub(open_engine: OpenEngine, demo_clip: Path, hub: list[str]) -> None:
    engine = open_engine()
    estimate = estimated(engine, [demo_clip], sampler="someone/small-gens")
    assert hub == []
    assert estimate.frames == 41
    assert estimate.features_note == (
        "how many are to be made is not known: someone/small-gens is not on this machine yet; the run would download it"
    )
    # The same hub is asked by whoever loads the model.
    with pytest.raises(ModelLoadError, match="the hub has no someone/small-gens"):
        load_scorer("someone/small-gens", device="cpu")
    assert any("someone/small-gens" in path for path in hub)


def test_weights_need_not_be_here_unless_stored_features_are_to_be_compared(
    open_engine: OpenEngine, demo_clip: Path, gens_folder: Path, tmp_path: Path, hub: list[str]
) -> None:
    name = cached(tmp_path, gens_folder, without="*.safetensors")
    engine = open_engine()
    assert estimated(engine, [demo_clip], sampler=name).features == 41
    engine.index(demo_clip, features=True)
    assert "not on this machine yet" in (estimated(engine, [demo_clip], sampler=name).features_note or "")
    with pytest.raises(CheckpointNotHereError):
        find_checkpoint(name, download=False)
    assert hub == []


def test_a_cache_without_preprocessing_is_not_called_damaged(gens_folder: Path, tmp_path: Path, hub: list[str]) -> None:
    name = cached(tmp_path, gens_folder, without="preprocessor_config.json")
    with pytest.raises(CheckpointNotHereError, match="not on this machine yet"):
        find_feature_maker(name, device="cpu")
    assert hub == []


def test_that_nothing_is_to_be_done_is_seen_without_the_hub_and_without_the_weights(
    open_engine: OpenEngine,
    demo_clip: Path,
    gens_folder: Path,
    tmp_path: Path,
    hub: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = cached(tmp_path, gens_folder)
    monkeypatch.setattr("hybrid.storage.file_identity.RECENT_SECONDS", -60.0)
    open_engine().index(demo_clip, features=True)
    read: list[str] = []
    real = CheckpointFiles.weights_digest

    def counting(files: CheckpointFiles) -> str:
        read.append(files.name)
        return real(files)

    monkeypatch.setattr(CheckpointFiles, "weights_digest", counting)
    engines = [open_engine(sampler=name) for _ in range(3)]
    results = [engine.index(demo_clip) for engine in engines]
    assert {(result.outcome, result.features, result.features_note) for result in results} == {("unchanged", 0, None)}
    assert estimated(engines[0], [demo_clip]).features == 0
    assert (read, hub) == ([name], [])


def test_weights_that_were_touched_are_read_again(
    gens_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(gens_folder, tmp_path / "copy")
    files = find_checkpoint(folder)
    known = KnownWeights(tmp_path / "archive")
    first = known.digest(files)
    assert list(tmp_path.rglob("cache/weights/*")) == []  # so new that a further change could leave the same times
    monkeypatch.setattr("hybrid.storage.file_identity.RECENT_SECONDS", -60.0)
    assert known.digest(files) == first == files.weights_digest()
    (entry,) = (tmp_path / "archive" / "cache" / "weights").iterdir()
    raw = bytearray(files.weights[0].read_bytes())
    raw[-3] ^= 1
    files.weights[0].write_bytes(raw)
    assert known.digest(files) == files.weights_digest() != first
    entry.write_text('{"signature": 1')
    assert KnownWeights(tmp_path / "archive", look_only=True).digest(files) == files.weights_digest()
    assert entry.read_text() == '{"signature": 1'


def test_of_several_that_look_at_once_one_reads(
    gens_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.storage.file_identity.RECENT_SECONDS", -60.0)
    read: list[str] = []
    real = CheckpointFiles.weights_digest

    def slowly(files: CheckpointFiles) -> str:
        read.append(files.name)
        time.sleep(0.3)
        return real(files)

    monkeypatch.setattr(CheckpointFiles, "weights_digest", slowly)
    files = find_checkpoint(gens_folder)
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda _: KnownWeights(tmp_path / "archive").digest(files), range(4)))
    assert digests == [real(files)] * 4
    assert len(read) == 1


@pytest.mark.parametrize("lost", ["timeline-*.safetensors", "manifest.json"])
def test_a_dry_run_counts_a_damaged_index_as_one_to_be_made(
    open_engine: OpenEngine, demo_clip: Path, gens_folder: Path, lost: str
) -> None:
    engine = open_engine()
    engine.index(demo_clip, features=True)
    assert estimated(engine, [demo_clip], sampler=str(gens_folder)).indexed == 1
    (path,) = engine.archive.folder.rglob(lost)
    path.write_bytes(b"damaged")
    for sampler, features in ((str(gens_folder), 41), (None, 0)):
        estimate = estimated(engine, [demo_clip], sampler=sampler)
        assert (estimate.indexed, estimate.replaced, estimate.frames, estimate.features) == (0, 0, 41, features)
    assert engine.index(demo_clip).outcome == "indexed"


@pytest.mark.parametrize(
    ("settings", "prompt", "why"),
    [
        ({}, replace(GENS_QWEN, mode="video", frame_label=""), "video mode"),
        ({}, replace(GENS_QWEN, frame_size=(100, 100)), "multiples of 28"),
        ({"loading": "4bit"}, None, "for checkpoints on Aria"),
    ],
)
def test_an_estimate_says_why_no_features_can_be_made(
    open_engine: OpenEngine,
    demo_clip: Path,
    gens_folder: Path,
    settings: dict[str, str],
    prompt: PromptSpec | None,
    why: str,
) -> None:
    engine = open_engine()
    estimate = estimated(engine, [demo_clip], sampler=str(gens_folder), prompt=prompt, **settings)
    assert (estimate.frames, estimate.features) == (41, 0)
    assert (estimate.features_note or "").startswith("the run could not make any: ")
    assert why in (estimate.features_note or "")


def aria_config(tmp_path: Path) -> Path:
    folder = tmp_path / "aria"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "aria", "vision_config": None}))
    return folder


def test_aria_has_conditions_of_its_own(open_engine: OpenEngine, demo_clip: Path, tmp_path: Path) -> None:
    folder, engine = aria_config(tmp_path), open_engine()

    def note(sampler: str, prompt: PromptSpec | None = None) -> str | None:
        return estimated(engine, [demo_clip], sampler=sampler, prompt=prompt).features_note

    assert note(str(folder)) is None
    assert "Aria takes images of 490x490" in (note(str(folder), GENS_QWEN) or "")


def test_the_whole_identity_is_compared(gens_folder: Path, tmp_path: Path) -> None:
    scorer = load_scorer(gens_folder, device="cpu")
    assert isinstance(scorer, FeatureModel)
    own = dict(scorer.feature_identity)
    maker = find_feature_maker(gens_folder, device="cpu")
    assert maker.made(own)
    assert not maker.made({**own, "later": "a further condition"})
    assert not maker.made({name: value for name, value in own.items() if name != "rule"})
    aria = find_feature_maker(aria_config(tmp_path), device="cpu")
    assert set(aria.known) == {"dtype", "mode", "rule"}
    assert not aria.made({"dtype": "float32", "mode": "image", "rule": "of another version", "weights": "0" * 16})


def test_a_configuration_without_a_tower_does_not_break_the_estimate(gens_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gens_folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_config": None}))
    assert find_feature_maker(folder, device="cpu").frame_bytes is None
    assert estimate_run(None, [], EngineOptions(preset="tiny", sampler=str(folder))).features == 0
