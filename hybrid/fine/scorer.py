"""A fine-stage model that writes its scores as text: a frame encoder, and a language model.

Everything between the two is here: windows and questions are brought together, and replies are parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

import torch

from hybrid.errors import HybridError, InputError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import Event, FramesScored, ReplyFinished, Request, RequestFailed, WindowScores
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.reply import parse_reply
from hybrid.fine.writer import Reply, ReplyFailed, TokensWritten, Writer
from hybrid.runtime import timed
from hybrid.values import ByteArray

__all__ = ["FeatureEncoder", "TokenScorer"]

_LOG = logging.getLogger(__name__)

CUT_NOTE = "the reply was cut at the limit of {limit} tokens"
FORCED_NOTE = "the reply was led to its end at the limit of {limit} tokens"


class FeatureEncoder(Protocol):
    """The part that looks at frames; see :class:`hybrid.fine.interface.FeatureModel` for what each member gives."""

    @property
    def device(self) -> str: ...

    @property
    def feature_identity(self) -> Mapping[str, str]: ...

    @property
    def feature_width(self) -> int: ...

    @property
    def feature_dtype(self) -> str: ...

    def prepare(self, frame: ByteArray) -> ByteArray: ...

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures: ...


class TokenScorer:
    """A :class:`hybrid.fine.interface.FeatureModel`.

    Args:
        name: what was loaded, as the caller named it.
        identity: everything that decides a reply.
        encoder: looks at frames.
        writer: writes replies.
        tokenizer: turns tokens of a reply into text: a tokenizer of transformers.
        spec: the prompt.

    Attributes:
        prompt: the prompt.
    """

    def __init__(
        self,
        name: str,
        identity: Mapping[str, str],
        *,
        encoder: FeatureEncoder,
        writer: Writer,
        tokenizer: Any,
        spec: PromptSpec,
    ) -> None:
        self._name, self._identity = name, identity
        self._encoder, self._writer = encoder, writer
        self._tokenizer, self.prompt = tokenizer, spec

    @property
    def name(self) -> str:
        """What was loaded: a hub name or a folder."""
        return self._name

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a reply: checkpoint, weight hash, prompt hash, dtype, versions."""
        return self._identity

    @property
    def device(self) -> str:
        """The device; with commas where the parts run on several."""
        return ",".join(dict.fromkeys((self._encoder.device, self._writer.device)))

    @property
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`; see :class:`hybrid.fine.interface.FeatureModel`."""
        return self._encoder.feature_identity

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""
        return self._encoder.feature_width

    @property
    def feature_dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return self._encoder.feature_dtype

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at; preparing it again changes nothing."""
        return self._encoder.prepare(frame)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision encoder; see :meth:`hybrid.fine.interface.FeatureModel.encode_frames`.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory does not suffice.
        """
        return self._encoder.encode_frames(frames)

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        """See :meth:`hybrid.fine.interface.FineModel.read`.

        The seconds of encoding frames count once for each of the features, those of steps that several requests
        took together are shared out among them, so that all add up to the whole.

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
        """What a reply about a window says; ``seconds`` are its times by part, the parsing is added."""
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
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
