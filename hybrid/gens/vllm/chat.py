"""A window and a question as messages of a chat, as an OpenAI-compatible server of vLLM takes them.

A server makes tokens of messages with the chat template of its checkpoint. So the texts of the prompt
are cut where that template puts its own: at the turns of ChatML. Whether server and prompt meant the
same is seen from the token ids that come back (:meth:`hybrid.gens.vllm.asking.Asking.reply`).
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import torch

from hybrid.errors import InputError
from hybrid.gens.frame_features import FrameFeatures
from hybrid.gens.prompt import PromptSpec
from hybrid.gens.vllm.asking import embeddings_of, grids_of, uuids_of

__all__ = ["Chat", "image_parts"]

_HEAD = re.compile(r"(?:<\|im_start\|>system\n(?P<system>.*?)<\|im_end\|>\n)?<\|im_start\|>user\n", re.DOTALL)
_TAIL = "<|im_end|>\n<|im_start|>assistant\n"


class Chat:
    """The prompt as messages.

    Args:
        spec: the prompt.

    Raises:
        InputError: its texts are not turns of ChatML, so that a chat template cannot give them.
    """

    def __init__(self, spec: PromptSpec) -> None:
        head = _HEAD.match(spec.head)
        before, after = spec.around_question()
        texts = (spec.head[head.end() if head else 0 :], spec.frame_label, before, after.removesuffix(_TAIL))
        if head is None or not after.endswith(_TAIL) or any("<|im_" in text for text in texts):
            raise InputError(
                "the prompt's head and tail are not those of a chat (system and user turn, then the opening of the "
                "assistant's), so a server cannot be asked with it; run vLLM in this process: --sampler vllm:CHECKPOINT"
            )
        self._spec = spec
        self._system = head["system"]
        self._skip = head.end()

    def messages(self, images: Sequence[dict[str, Any]], question: str) -> list[dict[str, Any]]:
        """The turns before the reply.

        Args:
            images: one part of content each (:func:`image_parts`).
            question: plain text without special tokens.
        """
        content: list[dict[str, Any]] = []
        for place, image in enumerate(images):
            text = self._spec.before_block(place)
            content += [*_text(text[self._skip :] if place == 0 else text), image]
        before, after = self._spec.around_question()
        content += _text(before + question + after[: -len(_TAIL)])
        user = {"role": "user", "content": content}
        return [user] if self._system is None else [{"role": "system", "content": self._system}, user]


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def image_parts(features: FrameFeatures, merge: int) -> list[dict[str, Any]]:
    """The images of a window as parts of a message: their features, their grids in patches, a name for the cache.

    Args:
        features: of the window.
        merge: patches per side of a token.
    """
    grids = grids_of(features, merge)
    triples = zip(embeddings_of(features), grids, uuids_of(features), strict=True)
    return [
        {
            "type": "image_embeds",
            "image_embeds": {"image_embeds": _encoded(item), "image_grid_thw": _encoded(grid)},
            "uuid": uuid,
        }
        for item, grid, uuid in triples
    ]


def _encoded(tensor: torch.Tensor) -> str:
    buffer = io.BytesIO()
    torch.save(tensor.clone(), buffer)  # a view would be saved with all that it is a view of
    return base64.b64encode(buffer.getvalue()).decode("ascii")
