"""The probability that a vision-language model answers yes when it is asked whether a frame helps.

Each frame is shown alone, with the prompt below, in the checkpoint's own chat template; one forward pass gives the
distribution of the first token of the reply, and of that

    pair (the default)   P(yes) / (P(yes) + P(no))
    vocabulary           P(yes)

where P(yes) is the sum over all ways to write it that are one token of the checkpoint's (``yes``, ``Yes``, ``YES``,
with and without a space before). It is the kind of score of SeViLA (arXiv 2305.06988) and of FRAG (arXiv 2504.17447),
which asks for a letter and takes its share of the whole vocabulary; their prompts are their own, this one is ours.

Any checkpoint that transformers opens as ``AutoModelForImageTextToText`` will do (LLaVA, Qwen-VL, Idefics ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.errors import ModelLoadError
from hybrid.runtime import model_errors
from hybrid.scorers.batches import in_batches, side_by_side
from hybrid.scorers.checkpoint import ModelScorer, load_errors, open_checkpoint
from hybrid.scorers.interface import Loading, ScorerKind, checked
from hybrid.values import ByteArray, FloatArray

if TYPE_CHECKING:
    import torch

__all__ = ["PROMPT", "SCORER", "YesScorer", "load", "word_tokens"]

PROMPT = (
    "This is one frame of a video. A question about the whole video: {question}\n"
    "Does this frame show something that is needed to answer it? Reply with one word, yes or no."
)

SHARES = ("pair", "vocabulary")
_SPACES = ("", " ", "\u2581", "\u0120")
"""How tokenizers write the space before a word: plainly, and as SentencePiece's and byte-level BPE's signs."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class YesScorer(ModelScorer):
    """A :class:`~hybrid.scorers.interface.VideoScorer` on a vision-language model; made by :func:`load`.

    Attributes:
        processor: of the checkpoint.
        yes, no: ids of the tokens that are this word.
        share: what the probability is a share of: one of :data:`SHARES`.
        forward_options: of the model's forward pass.
    """

    processor: Any
    yes: list[int]
    no: list[int]
    share: str
    forward_options: Mapping[str, int]

    def score(self, frames: Iterable[ByteArray], questions: Sequence[str]) -> FloatArray:
        """Probabilities of yes, 0 to 1. Each frame and question is a forward pass of the whole model."""
        runs = _same_size(checked(frames, questions))
        compute = partial(self._ask, [self._text(question) for question in questions])
        blocks = (scores for run in runs for scores in in_batches(run, self.batch_size, compute))
        return side_by_side(blocks, len(questions))

    def _text(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": PROMPT.format(question=question)}]
        with model_errors(f"writing the prompt of {self.name}"):
            text: str = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        return text

    def _ask(self, texts: Sequence[str], frames: Sequence[ByteArray]) -> FloatArray:
        import torch
        from PIL import Image

        images = [Image.fromarray(frame) for frame in frames]
        rows = []
        with torch.inference_mode(), model_errors(f"asking {self.name} about {len(frames)} frames"):
            for text in texts:
                inputs = self.processor(
                    images=[[image] for image in images], text=[text] * len(images), return_tensors="pt"
                )
                # Frames of one size and one text have prompts of one length: nothing was padded.
                inputs = inputs.to(self.model.device, dtype=self.model.dtype)
                logits = self.model(**inputs, use_cache=False, **self.forward_options).logits[:, -1].float()
                rows.append(self._probability(logits))
            scores: FloatArray = torch.stack(rows).cpu().numpy().astype(np.float64)
        return scores

    def _probability(self, logits: torch.Tensor) -> torch.Tensor:
        """float32 [n] of logits [n, vocabulary]."""
        logs = logits.log_softmax(dim=-1)
        yes = logs[:, self.yes].logsumexp(dim=-1)
        if self.share == "vocabulary":
            return yes.exp()
        return (yes - logs[:, self.no].logsumexp(dim=-1)).sigmoid()


def _same_size(frames: Iterable[ByteArray]) -> Iterator[list[ByteArray]]:
    """Runs of consecutive frames of one size, at most 64 frames long so that few are held at once."""
    for _, run in groupby(frames, key=lambda frame: frame.shape):
        while part := list(islice(run, 64)):
            yield part


def word_tokens(tokenizer: Any, word: str) -> list[int]:
    """The ids of all tokens that are this word, in any case and with or without a space before it.

    Raises:
        ModelLoadError: there is none.
    """
    vocabulary = tokenizer.get_vocab()
    forms = [space + form for form in (word.lower(), word.capitalize(), word.upper()) for space in _SPACES]
    found = {int(vocabulary[form]) for form in forms if form in vocabulary}
    for form in forms:
        ids = tokenizer.encode(form, add_special_tokens=False)
        # A token for what is not known, or for a part of the word, would decode to something else.
        if len(ids) == 1 and tokenizer.decode(ids).strip().lower() == word.lower():
            found.add(int(ids[0]))
    if not found:
        raise ModelLoadError(
            f"the tokenizer has no single token for {word!r}, so that the first token of a reply cannot be it; "
            "take another checkpoint"
        )
    return sorted(found)


def load(loading: Loading) -> YesScorer:
    """Load a vision-language model: a folder, or a name on the hub.

    Raises:
        InputError: ``of`` is neither ``pair`` nor ``vocabulary``.
        ModelLoadError: it is missing, incomplete, of another kind, or has no chat template or no token for yes or no.
        OutOfMemoryError: it does not fit on the device.
    """
    share = loading.choice("of", SHARES)
    checkpoint = open_checkpoint(loading)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    with load_errors(f"the processor of {checkpoint.name}"):
        processor = AutoProcessor.from_pretrained(checkpoint.files.folder, local_files_only=True)
    if not getattr(processor, "chat_template", None):
        raise ModelLoadError(f"{checkpoint.name} has no chat template, so that it is not known how to ask it")
    model = checkpoint.model(AutoModelForImageTextToText)
    # Only the last token's logits are used; with a large vocabulary all of them would fill a device.
    last_only = "logits_to_keep" in signature(model.forward).parameters
    return YesScorer(
        name=loading.name,
        identity=checkpoint.identity("yes", share=share, prompt=PROMPT),
        model=model,
        processor=processor,
        yes=word_tokens(processor.tokenizer, "yes"),
        no=word_tokens(processor.tokenizer, "no"),
        share=share,
        forward_options={"logits_to_keep": 1} if last_only else {},
        batch_size=checkpoint.batch_size(cpu=1, cuda=16),
    )


SCORER = ScorerKind(
    name="yes",
    load=load,
    summary="probability that a vision-language model says yes to: is this frame needed for the answer",
    needs="a checkpoint that transformers opens for images and text, with a chat template",
    source="of the kind of SeViLA (arXiv 2305.06988) and FRAG (arXiv 2504.17447)",
    options={"of": "pair (share of yes and no) or vocabulary (share of all tokens)"},
    framewise=True,
)
