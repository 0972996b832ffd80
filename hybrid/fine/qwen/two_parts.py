"""A scorer of two parts: one looks at frames, the other writes replies about what was seen.

Everything between them is here: questions and windows are brought together, and replies are read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from hybrid.errors import InputError, ModelError
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import CUT_NOTE, OnReply, OnScores, ScoreUpdate, WindowScores
from hybrid.fine.prompt import PromptMode, PromptSpec
from hybrid.fine.qwen.writing import OnTokens, Reply, Writer
from hybrid.fine.reply import parse_reply
from hybrid.fine.timing import timed
from hybrid.values import ByteArray

__all__ = ["FrameReader", "TwoPartScorer", "check_pairs"]

_LOG = logging.getLogger(__name__)

FORCED_NOTE = "the reply was led to its end at the limit of {limit} tokens"


class FrameReader(Protocol):
    """The part that looks at frames; see :class:`hybrid.fine.interface.FeatureScorer` for what each gives."""

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


class TwoPartScorer:
    """A :class:`hybrid.fine.interface.FeatureScorer`.

    Args:
        name: what was loaded, as the caller named it.
        identity: everything that decides a reply.
        frames: looks at frames.
        writer: writes replies.
        tokenizer: turns tokens of a reply into text: a tokenizer of transformers.
        spec: the prompt.
    """

    def __init__(
        self,
        name: str,
        identity: Mapping[str, str],
        *,
        frames: FrameReader,
        writer: Writer,
        tokenizer: Any,
        spec: PromptSpec,
    ) -> None:
        self._name, self._identity = name, identity
        self._frames, self._writer = frames, writer
        self._tokenizer, self._spec = tokenizer, spec

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
        """Where it runs; where its parts run in two places, that of the frames and that of the replies."""
        return ",".join(dict.fromkeys((self._frames.device, self._writer.device)))

    @property
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`; see :class:`hybrid.fine.interface.FeatureScorer`."""
        return self._frames.feature_identity

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""
        return self._frames.feature_width

    @property
    def feature_dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return self._frames.feature_dtype

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) that every frame is resized to; None where the prompt keeps the aspect."""
        return self._spec.frame_size

    @property
    def prompt(self) -> PromptSpec:
        """The prompt in use."""
        return self._spec

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at; preparing it again changes nothing."""
        return self._frames.prepare(frame)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision tower; see :meth:`hybrid.fine.interface.FeatureScorer.encode_frames`.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory did not suffice.
        """
        return self._frames.encode_frames(frames)

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        """Score the frames of one window.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order; position = place in this sequence.
            question: plain text; special tokens in it are taken as text.

        Raises:
            InputError: no frames, a frame of another form, or an empty question.
            ModelError: the language model cannot be run.
            OutOfMemoryError: the window is too large for the device.
        """
        self._writer.check(question)  # refuses a bad question before the work starts
        return self.score_features(self.encode_frames(frames), question)

    def score_features(self, features: FrameFeatures, question: str) -> WindowScores:
        """Score a window whose frames were encoded before; same result as :meth:`score`.

        Raises:
            InputError: an empty question, features of another prompt mode, or more than the model has positions for.
            ModelError: the language model cannot be run.
            OutOfMemoryError: the window is too large for the device.
        """
        return self.score_many([features], [question])[0]

    def score_many(
        self,
        features: Sequence[FrameFeatures],
        questions: Sequence[str],
        *,
        on_scores: OnScores | None = None,
        on_reply: OnReply | None = None,
    ) -> list[WindowScores]:
        """Score pairs of a window and a question; see :meth:`hybrid.fine.interface.FeatureScorer.score_many`.

        The seconds of encoding frames count once for each of the features, those of steps that
        several pairs took together are shared out among them, so that all add up to the whole.

        Raises:
            ModelError: the language model cannot be run.
            InputError, OutOfMemoryError: see there.
        """
        check_pairs(features, questions, mode=self._spec.mode)
        first = {id(window): place for place, window in reversed(list(enumerate(features)))}
        said: dict[int, WindowScores] = {}

        def finish(place: int, reply: Reply) -> None:
            window = features[place]
            encoding = window.seconds if first[id(window)] == place else {}
            said[place] = self._scores(window, reply, {**encoding, **reply.seconds})
            if on_reply is not None:
                on_reply(place, said[place])

        on_tokens = None if on_scores is None else self._reader(features, on_scores)
        self._writer.write(features, questions, on_tokens=on_tokens, on_finished=finish)
        if len(said) < len(features):
            raise ModelError(
                f"{type(self._writer).__name__} gave no reply to {len(features) - len(said)} of {len(features)} "
                "questions; its write must give each reply to on_finished (see hybrid.fine.qwen.writing.Writer)"
            )
        return [said[place] for place in range(len(features))]

    def generate(self, features: FrameFeatures, question: str) -> Reply:
        """The reply as tokens: those that ``generate(do_sample=False)`` of transformers gives, if it is free.

        Raises:
            InputError: an empty question, or features of another prompt mode.
            ModelError: the language model cannot be run.
            OutOfMemoryError: the window is too large for the device.
        """
        check_pairs([features], [question], mode=self._spec.mode)
        return self._writer.write([features], [question])[0]

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
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def check_pairs(features: Sequence[FrameFeatures], questions: Sequence[str], *, mode: PromptMode) -> None:
    """Refuse what is not one window a question, in the mode of the prompt.

    Raises:
        InputError: as it says.
    """
    if len(features) != len(questions):
        raise InputError(f"there are {len(features)} windows and {len(questions)} questions; they come in pairs")
    for window in features:
        if window.mode != mode:
            raise InputError(f"the features are for {window.mode} mode, the prompt is in {mode} mode")
