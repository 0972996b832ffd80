"""Writes replies with the language model of Qwen2.5-VL, in the loop of :mod:`hybrid.fine.decoding`.

Qwen2-VL and Qwen2.5-VL give every token three positions: time, row and column (M-RoPE; arXiv 2409.12191, section 2.1).
Text counts on in all three at once. A visual item spreads its tokens over rows and columns from the current position
on, and the text after it goes on behind its longer side. transformers derives this token by token
(``get_rope_index``); :func:`rope_positions` computes it from the layout of the prompt alone. The model keeps no state.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hybrid.errors import InputError
from hybrid.fine.decoding.decoder_layers import TextStack
from hybrid.fine.decoding.grammar import GrammarTables, ReplyGrammar, token_texts
from hybrid.fine.decoding.options import LoopOptions, graphs_unavailable_reason, prefix_budgets
from hybrid.fine.decoding.prefix_cache import Prefix, PrefixCache
from hybrid.fine.decoding.rows import read_prefix
from hybrid.fine.decoding.sampling import Choice, FreeChoice, GrammarChoice
from hybrid.fine.decoding.scheduler import Prompt, Scheduler
from hybrid.fine.features import FrameFeatures
from hybrid.fine.pretrained import LoadedCheckpoint
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.tokens import VisualPrefix, check_positions
from hybrid.fine.writer import ReplyWritten, Written
from hybrid.runtime import timed
from hybrid.values import IntArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QwenWriter", "VisualGrid", "rope_positions"]

_LOG = logging.getLogger(__name__)

_CACHED_LAYOUTS = 32


@dataclass(frozen=True, slots=True)
class VisualGrid:
    """The tokens of one visual item after merging, in order of time, row, column.

    Attributes:
        steps: how many moments (1 for an image).
        rows, columns: tokens per moment.
        step_positions: by how much the time position grows per moment: 1 for an image,
            ``tokens_per_second * seconds_per_step`` for a video.
    """

    steps: int
    rows: int
    columns: int
    step_positions: float = 1.0

    @property
    def tokens(self) -> int:
        """How many tokens the item takes in the prompt."""
        return self.steps * self.rows * self.columns


def rope_positions(layout: Sequence[int | VisualGrid]) -> tuple[IntArray, int]:
    """Positions of all tokens of a prompt.

    Args:
        layout: the prompt in order: a number stands for a run of so many tokens of text, a
            :class:`VisualGrid` for one visual item.

    Returns:
        int64 [3, L] (time, row, column), and the position of the first token after the prompt,
        the same in all three, if the prompt ends with text.

    As in transformers 5.17 to 5.23, a video item advances the text after it by its longer side
    only, however long it lasts, and new tokens go on from the text, even where a long video's
    time positions are ahead of it (``generate`` does so; the model's ``rope_deltas``, which it
    ignores then, would go on from the greatest position).
    Fractional positions per step are scaled before they are rounded, as in 5.23; 5.17 rounds the
    seconds per step down first, which differs only for videos of more than 1 frame per second or
    at odd rates.
    """
    pieces: list[IntArray] = []
    here = 0
    for part in layout:
        if isinstance(part, VisualGrid):
            pieces.append(_grid_positions(part) + here)
            here += max(part.rows, part.columns)
        else:
            pieces.append(np.broadcast_to(np.arange(here, here + part, dtype=np.int64), (3, part)))
            here += part
    if not pieces:
        return np.zeros((3, 0), dtype=np.int64), 0
    positions = np.concatenate(pieces, axis=1)
    return positions, here


def _grid_positions(grid: VisualGrid) -> IntArray:
    """int64 [3, tokens], from 0."""
    time, row, column = np.indices((grid.steps, grid.rows, grid.columns), dtype=np.int64).reshape(3, -1)
    # Truncated after scaling, as a fractional number of positions per step is legal.
    scaled = (time * grid.step_positions).astype(np.int64)
    return np.stack([scaled, row, column])


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The prefix of all windows of one shape, but for its features; on the model's device.

    Attributes:
        ids: int64 [P].
        feature_positions: int64 [all features]: the positions of the features among the tokens.
        positions: int64 [3, P].
        next_position: of the token that follows.
        unique_ids: int64: each of the ids once.
    """

    ids: Tensor
    feature_positions: Tensor
    positions: Tensor
    next_position: int
    unique_ids: Tensor


