"""Questions answered with GenS's language model behind a server of vLLM."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest

from hybrid.answers import Answer, Stage
from hybrid.engine import Engine
from hybrid.errors import InputError, StageFailedError
from hybrid.models.tiny import tiny_encoder, tiny_sampler
from tests.gens.vllm_server import VllmServer, served

OpenEngine = Callable[..., Engine]
QUESTIONS = ["a red circle", "a green square", "a blue circle"]


@pytest.fixture
def server(gens_folder: Path) -> Iterator[VllmServer]:
    with served(gens_folder) as server:
        yield server


@pytest.fixture
def sampler(server: VllmServer) -> str:
    return f"vllm:{server.url}#{server.engine.folder}"


def stage(answer: Answer, name: str) -> Stage:
    return next(stage for stage in answer.stages if stage.name == name)


def test_stored_features_of_the_checkpoint_serve_a_server(
    open_engine: OpenEngine, demo_clip: Path, sampler: str, server: VllmServer
) -> None:
    """Neither frames nor the vision tower are needed again, and the replies are those of our own loop."""
    own = open_engine(constrained=True)
    own.index(demo_clip, features=True)
    expected = own.ask_many(demo_clip, QUESTIONS, window=6)
    there = open_engine(sampler=sampler, constrained=True)
    server.wait_for(3)
    answers = there.ask_many(demo_clip, QUESTIONS, window=6)
    for answer, other, question in zip(answers, expected, QUESTIONS, strict=True):
        frames, gens = stage(answer, "frames"), stage(answer, "gens")
        assert (frames.ran, frames.model) == (False, "feature store")
        assert (gens.model, gens.device) == (sampler, f"cpu,{server.url}")
        assert gens.details["identity"]["engine"] == "vllm"
        assert gens.details["identity"]["address"] == server.url
        assert set(gens.details["seconds"]) >= {"vllm", "parse"}
        assert answer.question == question
        # The own loop leads a reply to its end where the limit nears; until there they are the same.
        assert answer.reply is not None
        assert other.reply is not None
        assert answer.reply[:40] == other.reply[:40]


TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' }}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else -%}{{ part.text }}{%- endif -%}{%- endfor -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def test_a_trained_model_finds_the_same_spans(open_engine: OpenEngine, tmp_path: Path) -> None:
    """The shipped checkpoint, of other patches and another prompt, on the shipped video; it lacks a template only."""
    folder = Path(shutil.copytree(tiny_sampler(), tmp_path / "checkpoint"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    video = Path(str(resources.files("hybrid.demo") / "world.mp4"))
    questions = ["When can the green star be seen?", "What follows directly after the purple square?"]
    own = open_engine(encoder=tiny_encoder(), sampler=str(folder), constrained=True)
    own.index(video, features=True)
    expected = own.ask_many(video, questions)
    assert all(answer.spans and not answer.degraded for answer in expected)
    with served(folder) as server:
        there = open_engine(encoder=tiny_encoder(), sampler=f"vllm:{server.url}#{folder}", constrained=True)
        found = there.ask_many(video, questions)
    assert [answer.reply for answer in found] == [answer.reply for answer in expected]
    assert [answer.spans for answer in found] == [answer.spans for answer in expected]
    assert [answer.frames for answer in found] == [answer.frames for answer in expected]


def test_features_are_made_without_the_server(
    open_engine: OpenEngine, demo_clip: Path, sampler: str, server: VllmServer
) -> None:
    assert open_engine(sampler=sampler).index(demo_clip).features
    assert not server.requests
    answer = open_engine().ask(demo_clip, "a red circle")
    assert stage(answer, "frames").model == "feature store", "the checkpoint under its own name finds them"


def test_a_server_that_is_not_there_leaves_the_coarse_answer(
    open_engine: OpenEngine, demo_clip: Path, gens_folder: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # held, so that no other process listens there, and nobody does
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        engine = open_engine(sampler=f"vllm:{url}#{gens_folder}")
        answer = engine.ask(demo_clip, "a red circle", frames=3)
        reason = str(stage(answer, "gens").fallback_reason)
        assert f"no server can be reached at {url}" in reason
        assert f"start it: vllm serve {gens_folder} --enable-mm-embeds" in reason
        assert len(answer.frames) == 3
        with pytest.raises(StageFailedError, match="no server can be reached"):
            engine.ask(demo_clip, "a red circle", strict=True)


def test_vllm_that_is_not_installed(
    open_engine: OpenEngine, demo_clip: Path, gens_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.gens.vllm.in_process.find_spec", lambda _: None)
    engine = open_engine(sampler=f"vllm:{gens_folder}")
    reason = str(stage(engine.ask(demo_clip, "a red circle"), "gens").fallback_reason)
    assert "pip install 'hybrid[vllm]'" in reason
    with pytest.raises(StageFailedError, match="vLLM is not installed"):
        engine.ask(demo_clip, "a red circle", strict=True)


def test_a_key_does_not_come_into_an_answer(
    open_engine: OpenEngine, demo_clip: Path, sampler: str, server: VllmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="VLLM_API_KEY") as error:
        open_engine(sampler=sampler.replace("http://", "http://me:a-secret@"))
    assert "a-secret" not in str(error.value)
    monkeypatch.setenv("VLLM_API_KEY", "a-secret")
    monkeypatch.setattr(server, "key", "a-secret")
    answer = open_engine(sampler=sampler).ask(demo_clip, "a red circle", window=4)
    assert answer.reply is not None
    assert "a-secret" not in json.dumps(answer.to_dict())
