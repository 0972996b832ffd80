"""A fine-stage model that writes its scores as text: a frame encoder, and a language model.

Everything between the two is here: windows and questions are brought together, and replies are parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import torch

from hybrid.errors import HybridError, InputError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import (
    Event,
    FeatureEncoder,
    FramesScored,
    ReplyFinished,
    Request,
    RequestFailed,
    WindowScores,
)
from hybrid.fine.pretrained import LoadedCheckpoint
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.reply import parse_reply
from hybrid.fine.writer import Reply, ReplyFailed, TokensWritten, Writer
from hybrid.runtime import timed
from hybrid.values import ByteArray

__all__ = ["TokenScorer"]

_LOG = logging.getLogger(__name__)

CUT_NOTE = "the reply was cut at the limit of {limit} tokens"
FORCED_NOTE = "the reply was led to its end at the limit of {limit} tokens"


class TokenScorer:
    """A :class:`hybrid.fine.interface.FeatureModel`.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
        encoder: encodes frames.
        writer: writes replies.

    Attributes:
        prompt: the prompt.
        device: the device; several with commas, where the parts run on several.
        name, identity, feature_identity, feature_width, feature_dtype: see the interface.
    """

    def __init__(
        self, checkpoint: LoadedCheckpoint, spec: PromptSpec, *, encoder: FeatureEncoder, writer: Writer
    ) -> None:
        self._checkpoint, self._encoder, self._writer = checkpoint, encoder, writer
        self.name, self.identity, self.prompt = checkpoint.name, checkpoint.identity, spec
        self.device = ",".join(dict.fromkeys((encoder.device, writer.device)))
        self.feature_identity = encoder.feature_identity
        self.feature_width, self.feature_dtype = encoder.feature_width, encoder.feature_dtype

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model reads; preparing it again changes nothing."""
        return self._encoder.prepare(frame)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision encoder; see :meth:`hybrid.fine.interface.FeatureModel.encode_frames`.

        Raises:
            InputError: there are no frames, or a frame is not uint8 [H, W, 3].
            OutOfMemoryError: the device has too little memory.
        """
        return self._encoder.encode_frames(frames)

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        """See :meth:`hybrid.fine.interface.FineModel.read`.

        The seconds of encoding count once per window. Those of steps that several requests share are divided among
        them. So all seconds add up to the total.

        Raises:
            InputError: an empty question, no frames or frames of another form, features of another prompt mode, or
                more frames than the model has positions for.
        """
        for request in requests:
            self._writer.check(request.question)
        features: list[FrameFeatures] = []
        encoded: list[Request] = []
        for request in requests:
            try:
                features.append(self._features(request))
                encoded.append(request)
            except InputError:
                raise
            except HybridError as exc:
                yield RequestFailed(request.id, exc)
        first = {id(window): i for i, window in reversed(list(enumerate(features)))}
        parsed_to = [0] * len(features)
        with closing(self._writer.write(features, [each.question for each in encoded])) as events:
            for event in events:
                i, request = event.index, encoded[event.index]
                if isinstance(event, ReplyFailed):
                    yield RequestFailed(request.id, event.error)
                elif isinstance(event, TokensWritten):
                    text = self._text(list(event.ids)) if partial else ""
                    # An entry is complete with the comma behind it.
                    complete = text[: text.rfind(",") + 1]
                    if len(complete) > parsed_to[i]:
                        parsed_to[i] = len(complete)
                        scores = self._parse(complete, features[i]).scores
                        if scores:
                            yield FramesScored(request.id, scores)
                else:
                    encoding = features[i].seconds if first[id(features[i])] == i else {}
                    seconds = {**encoding, **event.reply.seconds}
                    yield ReplyFinished(request.id, self.scores_of(event.reply, features[i], seconds))

    def scores_of(self, reply: Reply, features: FrameFeatures, seconds: dict[str, float]) -> WindowScores:
        """The scores in a reply about a window. ``seconds``: its times by part; that of parsing is added."""
        with timed(seconds, "parse", torch.device("cpu")):
            text = self._text(reply.ids)
            parsed = self._parse(text, features)
        ended = CUT_NOTE if reply.cut else FORCED_NOTE if reply.forced else None
        _LOG.debug("reply %s, %d tokens, %r", parsed.status, len(reply.ids), text)
        return WindowScores(
            scores=parsed.scores,
            status=parsed.status,
            text=text,
            notes=parsed.notes + ((ended.format(limit=self.prompt.max_new_tokens),) if ended else ()),
            prompt_tokens=reply.prompt_tokens,
            reused_tokens=reply.reused_tokens,
            new_tokens=len(reply.ids),
            seconds=seconds,
        )

    def _features(self, request: Request) -> FrameFeatures:
        frames = request.frames
        features = frames if isinstance(frames, FrameFeatures) else self.encode_frames(frames)
        if features.mode != self.prompt.mode:
            raise InputError(f"the features are for {features.mode} mode, the prompt is in {self.prompt.mode} mode")
        return features

    def _parse(self, text: str, features: FrameFeatures) -> Any:
        return parse_reply(text, features.frame_count, first_index=self.prompt.first_index)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._checkpoint.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