class QwenWriter:
    """A :class:`hybrid.fine.writer.Writer`. May serve several threads: no call leaves state in the model.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
        options: how replies are written, and how much memory the prefixes may take.

    Attributes:
        device: the model's device.
        grammar: the form of replies; None where they are free.
        scheduler: writes them.

    Raises:
        ModelLoadError: the model computes in a way that is not supported, or its tokenizer cannot
            write the requested form.
        InputError: the longest reply is too short for that form, or graphs are requested where they cannot run.
    """

    def __init__(self, checkpoint: LoadedCheckpoint, spec: PromptSpec, options: LoopOptions) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self._options = options
        head: Tensor = checkpoint.model.lm_head.weight
        self._device: torch.device = head.device
        self.device = str(head.device)
        language_model = checkpoint.model.model.language_model
        graphs = _use_graphs(options.graphs, head, language_model)
        sections = tuple(language_model.config.rope_parameters.get("mrope_section", (16, 24, 24)))
        self._stack = TextStack(language_model, sections=sections, fused=graphs)
        self.grammar = self._make_grammar() if options.constrained else None
        on_device, on_host = prefix_budgets(options, self._device)
        cache = PrefixCache(device_bytes=on_device, host_bytes=on_host)
        self.scheduler = Scheduler(self._stack, self._make_choice(head), cache, batch=options.batch, graphs=graphs)
        # A window's labels take 256 calls of the tokenizer, and are those of every window of its shape.
        self._layout = lru_cache(maxsize=_CACHED_LAYOUTS)(self._make_layout)

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
        if self.grammar is not None:
            return GrammarChoice(head, self.grammar, rows=rows, penalty=penalty)
        return FreeChoice(head, rows=rows, end_ids=self._checkpoint.end_ids, penalty=penalty)

    def check(self, question: str) -> None:
        """See :meth:`hybrid.fine.writer.Writer.check`."""
        self._checkpoint.tokens.suffix(question)

    def write(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> Generator[Written, None, None]:
        """See :meth:`hybrid.fine.writer.Writer.write`; ``seconds`` are those of the scheduler, and of the prompt."""
        seconds: dict[str, float] = {}
        with timed(seconds, "prompt", torch.device("cpu")):
            prompts = self.prompts(features, questions)
        share = {"prompt": seconds["prompt"] / max(len(prompts), 1)}
        with closing(self.scheduler.run(prompts)) as events:
            for event in events:
                if isinstance(event, ReplyWritten):
                    event = ReplyWritten(event.index, replace(event.reply, seconds={**share, **event.reply.seconds}))
                yield event

    def prompts(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> list[Prompt]:
        """What the scheduler is given for pairs of a window and a question.

        Raises:
            InputError: an empty question, or a prompt of more than the model has positions for.
        """
        return [self._prompt(*pair) for pair in zip(features, questions, strict=True)]

    def prefix_ids(self, features: FrameFeatures) -> list[int]:
        """The tokens of a window's prompt, up to the end of its last frame."""
        ids: list[int] = self._layout(features.grids).ids.tolist()
        return ids

    def _prompt(self, features: FrameFeatures, question: str) -> Prompt:
        layout = self._layout(features.grids)
        tables: GrammarTables | None = None
        if self.grammar is not None:
            first = self._spec.first_index
            tables = self.grammar.tables(first, first + features.frame_count - 1)
        suffix = self._checkpoint.tokens.suffix(question)
        check_positions(
            layout.next_position + len(suffix),
            self._spec.max_new_tokens,
            frames=features.frame_count,
            limit=self._checkpoint.model.config.text_config.max_position_embeddings,
        )
        return Prompt(
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
            feature_positions=torch.from_numpy(prefix.feature_positions).to(self._device),
            positions=torch.from_numpy(positions).to(self._device),
            next_position=next_position,
            unique_ids=torch.tensor(sorted(set(prefix.ids)), device=self._device),
        )

    def _make_prefix(self, features: FrameFeatures, layout: _Layout) -> Prefix:
        # By position, not by token id: only the prompt decides the position of a frame.
        embeddings = self._stack.embed(layout.ids)
        embeddings = embeddings.index_copy(0, layout.feature_positions, torch.cat(features.items).to(embeddings))
        return read_prefix(
            self._stack, embeddings, layout.positions, next_position=layout.next_position, token_ids=layout.unique_ids
        )

    def _visual_grids(self, grids: tuple[tuple[int, int], ...]) -> list[VisualGrid]:
        """The visual items of the prompt: one per image, or one for the whole video."""
        if self._spec.mode == "image":
            return [VisualGrid(1, rows, columns) for rows, columns in grids]
        rows, columns = grids[0]
        vision = self._checkpoint.model.config.vision_config
        step = vision.tokens_per_second * vision.temporal_patch_size / self._spec.video_fps
        return [VisualGrid(len(grids), rows, columns, step_positions=step)]


def _use_graphs(requested: bool | None, head: Tensor, language_model: Any) -> bool:
    """Whether steps are recorded: as requested; by default, wherever they can be."""
    if requested is False:
        return False
    config = language_model.config
    group = config.num_attention_heads // config.num_key_value_heads
    width = config.hidden_size // config.num_attention_heads
    reason = graphs_unavailable_reason(head.device, group=group, width=width, dtype=head.dtype)
    if any(parameter.device != head.device for parameter in language_model.parameters()):
        reason = "the model lies on several devices"
    if requested and reason:
        raise InputError(f"graphs cannot be used: {reason}; leave them off")
    if reason and head.device.type == "cuda":
        _LOG.warning("GenS's replies take about ten times as long as they could on this GPU: %s", reason)
    return reason is None


def _runs(prefix: VisualPrefix, grids: list[VisualGrid]) -> list[int | VisualGrid]:
    """The prefix as runs of text and visual items, in order."""
    layout: list[int | VisualGrid] = []
    for run, grid in zip(prefix.text_runs, grids, strict=True):
        layout += [run, grid]
    return [*layout, 1]  # the token that ends the last visual item
