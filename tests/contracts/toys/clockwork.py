"""A fine-stage model that knows clockwork alone: it scores every n-th frame of a window, whatever the question."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from hybrid.errors import InputError
from hybrid.fine.checkpoint import CheckpointConfig, CheckpointFiles
from hybrid.fine.families import FeatureRule, LoadOptions
from hybrid.fine.interface import Event, FramesScored, ReplyFinished, Request, WindowScores
from hybrid.values import ByteArray, check_questions


class Clockwork:
    """See the module's text."""

    device = "cpu"

    def __init__(self, name: str, every: int) -> None:
        self.name = name
        self.identity: Mapping[str, str] = {"model": "clockwork", "every": str(every)}
        self._every = every

    def prepare(self, frame: ByteArray) -> ByteArray:
        """It does not look at frames."""
        return frame[:1, :1]

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        """See :meth:`hybrid.fine.interface.FineModel.read`."""
        check_questions([request.question for request in requests])
        if not all(len(request.frames) for request in requests):  # type: ignore[arg-type]
            raise InputError("there are no frames to score; a window needs at least one")
        for request in requests:
            scores = dict.fromkeys(range(0, len(request.frames), self._every), 5)  # type: ignore[arg-type]
            if partial:
                yield FramesScored(request.id, {0: 5})
            yield ReplyFinished(request.id, WindowScores(scores, "ok", json.dumps(scores)))


class _Family:
    name = "clockwork"

    def load(self, files: CheckpointFiles, options: LoadOptions) -> Clockwork:
        """See :class:`hybrid.fine.families.Family`."""
        return Clockwork(files.name, int(files.config["every"]))

    def feature_rule(self, found: CheckpointConfig, options: LoadOptions) -> FeatureRule:
        """It has no features."""
        raise InputError("features cannot be stored: clockwork has none")


FAMILY: Any = _Family()
