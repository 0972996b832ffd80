"""BLIP's image-text matching: the probability that a frame and the question belong together.

    score = softmax(itm_head(text encoder([ENC] question, attending to the frame)[0]))[1]

The scorer of AKS (arXiv 2502.21271) and FOCUS (arXiv 2510.27280), with transformers' ``BlipForImageTextRetrieval``.
As there, and as in LAVIS, from which they take the model: the question alone, in lower case, with
``. ! " ( ) * # : ; ~`` as spaces, at most 50 words and 35 tokens, the token ``[ENC]`` in place of ``[CLS]``; the
frame as a square. Published tokenizers of transformers' conversions lack ``[ENC]``; it is the last row of the
checkpoint's embeddings. ``first=cls`` keeps ``[CLS]``, which is what transformers' own processor gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.errors import ModelLoadError
from hybrid.runtime import model_errors
from hybrid.scorers.batches import in_batches, side_by_side
from hybrid.scorers.checkpoint import ModelScorer, open_checkpoint
from hybrid.scorers.interface import Loading, ScorerKind, checked
from hybrid.scorers.pixels import PixelRule, read_pixel_rule
from hybrid.values import ByteArray, Float32Array, FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["SCORER", "BlipItmScorer", "load", "plain_question"]

LONGEST_TOKENS = 35
LONGEST_TEXT = 50
FIRST = ("enc", "cls")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BlipItmScorer(ModelScorer):
    """A :class:`~hybrid.scorers.interface.VideoScorer` on a BLIP checkpoint; made by :func:`load`.

    Attributes:
        tokenizer: of the checkpoint.
        first_token: replaces the tokenizer's first token; None keeps that.
        pixels: how frames become the model's input.
    """

    tokenizer: Any
    first_token: int | None
    pixels: PixelRule

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Probabilities of a match, 0 to 1; each frame is encoded once for all questions."""
        inputs = map(self.pixels.apply, checked(frames, questions))
        texts = [self._tokens(question) for question in questions]
        return side_by_side(in_batches(inputs, self.batch_size, partial(self._match, texts)), len(questions))

    def _tokens(self, question: str) -> torch.Tensor:
        """Token ids of a question: int64 [1, L]."""
        text = plain_question(question)
        ids = self.tokenizer(text, truncation=True, max_length=LONGEST_TOKENS, return_tensors="pt")["input_ids"]
        if self.first_token is not None:
            ids[:, 0] = self.first_token
        moved: torch.Tensor = ids.to(self.model.device)
        return moved

    def _match(self, texts: Sequence[torch.Tensor], inputs: Sequence[Float32Array]) -> FloatArray:
        import torch

        model = self.model
        with torch.inference_mode(), model_errors(f"matching {len(inputs)} frames with {self.name}"):
            pixels = torch.from_numpy(np.stack(inputs)).to(model.device, model.dtype)
            pictures = model.vision_model(pixel_values=pixels).last_hidden_state
            seen = torch.ones(pictures.shape[:2], dtype=torch.long, device=model.device)
            rows = []
            for ids in texts:
                hidden = model.text_encoder(
                    input_ids=ids.expand(len(inputs), -1),
                    attention_mask=torch.ones_like(ids).expand(len(inputs), -1),
                    encoder_hidden_states=pictures,
                    encoder_attention_mask=seen,
                ).last_hidden_state
                logits = model.itm_head(hidden[:, 0]).float()
                rows.append(logits.softmax(dim=-1)[:, 1])
            scores: FloatArray = torch.stack(rows).cpu().numpy().astype(np.float64)
        return scores


def plain_question(question: str) -> str:
    """A question in the form in which the published scores were made.

    >>> plain_question('When does "it" start?  (Roughly.)')
    'when does it start? roughly'
    """
    text = re.sub(r"\s{2,}", " ", re.sub(r'[.!"()*#:;~]', " ", question.lower())).strip()
    return " ".join(text.split(" ")[:LONGEST_TEXT])


def load(loading: Loading) -> BlipItmScorer:
    """Load a checkpoint of ``BlipForImageTextRetrieval``: a folder, or a name on the hub.

    Raises:
        InputError: ``first`` is neither ``enc`` nor ``cls``.
        ModelLoadError: it is missing, incomplete, or of another architecture.
        OutOfMemoryError: it does not fit on the device.
    """
    first = loading.choice("first", FIRST)
    checkpoint = open_checkpoint(loading)
    from transformers import BlipForImageTextRetrieval

    pixels = read_pixel_rule(checkpoint.files.folder, square=True)
    model, tokenizer = checkpoint.model(BlipForImageTextRetrieval), checkpoint.tokenizer()
    return BlipItmScorer(
        name=loading.name,
        identity=checkpoint.identity("blip-itm", first=first),
        model=model,
        tokenizer=tokenizer,
        first_token=_enc_token(checkpoint.name, model, tokenizer) if first == "enc" else None,
        pixels=pixels,
        batch_size=checkpoint.batch_size(cpu=8, cuda=64),
    )


def _enc_token(name: str, model: Any, tokenizer: Any) -> int:
    known = tokenizer.get_vocab().get("[ENC]")
    rows = int(model.config.text_config.vocab_size)
    if known is not None:
        return int(known)
    if rows == len(tokenizer) + 2:  # [DEC] and [ENC] were added behind BERT's own words
        return rows - 1
    raise ModelLoadError(
        f"{name} has no token [ENC] ({rows} embeddings, {len(tokenizer)} tokens), with which its matching was trained; "
        "add ,first=cls to do without"
    )


SCORER = ScorerKind(
    name="blip-itm",
    load=load,
    summary="probability that frame and question match",
    needs="a checkpoint of BlipForImageTextRetrieval (Salesforce/blip-itm-large-coco)",
    source="BLIP (arXiv 2201.12086), as AKS and FOCUS use it",
    options={"first": "enc (as published) or cls (as transformers' processor does)"},
    framewise=True,
)
