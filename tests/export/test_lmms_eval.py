"""The selection for lmms-eval: written, found again by what a model is asked, and put in the place of the video.

The models themselves run inside lmms-eval, which needs another av than hybrid and so is not installed here: the last
tests give them the smallest thing that has its interface (0.7: requests, registry, ``lmms``).
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybrid.answers import Answer, AnswerFrame
from hybrid.errors import InputError
from hybrid.export.benchmarks.lmms_eval import (
    Selection,
    read_selection,
    save_selection,
    shown_media,
    shown_messages,
)
from hybrid.frames.registry import open_source
from hybrid.values import ByteArray, Sampling

QUESTIONS = {"a": "Where is the pan?", "b": "Where is the pan? And who took it?", "c": "Who enters?"}
LEVELS = {"a": (20, 120, 220), "b": (60,), "c": (90, 30)}


def answer(name: str, video: str = "/videos/kitchen.mp4") -> Answer:
    frames = tuple(AnswerFrame(number + 0.5, number, number * 30, None, None) for number in range(len(LEVELS[name])))
    return Answer(QUESTIONS[name], video, "0", 60.0, (), frames, ())


def pictures(one: Answer) -> Iterator[tuple[int, ByteArray]]:
    name = next(name for name, question in QUESTIONS.items() if question == one.question)
    for number, level in enumerate(LEVELS[name]):
        yield number, np.full((49, 65, 3), level, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_selection({name: answer(name) for name in QUESTIONS}, pictures, tmp_path, clips=True)
    return tmp_path


def asked(text: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    content = [{"type": "video", "url": "/elsewhere/kitchen.mp4"}, {"type": "text", "text": text}, *more]
    return [{"role": "user", "content": content}]


def levels(media: list[Any]) -> list[int]:
    return [round(float(np.asarray(picture).mean())) for picture in media]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_frames_stand_in_the_place_of_the_video(folder: Path, name: str) -> None:
    messages = asked(f"Look.\n{QUESTIONS[name]}\nA. here\nB. there")
    (shown,) = shown_messages(messages, {}, read_selection(folder), "images")
    assert [part["type"] for part in shown["content"]] == [*["image"] * len(LEVELS[name]), "text"]
    assert levels([part["url"] for part in shown["content"][:-1]]) == list(LEVELS[name])
    assert shown["content"][-1] == messages[0]["content"][-1]
    assert messages[0]["content"][0]["type"] == "video"  # the task's own messages are left as they are


def test_a_clip_holds_every_frame_and_an_even_number(folder: Path) -> None:
    selection = read_selection(folder)
    for name, wanted in (("a", [20, 120, 220, 220]), ("b", [60, 60]), ("c", [90, 30])):
        (place,) = shown_media(selection.find({}, "kitchen.mp4", QUESTIONS[name]), "clip")
        with open_source(Path(place), Sampling()) as source:
            frames = [rgb for batch in source.read() for rgb in batch.rgb]
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * len(wanted)
        assert np.allclose([frame.mean() for frame in frames], wanted, atol=2)


def test_a_key_finds_the_line_whatever_the_text(folder: Path) -> None:
    selection = read_selection(folder, key="id")
    assert selection.find({"id": "c"}, "renamed.mp4", "?").id == "c"
    with pytest.raises(InputError, match="no line with the id 'd'"):
        selection.find({"id": "d"}, "kitchen.mp4", "?")
    with pytest.raises(InputError, match="key is 'id', but the task's documents have doc_id, video"):
        selection.find({"doc_id": 1, "video": ""}, "kitchen.mp4", "?")


def test_what_is_not_selected_is_an_error_and_not_uniform_frames(folder: Path, tmp_path: Path) -> None:
    selection = read_selection(folder)
    with pytest.raises(InputError, match=r"video hall\.mp4 .* it holds none"):
        selection.find({}, "hall.mp4", QUESTIONS["a"])
    with pytest.raises(InputError, match="it holds none"):
        selection.find({}, "kitchen.mp4", "What is burning?")
    twice = Selection([selection.find({}, "kitchen.mp4", QUESTIONS["c"])] * 2)
    with pytest.raises(InputError, match="it holds c, c"):
        twice.find({}, "kitchen.mp4", QUESTIONS["c"])
    images = [{"type": "image", "url": Image.new("RGB", (4, 4))}, {"type": "text", "text": "Which?"}]
    with pytest.raises(InputError, match="shows the model nothing, and not one video"):
        shown_messages([{"role": "user", "content": images}], {}, selection, "images")
    with pytest.raises(InputError, match="str, str, and not one video"):
        shown_messages(asked("Which?", {"type": "video", "url": "b.mp4"}), {}, selection, "images")


def test_a_selection_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no answer to write"):
        save_selection({}, pictures, tmp_path)
    with pytest.raises(InputError, match="has 3 frames and 1 pictures"):
        save_selection({"a": answer("a")}, lambda one: [next(pictures(one))], tmp_path)
    with pytest.raises(InputError, match="is not a selection of hybrid"):
        read_selection(tmp_path)
    save_selection({"c": answer("c")}, pictures, tmp_path)
    with pytest.raises(InputError, match=r"the selection has no clips; write it with clips=True"):
        shown_media(read_selection(tmp_path).find({}, "kitchen.mp4", QUESTIONS["c"]), "clip")


@dataclass
class Request:
    """As lmms-eval's Instance."""

    arguments: tuple[Any, ...]

    @property
    def args(self) -> tuple[Any, ...]:
        return self.arguments


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The module of the models, beside the smallest lmms-eval."""

    class Base:
        is_simple = True

        def __init__(self) -> None:
            self._rank, self._world_size, self.task_dict, self.cache_hook = 0, 1, {}, None

        rank = property(lambda self: self._rank)
        world_size = property(lambda self: self._world_size)

        def set_cache_hook(self, hook: Any) -> None:
            self.cache_hook = hook

    class Chat(Base):
        is_simple = False
        tokenizer_name = "words"

        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.options, self._rank = options, 3

        def generate_until(self, requests: list[Request]) -> list[Any]:
            return [
                request.args[1](self.task_dict[request.args[4]][request.args[5]][request.args[3]])
                for request in requests
            ]

    class Simple(Base):
        def __init__(self, **options: Any) -> None:
            super().__init__()

        def loglikelihood(self, requests: list[Request]) -> list[Any]:
            return [
                request.args[2](self.task_dict[request.args[4]][request.args[5]][request.args[3]])
                for request in requests
            ]

    api = types.ModuleType("lmms_eval.api.model")
    api.lmms = Base  # type: ignore[attr-defined]
    known = types.ModuleType("lmms_eval.models")
    known.get_model = lambda name, force_simple=False: {"chat": Chat, "simple": Simple}[name]  # type: ignore[attr-defined]
    for name, module in {"lmms_eval": types.ModuleType("lmms_eval"), "lmms_eval.api.model": api}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "lmms_eval.models", known)
    monkeypatch.setitem(sys.modules, "lmms_eval.api", types.ModuleType("lmms_eval.api"))
    monkeypatch.delitem(sys.modules, "hybrid.export.benchmarks.lmms_eval_model", raising=False)
    yield importlib.import_module("hybrid.export.benchmarks.lmms_eval_model")
    sys.modules.pop("hybrid.export.benchmarks.lmms_eval_model", None)


DOCUMENT = {"question": QUESTIONS["a"], "video": "/elsewhere/kitchen.mp4"}


def test_a_chat_model_is_shown_the_frames(models: types.ModuleType, folder: Path) -> None:
    model = models.ChatFrames(inner="chat", selection=str(folder), device="cpu", max_num_frames=4)
    model.task_dict["task"] = {"test": [DOCUMENT]}  # as lmms-eval does after making the model
    request = Request(("", lambda document: asked(document["question"]), {}, 0, "task", "test"))
    ((message,),) = model.generate_until([request])
    assert levels([part["url"] for part in message["content"][:-1]]) == [20, 120, 220]
    assert (model.rank, model.tokenizer_name) == (3, "words")
    assert model.inner.options == {"device": "cpu", "max_num_frames": 4}
    model.set_cache_hook("hook")
    assert model.inner.cache_hook == "hook"


def test_a_simple_model_is_shown_the_frames(models: types.ModuleType, folder: Path) -> None:
    model = models.SimpleFrames(inner="simple", selection=str(folder), show="clip")
    model.task_dict["task"] = {"test": [DOCUMENT]}
    text = f"{QUESTIONS['a']} Answer."
    request = Request((text, lambda document: "A", lambda document: [document["video"]], 0, "task", "test"))
    (media,) = model.loglikelihood([request])
    assert media == [str(folder / "clips" / "000000.mp4")]
    assert request.args[2](DOCUMENT) == ["/elsewhere/kitchen.mp4"]


def test_a_model_of_the_other_kind_is_refused(models: types.ModuleType, folder: Path) -> None:
    with pytest.raises(InputError, match="'simple' is simple only; add --force_simple"):
        models.ChatFrames(inner="simple", selection=str(folder))
    with pytest.raises(InputError, match="'chat' is chat only; leave out --force_simple"):
        models.SimpleFrames(inner="chat", selection=str(folder))
    with pytest.raises(InputError, match="show is 'gif'; legal are images, clip"):
        models.ChatFrames(inner="chat", selection=str(folder), show="gif")
