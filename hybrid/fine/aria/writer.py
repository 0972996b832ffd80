"""Writes replies with the language model of Aria, one after another, in transformers' own cache.

Goes through the modules as they are called by transformers, so that layers may lie on several devices, in host memory
or quantised. Only the logits of a prompt's last token are computed: those of a window of 256 frames would take 14 GB.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hybrid.errors import ModelError
from hybrid.fine.aria.placement import device_names, resident_device
from hybrid.fine.features import FrameFeatures
from hybrid.fine.pretrained import LoadedCheckpoint
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.tokens import VisualPrefix, check_positions
from hybrid.fine.writer import Reply, ReplyFailed, ReplyWritten, Written
from hybrid.runtime import out_of_memory_as_error, timed

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AriaWriter", "Reader", "greedy_tokens"]


class Reader:
    """The cache of what a model has read, and its length. Not safe for several threads.

    Args:
        model: transformers' ``AriaForConditionalGeneration``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self.length = 0

    def read(self, embeddings: Tensor) -> Tensor:
        """Read further tokens. [L, hidden] embeddings -> [hidden] state of the last token."""
        output = self._model.model.language_model(
            inputs_embeds=embeddings[None], past_key_values=self._cache, use_cache=True
        )
        self._cache = output.past_key_values
        self.length += len(embeddings)
        state: Tensor = output.last_hidden_state[0, -1]
        return state

    def forget(self, length: int) -> None:
        """Go back to the first ``length`` tokens."""
        if length < self.length:
            self._cache.crop(length - self.length)  # negative: so many from the end
            self.length = length


def greedy_tokens(
    model: Any,
    reader: Reader,
    state: Tensor,
    *,
    seen: Sequence[int],
    end_ids: Collection[int],
    limit: int,
    penalty: float,
) -> list[int]:
    """The most likely tokens until an end token or the limit.

    Args:
        model: transformers' ``AriaForConditionalGeneration``.
        reader: has read the prompt.
        state: [hidden] of the prompt's last token.
        seen: the prompt's tokens, on which a repetition penalty falls too.
        end_ids: tokens that end a reply; the one that came is the last of the result.
        limit: longest reply, in tokens.
        penalty: repetition penalty (CTRL, arXiv 1909.05858, section 4.1); 1.0 for none.

    Raises:
        ModelError: the model's output is not finite.
    """
    embed = model.model.language_model.embed_tokens
    ids: list[int] = []
    marked = torch.zeros(0, dtype=torch.bool)
    while not ids or (ids[-1] not in end_ids and len(ids) < limit):
        if ids:
            state = reader.read(embed(torch.tensor([ids[-1]], device=state.device)))
        logits = model.lm_head(state[None])[0].float()
        if not ids:
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(
                    "the model's output is not finite: its weights are damaged, or need bfloat16 or float32"
                )
            marked = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            marked[torch.tensor(list(seen), device=logits.device)] = True
        if penalty != 1.0:
            logits = torch.where(marked, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
        ids.append(int(logits.argmax()))
        marked[ids[-1]] = True
    return ids


class AriaWriter:
    """A :class:`hybrid.fine.writer.Writer`.

    Several threads may write, one reply at a time. The keys and values of one window stay for further questions
    (10 GB for 256 frames in bfloat16); :meth:`forget` drops them.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.

    Attributes:
        device: the device; several with commas.
    """

    def __init__(self, checkpoint: LoadedCheckpoint, spec: PromptSpec) -> None:
        self._checkpoint, self._spec = checkpoint, spec
        self._device = resident_device(
            checkpoint.model, checkpoint.model.model.language_model.embed_tokens.weight.device
        )
        self.device = device_names(checkpoint.model)
        self._turn = threading.Lock()
        self._window: tuple[str, Reader] | None = None

    @property
    def holds_window(self) -> bool:
        """Whether a window's keys and values take memory."""
        return self._window is not None

    def check(self, question: str) -> None:
        """See :meth:`hybrid.fine.writer.Writer.check`."""
        self._checkpoint.tokens.suffix(question)

    def forget(self) -> None:
        """Drop the cached window."""
        self._window = None

    def write(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> Generator[Written, None, None]:
        """See :meth:`hybrid.fine.writer.Writer.write`; questions about one window follow each other."""
        prompts = [self._prompt(*pair) for pair in zip(features, questions, strict=True)]
        for index in sorted(range(len(prompts)), key=lambda index: features[index].key):
            try:
                with self._turn:
                    reply = self._reply(features[index], *prompts[index])
            except Exception as exc:
                yield ReplyFailed(index, exc)
            else:
                yield ReplyWritten(index, reply)

    def _prompt(self, features: FrameFeatures, question: str) -> tuple[VisualPrefix, list[int]]:
        """The tokens of a prompt, in two parts.

        Raises:
            InputError: an empty question, or a prompt of more than the model has positions for.
        """
        tokens = self._checkpoint.tokens
        prefix, suffix = tokens.prefix([len(item) for item in features.items]), tokens.suffix(question)
        check_positions(
            len(prefix.ids) + len(suffix),
            self._spec.max_new_tokens,
            frames=features.frame_count,
            limit=int(self._checkpoint.model.config.text_config.max_position_embeddings),
        )
        return prefix, suffix

    def _reply(self, features: FrameFeatures, prefix: VisualPrefix, suffix: list[int]) -> Reply:
        checkpoint, seconds = self._checkpoint, dict[str, float]()
        with out_of_memory_as_error(f"a window of {features.frame_count} frames"), torch.inference_mode():
            with timed(seconds, "prefix", self._device):
                reader, reused = self._read(features, prefix)
            with timed(seconds, "prefill", self._device):
                ids = torch.tensor(suffix, device=self._device)
                state = reader.read(checkpoint.model.model.language_model.embed_tokens(ids))
            with timed(seconds, "decode", self._device):
                new_ids = greedy_tokens(
                    checkpoint.model,
                    reader,
                    state,
                    seen=[*prefix.ids, *suffix],
                    end_ids=checkpoint.end_ids,
                    limit=self._spec.max_new_tokens,
                    penalty=checkpoint.repetition_penalty,
                )
            reader.forget(len(prefix.ids))
        self._window = (features.key, reader)
        return Reply(
            ids=tuple(new_ids),
            cut=new_ids[-1] not in checkpoint.end_ids,
            forced=False,
            prompt_tokens=len(prefix.ids) + len(suffix),
            reused_tokens=len(prefix.ids) if reused else 0,
            seconds=seconds,
        )

    def _read(self, features: FrameFeatures, prefix: VisualPrefix) -> tuple[Reader, bool]:
        """What has read the window, up to the end of its last frame; and whether the last question was about it."""
        # Removed while it is used, so that a failed reply leaves no half-read window.
        cached, self._window = self._window, None
        if cached is not None and cached[0] == features.key:
            return cached[1], True
        del cached  # its memory is needed for the next one
        reader = Reader(self._checkpoint.model)
        reader.read(self._embed(prefix, features))
        return reader, False

    def _embed(self, prefix: VisualPrefix, features: FrameFeatures) -> Tensor:
        """[L, hidden]: the embeddings of the prefix, with the features in their positions."""
        ids = torch.tensor(prefix.ids, device=self._device)
        embeddings: Tensor = self._checkpoint.model.model.language_model.embed_tokens(ids)
        # By position, not by token id: only the prompt decides where a frame stands.
        positions = torch.from_numpy(prefix.feature_positions).to(embeddings.device)
        rows = torch.cat([item.to(embeddings.device, embeddings.dtype) for item in features.items])
        return embeddings.index_copy(0, positions, rows)
