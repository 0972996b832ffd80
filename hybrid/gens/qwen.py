"""GenS on Qwen2.5-VL: scores the frames of a window with a loaded checkpoint.

The work is cut where results can be kept: :meth:`QwenScorer.encode_frames` depends on the frames
alone, :meth:`QwenScorer.score_features` and :meth:`QwenScorer.score_many` add questions. The text
part runs in :mod:`hybrid.gens.loop` with positions in closed form, so no call leaves state in the
model, and one scorer may serve several threads.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hybrid.errors import InputError
from hybrid.gens.frame_features import FrameFeatures, content_key
from hybrid.gens.grammar import GrammarTables, ReplyGrammar, token_texts
from hybrid.gens.loop.choose import Choice, FreeChoice, GrammarChoice
from hybrid.gens.loop.options import LoopOptions, prefix_budgets
from hybrid.gens.loop.prefixes import Prefix, PrefixCache
from hybrid.gens.loop.recording import why_not_recorded
from hybrid.gens.loop.runner import OnTokens, Reply, Request, Runner, read_prefix
from hybrid.gens.loop.stack import TextStack
from hybrid.gens.pixels import PatchRule, check_frames, pair_frames, patchify, resize_frame, target_size
from hybrid.gens.positions import VisualGrid, check_positions, rope_positions
from hybrid.gens.prompt import PromptSpec
from hybrid.gens.reply import parse_reply
from hybrid.gens.scorer import CUT_NOTE, OnScores, ScoreUpdate, WindowScores
from hybrid.gens.timing import timed
from hybrid.gens.tokens import PromptTokens, VisualPrefix
from hybrid.gens.vision import encode_patches
from hybrid.runtime import dtype_name, out_of_memory_as_error
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameFeatures", "QwenCheckpoint", "QwenScorer"]

_LOG = logging.getLogger(__name__)

FORCED_NOTE = "the reply was led to its end at the limit of {limit} tokens"
_LAYOUTS_KEPT = 32


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


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The prefix of all windows of one shape, but for its features; on the model's device.

    Attributes:
        ids: int64 [P].
        feature_places: int64 [all features]: where the features stand among the tokens.
        positions: int64 [3, P].
        next_position: of the token that follows.
        unique_ids: int64: each of the ids once.
    """

    ids: Tensor
    feature_places: Tensor
    positions: Tensor
    next_position: int
    unique_ids: Tensor


