"""GenS on Qwen2.5-VL: scores the frames of a window with a loaded checkpoint.

The work is cut where results can be kept: :meth:`QwenScorer.encode_frames` depends on the frames
alone, :meth:`QwenScorer.score_features` adds the question. The text part runs through
``model.model.language_model`` with positions in closed form, so no call leaves state in the model
and one scorer may serve several threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hybrid.errors import InputError
from hybrid.gens.decode import Generated, greedy
from hybrid.gens.pixels import PatchRule, check_frames, pair_frames, patchify, resize_frame, target_size
from hybrid.gens.positions import VisualGrid, rope_positions
from hybrid.gens.prompt import PromptMode, PromptSpec
from hybrid.gens.reply import parse_reply
from hybrid.gens.scorer import WindowScores
from hybrid.gens.tokens import PromptTokens, VisualPrefix
from hybrid.gens.vision import encode_patches
from hybrid.runtime import out_of_memory_as_error
from hybrid.values import ByteArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameFeatures", "QwenCheckpoint", "QwenScorer"]

_LOG = logging.getLogger(__name__)

CUT_NOTE = "the reply was cut at the limit of {limit} tokens"


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """What the language model sees of a window.

    Attributes:
        items: per image (or per moment of a video item) its features, [tokens, hidden], on the
            model's device and in its dtype.
        grids: per entry of ``items``, (rows, columns) of its tokens.
        frame_count: how many frames went in; in video mode more than there are items.
        mode: of the prompt they were made for.
        seconds: time by part.
    """

    items: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    frame_count: int
    mode: PromptMode
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class QwenCheckpoint:
    """A loaded checkpoint and all that decides its replies; made by :func:`hybrid.gens.load.load_scorer`.

    Attributes:
        name: as the caller named it: a hub name or a folder.
        model: transformers' ``Qwen2_5_VLForConditionalGeneration``, in evaluation mode.
        tokenizer: its fast tokenizer.
        tokens: makes token ids of the prompt.
        rule: its preprocessing.
        end_ids: tokens that end a reply.
        repetition_penalty: of its generation settings; 1.0 for none.
        identity: see :class:`hybrid.gens.scorer.FrameScorer`.
    """

    name: str
    model: Any
    tokenizer: Any
    tokens: PromptTokens
    rule: PatchRule
    end_ids: frozenset[int]
    repetition_penalty: float
    identity: Mapping[str, str]


class QwenScorer:
    """A :class:`hybrid.gens.scorer.FrameScorer` on a Qwen2.5-VL checkpoint.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
    """

    def __init__(self, checkpoint: QwenCheckpoint, spec: PromptSpec) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self._device: torch.device = checkpoint.model.lm_head.weight.device

    @property
    def name(self) -> str:
        """What was loaded: a hub name or a folder."""
        return self._checkpoint.name

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a reply: checkpoint, weight hash, prompt hash, dtype, versions."""
        return self._checkpoint.identity

    @property
    def device(self) -> str:
        """Where it runs."""
        return str(self._device)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) that every frame is resized to; None where the prompt keeps the aspect."""
        return self._spec.frame_size

    @property
    def prompt(self) -> PromptSpec:
        """The prompt in use."""
        return self._spec

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        """Score the frames of one window.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order; position = place in this sequence.
            question: plain text; special tokens in it are taken as text.

        Raises:
            InputError: no frames, a frame of another form, or an empty question.
            OutOfMemoryError: the window is too large for the device.
        """
        self._checkpoint.tokens.suffix(question)  # refuses a bad question before the work starts
        return self.score_features(self.encode_frames(frames), question)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision tower; depends on the frames and the checkpoint, not on any question.

        Each image's features are independent of the other frames. In video mode a feature
        belongs to two consecutive frames.

        Args:
            frames: uint8 [H, W, 3] RGB each.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory did not suffice.
        """
        check_frames(frames)
        seconds: dict[str, float] = {}
        preparing = out_of_memory_as_error(f"preparing {len(frames)} frames")
        with _timed(seconds, "preprocess", self._device), preparing:
            resized = [self.prepare(frame) for frame in frames]
            batches = self._batches(resized)
        items: list[Any] = [None] * (sum(len(places) for places, _, _ in batches))
        grids: list[tuple[int, int]] = [(0, 0)] * len(items)
        with (
            _timed(seconds, "vision", self._device),
            out_of_memory_as_error(f"the vision tower on {len(frames)} frames"),
            torch.inference_mode(),
        ):
            for places, grid, patches in batches:
                features = encode_patches(
                    self._checkpoint.model.model.visual,
                    patches,
                    rows=grid[0],
                    columns=grid[1],
                    fill_batches=self._device.type != "cpu",
                )
                for place, feature in zip(places, features, strict=True):
                    items[place], grids[place] = feature, grid
        return FrameFeatures(tuple(items), tuple(grids), len(frames), self._spec.mode, seconds)

    def score_features(self, features: FrameFeatures, question: str) -> WindowScores:
        """Score a window whose frames were encoded before; same result as :meth:`score`.

        Raises:
            InputError: an empty question, or features of another prompt mode.
            OutOfMemoryError: the window is too large for the device.
        """
        generated = self.generate(features, question)
        seconds = {**features.seconds, **generated.seconds}
        with _timed(seconds, "parse", torch.device("cpu")):
            text = self._checkpoint.tokenizer.decode(generated.ids, skip_special_tokens=True).strip()
            parsed = parse_reply(text, features.frame_count, first_index=self._spec.first_index)
        cut = (CUT_NOTE.format(limit=self._spec.max_new_tokens),) if generated.cut else ()
        _LOG.debug("reply %s, %d tokens, %r", parsed.status, len(generated.ids), text)
        return WindowScores(
            scores=parsed.scores,
            status=parsed.status,
            text=text,
            notes=parsed.notes + cut,
            prompt_tokens=generated.prompt_tokens,
            new_tokens=len(generated.ids),
            seconds=seconds,
        )

    def generate(self, features: FrameFeatures, question: str) -> Generated:
        """The reply as tokens: those that ``generate(do_sample=False)`` of transformers gives.

        Raises:
            InputError: an empty question, or features of another prompt mode.
            OutOfMemoryError: the window is too large for the device.
        """
        if features.mode != self._spec.mode:
            raise InputError(f"the features are for {features.mode} mode, the prompt is in {self._spec.mode} mode")
        checkpoint = self._checkpoint
        seconds: dict[str, float] = {}
        with out_of_memory_as_error(f"a window of {features.frame_count} frames"), torch.inference_mode():
            with _timed(seconds, "prompt", self._device):
                grids = self._visual_grids(features)
                prefix = checkpoint.tokens.prefix([grid.tokens for grid in grids])
                suffix = checkpoint.tokens.suffix(question)
                positions, next_position = rope_positions(_layout(prefix, grids, len(suffix)))
                embeddings = self._embed(prefix, suffix, features)
            generated = greedy(
                checkpoint.model,
                embeddings,
                torch.from_numpy(positions).to(self._device),
                prompt_ids=prefix.ids + suffix,
                next_position=next_position,
                end_ids=checkpoint.end_ids,
                repetition_penalty=checkpoint.repetition_penalty,
                max_new_tokens=self._spec.max_new_tokens,
            )
        return replace(generated, seconds={**seconds, **generated.seconds})

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at; preparing it again changes nothing.

        (With pixel limits that holds for frames of up to 16 to 1 where ``max_pixels`` is 112x112 or
        more; Qwen's rule itself overshoots the limits for narrower ones.)
        """
        rule = self._checkpoint.rule
        size = target_size(frame.shape[1], frame.shape[0], spec=self._spec, factor=rule.factor)
        return resize_frame(frame, size, resample=rule.resample)

    def _batches(self, frames: list[ByteArray]) -> list[tuple[list[int], tuple[int, int], Tensor]]:
        """Frames of one size together: their places among the items, their grid, their patches."""
        rule = self._checkpoint.rule
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, frame in enumerate(frames):
            by_shape.setdefault(frame.shape, []).append(place)
        if self._spec.mode == "video" and len(by_shape) > 1:
            raise InputError(f"the frames of a video item have {len(by_shape)} sizes; all must have one")
        batches = []
        for shape, members in by_shape.items():
            stacked = np.stack([frames[place] for place in members])
            places = members
            if self._spec.mode == "video":
                stacked = pair_frames(stacked, rule.temporal)
                places = list(range(len(stacked)))
            grid = (shape[0] // rule.factor, shape[1] // rule.factor)
            batches.append((places, grid, torch.from_numpy(patchify(stacked, rule))))
        return batches

    def _visual_grids(self, features: FrameFeatures) -> list[VisualGrid]:
        """The visual items of the prompt: one per image, or one for the whole video."""
        if self._spec.mode == "image":
            return [VisualGrid(1, rows, columns) for rows, columns in features.grids]
        rows, columns = features.grids[0]
        per_second = self._checkpoint.model.config.vision_config.tokens_per_second
        step = per_second * self._checkpoint.rule.temporal / self._spec.video_fps
        return [VisualGrid(len(features.items), rows, columns, step_positions=step)]

    def _embed(self, prefix: VisualPrefix, suffix: list[int], features: FrameFeatures) -> Tensor:
        """[L, hidden]: the embeddings of the tokens, with the features in their places."""
        ids = torch.tensor(prefix.ids + suffix, device=self._device)
        embeddings: Tensor = self._checkpoint.model.model.language_model.embed_tokens(ids)
        # By place, not by token id: only the prompt decides where a frame stands.
        places = torch.from_numpy(_feature_places(prefix)).to(self._device)
        return embeddings.index_copy(0, places, torch.cat(features.items).to(embeddings.dtype))


def _layout(prefix: VisualPrefix, grids: list[VisualGrid], suffix_length: int) -> list[int | VisualGrid]:
    """The prompt as runs of text and visual items, in order."""
    layout: list[int | VisualGrid] = []
    for run, grid in zip(prefix.text_runs, grids, strict=True):
        layout += [run, grid]
    # One more for the token that ends the last visual item.
    return [*layout, 1 + suffix_length]


def _feature_places(prefix: VisualPrefix) -> IntArray:
    """int64 [all features]: their places among the tokens of the prompt."""
    sizes = np.array(prefix.tokens_per_block)
    before = np.cumsum(prefix.text_runs) + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.concatenate([np.arange(start, start + size) for start, size in zip(before, sizes, strict=True)])


@contextmanager
def _timed(seconds: dict[str, float], part: str, device: torch.device) -> Iterator[None]:
    """Add the time of a block to ``seconds[part]``, with the device's queue drained at its end."""
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started
