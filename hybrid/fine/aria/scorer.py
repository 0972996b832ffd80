"""GenS on Aria: scores the frames of a window with a loaded checkpoint.

The work is cut where results can be kept: :meth:`AriaScorer.encode_frames` depends on the frames
alone; what the language model reads of them is kept from question to question, as long as they
are about the same window; the question comes last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from hybrid.errors import InputError, OutOfMemoryError
from hybrid.fine.aria.decode import Reader, greedy_tokens
from hybrid.fine.aria.preprocess import image_identity, normalise, prepare_frame
from hybrid.fine.aria.vision_encoder import FRAMES_PER_PASS, encode_pixels
from hybrid.fine.features import FrameFeatures, content_key
from hybrid.fine.interface import CUT_NOTE, OnReply, OnScores, ScoreUpdate, WindowScores
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.preprocess import check_frames
from hybrid.fine.qwen.rope import check_positions
from hybrid.fine.reply import parse_reply
from hybrid.fine.timing import timed
from hybrid.fine.tokens import PromptTokens, VisualPrefix
from hybrid.fine.turns import Turns
from hybrid.runtime import dtype_name, out_of_memory_as_error
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AriaCheckpoint", "AriaScorer"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class AriaCheckpoint:
    """A loaded checkpoint and all that decides its replies; made by :func:`hybrid.fine.load.load_scorer`.

    Attributes:
        name: as the caller named it: a hub name or a folder.
        model: transformers' ``AriaForConditionalGeneration``, in evaluation mode.
        tokenizer: its fast tokenizer.
        tokens: makes token ids of the prompt.
        end_ids: tokens that end a reply.
        repetition_penalty: of its generation settings; 1.0 for none.
        identity: see :class:`hybrid.fine.interface.FrameScorer`.
    """

    name: str
    model: Any
    tokenizer: Any
    tokens: PromptTokens
    end_ids: frozenset[int]
    repetition_penalty: float
    identity: Mapping[str, str]


@dataclass(slots=True, eq=False)
class _Read:
    """A window that the language model has read, up to the end of its last frame."""

    key: str
    prefix: VisualPrefix
    reader: Reader


class _Reply(NamedTuple):
    """Tokens of a reply, how many the prompt had, and how many of these had been read before."""

    ids: list[int]
    prompt_tokens: int
    reused_tokens: int


class AriaScorer:
    """A :class:`hybrid.fine.interface.FeatureScorer` on a converted checkpoint of GenS on Aria.

    May serve several threads, which take turns. The keys and values of one window are kept between questions (10 GB
    for 256 frames in bfloat16); :meth:`forget` lets go of them.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
    """

    def __init__(self, checkpoint: AriaCheckpoint, spec: PromptSpec) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self._vision_device, self._vision_dtype = _place_of_vision(checkpoint.model)
        self._device = _place_of_text(checkpoint.model)
        self._turns = Turns()
        self._lock = threading.Lock()
        self._kept: _Read | None = None

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
        """Where it runs; several devices with commas."""
        places = getattr(self._checkpoint.model, "hf_device_map", None)
        if not places:
            return str(self._device)
        named = (f"cuda:{place}" if isinstance(place, int) else str(place) for place in places.values())
        return ",".join(dict.fromkeys(named))

    @property
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`."""
        identity = self._checkpoint.identity
        return {"weights": identity["weights"], "dtype": identity["dtype"], **image_identity()}

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""
        return int(self._checkpoint.model.config.text_config.hidden_size)

    @property
    def feature_dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return dtype_name(self._vision_dtype)

    @property
    def prompt(self) -> PromptSpec:
        """The prompt in use."""
        return self._spec

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at, padding included; preparing it again changes nothing."""
        return prepare_frame(frame)

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        """Score the frames of one window.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order; position = place in this sequence.
            question: plain text; special tokens in it are taken as text.

        Raises:
            InputError: no frames, a frame of another form, an empty question, or more frames than
                the model has positions for.
            OutOfMemoryError: the window is too large for the device.
        """
        self._checkpoint.tokens.suffix(question)  # refuses a bad question before the work starts
        return self.score_features(self.encode_frames(frames), question)

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision tower and the resampler; depends on the frames and the checkpoint, not on any question.

        Each frame's features are independent of the other frames. They are a list without places: a
        grid of one row.

        Args:
            frames: uint8 [H, W, 3] RGB each.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory did not suffice.
        """
        check_frames(frames)
        try:
            return self._encode(frames)
        except OutOfMemoryError:
            # The window that is kept for the next question may be what takes the room.
            if self._kept is None:
                raise
            self.forget()
            return self._encode(frames)

    def _encode(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        seconds: dict[str, float] = {}
        items: list[Tensor] = []
        for start in range(0, len(frames), FRAMES_PER_PASS):
            with timed(seconds, "preprocess", self._vision_device):
                prepared = [prepare_frame(frame) for frame in frames[start : start + FRAMES_PER_PASS]]
            with (
                timed(seconds, "vision", self._vision_device),
                out_of_memory_as_error(f"the vision tower on {len(frames)} frames"),
                torch.inference_mode(),
            ):
                pixels = normalise(prepared, device=self._vision_device, dtype=self._vision_dtype)
                fill = self._vision_device.type != "cpu"
                items += encode_pixels(self._checkpoint.model, pixels, fill_passes=fill).unbind(0)
        grids = ((1, len(items[0])),) * len(items)
        key = content_key(items, grids, mode=self._spec.mode)
        return FrameFeatures(tuple(items), grids, len(frames), self._spec.mode, key, seconds)

    def score_features(self, features: FrameFeatures, question: str) -> WindowScores:
        """Score a window whose frames were encoded before; same result as :meth:`score`.

        Raises:
            InputError: an empty question, features of another prompt mode, or more of them than the
                model has positions for; or a listener of a run that is under way calls this.
            OutOfMemoryError: the window is too large for the device.
        """
        with self._turns.take():
            return self._scores(features, question)

    def _scores(self, features: FrameFeatures, question: str) -> WindowScores:
        seconds = dict(features.seconds)
        reply = self._reply(features, question, seconds)
        ids = reply.ids
        with timed(seconds, "parse", torch.device("cpu")):
            text = self._checkpoint.tokenizer.decode(ids, skip_special_tokens=True).strip()
            parsed = parse_reply(text, features.frame_count, first_index=self._spec.first_index)
        cut = ids[-1] not in self._checkpoint.end_ids
        notes = (CUT_NOTE.format(limit=self._spec.max_new_tokens),) if cut else ()
        _LOG.debug("reply %s, %d tokens, %r", parsed.status, len(ids), text)
        return WindowScores(
            scores=parsed.scores,
            status=parsed.status,
            text=text,
            notes=parsed.notes + notes,
            prompt_tokens=reply.prompt_tokens,
            new_tokens=len(ids),
            reused_tokens=reply.reused_tokens,
            seconds=seconds,
        )

    def score_many(
        self,
        features: Sequence[FrameFeatures],
        questions: Sequence[str],
        *,
        on_scores: OnScores | None = None,
        on_reply: OnReply | None = None,
    ) -> list[WindowScores]:
        """Score pairs of a window and a question; see :meth:`hybrid.fine.interface.FeatureScorer.score_many`.

        Questions about one window follow each other, so that it is read once; each reply is written alone.
        """
        if len(features) != len(questions):
            raise InputError(f"there are {len(features)} windows and {len(questions)} questions; they must be pairs")
        for question in questions:
            self._checkpoint.tokens.suffix(question)
        results: dict[int, WindowScores] = {}
        with self._turns.take():
            for place in sorted(range(len(features)), key=lambda place: features[place].key):
                results[place] = self._scores(features[place], questions[place])
                if on_scores is not None:
                    on_scores(ScoreUpdate(place, results[place].scores, finished=True))
                if on_reply is not None:
                    on_reply(place, results[place])
        return [results[place] for place in range(len(features))]

    def forget(self) -> None:
        """Let go of the window that is kept between questions."""
        with self._lock:
            self._kept = None

    def generate(self, features: FrameFeatures, question: str) -> list[int]:
        """The tokens of the reply: those of ``generate(do_sample=False)`` of transformers.

        Raises:
            InputError, OutOfMemoryError: as :meth:`score_features`.
        """
        with self._turns.take():
            return self._reply(features, question, {}).ids

    def _reply(self, features: FrameFeatures, question: str, seconds: dict[str, float]) -> _Reply:
        if features.mode != self._spec.mode:
            raise InputError(f"the features are for {features.mode} mode, the prompt is in {self._spec.mode} mode")
        checkpoint = self._checkpoint
        suffix = checkpoint.tokens.suffix(question)
        with out_of_memory_as_error(f"a window of {features.frame_count} frames"), torch.inference_mode():
            with timed(seconds, "prefix", self._device):
                window, reused = self._take(features, len(suffix))
            with timed(seconds, "prefill", self._device):
                ids = torch.tensor(suffix, device=self._device)
                state = window.reader.read(checkpoint.model.model.language_model.embed_tokens(ids))
            with timed(seconds, "decode", self._device):
                new_ids = greedy_tokens(
                    checkpoint.model,
                    window.reader,
                    state,
                    seen=[*window.prefix.ids, *suffix],
                    end_ids=checkpoint.end_ids,
                    limit=self._spec.max_new_tokens,
                    penalty=checkpoint.repetition_penalty,
                )
            window.reader.forget(len(window.prefix.ids))
        with self._lock:
            self._kept = window
        length = len(window.prefix.ids)
        return _Reply(new_ids, prompt_tokens=length + len(suffix), reused_tokens=length if reused else 0)

    def _take(self, features: FrameFeatures, suffix_length: int) -> tuple[_Read, bool]:
        """The window, read, and whether it is the one that was kept. Nobody else has it meanwhile."""
        prefix = self._checkpoint.tokens.prefix([len(item) for item in features.items])
        # Also for a window that is kept: this question may be longer than the last.
        check_positions(
            len(prefix.ids) + suffix_length,
            self._spec.max_new_tokens,
            frames=features.frame_count,
            limit=int(self._checkpoint.model.config.text_config.max_position_embeddings),
        )
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None and kept.key == features.key:
            return kept, True
        del kept  # its memory is needed for the next one
        reader = Reader(self._checkpoint.model)
        reader.read(self._embed(prefix, features))
        return _Read(features.key, prefix, reader), False

    def _embed(self, prefix: VisualPrefix, features: FrameFeatures) -> Tensor:
        """[L, hidden]: the embeddings of the prefix, with the features in their places."""
        ids = torch.tensor(prefix.ids, device=self._device)
        embeddings: Tensor = self._checkpoint.model.model.language_model.embed_tokens(ids)
        # By place, not by token id: only the prompt decides where a frame stands.
        places = torch.from_numpy(prefix.feature_places).to(embeddings.device)
        rows = torch.cat([item.to(embeddings.device, embeddings.dtype) for item in features.items])
        return embeddings.index_copy(0, places, rows)


def _place_of_vision(model: Any) -> tuple[torch.device, torch.dtype]:
    """Where pixels go, and in which precision; weights that are offloaded lie nowhere until they are needed."""
    weight = model.model.vision_tower.embeddings.patch_embedding.weight
    return _resident(model, weight.device), weight.dtype


def _place_of_text(model: Any) -> torch.device:
    return _resident(model, model.model.language_model.embed_tokens.weight.device)


def _resident(model: Any, device: torch.device) -> torch.device:
    if device.type != "meta":
        return device
    places = getattr(model, "hf_device_map", {}).values()
    cards = [place for place in places if isinstance(place, int)]
    return torch.device(f"cuda:{cards[0]}" if cards else "cpu")
