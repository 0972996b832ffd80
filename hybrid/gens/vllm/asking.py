"""What vLLM is asked, in process or at a server: tokens, embeddings, form and limit; and what its tokens are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from hybrid.errors import ModelError
from hybrid.gens.frame_features import FrameFeatures, content_key
from hybrid.gens.grammar import reply_pattern
from hybrid.gens.prompt import PromptSpec
from hybrid.gens.tokens import PromptTokens
from hybrid.gens.writer import Reply

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Asking", "Written", "embeddings_of", "grids_of", "uuids_of"]

_LAYOUTS_KEPT = 32


@dataclass(frozen=True, slots=True)
class Written:
    """What vLLM says of one reply.

    Attributes:
        ids: the tokens of the reply, with the one that ended it.
        prompt_ids: the tokens that were read, each image by as many placeholders as it has features.
        finish: ``stop`` or ``length``.
        reused_tokens: of the prompt, from vLLM's prefix cache.
    """

    ids: Sequence[int]
    prompt_ids: Sequence[int]
    finish: str | None
    reused_tokens: int


class Asking:
    """How a checkpoint is asked through vLLM.

    Args:
        tokens: makes token ids of the prompt.
        spec: the prompt, in image mode.
        end_ids: tokens that end a reply.
        repetition_penalty: of the checkpoint's generation settings; 1.0 for none.
        constrained: whether replies can only be of GenS's form.
        merge: patches per side of a token, of the checkpoint's preprocessing.

    Attributes: as the arguments.
    """

    def __init__(
        self,
        *,
        tokens: PromptTokens,
        spec: PromptSpec,
        end_ids: frozenset[int],
        repetition_penalty: float,
        constrained: bool,
        merge: int,
    ) -> None:
        self.tokens, self.spec = tokens, spec
        self.end_ids, self.repetition_penalty = end_ids, repetition_penalty
        self.constrained, self.merge = constrained, merge
        # A window's labels take 256 calls of the tokenizer, and are those of every window of its shape.
        self._prefix = lru_cache(maxsize=_LAYOUTS_KEPT)(self._make_prefix)

    def _make_prefix(self, sizes: tuple[int, ...]) -> list[int]:
        return self.tokens.prefix(sizes).ids

    def short_ids(self, features: FrameFeatures, question: str) -> list[int]:
        """The prompt with one placeholder per image, which vLLM puts the others beside."""
        return self._prefix((1,) * len(features.grids)) + self.tokens.suffix(question)

    def full_ids(self, features: FrameFeatures, question: str) -> list[int]:
        """The prompt with one placeholder per feature: what the language model reads."""
        return self._prefix(tuple(rows * columns for rows, columns in features.grids)) + self.tokens.suffix(question)

    def pattern(self, features: FrameFeatures) -> str | None:
        """The form of a reply as a regular expression; None where it is free."""
        if not self.constrained:
            return None
        first = self.spec.first_index
        return reply_pattern(first, first + features.frame_count - 1).pattern

    def reply(
        self, features: FrameFeatures, question: str, written: Written, seconds: Mapping[str, float], *, remedy: str
    ) -> Reply:
        """What vLLM wrote, after a check that it read what it was meant to read.

        Args:
            features, question: the pair that was asked.
            written: what vLLM says.
            seconds: for the record.
            remedy: what can be done if it read another prompt.

        Raises:
            ModelError: it read another prompt, or did not end the reply in a known way.
        """
        expected = self.full_ids(features, question)
        read = list(written.prompt_ids)
        if read != expected:
            raise ModelError(f"vLLM read another prompt than it was meant to: {_difference(read, expected)}; {remedy}")
        ids = tuple(written.ids)
        if written.finish not in ("stop", "length") or not ids:
            raise ModelError(f"vLLM ended a reply of {len(ids)} tokens with {written.finish!r}; see its log")
        if self.constrained and len(ids) > 1 and ids[-1] in self.end_ids:
            ids = ids[:-1]  # a reply in its form ends with a brace; vLLM writes the end token behind it
        return Reply(
            ids=ids,
            cut=written.finish == "length",
            forced=False,
            prompt_tokens=len(read),
            reused_tokens=written.reused_tokens,
            seconds=seconds,
        )


def _difference(read: Sequence[int], expected: Sequence[int]) -> str:
    shared = zip(read, expected, strict=False)
    place = next((place for place, (own, other) in enumerate(shared) if own != other), min(len(read), len(expected)))
    return (
        f"{len(read)} tokens in place of {len(expected)}, the first that differs is number {place} "
        f"({_at(read, place)} in place of {_at(expected, place)})"
    )


def _at(ids: Sequence[int], place: int) -> str:
    return str(ids[place]) if place < len(ids) else "none"


def embeddings_of(features: FrameFeatures) -> list[Tensor]:
    """The features of each image, [tokens, hidden], on the host."""
    return [item.detach().to("cpu").contiguous() for item in features.items]


def grids_of(features: FrameFeatures, merge: int) -> Tensor:
    """int64 [images, 3]: moments, rows and columns of each image in patches, as vLLM counts them."""
    return torch.tensor([[1, rows * merge, columns * merge] for rows, columns in features.grids])


def uuids_of(features: FrameFeatures) -> list[str]:
    """A name for each image that follows from its features, so that vLLM knows it again and need not hash it."""
    pairs = zip(features.items, features.grids, strict=True)
    return [content_key([item], [grid], mode=features.mode) for item, grid in pairs]
