"""The interface of a fine-stage model: windows of frames and questions in, events out.

A model knows positions of the window it was shown. It knows nothing of videos, times, indexes, or of how the
window was chosen.

:class:`FineModel` is what every model offers. :class:`FeatureModel` is a model with its work cut in two, where the
results of the first half can be stored: a caller that holds the features of the frames neither decodes them again
nor runs the vision encoder. ``isinstance(model, FeatureModel)`` is true for such a model.

:meth:`FineModel.read` is a generator. A caller that closes it, or stops iterating, cancels what is not finished. An
error that concerns one request is an event of that request; the others go on. Several threads may read with one model
at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from hybrid.values import ByteArray

if TYPE_CHECKING:
    from hybrid.fine.features import FrameFeatures

__all__ = [
    "VIDEO_MODE_REASON",
    "Event",
    "FeatureEncoder",
    "FeatureModel",
    "FineModel",
    "FramesScored",
    "ReplyFinished",
    "ReplyStatus",
    "Request",
    "RequestFailed",
    "WindowScores",
    "read_window",
]

VIDEO_MODE_REASON = "in video mode a feature belongs to two neighbours in a window, not to a frame"
"""Why features that are made in video mode cannot be stored frame by frame."""

ReplyStatus = Literal["ok", "salvaged", "empty"]


@dataclass(frozen=True, slots=True)
class WindowScores:
    """The reply about one window.

    Attributes:
        scores: position -> 1..5; positions that the reply does not name are absent.
        status: ``ok``: the reply is the requested JSON; ``salvaged``: something had to be repaired or
            dropped; ``empty``: nothing in it can be used.
        text: the reply, word for word.
        notes: what was repaired or dropped, one line each.
        prompt_tokens, new_tokens: sizes of prompt and reply in tokens.
        reused_tokens: tokens of the prompt whose keys and values came from an earlier question.
        seconds: time by part, for instance ``preprocess``, ``vision``, ``prefix``, ``prefill``, ``decode``.
    """

    scores: Mapping[int, int]
    status: ReplyStatus
    text: str
    notes: tuple[str, ...] = ()
    prompt_tokens: int = 0
    new_tokens: int = 0
    reused_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A window and a question about it.

    Attributes:
        id: names the request in its events; unique within one call of :meth:`FineModel.read`.
        question: plain text; special tokens in it are taken as text.
        frames: uint8 [H, W, 3] RGB each, in time order; or, for a :class:`FeatureModel`, what
            :meth:`FeatureModel.encode_frames` made of them.
    """

    id: int
    question: str
    frames: Sequence[ByteArray] | FrameFeatures


@dataclass(frozen=True, slots=True)
class FramesScored:
    """Entries of a reply that is still being written.

    Attributes:
        request_id: the request.
        scores: position -> 1..5 of all entries that are complete. An entry never goes away; its score can only
            rise, where a later entry names the same position.
    """

    request_id: int
    scores: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ReplyFinished:
    """A request's reply; the last event of the request."""

    request_id: int
    reply: WindowScores


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Why a request has no reply; the last event of the request.

    The error is an :class:`~hybrid.errors.OutOfMemoryError` where the window is too large for the device.
    """

    request_id: int
    error: Exception


Event: TypeAlias = FramesScored | ReplyFinished | RequestFailed


class FineModel(Protocol):
    """A model that scores the frames of windows."""

    @property
    def name(self) -> str:
        """What was loaded: a hub name or a folder."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a reply: checkpoint, weight hash, prompt hash, dtype, versions."""

    @property
    def device(self) -> str:
        """The device, or several with commas."""

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model reads: uint8 [h, w, 3].

        A caller that holds a window of large frames prepares each as it is decoded; preparing a prepared frame
        changes nothing.
        """

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        """Read windows and answer the questions about them.

        A reply depends neither on the order nor on the other requests (beyond rounding, in 16 bits).

        Args:
            requests: each with an id of its own.
            partial: also give :class:`FramesScored` while replies are written, where the model can.

        Yields:
            Events; of each request exactly one :class:`ReplyFinished` or :class:`RequestFailed`, in the order in
            which requests end.

        Raises:
            InputError: a request is not legal; raised before any work is done.
        """


class FeatureEncoder(Protocol):
    """The part of a model that encodes frames."""

    @property
    def device(self) -> str:
        """The device, or several with commas."""

    def prepare(self, frame: ByteArray) -> ByteArray:
        """See :meth:`FineModel.prepare`."""

    @property
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`: plain strings.

        A store keeps it beside the features and refuses them where it differs. The size of frames, the rule of
        resizing, the mode, the weights and the dtype are part of it; the prompt's texts and versions of libraries
        are not.
        """

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""

    @property
    def feature_dtype(self) -> str:
        """The dtype that :meth:`encode_frames` gives: ``float32``, ``bfloat16`` or ``float16``."""

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision encoder; depends on the frames and the checkpoint, not on any question.

        In image mode each frame's features are independent of the other frames, so that those of any frames may be
        put together again.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order.

        Raises:
            InputError: there are no frames, or a frame is not uint8 [H, W, 3].
            OutOfMemoryError: the device has too little memory.
        """


@runtime_checkable
class FeatureModel(FineModel, FeatureEncoder, Protocol):
    """A :class:`FineModel` whose features of frames can be stored.

    A request with frames has the same reply as one with ``encode_frames(frames)``. Requests whose features have
    the same ``key`` share all work that does not depend on the question.
    """


def read_window(model: FineModel, frames: Sequence[ByteArray] | FrameFeatures, question: str) -> WindowScores:
    """The reply to one question about one window; arguments as in :class:`Request`.

    Raises:
        InputError: the frames or the question are not legal.
        OutOfMemoryError: the window is too large for the device.
        ModelError: the model cannot be run.
    """
    with closing(model.read([Request(0, question, frames)])) as events:
        for event in events:
            if isinstance(event, ReplyFinished):
                return event.reply
            if isinstance(event, RequestFailed):
                raise event.error
    raise AssertionError(f"{model.name} ended without a reply; see hybrid.fine.interface.FineModel.read")
