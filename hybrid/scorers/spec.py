"""A scorer with its checkpoint and options, parsed from one text.

KIND                         scores that answering a question computes anyway: clip, gens
KIND:CHECKPOINT              a model of its own, on the frames of the video
KIND:CHECKPOINT,NAME=VALUE   with an option of that kind
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybrid.errors import InputError
from hybrid.scorers.interface import Loading, ScorerKind, VideoScorer
from hybrid.scorers.registry import SCORERS

if TYPE_CHECKING:
    from hybrid.fine.prompt import PromptSpec

__all__ = ["ScorerSpec", "load_video_scorer", "parse_scorer"]


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """A scorer with its checkpoint and options.

    Attributes:
        text: as it was written.
        kind: the kind of scorer.
        checkpoint: None for scores that answering a question computes anyway.
        options: those that the text sets.
    """

    text: str
    kind: ScorerKind
    checkpoint: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.text


def parse_scorer(text: str) -> ScorerSpec:
    """Parse the value of ``--scores``.

    >>> spec = parse_scorer("blip-itm:checkpoints/blip,first=cls")
    >>> spec.kind.name, spec.checkpoint, spec.options
    ('blip-itm', 'checkpoints/blip', {'first': 'cls'})

    Raises:
        InputError: an unknown kind or option, or no checkpoint where one is needed.
    """
    name, colon, rest = text.partition(":")
    kind = SCORERS.find(name)
    checkpoint, *parts = rest.split(",")
    if not checkpoint and (colon or not kind.in_engine):
        raise InputError(f"scores are {text!r}; {name} needs a checkpoint: {name}:CHECKPOINT ({kind.needs})")
    options = {}
    for part in parts:
        option, equals, value = part.partition("=")
        if not equals or option not in kind.options:
            legal = ", ".join(kind.options) or "none"
            raise InputError(f"{part!r} is no option of the scores {name}; its options are: {legal} (as NAME=VALUE)")
        options[option] = value
    return ScorerSpec(text, kind, checkpoint or None, options)


def load_video_scorer(
    text: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    prompt: PromptSpec | None = None,
    loading: str | None = None,
    constrained: bool = False,
) -> VideoScorer:
    """Load a scorer.

    Args:
        text: ``KIND:CHECKPOINT``, with options.
        device, dtype, batch_size, prompt, loading, constrained: see :class:`~hybrid.scorers.interface.Loading`.

    Raises:
        InputError: the text, the device or the dtype is not legal, or the text names no checkpoint.
        ModelLoadError: the checkpoint is missing, damaged, or of another kind.
    """
    spec = parse_scorer(text)
    if spec.checkpoint is None:
        raise InputError(f"scores are {text!r}, which answering makes from the index; to load one: {text}:CHECKPOINT")
    return spec.kind.load(
        Loading(text, spec.checkpoint, spec.options, device, dtype, batch_size, prompt, loading, constrained)
    )
