"""Whether replies are those of transformers' ``generate``, in 32 and in 16 bits, by a model that has learned its task.

    python -m bench.accuracy.agreement --videos 8 [--folder FILMS] [--out FILE]

The bundled GenS is asked about the first frames of videos of the world's test split. ``generate`` gets pixels and
one question at a time, as published checkpoints are called; we keep each window's features and its keys and values,
and write all replies about it together. In 32 bits the tokens must be equal. In 16 bits every order of adding rounds
otherwise: how often replies differ is to be held against how often ``generate`` itself differs between the precisions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.command import check_counts, make_parser, run_command
from bench.report import circumstances, print_table, write_result
from bench.world.exam import Exam, prepare_exam
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.load import load_scorer
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.load import QwenScorer
from hybrid.fine.reply import parse_reply
from hybrid.fine.writer import replies_of
from hybrid.frames.registry import open_source
from hybrid.presets import PRESETS
from hybrid.values import ByteArray, Sampling

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Generate", "compare_replies", "main", "replies_of_ours"]

PRECISIONS: Final = ("float32", "bfloat16")
MOST_SHOWN: Final = 5
"""Of replies that differ."""

Replies = list[tuple[int, ...]]
"""Tokens of each reply, up to the token that ends it and with it."""

Ask = Callable[[Sequence[ByteArray], Sequence[str]], Replies]
"""Frames of a window (uint8 [h, w, 3] each, in the size that the model looks at) and questions to it."""


@dataclass(slots=True)
class _Way:
    """What one way of asking wrote to all questions about all videos, and how long each video took."""

    replies: Replies = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ask(self, ask: Ask, frames: Sequence[ByteArray], questions: Sequence[str]) -> None:
        """Ask about one more video."""
        started = time.perf_counter()
        self.replies += ask(frames, questions)
        self.seconds.append(time.perf_counter() - started)


class Generate:
    """A checkpoint as transformers loads it and ``generate`` asks it: one question after the other, from pixels.

    Args:
        folder: of the checkpoint.
        precision: ``float32`` or ``bfloat16``.
        spec: the prompt.
    """

    def __init__(self, folder: str, precision: str, spec: PromptSpec) -> None:
        import torch
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self._model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, precision))
        self._model.eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        self._spec = spec
        ends = self._model.generation_config.eos_token_id
        self._ends = frozenset([ends] if isinstance(ends, int) else ends)

    def __call__(self, frames: Sequence[ByteArray], questions: Sequence[str]) -> Replies:
        return [self._reply(frames, question) for question in questions]

    def without_end(self, ids: Sequence[int]) -> tuple[int, ...]:
        """A reply without the token that ends it; in a given form it closes without one."""
        return tuple(ids[:-1] if ids and ids[-1] in self._ends else ids)

    def text(self, ids: Sequence[int]) -> str:
        """A reply as text."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _reply(self, frames: Sequence[ByteArray], question: str) -> tuple[int, ...]:
        import torch

        height, width, _ = frames[0].shape
        sides = {"shortest_edge": height * width, "longest_edge": height * width}
        pixels = self._processor(images=list(frames), size=sides, return_tensors="pt")
        merged = self._model.config.vision_config.spatial_merge_size**2
        blocks = tuple(int(count) // merged for count in pixels["image_grid_thw"].prod(-1))
        prompt = self._tokenizer(self._spec.render(question, tokens_per_block=blocks), return_tensors="pt")
        kinds = (prompt["input_ids"] == self._model.config.image_token_id).long()
        with torch.inference_mode():
            whole: Tensor = self._model.generate(
                **prompt,
                mm_token_type_ids=kinds,
                image_grid_thw=pixels["image_grid_thw"],
                pixel_values=pixels["pixel_values"].to(self._model.dtype),
                do_sample=False,
                max_new_tokens=self._spec.max_new_tokens,
            )
        return tuple(whole[0, prompt["input_ids"].shape[1] :].tolist())


def replies_of_ours(scorer: QwenScorer, frames: Sequence[ByteArray], questions: Sequence[str]) -> Replies:
    """What we write: all questions together, about features that are computed once."""
    features = scorer.encode_frames(frames)
    requests = scorer.writer.prompts([features] * len(questions), list(questions))
    return [reply.ids for reply in replies_of(scorer.writer.scheduler.run(requests))]


def compare_replies(ones: Replies, others: Replies, theirs: Generate, *, frames: int) -> dict[str, Any]:
    """How often two ways wrote the same to the same questions.

    Args:
        ones, others: as many replies each.
        theirs: knows how tokens are read.
        frames: of a window.
    """
    tokens, scores, differing = 0, 0, []
    for one, other in zip(map(theirs.without_end, ones), map(theirs.without_end, others), strict=True):
        texts = theirs.text(one), theirs.text(other)
        read = [parse_reply(text, frames).scores for text in texts]
        tokens += one == other
        scores += read[0] == read[1]
        if one != other:
            differing.append(texts)
    return {"replies": len(ones), "same_tokens": tokens, "same_scores": scores, "differing": differing[:MOST_SHOWN]}


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, compare and report.

    Raises:
        InputError: there is nothing to compare.
    """
    parser = make_parser(__doc__)
    parser.add_argument("--videos", type=int, default=8, help="of the world's test split")
    parser.add_argument("--per-kind", type=int, default=3, help="most questions of a kind about each video")
    parser.add_argument("--frames", type=int, default=256, help="of a window")
    parser.add_argument("--folder", type=Path, default=Path("world-videos"), help="where films are made and kept")
    given = parser.parse_args(argv)
    check_counts(given, "videos", "per_kind", "frames")
    run = circumstances()
    exams = [prepare_exam(given.folder, "test", seed, per_kind=given.per_kind) for seed in range(given.videos)]
    ways, theirs = _ask_all(exams, given.frames)
    pairs = {
        f"{one} / {other}": compare_replies(ways[one].replies, ways[other].replies, theirs, frames=given.frames)
        for one, other in _pairs()
    }
    columns = ("replies", "same_tokens", "same_scores")
    print_table(["ways", *columns], [[name, *(one[column] for column in columns)] for name, one in pairs.items()])
    seconds = {name: statistics.median(way.seconds) for name, way in ways.items()}
    sizes = {"videos": len(exams), "questions": sum(len(exam.questions) for exam in exams), "frames": given.frames}
    figures = {**sizes, "agreement": pairs, "median_seconds_of_a_video": seconds}
    write_result("agreement", figures, given.out, run=run)


def _ask_all(exams: Sequence[Exam], count: int) -> tuple[dict[str, _Way], Generate]:
    """Every way's replies, and who can read them."""
    ways: dict[str, _Way] = {}
    for precision in PRECISIONS:
        free, formed = _scorer(precision, constrained=False), _scorer(precision, constrained=True)
        theirs = Generate(PRESETS["tiny"].sampler, precision, free.prompt)
        asked: dict[str, Ask] = {
            f"generate, {precision}": theirs,
            f"ours, {precision}": lambda frames, questions, free=free: replies_of_ours(free, frames, questions),  # type: ignore[misc]
            f"ours in its form, {precision}": lambda frames, questions, formed=formed: replies_of_ours(  # type: ignore[misc]
                formed, frames, questions
            ),
        }
        for exam in exams:
            with open_source(exam.video, Sampling()) as source:
                frames = [free.prepare(rgb) for batch in source.read() for rgb in batch.rgb][:count]
            for name, ask in asked.items():
                ways.setdefault(name, _Way()).ask(ask, frames, [question.text for question in exam.questions])
    return ways, theirs


def _pairs() -> list[tuple[str, str]]:
    """Which ways are compared."""
    same = [(f"ours, {precision}", f"generate, {precision}") for precision in PRECISIONS]
    form = [(f"ours in its form, {precision}", f"ours, {precision}") for precision in PRECISIONS]
    across = [(f"{way}, {PRECISIONS[1]}", f"{way}, {PRECISIONS[0]}") for way in ("generate", "ours")]
    return [*same, *across, *form]


def _scorer(precision: str, *, constrained: bool) -> QwenScorer:
    scorer = load_scorer(
        PRESETS["tiny"].sampler, device="cpu", dtype=precision, loop=LoopOptions(constrained=constrained)
    )
    assert isinstance(scorer, QwenScorer)
    return scorer


if __name__ == "__main__":
    run_command(main)
