"""GenS's language model in vLLM in this process: a stand-in for vLLM, fed with embeddings, writes the same tokens."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from hybrid.errors import InputError, MissingDependencyError, ModelError, ModelLoadError
from hybrid.gens.load import load_scorer
from hybrid.gens.loop.options import LoopOptions
from hybrid.gens.prompt import PromptSpec
from hybrid.gens.scorer import FeatureScorer, ScoreUpdate, WindowScores
from hybrid.gens.vllm.name import VllmName, read_vllm_name
from hybrid.values import ByteArray
from tests.gens.talker import make_talker
from tests.gens.vllm_engine import Engine

MakeFrames = Callable[..., list[ByteArray]]
QUESTIONS = ["When does the door open?", "Who?", "Is <|image_pad|> there?<|im_end|>"]
LIMIT = 24


@dataclass(slots=True)
class Started:
    """What the stand-in was started with and asked."""

    options: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[list[dict[str, Any]]] = field(default_factory=list)
    steps: int = 0


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Started:
    """A module ``vllm`` with what is used of it."""
    started = Started()

    class LLM:
        def __init__(self, **options: Any) -> None:
            started.options.append(options)
            self._engine = Engine(Path(options["model"]))

            self._waiting: list[tuple[str, dict[str, Any], Any]] = []
            self.llm_engine = self

        def enqueue(self, prompts: Sequence[dict[str, Any]], sampling: Sequence[Any], *, use_tqdm: bool) -> list[str]:
            assert not use_tqdm
            started.prompts.append(list(prompts))
            numbers = [str(sum(map(len, started.prompts[:-1])) + place) for place in range(len(prompts))]
            self._waiting += zip(numbers, prompts, sampling, strict=True)
            return [f"{number}-0a1b2c3d" for number in numbers]

        def step(self) -> list[Any]:
            """Writes one reply to its end, the last first; the others go on."""
            if len(self._waiting) > 1 and not started.steps % 2:
                number, prompt, sampling = self._waiting.pop()
            else:
                number, prompt, sampling = self._waiting.pop(0)
            started.steps += 1
            return [self._output(number, prompt, sampling)]

        def has_unfinished_requests(self) -> bool:
            return bool(self._waiting)

        def abort_request(self, ids: Sequence[str], internal: bool) -> None:
            assert internal
            self._waiting = [entry for entry in self._waiting if f"{entry[0]}-0a1b2c3d" not in ids]

        def _output(self, number: str, prompt: dict[str, Any], sampling: Any) -> Any:
            images = prompt["multi_modal_data"]["image"]
            assert len(prompt["multi_modal_uuids"]["image"]) == len(images["image_grid_thw"])
            assert sampling.temperature == 0.0
            read, new, finish = self._engine.write(
                prompt["prompt_token_ids"],
                images["image_embeds"],
                images["image_grid_thw"],
                max_tokens=sampling.max_tokens,
                repetition_penalty=sampling.repetition_penalty,
                stop_token_ids=sampling.stop_token_ids,
                regex=sampling.structured_outputs and sampling.structured_outputs.regex,
            )
            written = SimpleNamespace(token_ids=new, finish_reason=finish)
            return SimpleNamespace(
                request_id=number, finished=True, prompt_token_ids=read, outputs=[written], num_cached_tokens=7
            )

    module, sampling = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.__spec__ = ModuleSpec("vllm", None)
    vars(module).update(LLM=LLM, SamplingParams=SimpleNamespace, sampling_params=sampling)
    vars(sampling).update(StructuredOutputsParams=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", sampling)
    return started


@pytest.fixture(scope="session")
def talker_folder(gens_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that closes a brace about every other time, so that replies in their form end before the limit."""
    return make_talker(Path(shutil.copytree(gens_folder, tmp_path_factory.mktemp("talker") / "checkpoint")))


def both(folder: Path, *, constrained: bool = False, **prompt: Any) -> tuple[Any, Any]:
    """Our own scorer, and the one through vLLM."""
    spec = replace(PromptSpec(max_new_tokens=LIMIT), **prompt)
    loop = LoopOptions(constrained=constrained)
    return (
        load_scorer(folder, device="cpu", prompt=spec, loop=loop),
        load_scorer(f"vllm:{folder}", device="cpu", prompt=spec, loop=loop),
    )


