"""What is sent to vLLM, through vLLM's own Python code up to its engine; needs no GPU, but vLLM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.gens.load import load_scorer
from hybrid.gens.loop.options import LoopOptions
from hybrid.gens.prompt import PromptSpec
from hybrid.gens.vllm.asking import embeddings_of
from hybrid.gens.vllm.chat import Chat, image_parts
from hybrid.gens.vllm.in_process import InProcessWriter
from hybrid.values import ByteArray

pytest.importorskip("vllm", reason="vLLM is not installed (pip install 'hybrid[vllm]')")

# Its own affair.
pytestmark = pytest.mark.filterwarnings("ignore")

QUESTION = "When does the door open?"


@pytest.fixture(scope="module", params=[0, 999], ids=["no-tower", "with-tower"])
def renderer(request: pytest.FixtureRequest, gens_folder: Path) -> tuple[Any, Any]:
    """What makes the engine's input of prompts and of messages, and its configuration."""
    from vllm.config import DeviceConfig, ModelConfig, VllmConfig
    from vllm.renderers import renderer_from_config

    config = ModelConfig(
        model=str(gens_folder),
        dtype="float32",
        enable_mm_embeds=True,
        limit_mm_per_prompt={"image": request.param, "video": 0},
        max_model_len=32768,
    )
    return renderer_from_config(VllmConfig(model_config=config, device_config=DeviceConfig(device="cpu"))), config


@pytest.mark.parametrize(
    "spec",
    [
        PromptSpec(),
        PromptSpec(frame_size=(140, 84), first_index=1),
        PromptSpec(frame_size=None, min_pixels=56 * 56, max_pixels=112 * 112),
    ],
    ids=["square", "wide", "mixed"],
)
def test_vllm_reads_what_was_meant(
    renderer: tuple[Any, Any], gens_folder: Path, make_frames: Callable[..., list[ByteArray]], spec: PromptSpec
) -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    render, config = renderer
    scorer: Any = load_scorer(f"vllm:{gens_folder}", device="cpu", prompt=spec, loop=LoopOptions(constrained=True))
    window = scorer.encode_frames([*make_frames(3, 640, 360), *make_frames(2, 100, 300)])
    writer: InProcessWriter = scorer._writer
    asking = writer._asking

    def check(given: Any) -> None:
        assert given["prompt_token_ids"] == asking.full_ids(window, QUESTION)
        sent = torch.cat([item["image_embeds"].data for item in given["mm_kwargs"]["image"]])
        assert torch.equal(sent, torch.cat(embeddings_of(window)))

    images = writer._images(window)
    (given,) = render.render_cmpl([{"prompt_token_ids": asking.short_ids(window, QUESTION), **images}])
    check(given)
    assert given["mm_hashes"]["image"] == images["multi_modal_uuids"]["image"]
    sampling = writer._sampling(window)
    validate_xgrammar_grammar(sampling)

    body = {
        "model": "any",
        "messages": Chat(spec).messages(image_parts(window, asking.merge), QUESTION),
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "repetition_penalty": asking.repetition_penalty,
        "stop_token_ids": sorted(asking.end_ids),
        "return_token_ids": True,
        "structured_outputs": {"regex": asking.pattern(window)},
    }
    request = ChatCompletionRequest.model_validate(json.loads(json.dumps(body)))
    # Of the small checkpoint's template, vLLM does not see by itself that it takes parts; of Qwen's it does.
    chat = request.build_chat_params(None, "openai")
    _, (given,) = render.render_chat([request.messages], chat, request.build_tok_params(config))
    check(given)
    theirs = request.to_sampling_params(9, {})
    assert theirs.structured_outputs == sampling.structured_outputs
    assert theirs.stop_token_ids == sampling.stop_token_ids
    assert (theirs.temperature, theirs.repetition_penalty) == (sampling.temperature, sampling.repetition_penalty)


def test_vllm_has_what_replies_are_taken_with_one_by_one() -> None:
    """``LLM.generate`` keeps all replies to its end; it consists of these."""
    from inspect import signature

    from vllm import LLM
    from vllm.v1.engine.llm_engine import LLMEngine

    signature(LLM.enqueue).bind(None, [], [], use_tqdm=False)
    signature(LLMEngine.step).bind(None)
    signature(LLMEngine.abort_request).bind(None, ["0"], internal=True)
