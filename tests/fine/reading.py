"""Reads with fine-stage models, for tests that want all replies and no events."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from hybrid.errors import OutOfMemoryError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import Event, FineModel, ReplyFinished, Request, RequestFailed, WindowScores
from hybrid.fine.writer import Reply, replies_of
from hybrid.values import ByteArray

__all__ = ["OneByOne", "read_many", "write_one"]


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