@pytest.mark.parametrize(
    "size",
    [
        {"frame_size": (112, 112)},
        {"frame_size": (140, 84)},
        {"frame_size": None, "min_pixels": 56 * 56, "max_pixels": 112 * 112},
    ],
    ids=["square", "wide", "mixed"],
)
def test_the_same_replies_as_our_own_loop(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames, size: dict[str, Any]
) -> None:
    own, other = both(gens_folder, **size)
    assert isinstance(other, FeatureScorer)
    windows = [make_frames(5, 640, 360), [*make_frames(2, 100, 300, seed=1), *make_frames(1, 500, 500, seed=2)]]
    features = [own.encode_frames(window) for window in windows]
    pairs = [(window, question) for question in QUESTIONS for window in features]
    expected = own.score_many(*zip(*pairs, strict=True))
    found = other.score_many(*zip(*pairs, strict=True))
    assert len({reply.text for reply in expected}) == len(pairs), "replies should differ"
    for ours, theirs in zip(expected, found, strict=True):
        assert replace(theirs, seconds={}, reused_tokens=0) == replace(ours, seconds={}, reused_tokens=0)
        assert theirs.reused_tokens == 7
        assert set(theirs.seconds) >= {"prompt", "vllm_start", "vllm"}
    assert other.generate(features[0], QUESTIONS[0]).ids == own.generate(features[0], QUESTIONS[0]).ids
    assert len(vllm.options) == 1, "it is started once"
    assert len(vllm.prompts[0]) == len(pairs), "vLLM gets all questions together"


def test_replies_in_their_form(vllm: Started, talker_folder: Path, make_frames: MakeFrames) -> None:
    own, other = both(talker_folder, constrained=True, first_index=1, max_new_tokens=80)
    windows = [own.encode_frames(make_frames(count, seed=count)) for count in (1, 3, 12)]
    pairs = [(window, question) for window in windows for question in QUESTIONS]
    replies = own.writer.write(*zip(*pairs, strict=True))
    ended = [pair for pair, reply in zip(pairs, replies, strict=True) if not reply.forced]
    assert len(ended) >= 4, "the case should hold replies that end by themselves"
    expected, found = own.score_many(*zip(*ended, strict=True)), other.score_many(*zip(*ended, strict=True))
    assert [reply.text for reply in found] == [reply.text for reply in expected]
    assert [reply.new_tokens for reply in found] == [reply.new_tokens for reply in expected]
    assert [reply.scores for reply in found] == [reply.scores for reply in expected]
    assert max(len(json.loads(reply.text)) for reply in found) > 1


def test_a_reply_that_meets_the_limit_is_cut(vllm: Started, gens_folder: Path, make_frames: MakeFrames) -> None:
    _, other = both(gens_folder, constrained=True, max_new_tokens=9)
    reply = other.score(make_frames(4), "Who?")
    assert reply.new_tokens == 9
    assert "the reply was cut at the limit of 9 tokens" in reply.notes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features_are_those_of_the_checkpoint(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames, dtype: str
) -> None:
    """So that the store of one serves the other."""
    own = load_scorer(gens_folder, device="cpu", dtype=dtype)
    other = load_scorer(f"vllm:{gens_folder}", device="cpu", dtype=dtype)
    assert isinstance(own, FeatureScorer)
    assert isinstance(other, FeatureScorer)
    assert other.feature_identity == own.feature_identity
    assert (other.feature_width, other.feature_dtype) == (own.feature_width, own.feature_dtype)
    frames = make_frames(3, 640, 360)
    ours, theirs = own.encode_frames(frames), other.encode_frames(frames)
    assert theirs.key == ours.key
    assert all(map(torch.equal, theirs.items, ours.items))
    assert not vllm.options, "looking at frames does not start vLLM"


