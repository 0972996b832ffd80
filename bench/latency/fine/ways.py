"""The ways in which the fine stage is measured: ours, and transformers' own ``generate`` on the same model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.latency.fine.inputs import SIDE
from bench.latency.fine.models import FineModel
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.features import FrameFeatures
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.writer import Reply, TokensWritten, replies_of
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from hybrid.fine.qwen.load import QwenScorer

__all__ = ["Ours", "Theirs"]

_PREFIX_BYTES = 64 * 2**30


class Ours:
    """Our scorer, asked for replies of a fixed length.

    Args:
        model: on which.
        tokens: of a reply.
        batch: replies that are written together, at most.
        constrained: whether they keep GenS's form.
        graphs: CUDA graphs and our own kernels.
    """

    def __init__(
        self, model: FineModel, tokens: int, *, batch: int = 32, constrained: bool = False, graphs: bool = False
    ) -> None:
        options = LoopOptions(constrained=constrained, batch=batch, prefix_bytes=_PREFIX_BYTES, graphs=graphs)
        self.scorer: QwenScorer = model.scorer(PromptSpec(max_new_tokens=tokens), options)
        self._open_tables: dict[int, Any] = {}

    def forget(self) -> None:
        """Drop what is kept of windows."""
        self.scorer.prefix_cache.clear()

    def lengths(self, features: FrameFeatures, question: str) -> tuple[int, int]:
        """Tokens of the prefix and of what follows it."""
        request = self.scorer.writer.prompts([features], [question])[0]
        return request.prefix_tokens, len(request.suffix)

    def run(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> list[Reply]:
        """Ask, decode and read the replies; in a form, no reply closes before its limit, so that all have one length.

        Args:
            features: one per question.
            questions: what is asked.
        """
        replies = replies_of(self.scorer.writer.scheduler.run(self._requests(features, questions)))
        for window, reply in zip(features, replies, strict=True):
            self.scorer.scores_of(reply, window, {})
        return replies

    def first_entry(self, features: FrameFeatures, question: str) -> float:
        """Seconds until the first entry of a reply in its form is complete."""
        started = time.perf_counter()
        with closing(self.scorer.writer.scheduler.run(self._requests([features], [question]))) as events:
            for event in events:
                if not isinstance(event, TokensWritten) or "," in self.scorer._text(event.ids):
                    break
        return time.perf_counter() - started

    def _requests(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> list[Any]:
        requests = self.scorer.writer.prompts(features, questions)
        if self.scorer.options.constrained:
            requests = [replace(request, tables=self._held_open(request.tables)) for request in requests]
        return requests

    def _held_open(self, tables: Any) -> Any:
        """The form without its closing brace, and without a need to reach it."""
        grammar = self.scorer.writer.grammar
        assert grammar is not None
        if id(tables) not in self._open_tables:
            following = tables.following.copy()
            closing = [n for n, token in enumerate(grammar.token_ids) if token in grammar.closing_ids]
            following[:, closing] = -1
            self._open_tables[id(tables)] = replace(
                tables, following=following, distance=np.zeros_like(tables.distance)
            )
        return self._open_tables[id(tables)]


class Theirs:
    """transformers' own ``generate``.

    Args:
        model: on which.
        tokens: of a reply.
    """

    def __init__(self, model: FineModel, tokens: int) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self._model = model
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(model.folder)
        self._length = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens}

    def from_frames(self, frames: list[ByteArray], spec: PromptSpec, question: str) -> list[int]:
        """As a published checkpoint is called: pixels in, one question."""
        pixels = self._processor(
            images=frames, size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}, return_tensors="pt"
        )
        blocks = tuple(int(n) // 4 for n in pixels["image_grid_thw"].prod(-1))
        text = self._model.tokenizer(spec.render(question, tokens_per_block=blocks), return_tensors="pt")
        inputs = {**text, "image_grid_thw": pixels["image_grid_thw"]}
        inputs["pixel_values"] = pixels["pixel_values"].to(self._model.model.dtype)
        return self._generate(inputs)[0]

    def from_features(
        self, scorer: QwenScorer, features: FrameFeatures, questions: Sequence[str], *, static: bool = False
    ) -> list[list[int]]:
        """Features kept, all questions about a window in one batch, filled up on the left."""
        import torch

        requests = scorer.writer.prompts([features] * len(questions), questions)
        prefix = scorer.writer.prefix_ids(features)
        whole = [[*prefix, *request.suffix] for request in requests]
        longest = max(map(len, whole))
        ids = torch.tensor([[0] * (longest - len(each)) + each for each in whole])
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in whole])
        device = self._model.model.device
        embedded = self._model.model.get_input_embeddings()(ids.to(device)).clone()
        visual = ids == self._model.model.config.image_token_id
        embedded[visual.to(device)] = torch.cat(features.items).repeat(len(questions), 1)
        grid = torch.tensor([(1, 2 * rows, 2 * columns) for rows, columns in features.grids]).repeat(len(questions), 1)
        inputs = {"input_ids": ids, "inputs_embeds": embedded, "attention_mask": mask, "image_grid_thw": grid}
        return self._generate(inputs, **({"cache_implementation": "static"} if static else {}))

    def _generate(self, inputs: dict[str, Any], **options: Any) -> list[list[int]]:
        import torch

        model = self._model.model
        kinds = (inputs["input_ids"] == model.config.image_token_id).long()
        moved = {name: part.to(model.device) for name, part in {**inputs, "mm_token_type_ids": kinds}.items()}
        with torch.inference_mode():
            written = model.generate(**moved, **self._length, **options)
        new: list[list[int]] = written[:, -self._length["max_new_tokens"] :].tolist()
        return new