class QwenScorer:
    """A :class:`hybrid.gens.scorer.FeatureScorer` on a Qwen2.5-VL checkpoint.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
        options: how replies are written, and how much memory may be kept.

    Raises:
        ModelLoadError: the model computes in a way that is not supported, or its tokenizer cannot
            write the form that is asked for.
        InputError: the longest reply is too short for that form, or graphs are asked for where they cannot run.
    """

    def __init__(self, checkpoint: QwenCheckpoint, spec: PromptSpec, options: LoopOptions | None = None) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self._options = options or LoopOptions()
        head: Tensor = checkpoint.model.lm_head.weight
        self._device: torch.device = head.device
        language_model = checkpoint.model.model.language_model
        graphs = _use_graphs(self._options.graphs, head, language_model)
        sections = tuple(language_model.config.rope_parameters.get("mrope_section", (16, 24, 24)))
        self._stack = TextStack(language_model, sections=sections, fused=graphs)
        self._grammar = self._make_grammar() if self._options.constrained else None
        on_device, on_host = prefix_budgets(self._options, self._device)
        cache = PrefixCache(device_bytes=on_device, host_bytes=on_host)
        self._runner = Runner(self._stack, self._make_choice(head), cache, batch=self._options.batch, graphs=graphs)
        # A window's labels take 256 calls of the tokenizer, and are those of every window of its shape.
        self._layout = lru_cache(maxsize=_LAYOUTS_KEPT)(self._make_layout)

    def _make_grammar(self) -> ReplyGrammar:
        tokenizer = self._checkpoint.tokenizer
        special = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
        grammar = ReplyGrammar(token_texts(tokenizer, special_ids=special))
        tables = grammar.tables(0, 0)
        if tables.distance[tables.start] > self._spec.max_new_tokens:
            raise InputError(
                f"max_new_tokens is {self._spec.max_new_tokens}; a reply in GenS's form takes at least "
                f"{tables.distance[tables.start]} of this tokenizer's"
            )
        return grammar

    def _make_choice(self, head: Tensor) -> Choice:
        rows, penalty = self._options.batch, self._checkpoint.repetition_penalty
        if self._grammar is not None:
            return GrammarChoice(head, self._grammar, rows=rows, penalty=penalty)
        return FreeChoice(head, rows=rows, end_ids=self._checkpoint.end_ids, penalty=penalty)

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
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`; see :class:`hybrid.gens.scorer.FeatureScorer`."""
        return feature_identity(self._checkpoint, self._spec)

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""
        return int(self._checkpoint.model.config.vision_config.out_hidden_size)

    @property
    def feature_dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return dtype_name(self._checkpoint.model.lm_head.weight.dtype)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) that every frame is resized to; None where the prompt keeps the aspect."""
        return self._spec.frame_size

    @property
    def options(self) -> LoopOptions:
        """How replies are written."""
        return self._options

    @property
    def prefix_cache(self) -> PrefixCache:
        """What is kept of windows, with its counts; ``clear()`` gives the memory back."""
        return self._runner.cache

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
        with timed(seconds, "preprocess", self._device), preparing:
            resized = [self.prepare(frame) for frame in frames]
            batches = self._batches(resized)
        items: list[Any] = [None] * (sum(len(places) for places, _, _ in batches))
        grids: list[tuple[int, int]] = [(0, 0)] * len(items)
        with (
            timed(seconds, "vision", self._device),
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
        key = content_key(items, grids, mode=self._spec.mode)
        return FrameFeatures(tuple(items), tuple(grids), len(frames), self._spec.mode, key, seconds)

    def score_features(self, features: FrameFeatures, question: str) -> WindowScores:
        """Score a window whose frames were encoded before; same result as :meth:`score`.

        Raises:
            InputError: an empty question, features of another prompt mode, or more than the model has positions for.
            OutOfMemoryError: the window is too large for the device.
        """
        return self.score_many([features], [question])[0]

    def score_many(
        self, features: Sequence[FrameFeatures], questions: Sequence[str], *, on_scores: OnScores | None = None
    ) -> list[WindowScores]:
        """Score pairs of a window and a question; see :meth:`hybrid.gens.scorer.FeatureScorer.score_many`.

        The seconds of encoding frames count once for each of the features, those of steps that
        several pairs took together are shared out among them, so that all add up to the whole.
        """
        seconds: dict[str, float] = {}
        with timed(seconds, "prompt", torch.device("cpu")):
            requests = self._requests(features, questions)
        on_tokens = None if on_scores is None else self._reader(features, on_scores)
        replies = self._runner.run(requests, on_tokens=on_tokens)
        spent = [{"prompt": seconds["prompt"] / len(replies), **reply.seconds} for reply in replies]
        encoded = {id(window): place for place, window in reversed(list(enumerate(features)))}
        for place in encoded.values():
            spent[place] = {**features[place].seconds, **spent[place]}
        return [self._scores(*pair) for pair in zip(features, replies, spent, strict=True)]

    def generate(self, features: FrameFeatures, question: str) -> Reply:
        """The reply as tokens: those that ``generate(do_sample=False)`` of transformers gives, if it is free.

        Raises:
            InputError: an empty question, or features of another prompt mode.
            OutOfMemoryError: the window is too large for the device.
        """
        return self._runner.run(self._requests([features], [question]))[0]

    def _requests(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> list[Request]:
        if len(features) != len(questions):
            raise InputError(f"there are {len(features)} windows and {len(questions)} questions; they come in pairs")
        for window in features:
            if window.mode != self._spec.mode:
                raise InputError(f"the features are for {window.mode} mode, the prompt is in {self._spec.mode} mode")
        return [self._request(*pair) for pair in zip(features, questions, strict=True)]

    def _request(self, features: FrameFeatures, question: str) -> Request:
        layout = self._layout(features.grids)
        suffix = self._checkpoint.tokens.suffix(question)
        check_positions(
            layout.next_position + len(suffix),
            self._spec.max_new_tokens,
            frames=features.frame_count,
            limit=self._checkpoint.model.config.text_config.max_position_embeddings,
        )
        tables: GrammarTables | None = None
        if self._grammar is not None:
            first = self._spec.first_index
            tables = self._grammar.tables(first, first + features.frame_count - 1)
        return Request(
            key=f"{features.key}:{self._spec.digest}",
            prefix_tokens=len(layout.ids),
            make_prefix=partial(self._make_prefix, features, layout),
            suffix=suffix,
            limit=self._spec.max_new_tokens,
            tables=tables,
            what=f"a window of {features.frame_count} frames",
        )

    def _make_layout(self, grids: tuple[tuple[int, int], ...]) -> _Layout:
        """Of a window whose items have these grids."""
        visual = self._visual_grids(grids)
        prefix = self._checkpoint.tokens.prefix([grid.tokens for grid in visual])
        positions, next_position = rope_positions(_runs(prefix, visual))
        return _Layout(
            ids=torch.tensor(prefix.ids, device=self._device),
            feature_places=torch.from_numpy(prefix.feature_places).to(self._device),
            positions=torch.from_numpy(positions).to(self._device),
            next_position=next_position,
            unique_ids=torch.tensor(sorted(set(prefix.ids)), device=self._device),
        )

    def _make_prefix(self, features: FrameFeatures, layout: _Layout) -> Prefix:
        # By place, not by token id: only the prompt decides where a frame stands.
        embeddings = self._stack.embed(layout.ids)
        embeddings = embeddings.index_copy(0, layout.feature_places, torch.cat(features.items).to(embeddings))
        return read_prefix(
            self._stack,
            embeddings,
            layout.positions,
            next_position=layout.next_position,
            token_ids=layout.unique_ids,
        )

    def _reader(self, features: Sequence[FrameFeatures], on_scores: OnScores) -> OnTokens:
        """Turns tokens, as they come, into scores of complete entries."""
        told = [0] * len(features)

        def read(place: int, ids: Sequence[int], finished: bool) -> None:
            text = self._text(ids)
            # An entry is complete with the comma or the brace behind it.
            complete = text if finished else text[: text.rfind(",") + 1]
            if not finished and len(complete) == told[place]:
                return
            told[place] = len(complete)
            parsed = parse_reply(complete, features[place].frame_count, first_index=self._spec.first_index)
            if finished or parsed.scores:
                on_scores(ScoreUpdate(place, parsed.scores, finished))

        return read

    def _scores(self, features: FrameFeatures, reply: Reply, seconds: dict[str, float]) -> WindowScores:
        with timed(seconds, "parse", torch.device("cpu")):
            text = self._text(reply.ids)
            parsed = parse_reply(text, features.frame_count, first_index=self._spec.first_index)
        ended = CUT_NOTE if reply.cut else FORCED_NOTE if reply.forced else None
        _LOG.debug("reply %s, %d tokens, %r", parsed.status, len(reply.ids), text)
        return WindowScores(
            scores=parsed.scores,
            status=parsed.status,
            text=text,
            notes=parsed.notes + ((ended.format(limit=self._spec.max_new_tokens),) if ended else ()),
            prompt_tokens=reply.prompt_tokens,
            reused_tokens=reply.reused_tokens,
            new_tokens=len(reply.ids),
            seconds=seconds,
        )

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._checkpoint.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

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

    def _visual_grids(self, grids: tuple[tuple[int, int], ...]) -> list[VisualGrid]:
        """The visual items of the prompt: one per image, or one for the whole video."""
        if self._spec.mode == "image":
            return [VisualGrid(1, rows, columns) for rows, columns in grids]
        rows, columns = grids[0]
        per_second = self._checkpoint.model.config.vision_config.tokens_per_second
        step = per_second * self._checkpoint.rule.temporal / self._spec.video_fps
        return [VisualGrid(len(grids), rows, columns, step_positions=step)]


def _use_graphs(wanted: bool | None, head: Tensor, language_model: Any) -> bool:
    """Whether steps are recorded: as it is asked for, or, where nothing is asked for, if they can be."""
    if wanted is False:
        return False
    config = language_model.config
    group = config.num_attention_heads // config.num_key_value_heads
    width = config.hidden_size // config.num_attention_heads
    why_not = why_not_recorded(head.device, group=group, width=width, dtype=head.dtype)
    if any(parameter.device != head.device for parameter in language_model.parameters()):
        why_not = "the model lies on several devices"
    if wanted and why_not:
        raise InputError(f"graphs cannot be used: {why_not}; leave them off")
    if why_not and head.device.type == "cuda":
        _LOG.warning("GenS's replies take about ten times as long as they could on this GPU: %s", why_not)
    return why_not is None


def feature_identity(checkpoint: QwenCheckpoint, spec: PromptSpec) -> dict[str, str]:
    """What the features of a checkpoint under a prompt depend on."""
    return {
        "weights": checkpoint.identity["weights"],
        "dtype": checkpoint.identity["dtype"],
        "mode": spec.mode,
        "frame_size": "x".join(map(str, spec.frame_size)) if spec.frame_size else "",
        "pixel_limits": "x".join(map(str, spec.pixel_limits)),
        "rule": repr(checkpoint.rule),
    }


def _runs(prefix: VisualPrefix, grids: list[VisualGrid]) -> list[int | VisualGrid]:
    """The prefix as runs of text and visual items, in order."""
    layout: list[int | VisualGrid] = []
    for run, grid in zip(prefix.text_runs, grids, strict=True):
        layout += [run, grid]
    return [*layout, 1]  # the token that ends the last visual item
