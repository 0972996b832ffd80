"""GenS's language model behind a server of vLLM: a real HTTP server writes the same tokens from the embeddings."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.errors import InputError, MissingDependencyError, ModelError
from hybrid.gens.load import load_scorer
from hybrid.gens.loop.options import LoopOptions
from hybrid.gens.prompt import PromptSpec
from hybrid.gens.scorer import ScoreUpdate, WindowScores
from hybrid.values import ByteArray
from tests.gens.vllm_server import VllmServer, decoded, served

MakeFrames = Callable[..., list[ByteArray]]
QUESTIONS = ["When does the door open?", "Who?", "What is it, then?"]
LIMIT = 24


@pytest.fixture
def server(gens_folder: Path) -> Iterator[VllmServer]:
    """One for each test: questions that were given up still arrive, and must not count for the test that follows."""
    with served(gens_folder) as server:
        yield server


def through(server: VllmServer, *, constrained: bool = False, dtype: str = "float32", **prompt: Any) -> Any:
    """The scorer that asks a server."""
    return load_scorer(
        f"vllm:{server.url}#{server.engine.folder}",
        device="cpu",
        dtype=dtype,
        prompt=replace(PromptSpec(max_new_tokens=LIMIT), **prompt),
        loop=LoopOptions(constrained=constrained),
    )


def own(server: VllmServer, **prompt: Any) -> Any:
    """The scorer in our own loop."""
    return load_scorer(server.engine.folder, device="cpu", prompt=replace(PromptSpec(max_new_tokens=LIMIT), **prompt))


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"frame_size": (140, 84), "first_index": 1},
        {"frame_size": None, "min_pixels": 56 * 56, "max_pixels": 112 * 112},
        {
            "head": "<|im_start|>system\nYou rank frames.\n<|im_end|>\n<|im_start|>user\nFrames:\n",
            "frame_label": "{index}",
        },
    ],
    ids=["usual", "wide", "mixed", "another"],
)
def test_the_same_replies_as_our_own_loop(server: VllmServer, make_frames: MakeFrames, prompt: dict[str, Any]) -> None:
    ours, other = own(server, **prompt), through(server, **prompt)
    windows = [make_frames(4, 640, 360), [*make_frames(2, 100, 300, seed=1), *make_frames(1, 500, 500, seed=2)]]
    features = [ours.encode_frames(window) for window in windows]
    pairs = [(window, question) for question in QUESTIONS for window in features]
    expected, found = (scorer.score_many(*zip(*pairs, strict=True)) for scorer in (ours, other))
    assert len({reply.text for reply in expected}) == len(pairs), "replies should differ"
    for mine, theirs in zip(expected, found, strict=True):
        assert replace(theirs, seconds={}, reused_tokens=0) == replace(mine, seconds={}, reused_tokens=0)
        assert theirs.reused_tokens == 5
        assert set(theirs.seconds) >= {"vllm"}
    assert other.generate(features[0], QUESTIONS[0]).ids == ours.generate(features[0], QUESTIONS[0]).ids


def test_questions_are_with_the_server_together(server: VllmServer, make_frames: MakeFrames) -> None:
    """It answers none before all three are there, so that asking one after another would never end."""
    scorer = through(server)
    server.wait_for(3)
    window = scorer.encode_frames(make_frames(2))
    told: list[tuple[ScoreUpdate, int]] = []
    found = scorer.score_many(
        [window] * 3, QUESTIONS, on_scores=lambda update: told.append((update, threading.get_ident()))
    )
    assert {thread for _, thread in told} == {threading.get_ident()}, "the listener is called in the caller's thread"
    updates = sorted((update for update, _ in told), key=lambda update: update.place)
    assert updates == [ScoreUpdate(place, reply.scores, finished=True) for place, reply in enumerate(found)]


def test_a_reply_is_given_while_the_server_writes_others(server: VllmServer, make_frames: MakeFrames) -> None:
    """It holds one question back until the listener has what was said to the two others."""
    scorer = through(server)
    others_given = threading.Event()

    def hold(body: dict[str, Any]) -> None:
        if QUESTIONS[0] in json.dumps(body["messages"]):
            assert others_given.wait(timeout=60)

    given: dict[int, WindowScores] = {}

    def give(place: int, said: WindowScores) -> None:
        given[place] = said
        if len(given) == 2:
            others_given.set()

    server.hold = hold
    window = scorer.encode_frames(make_frames(2))
    found = scorer.score_many([window] * 3, QUESTIONS, on_reply=give)
    assert list(given)[2] == 0
    assert [given[place] for place in range(3)] == found


def test_a_listener_of_the_server_cannot_ask_it(server: VllmServer, make_frames: MakeFrames) -> None:
    """As with the checkpoint in this process, though the server could; and when the call has ended, it can."""
    scorer = through(server)
    window = scorer.encode_frames(make_frames(2))

    def ask(*_: object) -> None:
        scorer.score_features(window, "Who?")

    for listeners in ({"on_reply": ask}, {"on_scores": ask}):
        with pytest.raises(InputError, match="cannot ask the model that it is listening to"):
            scorer.score_many([window], QUESTIONS[:1], **listeners)
    assert scorer.score_features(window, "Who?").new_tokens > 0


def test_threads_ask_the_server_side_by_side(server: VllmServer, make_frames: MakeFrames) -> None:
    """It answers none before both are there."""
    scorer = through(server)
    window = scorer.encode_frames(make_frames(2))
    expected = [scorer.score_features(window, question).text for question in QUESTIONS[:2]]
    server.wait_for(2)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda question: scorer.score_features(window, question).text, QUESTIONS[:2])
        assert list(found) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_goes_over_the_wire(server: VllmServer, make_frames: MakeFrames, dtype: str) -> None:
    """The features bit for bit, each image apart, under a name that is its own in any window."""
    scorer = through(server, dtype=dtype)
    frames = make_frames(3)
    first, second = scorer.encode_frames(frames), scorer.encode_frames(frames[1:])
    scorer.score_features(first, "Who?")
    scorer.score_features(second, "Who?")
    images = server.images(0)
    for image, item in zip(images, first.items, strict=True):
        sent = decoded(image["image_embeds"]["image_embeds"])
        assert sent.dtype == getattr(torch, dtype)
        assert torch.equal(sent, item)
        assert decoded(image["image_embeds"]["image_grid_thw"]).tolist() == [1, 8, 8]
        # Its own 16 rows and what torch.save puts around them, not the batch that they were cut from.
        assert len(image["image_embeds"]["image_embeds"]) < item.nbytes * 4 / 3 + 3000
    assert [image["uuid"] for image in server.images(1)] == [image["uuid"] for image in images[1:]]
    assert len({image["uuid"] for image in images}) == 3
    texts = [part["text"] for part in server.requests[0]["messages"][1]["content"] if part["type"] == "text"]
    assert texts[:2] == ["[0]", "\n[1]"]
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "You are a helpful assistant."}


def test_the_form_of_replies_is_asked_for(server: VllmServer, make_frames: MakeFrames) -> None:
    scorer = through(server, constrained=True)
    reply = scorer.score(make_frames(2), "Who?")
    assert reply.text.startswith("{")
    assert server.requests[0]["structured_outputs"]["regex"].startswith('\\{("(0|1)(-(0|1))?": [1-5]')
    through(server).score(make_frames(2), "Who?")
    assert "structured_outputs" not in server.requests[1]


def test_identity_and_name_say_where(server: VllmServer) -> None:
    scorer = through(server)
    assert scorer.name == f"vllm:{server.url}#{server.engine.folder}"
    assert scorer.device == f"cpu,{server.url}"
    assert (scorer.identity["engine"], scorer.identity["address"]) == ("vllm", server.url)
    assert scorer.identity["weights"] == own(server).identity["weights"]
    assert not server.requests


def test_a_model_that_is_served_by_another_name(server: VllmServer, make_frames: MakeFrames) -> None:
    expected = through(server).score(make_frames(2), "Who?").text
    server.models = [{"id": "other", "object": "model"}, {**server.models[0], "id": "gens"}]
    assert through(server).score(make_frames(2), "Who?").text == expected
    assert server.requests[-1]["model"] == "gens"


def test_another_model_is_served(server: VllmServer, make_frames: MakeFrames) -> None:
    server.models = [{"id": "some/model", "object": "model"}]
    with pytest.raises(ModelError, match=r"serves some/model, not /.*--served-model-name /"):
        through(server).score(make_frames(1), "Who?")
    assert not server.requests


def test_the_key(server: VllmServer, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "a-secret-of-this-test"
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(ModelError, match="refuses the key; set VLLM_API_KEY"):
        through(server).score(make_frames(1), "Who?")
    monkeypatch.setenv("VLLM_API_KEY", server.key)
    scorer = through(server)
    assert scorer.score(make_frames(1), "Who?").new_tokens > 0
    assert server.key not in json.dumps([scorer.name, scorer.device, dict(scorer.identity)])


def _without(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda reply: {key: value for key, value in reply.items() if key not in keys}


def _finished(reason: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda reply: {**reply, "choices": [{**reply["choices"][0], "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda _: (500, "CUDA error"),
            r"failed: InternalServerError.*CUDA error.*see its log, restart it: vllm serve",
        ),
        (lambda _: (503, "busy"), "failed: InternalServerError"),
        (lambda _: (400, "You must set `--enable-mm-embeds` to input `image_embeds`"), "with --enable-mm-embeds$"),
        (lambda _: (400, "This model's maximum context length is 2048 tokens."), "smaller --window.*--max-model-len$"),
        (lambda _: (400, "At most 2 image(s) may be provided in one prompt."), "--limit-mm-per-prompt"),
        (lambda _: (413, "too large"), r"refuses the request: APIStatusError.*too large.*vllm serve /"),
        (lambda _: (404, "Not Found"), r"the address must be the base of its routes"),
        (_without("prompt_token_ids"), r"without token ids .* vLLM 0.33 or newer"),
        (_without("choices"), "without token ids"),
        (lambda reply: {**reply, "prompt_token_ids": reply["prompt_token_ids"][1:]}, "read another prompt"),
        (_finished("abort"), "ended a reply of 24 tokens with 'abort'"),
    ],
)
def test_faults_of_the_server(
    server: VllmServer, make_frames: MakeFrames, change: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.gens.vllm.server.RETRIES", 0)
    server.change = change
    scorer = through(server)
    window = scorer.encode_frames(make_frames(1))
    with pytest.raises(ModelError, match=message):
        scorer.score_many([window] * 3, QUESTIONS)


def test_a_passing_fault_is_tried_again(server: VllmServer, make_frames: MakeFrames) -> None:
    said = [(503, "starting")]
    server.change = lambda reply: said.pop() if said else reply
    assert through(server).score(make_frames(1), "Who?").new_tokens > 0
    assert len(server.requests) == 2


def test_no_server(server: VllmServer, make_frames: MakeFrames) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # held, so that no other process listens there, and nobody does
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        scorer: Any = load_scorer(f"vllm:{url}#{server.engine.folder}", device="cpu")
        with pytest.raises(
            ModelError, match=rf"no server can be reached at {url}, .* \(.*\); start it: vllm serve /.*-embeds"
        ):
            scorer.score(make_frames(1), "Who?")


def test_a_server_of_something_else(server: VllmServer, make_frames: MakeFrames) -> None:
    url = server.url.removesuffix("/v1")
    scorer: Any = load_scorer(f"vllm:{url}#{server.engine.folder}", device="cpu")
    with pytest.raises(ModelError, match="as a rule http://HOST:PORT/v1"):
        scorer.score(make_frames(1), "Who?")


@pytest.mark.parametrize("page", [b"<html>Welcome</html>", b'{"data": [', b"{}", b'{"data": [{}]}', b'{"data": null}'])
def test_a_server_that_shows_pages(server: VllmServer, make_frames: MakeFrames, page: bytes) -> None:
    server.page = page
    scorer = through(server)
    with pytest.raises(ModelError, match=r"it must be vLLM: vllm serve /|serves nothing, not /"):
        scorer.score(make_frames(1), "Who?")
    server.page = None
    window = scorer.encode_frames(make_frames(1))
    scorer.score_features(window, "Who?")
    server.page = page
    with pytest.raises(ModelError, match=r"it must be vLLM"):
        scorer.score_features(window, "Who?")


def test_a_server_that_says_nothing(
    server: VllmServer, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.gens.vllm.server.RETRIES", 0)
    scorer = through(server)
    window = scorer.encode_frames(make_frames(1))
    scorer.score_features(window, "Who?")
    # Not before: on a busy machine a reply may take longer than this.
    monkeypatch.setattr("hybrid.gens.vllm.server.TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(scorer._writer._client, "timeout", 0.5)
    over = threading.Event()

    def silent(reply: dict[str, Any]) -> dict[str, Any]:
        over.wait()
        return reply

    server.change = silent
    try:
        with pytest.raises(ModelError, match=r"gave no reply within 0.5 s; see its log"):
            scorer.score_features(window, "Who?")
    finally:
        over.set()


def test_a_question_with_a_token_of_the_server(server: VllmServer, make_frames: MakeFrames) -> None:
    with pytest.raises(InputError, match=r"the question holds <\|image_pad\|>, which a server takes for a token"):
        through(server).score(make_frames(1), "Is <|image_pad|> there?")
    assert not server.requests


@pytest.mark.parametrize("change", [{"head": "USER: "}, {"tail": "\nASSISTANT:"}, {"frame_end": "<|im_end|>"}])
def test_a_prompt_that_is_no_chat(server: VllmServer, change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="run vLLM in this process: --sampler vllm:CHECKPOINT"):
        through(server, **change)


def test_a_template_that_says_something_else(server: VllmServer, make_frames: MakeFrames) -> None:
    """A prompt without a system turn, to which the template adds one: seen from the tokens, not from the scores."""
    with pytest.raises(
        ModelError, match=r"read another prompt than it was meant to.*--chat-template-content-format openai"
    ):
        through(server, head="<|im_start|>user\n").score(make_frames(1), "Who?")


def test_without_the_client_the_error_says_how_to_have_it(server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hybrid\[vllm-server\]'"):
        through(server)
