"""Reads with fine-stage models, for tests that want all replies and no events; and what such tests expect."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hybrid.errors import OutOfMemoryError
from hybrid.fine.decoding.grammar import GrammarTables
from hybrid.fine.features import FrameFeatures, content_key
from hybrid.fine.interface import Event, FineModel, ReplyFinished, Request, RequestFailed, WindowScores
from hybrid.fine.writer import Reply, replies_of
from hybrid.values import ByteArray

__all__ = ["OneByOne", "admissible", "features_from_rows", "read_many", "reply_pattern", "write_one"]


def read_many(
    model: FineModel, windows: Sequence[Sequence[ByteArray] | FrameFeatures], questions: Sequence[str]
) -> list[WindowScores]:
    """The replies to pairs of a window and a question, in order; an error of one is raised."""
    requests = [
        Request(i, question, window) for i, (window, question) in enumerate(zip(windows, questions, strict=True))
    ]
    replies: dict[int, WindowScores] = {}
    for event in model.read(requests):
        if isinstance(event, RequestFailed):
            raise event.error
        assert isinstance(event, ReplyFinished)
        assert event.request_id not in replies
        replies[event.request_id] = event.reply
    return [replies[i] for i in range(len(requests))]


def write_one(scorer: Any, features: FrameFeatures, question: str) -> Reply:
    """The reply to one question, as tokens."""
    return replies_of(scorer.writer.write([features], [question]))[0]


def reply_pattern(first: int, last: int) -> re.Pattern[str]:
    """The form of a reply as a regular expression, for labels from ``first`` to ``last``.

    Its groups are plain ones, because xgrammar knows no others.
    """
    label = "(" + "|".join(map(str, range(first, last + 1))) + ")"
    entry = f'"{label}(-{label})?": [1-5]'
    return re.compile(r"\{(" + entry + f"(, {entry})*" + r")?\}")


def admissible(tables: GrammarTables, state: int, remaining: int | None = None) -> npt.NDArray[np.bool_]:
    """bool [columns]: what may come next, if ``remaining`` tokens may still be written."""
    following = tables.following[state]
    allowed: npt.NDArray[np.bool_] = following >= 0
    if remaining is not None:
        allowed = allowed & (tables.distance[following] < max(remaining, 1))
    return allowed


def features_from_rows(rows: torch.Tensor, grid: tuple[int, int], *, key: str | None = None) -> FrameFeatures:
    """Features as a store gives them back: rows [items, tokens, hidden] of equal grids."""
    grids = (grid,) * len(rows)
    own = content_key([rows], grids, mode="image") if key is None else key
    return FrameFeatures(items=rows.unbind(0), grids=grids, frame_count=len(rows), mode="image", key=own)


class OneByOne:
    """The ``read`` of a model that scores one window after another with its ``score(frames, question)``."""

    score: Any

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        for request in requests:
            try:
                reply = self.score(request.frames, request.question)
            except OutOfMemoryError as exc:
                yield RequestFailed(request.id, exc)
            else:
                yield ReplyFinished(request.id, reply)