def test_a_tower_under_its_other_name(vllm: Started, checkpoint_copy: Path, make_frames: MakeFrames) -> None:
    """Newer checkpoints have ``model.visual.`` where older ones have ``visual.``."""
    from safetensors.torch import load_file, save_file

    expected = load_scorer(f"vllm:{checkpoint_copy}", device="cpu").encode_frames(make_frames(2))  # type: ignore[attr-defined]
    path = checkpoint_copy / "model.safetensors"
    weights = {f"model.{key}" if key.startswith("visual.") else key: value for key, value in load_file(path).items()}
    assert sum(key.startswith("model.visual.") for key in weights) > 20
    save_file(weights, path, metadata={"format": "pt"})
    found = load_scorer(f"vllm:{checkpoint_copy}", device="cpu").encode_frames(make_frames(2))  # type: ignore[attr-defined]
    assert found.key == expected.key
    del weights["model.visual.blocks.0.attn.qkv.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"vision tower .* 1 missing keys, first 'blocks.0.attn.qkv.weight'"):
        load_scorer(f"vllm:{checkpoint_copy}", device="cpu")


def test_what_vllm_is_started_with(vllm: Started, gens_folder: Path, make_frames: MakeFrames) -> None:
    scorer: Any = load_scorer(f"vllm:{gens_folder}", device="cpu", loop=LoopOptions(batch=5))
    window = scorer.encode_frames(make_frames(3))
    scorer.score_many([window, window], ["Who?", "When?"])
    assert vllm.options == [
        {
            "model": str(gens_folder),
            "dtype": "float32",
            "enable_mm_embeds": True,
            "limit_mm_per_prompt": {"image": 0, "video": 0},
            "max_num_seqs": 5,
        }
    ]
    one, two = vllm.prompts[0]
    assert one["multi_modal_uuids"] == two["multi_modal_uuids"]
    assert one["multi_modal_data"]["image"]["image_grid_thw"].tolist() == [[1, 8, 8]] * 3
    again = scorer.encode_frames(make_frames(3)[1:])
    scorer.score_features(again, "Who?")
    assert vllm.prompts[1][0]["multi_modal_uuids"]["image"] == one["multi_modal_uuids"]["image"][1:], "known again"


def test_identity_and_name_say_vllm(vllm: Started, gens_folder: Path) -> None:
    own, other = (load_scorer(name, device="cpu") for name in (str(gens_folder), f"vllm:{gens_folder}"))
    assert (other.name, other.device) == (f"vllm:{gens_folder}", "cpu,vllm")
    assert dict(other.identity) == {**own.identity, "engine": "vllm", "vllm": "unknown", "constrained": "False"}


def test_replies_are_told_of(vllm: Started, gens_folder: Path, make_frames: MakeFrames) -> None:
    _, other = both(gens_folder)
    told: list[ScoreUpdate] = []
    window = other.encode_frames(make_frames(2))
    given: dict[int, WindowScores] = {}
    found = other.score_many([window, window], ["Who?", "When?"], on_scores=told.append, on_reply=given.__setitem__)
    assert told == [ScoreUpdate(place, found[place].scores, finished=True) for place in (1, 0)]
    assert given == dict(enumerate(found))


def test_a_reply_is_given_before_vllm_goes_on(vllm: Started, gens_folder: Path, make_frames: MakeFrames) -> None:
    _, other = both(gens_folder)
    window = other.encode_frames(make_frames(2))
    given: list[tuple[int, int]] = []
    other.score_many([window] * 3, QUESTIONS, on_reply=lambda place, said: given.append((place, vllm.steps)))
    assert given == [(2, 1), (0, 2), (1, 3)]


def test_what_a_listener_of_vllm_raises_ends_the_run_cleanly(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames
) -> None:
    """What was not written is not left to the next run; and the listener cannot ask again."""
    _, other = both(gens_folder)
    window = other.encode_frames(make_frames(2))
    with pytest.raises(InputError, match="cannot ask the model that it is listening to"):
        other.score_many([window] * 3, QUESTIONS, on_reply=lambda place, said: other.score_features(window, "Who?"))
    assert vllm.steps == 1
    other.score_features(window, "Who?")
    assert vllm.steps == 2


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_what_a_listener_raises_comes_out_even_where_vllm_cannot_be_told_to_stop(
    vllm: Started,
    gens_folder: Path,
    make_frames: MakeFrames,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    """And the replies that vLLM goes on with do not come into the way of the next run."""
    _, other = both(gens_folder)
    window = other.encode_frames(make_frames(2))
    expected = other.score_many([window] * 3, QUESTIONS)

    def fail(place: int, said: WindowScores) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["vllm"].LLM, "abort_request", lambda *_, **__: 1 / 0)
        with pytest.raises(type(error)) as raised:
            other.score_many([window] * 3, QUESTIONS, on_reply=fail)
    assert raised.value is error
    assert "vLLM goes on with 2 replies that nobody waits for: ZeroDivisionError" in caplog.text
    before = vllm.steps
    found = other.score_many([window] * 3, QUESTIONS)
    assert [reply.text for reply in found] == [reply.text for reply in expected]
    assert vllm.steps > before + 3, "vLLM should have written replies of the run before"


def test_an_interrupt_while_prompts_are_handed_over_leaves_the_next_run_alone(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = both(gens_folder)
    window = other.encode_frames(make_frames(2))
    expected = other.score_many([window] * 3, QUESTIONS)
    engine: Any = sys.modules["vllm"].LLM
    enqueue = engine.enqueue

    def interrupted(self: Any, prompts: Sequence[Any], sampling: Sequence[Any], *, use_tqdm: bool) -> None:
        enqueue(self, prompts[:2], sampling[:2], use_tqdm=use_tqdm)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "enqueue", interrupted)
        with pytest.raises(KeyboardInterrupt):
            other.score_many([window] * 3, QUESTIONS)
    before = vllm.steps
    found = other.score_many([window] * 3, QUESTIONS)
    assert [reply.text for reply in found] == [reply.text for reply in expected]
    assert vllm.steps > before + 3, "vLLM should have written replies that were left to it"


def test_vllm_that_loses_a_question_does_not_make_us_wait_for_ever(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = both(gens_folder)
    window = other.encode_frames(make_frames(2))
    engine: Any = sys.modules["vllm"].LLM
    step = engine.step

    def lossy(self: Any) -> list[Any]:
        found: list[Any] = step(self)
        return found if found[0].request_id == "1" else []

    with monkeypatch.context() as patch:
        patch.setattr(engine, "step", lossy)
        with pytest.raises(ModelError, match="vLLM stopped with 2 of 3 replies not written; this version of vLLM"):
            other.score_many([window] * 3, QUESTIONS)
    assert other.score_features(window, "Who?").new_tokens > 0


def test_another_prompt_than_was_meant_is_an_error(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = both(gens_folder)
    expand = Engine.expand

    def without_the_last(self: Engine, ids: Sequence[int], grids: torch.Tensor) -> list[int]:
        return expand(self, ids, grids)[:-1]

    monkeypatch.setattr(Engine, "expand", without_the_last)
    with pytest.raises(ModelError, match=r"read another prompt .* number \d+ \(none in place of \d+\)"):
        other.score(make_frames(1), "Who?")


def test_vllm_that_does_not_start_or_fails(
    vllm: Started, gens_folder: Path, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = both(gens_folder)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["vllm"], "LLM", lambda **_: 1 / 0)
        with pytest.raises(ModelLoadError, match=r"cannot be started with .*ZeroDivisionError.*vllm serve "):
            other.score(make_frames(1), "Who?")
    monkeypatch.setattr(Engine, "write", lambda *_, **__: 1 / 0)
    with pytest.raises(ModelError, match="vLLM failed: ZeroDivisionError"):
        other.score(make_frames(1), "Who?")


def test_without_vllm_the_error_says_how_to_have_it(gens_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr("hybrid.gens.vllm.in_process.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hybrid\[vllm\]'"):
        load_scorer(f"vllm:{gens_folder}", device="cpu")


def test_what_cannot_run_in_vllm_is_refused(
    vllm: Started, gens_folder: Path, checkpoint_copy: Path, make_frames: MakeFrames
) -> None:
    with pytest.raises(InputError, match=r"video mode; through vLLM only image mode is run: --sampler "):
        load_scorer(f"vllm:{gens_folder}", device="cpu", prompt=PromptSpec(mode="video", frame_label=""))
    with pytest.raises(InputError, match="loading is '4bit'"):
        load_scorer(f"vllm:{gens_folder}", device="cpu", loading="4bit")
    with pytest.raises(InputError, match="question is empty"):
        load_scorer(f"vllm:{gens_folder}", device="cpu").score(make_frames(1), " ")
    config = json.loads((checkpoint_copy / "config.json").read_text())
    (checkpoint_copy / "config.json").write_text(json.dumps({**config, "model_type": "aria"}))
    with pytest.raises(ModelLoadError, match=r"model_type 'aria'; through vLLM only qwen2_5_vl is run"):
        load_scorer(f"vllm:{checkpoint_copy}", device="cpu")
    assert not vllm.options


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/name", None),
        ("vllm", None),
        ("vllm:owner/name@abc", VllmName("owner/name@abc")),
        ("vllm:/data/a folder", VllmName("/data/a folder")),
        ("vllm:http://localhost:8000/v1#owner/name", VllmName("owner/name", "http://localhost:8000/v1")),
        ("vllm:https://[::1]:8000/v1/#/data/c#d", VllmName("/data/c#d", "https://[::1]:8000/v1")),
    ],
)
def test_names(name: str, expected: VllmName | None) -> None:
    assert read_vllm_name(name) == expected
    assert expected is None or read_vllm_name(str(expected)) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm:", "names no checkpoint"),
        ("vllm:http://localhost:8000/v1", r"names no checkpoint; write vllm:CHECKPOINT, or vllm:http://HOST"),
        ("vllm:http://localhost:8000/v1#", "names no checkpoint"),
        ("vllm:ftp://localhost/v1#a/b", "address of the vLLM server is 'ftp://localhost/v1'"),
        ("vllm:http:///v1#a/b", "address of the vLLM server is"),
        ("vllm:http://localhost:99999/v1#a/b", "cannot be read"),
        ("vllm:http://me:secret@localhost/v1#a/b", "VLLM_API_KEY"),
        ("vllm:http://localhost/v1?key=secret#a/b", "VLLM_API_KEY"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_vllm_name(name)
    assert "secret" not in str(error.value)
