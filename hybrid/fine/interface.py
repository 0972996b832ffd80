"""The interface of a fine stage model: a window of frames and a question in, scores out.

A scorer speaks in positions of the window it was shown. It knows nothing of videos, times,
indexes or of how the window came about.

:class:`FrameScorer` is what every model offers. :class:`FeatureScorer` is the same model with its
work cut in two, where the results of the first half can be kept: a caller that holds the features
of the frames, from an index for instance, neither decodes them again nor runs the vision tower.
``isinstance(scorer, FeatureScorer)`` tells whether a model can do that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from hybrid.values import ByteArray

if TYPE_CHECKING:
    from hybrid.fine.features import FrameFeatures

__all__ = [
    "CUT_NOTE",
    "WHY_VIDEO_IS_NOT_KEPT",
    "FeatureScorer",
    "FrameScorer",
    "OnReply",
    "OnScores",
    "ReplyStatus",
    "ScoreUpdate",
    "WindowScores",
]

CUT_NOTE = "the reply was cut at the limit of {limit} tokens"

WHY_VIDEO_IS_NOT_KEPT = "in video mode a feature belongs to two neighbours in a window, not to a frame"
"""Why a store of features of frames takes none that are made in video mode."""

ReplyStatus = Literal["ok", "salvaged", "empty"]


@dataclass(frozen=True, slots=True)
class WindowScores:
    """What a model said about one window.

    Attributes:
        scores: position -> 1..5; positions that it did not name are absent.
        status: ``ok``: the reply was the JSON that was asked for; ``salvaged``: something had to be
            repaired or dropped; ``empty``: nothing usable in it.
        text: the reply, word for word.
        notes: what was repaired or dropped, one line each.
        prompt_tokens, new_tokens: sizes of prompt and reply in tokens.
        reused_tokens: tokens of the prompt whose keys and values an earlier question had left.
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


@dataclass(frozen=True, slots=True)
class ScoreUpdate:
    """What is known of one reply while it is still being written.

    Attributes:
        place: which pair of :meth:`FeatureScorer.score_many` it belongs to.
        scores: position -> 1..5 of all entries that are complete. An entry never goes away again;
            its score can only rise, where a later entry names the same position.
        finished: whether this is the reply's last update. The first entry that a question gets and
            every further one gives an update, so the last may repeat the one before it. (Aria gives the
            last one only.)
    """

    place: int
    scores: Mapping[int, int]
    finished: bool


OnScores = Callable[[ScoreUpdate], None]
"""Called in the thread that called the scorer, between two steps; what it raises ends the run.

It cannot ask the scorer, which is busy (:class:`~hybrid.errors.InputError`).
"""

OnReply = Callable[[int, WindowScores], None]
"""(which pair of :meth:`FeatureScorer.score_many`, what was said of it); called like :data:`OnScores`, and after it."""


class FrameScorer(Protocol):
    """A model that scores the frames of a window."""

    @property
    def name(self) -> str:
        """What was loaded: a hub name or a folder."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a reply: checkpoint, weight hash, prompt hash, dtype, versions."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at: uint8 [h, w, 3].

        A caller that holds a window of large frames prepares each as it is decoded; preparing a
        prepared frame changes nothing.
        """
        ...

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        """Score the frames of one window.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order; position = place in this sequence.
            question: plain text.

        Raises:
            InputError: no frames, or an empty question.
            OutOfMemoryError: the window is too large for the device.
        """
        ...


@runtime_checkable
class FeatureScorer(FrameScorer, Protocol):
    """A :class:`FrameScorer` that can be given features instead of frames, and many questions at once.

    ``score(frames, question)`` equals ``score_features(encode_frames(frames), question)``, and
    ``score_many`` equals ``score_features`` pair by pair.
    """

    @property
    def feature_identity(self) -> Mapping[str, str]:
        """Everything that decides :meth:`encode_frames`: plain strings.

        A store keeps it beside the features and refuses them where it differs. The prompt's texts
        are not part of it, versions of libraries are not either; the size of frames, the rule of
        resizing, the mode, the weights and the dtype are.
        """
        ...

    @property
    def feature_width(self) -> int:
        """Values per token of a feature."""
        ...

    @property
    def feature_dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``: of what :meth:`encode_frames` gives."""
        ...

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """Run the vision tower; depends on the frames and the checkpoint, not on any question.

        In image mode each frame's features are independent of the other frames, so that those of
        any frames may be put together again (:func:`hybrid.fine.features.features_from_rows`).

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order.

        Raises:
            InputError: no frames, or a frame of another form.
            OutOfMemoryError: the device's memory did not suffice.
        """
        ...

    def score_features(self, features: FrameFeatures, question: str) -> WindowScores:
        """Score a window whose frames were encoded before; same result as :meth:`score`.

        Raises:
            InputError: an empty question, or features of another prompt mode.
            OutOfMemoryError: the window is too large for the device.
        """
        ...

    def score_many(
        self,
        features: Sequence[FrameFeatures],
        questions: Sequence[str],
        *,
        on_scores: OnScores | None = None,
        on_reply: OnReply | None = None,
    ) -> list[WindowScores]:
        """Score pairs of a window and a question; the replies are those of :meth:`score_features`.

        Pairs whose features have the same ``key`` share all work that does not depend on the
        question, whatever their order; all pairs are decoded together as far as memory allows.
        Neither the order nor the company of a pair changes its reply (beyond rounding, in 16 bits).

        Args:
            features: one window per pair; the same object or key may come many times.
            questions: plain text, one per pair.
            on_scores: is told of entries while they are written.
            on_reply: is given what is said of each pair once, as soon as its reply is finished, in whatever
                order replies are.

        Returns:
            One per pair, in the order of the pairs.

        Raises:
            InputError: the lengths differ, a question is empty, or features of another prompt mode.
            OutOfMemoryError: a single window is too large for the device.
        """
        ...
