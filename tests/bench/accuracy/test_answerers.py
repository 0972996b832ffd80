"""VideoQA models: a real server on this machine, and real models of two architectures in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.accuracy.answerers.interface import (
    AnswererOptions,
    AnswererUnusableError,
    AnswerFailedError,
    AnswerRefusedError,
)
from bench.accuracy.answerers.prompts import Picture, check_template, write_prompt
from bench.accuracy.answerers.registry import open_answerer
from bench.datasets.question import Question
from hybrid.errors import InputError, ModelLoadError
from hybrid.runtime import ensure_torchvision
from tests.bench.accuracy.conftest import KEY, Server

GREY = [Picture(1.0, np.full((60, 80, 3), 90, np.uint8)), Picture(12.5, np.full((60, 80, 3), 200, np.uint8))]


def test_a_request_holds_pictures_then_text(server: Server) -> None:
    reply = open_answerer(f"openai:{server.url}#vlm", AnswererOptions(side=40)).answer(GREY, "Which?")
    (request,) = server.requests
    assert (request["path"], request["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (request["model"], request["temperature"], request["max_tokens"], request["seed"]) == ("vlm", 0.0, 64, 0)
    assert server.texts(0) == ["Which?"]
    assert [part["type"] for part in request["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    assert [picture.shape for picture in server.pictures(0)] == [(30, 40, 3)] * 2
    assert [round(picture.mean()) for picture in server.pictures(0)] == [90, 200]
    assert (reply.text, reply.model, reply.prompt_tokens, reply.new_tokens) == ("B", "served-model", 70, 2)


def test_times_go_before_their_pictures(server: Server) -> None:
    open_answerer(f"openai:{server.url}#vlm", AnswererOptions(times=True)).answer(GREY, "Which?")
    assert server.texts(0) == ["[1.0 s]", "[12.5 s]", "Which?"]


def test_a_passing_fault_is_tried_again(server: Server) -> None:
    said: list[str | int] = [503, 429, "C"]
    server.replies = lambda body: said[len(server.requests) - 1]
    assert open_answerer(f"openai:{server.url}#vlm").answer(GREY, "Which?").text == "C"
    assert len(server.requests) == 3


def test_a_lasting_fault_is_an_error(server: Server) -> None:
    server.replies = lambda body: 500
    with pytest.raises(AnswerFailedError, match=r"no reply from vlm: InternalServerError: .*500"):
        open_answerer(f"openai:{server.url}#vlm", AnswererOptions(retries=1)).answer(GREY, "Which?")
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_request_would_meet_is_told_apart(server: Server, status: int) -> None:
    server.replies = lambda body: status
    with pytest.raises(AnswererUnusableError, match="check the URL, the model's name and OPENAI_API_KEY"):
        open_answerer(f"openai:{server.url}#vlm").answer(GREY, "Which?")
    assert len(server.requests) == 1


NO_MAX = (400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.")
NO_TEMPERATURE = (400, "Unsupported value: 'temperature' does not support 0 with this model.")


def test_a_model_with_other_parameters_is_asked_in_its_form(server: Server) -> None:
    def newer(body: dict[str, Any]) -> str | tuple[int, str]:
        return NO_MAX if "max_tokens" in body else NO_TEMPERATURE if "temperature" in body else "B"

    server.replies = newer
    answerer = open_answerer(f"openai:{server.url}#vlm")
    reply = answerer.answer(GREY, "Which?")
    assert (reply.text, reply.left_out) == ("B", ("temperature",))
    assert len(server.requests) == 3
    answerer.answer(GREY, "Which?")
    assert len(server.requests) == 4  # what was taken is remembered
    assert server.requests[-1]["max_completion_tokens"] == 64
    assert not {"max_tokens", "temperature"} & server.requests[-1].keys()


def test_only_the_parameter_that_is_refused_is_changed(server: Server) -> None:
    server.replies = lambda body: NO_TEMPERATURE if "temperature" in body else "B"
    open_answerer(f"openai:{server.url}#vlm").answer(GREY, "Which?")
    assert (server.requests[-1]["max_tokens"], "temperature" in server.requests[-1]) == (64, False)
    server.replies = lambda body: NO_MAX if "max_tokens" in body else "B"
    assert open_answerer(f"openai:{server.url}#vlm").answer(GREY, "Which?").left_out == ()
    assert server.requests[-1]["temperature"] == 0.0


def test_a_form_that_helps_nothing_is_not_kept(server: Server) -> None:
    server.replies = lambda body: (400, "max_tokens is too large: the context holds 4096 tokens")
    answerer = open_answerer(f"openai:{server.url}#vlm")
    with pytest.raises(AnswerRefusedError, match=r"no reply from vlm: BadRequestError: .*the context holds 4096"):
        answerer.answer(GREY, "Which?")
    assert len(server.requests) == 2
    server.replies = lambda body: "B"
    answerer.answer(GREY, "Which?")
    assert server.requests[-1]["max_tokens"] == 64


def test_no_server_is_an_error(server: Server) -> None:
    answerer = open_answerer("openai:http://127.0.0.1:9/v1#vlm", AnswererOptions(retries=0, timeout_seconds=5))
    with pytest.raises(AnswerFailedError, match="no reply from vlm: APIConnectionError"):
        answerer.answer(GREY, "Which?")


def test_the_identity_holds_no_secret(server: Server) -> None:
    url = server.url.replace("http://", "http://somebody:secret@") + "?id=hidden"
    identity = json.dumps(dict(open_answerer(f"openai:{url}#org/model").identity))
    assert '"org/model"' in identity
    assert not any(secret in identity for secret in (KEY, "secret", "somebody", "hidden"))


@pytest.mark.parametrize("spec", ["gpt-4o", "openai:", "openai:http://x/v1", "ollama:x", "transformers:"])
def test_a_name_of_another_form_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="openai:URL#MODEL"):
        open_answerer(spec)


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(InputError, match="it must be like http://localhost:8000/v1"):
        open_answerer("openai:localhost:8000#m")


def test_a_small_qwen2_5_vl_answers(gens_folder: Path) -> None:
    answerer = open_answerer(f"transformers:{gens_folder}", AnswererOptions(max_new_tokens=5, device="cpu"))
    reply = answerer.answer(GREY, "Question: Which?")
    assert reply == answerer.answer(GREY, "Question: Which?")
    assert reply.new_tokens is not None
    assert 1 <= reply.new_tokens <= 5
    # 60 x 80 becomes 2 x 3 visual tokens of 28 x 28 pixels; one picture more is as many tokens more, and its two marks.
    shorter = answerer.answer(GREY[:1], "Question: Which?")
    assert (reply.prompt_tokens or 0) - (shorter.prompt_tokens or 0) == 6 + 2
    timed = open_answerer(f"transformers:{gens_folder}", AnswererOptions(times=True, max_new_tokens=1, device="cpu"))
    assert (timed.answer(GREY, "Question: Which?").prompt_tokens or 0) > (reply.prompt_tokens or 0)
    assert answerer.identity["kind"] == "transformers"
    assert len(answerer.identity["weights"]) == 16


def test_the_pictures_decide_the_reply_of_a_model(gens_folder: Path) -> None:
    answerer = open_answerer(f"transformers:{gens_folder}", AnswererOptions(max_new_tokens=12, device="cpu"))
    rng = np.random.default_rng(0)
    noise = [Picture(1.0, rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)) for _ in range(3)]
    assert len({answerer.answer([one], "Question: Which?").text for one in (*noise, *GREY)}) > 1


def test_a_small_llava_answers(tmp_path: Path) -> None:
    answerer = open_answerer(f"transformers:{_small_llava(tmp_path)}", AnswererOptions(max_new_tokens=4, device="cpu"))
    reply = answerer.answer(GREY, "Which?")
    one = answerer.answer(GREY[:1], "Which?")
    # 28 x 28 pixels in patches of 14 are four visual tokens a picture, and a line feed.
    assert (reply.prompt_tokens or 0) - (one.prompt_tokens or 0) == 4 + 1
    assert 1 <= (reply.new_tokens or 0) <= 4


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded as a model of pictures and text"):
        open_answerer(f"transformers:{tmp_path}")


def test_a_name_that_the_hub_does_not_give_is_answered_with_this_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelLoadError, match="copy the folder, and use --answer transformers:FOLDER"):
        open_answerer("transformers:owner/name")


def test_a_prompt_has_letters_and_a_template_both_fields() -> None:
    question = Question("q", "v.mp4", "Which one?", options=("a cup", "a lamp"), answer=1)
    assert write_prompt(question).splitlines()[:3] == ["Which one?", "A. a cup", "B. a lamp"]
    assert write_prompt(question, "{options}|{question}") == "A. a cup\nB. a lamp|Which one?"
    assert write_prompt(Question("q", "v.mp4", "Why?")) == "Why?"
    for template, reason in (("{question}", "must have both"), ("{question} {option}", "cannot be filled")):
        with pytest.raises(InputError, match=reason):
            check_template(template)


def _small_llava(folder: Path) -> Path:
    """A LLaVA of a few thousand random weights, as transformers saves one."""
    ensure_torchvision()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = {
        word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "<image>", "Which", "?", "USER", "\n"])
    }
    learned = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    learned.pre_tokenizer = pre_tokenizers.Split("\n", behavior="isolated")
    special: dict[str, Any] = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned, additional_special_tokens=["<image>"], unk_token="<pad>", **special
    )
    side = {"height": 28, "width": 28}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size=side, crop_size=side, do_center_crop=True),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for part in messages[0].content %}{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}"
            "{% endif %}{% endfor %}"
        ),
    )
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=CLIPVisionConfig(**vision, image_size=28, patch_size=14, projection_dim=16),
                text_config=LlamaConfig(
                    **vision, vocab_size=len(words), bos_token_id=1, eos_token_id=2, pad_token_id=0
                ),
                image_token_id=3,
            )
        )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
