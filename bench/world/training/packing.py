"""Many questions about one window as one sequence, so that the frames are read once for all of them.

Behind the frames stand the questions with their replies, side by side: each of them sees the
frames and itself, and has the positions that it would have alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from bench.world.things import HELD_OUT
from bench.world.training.gens_model import LARGEST_LABEL, PROMPT
from bench.world.training.pictures import label_of
from bench.world.training.windows import Window

__all__ = ["NOT_TAUGHT", "Packed", "WindowPacker"]

NOT_TAUGHT: Final = -100
"""Target of a token that is not learned, as in torch's cross entropy."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A batch of windows of one length.

    Attributes:
        ids: int64 [B, L].
        features: float32 [B * N, width], in the order of the placeholders.
        positions: int64 [B, L].
        part_of: int64 [B, L]: 0 for the window, 1 and on for what stands behind it; -1 for padding.
        targets: int64 [B, L]: the token after each one where it is learned.
        question: int64 [B, L]: number of the question that a target belongs to, over the batch; -1 for none.
        frames: int64 [N]: places of the frames' tokens, the same in every row.
        label_tokens: int64 [B, N]: the token of each frame's label.
        points_to: int64 [B, L]: where the target is the label of a frame, which frame that is; -1 elsewhere.
        sees: int64 [B, L]: how many tokens of the window a token sees.
        about: int64 [B, L, 4]: at a frame's token the label of its picture; at the end of a question, that of
            a picture that shows what it names on both sides (a relation: on the sides that it says); -1 elsewhere.
    """

    ids: Tensor
    features: Tensor
    positions: Tensor
    part_of: Tensor
    targets: Tensor
    question: Tensor
    frames: Tensor
    label_tokens: Tensor
    points_to: Tensor
    sees: Tensor
    about: Tensor

    def to(self, device: torch.device) -> Packed:
        """The same batch on a device."""
        return Packed(**{field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)})

    def visible(self) -> Tensor:
        """What each token sees: bool [B, 1, L, L]; padding sees itself, so that no row of the attention is empty."""
        index = torch.arange(self.part_of.shape[1], device=self.part_of.device)
        in_window = (self.part_of[:, None, :] == 0) & (index[None, None, :] < self.sees[:, :, None])
        in_part = self.part_of[:, None, :] == self.part_of[:, :, None]
        return ((in_window | in_part) & (index[None, :] <= index[:, None])).unsqueeze(1)


class WindowPacker:
    """Turns windows into token sequences with the prompt of the tiny GenS.

    Args:
        tokenizer: of the checkpoint.

    Attributes:
        held_out: tokens of the colour and the shape of each pair that is not taught.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        ids = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "image_pad", "vision_end")]
        self._frame = ids
        self._space = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(" 1")[0])
        self._labels = np.full(len(tokenizer), -1)
        for label in range(LARGEST_LABEL + 1):
            self._labels[tokenizer.convert_tokens_to_ids(str(label))] = label
        self._end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._encode = lru_cache(maxsize=100_000)(self._encode_text)
        self.held_out = [(*self._encode(f" {thing.colour}"), *self._encode(f" {thing.shape}")) for thing in HELD_OUT]

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def replies(self, windows: Sequence[Window]) -> Packed:
        """Questions and replies; the replies are learned."""
        rows = [self._packed_row(window) for window in windows]
        return self._collate(rows, windows)

    def captions(self, windows: Sequence[Window], rng: np.random.Generator, *, each: int) -> Packed:
        """Captions of some frames; each sees the window up to its frame only, and is learned.

        Args:
            windows: of one length.
            rng: draws the frames.
            each: captions per window.
        """
        rows = [self._caption_row(window, rng.integers(0, len(window.features), each).tolist()) for window in windows]
        return self._collate(rows, windows)

    def _prefix(self, window: Window) -> list[int]:
        ids = list(self._encode(PROMPT.head))
        for index in range(len(window.features)):
            ids += [*self._encode(str(window.first_label + index)), *self._frame]
        return ids

    def _packed_row(self, window: Window) -> _Row:
        prefix = self._prefix(window)
        before, after = PROMPT.around_question()
        parts, targets = [], []
        for question in window.questions:
            asked = self._encode(before + question.text)
            asked += self._encode(after)
            reply = (*self._encode(question.reply), self._end)
            parts.append([*asked, *reply])
            # The last token of the question already predicts the first one of the reply.
            targets.append([NOT_TAUGHT] * (len(asked) - 1) + [*reply, NOT_TAUGHT])
        about = [label_of((question.things[0], question.things[-1])) for question in window.questions]
        return _Row(prefix, parts, targets, [len(prefix)] * len(parts), about)

    def _caption_row(self, window: Window, frames: Sequence[int]) -> _Row:
        prefix = self._prefix(window)
        ends = np.flatnonzero(np.array(prefix) == self._frame[-1]) + 1
        mark = self._encode(":")
        captions = [self._encode(window.captions[index]) for index in frames]
        parts = [[*mark, *caption] for caption in captions]
        targets = [[*[NOT_TAUGHT] * (len(mark) - 1), *caption, NOT_TAUGHT] for caption in captions]
        return _Row(prefix, parts, targets, [int(ends[index]) for index in frames], [])

    def _collate(self, rows: Sequence[_Row], windows: Sequence[Window]) -> Packed:
        # A multiple of eight: fast attention kernels take masks of no other length.
        length = -(-max(map(len, rows)) // 8) * 8
        ids = np.zeros((len(rows), length), np.int64)
        positions = np.zeros_like(ids)
        targets = np.full_like(ids, NOT_TAUGHT)
        question = np.full_like(ids, -1)
        # Part 0 is the window; a token sees so much of the window, and its own part up to itself.
        part_of = np.full_like(ids, -1)
        about = np.full((*ids.shape, 4), -1)
        sees = np.zeros_like(ids)
        frames = np.flatnonzero(np.array(rows[0].prefix) == self._frame[1])
        asked = 0
        for number, row in enumerate(rows):
            done = len(row.prefix)
            ids[number, :done], positions[number, :done], part_of[number, :done] = row.prefix, np.arange(done), 0
            about[number, frames] = [label_of(things) for things in windows[number].shows]
            for part, (tokens, target, seen) in enumerate(zip(row.parts, row.targets, row.sees, strict=True), start=1):
                index = slice(done, done + len(tokens))
                ids[number, index], targets[number, index] = tokens, target
                positions[number, index] = seen + np.arange(len(tokens))
                part_of[number, index], question[number, index], sees[number, index] = part, asked, seen
                if row.about:
                    # The last token of the question, and the one behind it.
                    first = done + next(i for i, token in enumerate(target) if token != NOT_TAUGHT)
                    about[number, first : first + 2] = row.about[part - 1]
                done += len(tokens)
                asked += 1
        points_to = self._labels[np.where(targets < 0, 0, targets)]
        first_labels = np.array([[window.first_label] for window in windows])
        # A number behind a space is a score in a reply; in captions all numbers are labels.
        score = (ids == self._space) & (sees == np.array([[len(row.prefix)] for row in rows]))
        points_to = np.where((points_to >= 0) & (targets >= 0) & ~score, points_to - first_labels, -1)
        return Packed(
            ids=torch.from_numpy(ids),
            features=torch.cat([window.features for window in windows]),
            positions=torch.from_numpy(positions),
            part_of=torch.from_numpy(part_of),
            targets=torch.from_numpy(targets),
            question=torch.from_numpy(question),
            frames=torch.from_numpy(frames),
            label_tokens=torch.from_numpy(ids[:, frames - 2]),
            points_to=torch.from_numpy(points_to),
            sees=torch.from_numpy(sees),
            about=torch.from_numpy(about),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """A window's tokens, and the parts behind it: tokens, targets, how much of it each sees, what each is about."""

    prefix: list[int]
    parts: list[list[int]]
    targets: list[list[int]]
    sees: list[int]
    about: list[list[int]]

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.parts))
