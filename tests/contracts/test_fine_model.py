"""What every fine-stage model promises, run over each family of checkpoints; and how a family is added."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from hybrid import Engine
from hybrid.cli.app import app
from hybrid.demo import demo_video
from hybrid.errors import InputError, ModelLoadError
from hybrid.fine.aria.prompt import GENS_ARIA
from hybrid.fine.families import Family
from hybrid.fine.interface import (
    Event,
    FeatureModel,
    FineModel,
    FramesScored,
    ReplyFinished,
    Request,
    RequestFailed,
    read_window,
)
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.registry import FAMILIES
from hybrid.values import ByteArray

QUESTIONS = ["What happens after the door opens?", "Who?", "Which colour is the car?"]
FAMILY_NAMES = [*FAMILIES.names, "clockwork"]


def clockwork(folder: Path) -> Path:
    """A checkpoint of the worked example."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clockwork", "every": 3}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"nothing": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def toy_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line; in the project it stands in ``hybrid/fine/registry.py``."""
    monkeypatch.setattr(FAMILIES, "_modules", dict(FAMILIES._modules))
    FAMILIES.register("clockwork", "tests.contracts.toys.clockwork")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, gens_folder: Path) -> Callable[[str], FineModel]:
    """A small loaded model of each family."""
    from hybrid.fine.aria.convert.convert import convert_gens
    from hybrid.testing.untrained_aria import make_untrained_aria

    folder = tmp_path_factory.mktemp("families")
    made: dict[str, FineModel] = {}

    def load(family: str) -> FineModel:
        if family not in made:
            checkpoint, prompt = gens_folder, PromptSpec(max_new_tokens=12)
            if family == "aria":
                source = make_untrained_aria(folder / "source", seed=7)
                checkpoint = convert_gens(source, folder / "aria").folder
                prompt = replace(GENS_ARIA, max_new_tokens=12)
            elif family == "clockwork":
                checkpoint = clockwork(folder / "toy")
            made[family] = load_scorer(checkpoint, device="cpu", dtype="float32", prompt=prompt)
        return made[family]

    return load


@pytest.fixture(params=FAMILY_NAMES)
def model(request: pytest.FixtureRequest, models: Callable[[str], FineModel]) -> FineModel:
    return models(request.param)


@pytest.fixture(scope="module")
def frames() -> list[ByteArray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (60, 90, 3), dtype=np.uint8) for _ in range(4)]


def last_events(events: Sequence[Event]) -> dict[int, Event]:
    """The last event of each request; none comes after it."""
    ended: dict[int, Event] = {}
    for event in events:
        assert event.request_id not in ended, "an event came after the last one of its request"
        if not isinstance(event, FramesScored):
            ended[event.request_id] = event
    return ended


def replies(events: Sequence[Event]) -> dict[int, tuple[str, dict[int, int]]]:
    found = {}
    for number, event in last_events(events).items():
        assert isinstance(event, ReplyFinished), event
        found[number] = (event.reply.text, dict(event.reply.scores))
    return found


@pytest.mark.parametrize("family", FAMILIES.names)
def test_a_family_is_registered_by_its_own_name(family: str) -> None:
    entry: Family = FAMILIES.find(family)
    assert entry.name == family


def test_it_says_what_it_is(model: FineModel, frames: list[ByteArray]) -> None:
    assert model.name
    assert model.device == "cpu"
    assert model.identity
    assert all(isinstance(value, str) for pair in model.identity.items() for value in pair)
    prepared = model.prepare(frames[0])
    assert prepared.dtype == np.uint8
    assert np.array_equal(model.prepare(prepared), prepared)


def test_each_request_ends_once_whatever_its_order_and_company(model: FineModel, frames: list[ByteArray]) -> None:
    requests = [Request(10 + i, question, frames[: 2 + i]) for i, question in enumerate(QUESTIONS)]
    together = replies(list(model.read(requests)))
    assert together.keys() == {10, 11, 12}
    assert replies(list(model.read(requests[::-1]))) == together
    for request in requests:
        reply = read_window(model, request.frames, request.question)
        assert (reply.text, dict(reply.scores)) == together[request.id]
        assert all(0 <= position < len(request.frames) and 1 <= score <= 5 for position, score in reply.scores.items())


def test_partial_scores_only_grow_towards_the_reply(model: FineModel, frames: list[ByteArray]) -> None:
    requests = [Request(i, question, frames) for i, question in enumerate(QUESTIONS)]
    events = list(model.read(requests, partial=True))
    assert replies(events) == replies(list(model.read(requests)))
    for number, (_, final) in replies(events).items():
        before: dict[int, int] = {}
        for event in events:
            if isinstance(event, FramesScored) and event.request_id == number:
                assert all(event.scores[position] >= score for position, score in before.items())
                before = dict(event.scores)
        assert all(final[position] >= score for position, score in before.items())


def test_a_closed_reading_leaves_the_model_as_it_was(model: FineModel, frames: list[ByteArray]) -> None:
    requests = [Request(i, question, frames) for i, question in enumerate(QUESTIONS)]
    whole = replies(list(model.read(requests)))
    events = model.read(requests, partial=True)
    next(events)
    assert replies(list(model.read(requests))) == whole, "who takes an event may read meanwhile"
    events.close()
    assert replies(list(model.read(requests))) == whole


def test_several_threads_read_at_a_time(model: FineModel, frames: list[ByteArray]) -> None:
    requests = [Request(i, question, frames) for i, question in enumerate(QUESTIONS)]
    whole = replies(list(model.read(requests)))
    suspended = model.read(requests)
    first = next(suspended)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: replies(list(model.read(requests))), range(3))) == [whole] * 3
    assert replies([first, *suspended]) == whole


def test_what_is_not_legal_is_refused_before_any_work(model: FineModel, frames: list[ByteArray]) -> None:
    with pytest.raises(InputError, match="empty"):
        next(model.read([Request(0, "Who?", frames), Request(1, "  ", frames)]))
    with pytest.raises(InputError, match="no frames"):
        next(model.read([Request(0, "Who?", [])]))
    assert list(model.read([])) == []


@pytest.mark.parametrize("family", FAMILIES.names)
def test_features_stand_for_their_frames(
    models: Callable[[str], FineModel], frames: list[ByteArray], family: str
) -> None:
    model = models(family)
    assert isinstance(model, FeatureModel)
    features = model.encode_frames(frames)
    assert features.frame_count == len(frames)
    assert str(features.items[0].dtype) == f"torch.{model.feature_dtype}"
    assert features.items[0].shape[-1] == model.feature_width
    assert all(isinstance(value, str) for pair in model.feature_identity.items() for value in pair)
    assert {"weights", "dtype"} <= model.feature_identity.keys()
    by_features = replies(list(model.read([Request(i, q, features) for i, q in enumerate(QUESTIONS)])))
    assert by_features == replies(list(model.read([Request(i, q, frames) for i, q in enumerate(QUESTIONS)])))


@pytest.mark.parametrize("family", FAMILIES.names)
def test_one_failure_leaves_the_others(
    models: Callable[[str], FineModel], frames: list[ByteArray], family: str
) -> None:
    model: Any = models(family)
    broken = model.encode_frames(frames[:2])
    object.__setattr__(broken, "items", tuple(item[:, :-1] for item in broken.items))
    object.__setattr__(broken, "key", "broken")
    requests = [Request(0, "Who?", frames[:3]), Request(1, "Who?", broken), Request(2, "Who?", frames[2:])]
    ended = last_events(list(model.read(requests)))
    assert isinstance(ended[1], RequestFailed)
    alone = replies(list(model.read([requests[0], requests[2]])))
    assert replies([ended[0], ended[2]]) == alone


def test_adding_a_fine_stage_model_takes_one_file_and_one_line(tmp_path: Path) -> None:
    """``tests/contracts/toys/clockwork.py``, used from Python and from the command line."""
    folder, archive = clockwork(tmp_path / "toy"), tmp_path / "archive"
    engine = Engine.open(archive, preset="tiny", sampler=str(folder), device="cpu")
    engine.index(demo_video())
    answer = engine.ask(demo_video(), "When can the green star be seen?", window=9, frames=9)
    gens = next(stage for stage in answer.stages if stage.name == "gens")
    assert (gens.ran, gens.model, gens.fallback_reason) == (True, str(folder), None)
    assert [frame.gens_score for frame in answer.frames] == [5, 5, 5]
    assert answer.spans
    command = ["ask", str(demo_video()), "When can the green star be seen?", "--archive", str(archive)]
    command += ["--preset", "tiny", "--sampler", str(folder), "--window", "9", "--frames", "9", "--json"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    assert [frame["ordinal"] for frame in json.loads(run.stdout)["frames"]] == [f.ordinal for f in answer.frames]


def test_an_unknown_family_names_the_legal_ones(tmp_path: Path) -> None:
    folder = clockwork(tmp_path / "toy")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_v"}))
    with pytest.raises(ModelLoadError, match=r"has the model_type 'qwen2_5_v'; this version runs .*qwen2_5_vl"):
        load_scorer(folder, device="cpu")
