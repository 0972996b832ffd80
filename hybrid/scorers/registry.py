"""All scorers by name, and how one is asked for.

    KIND                         scores that answering makes anyway: clip, gens
    KIND:CHECKPOINT              a model of its own, on the frames of the video
    KIND:CHECKPOINT,NAME=VALUE   with an option of that kind

A new one is a file that ends in ``SCORER = ScorerKind(...)``, and its name in ``NAMES``.

HORNet (bishoygaloaa/HORNet) is not here. Known are its outline (a TimeSformer of width 768 with 4 spatial and 4
temporal blocks and patches of 16, on 32 even frames of 288 x 288, an MLP and a sigmoid, the best 8 frames) and that its
``.pt`` file holds the trainable parameters only. Not known are their names, the order of blocks, the number of heads,
the position embeddings, the sizes of the MLP, the normalisation of pixels, and where the other parameters come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from hybrid.errors import InputError
from hybrid.scorers.interface import Loading, ScorerKind, VideoScorer

if TYPE_CHECKING:
    from hybrid.fine.prompt import PromptSpec

__all__ = ["NAMES", "Wanted", "find_scorer", "load_video_scorer", "read_scores", "scorers"]

NAMES = ("clip", "gens", "blip-itm", "yes", "tspo", "peek")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which scorer a caller asked for.

    Attributes:
        text: as it was written.
        kind: the kind's name.
        checkpoint: None for the scores that answering makes anyway.
        options: by name.
    """

    text: str
    kind: str
    checkpoint: str | None
    options: Mapping[str, str]


def find_scorer(name: str) -> ScorerKind:
    """The kind of that name; only its own file is imported.

    Raises:
        InputError: there is none of that name.
    """
    if name not in NAMES:
        raise InputError(f"there are no scores {name!r}; legal are {', '.join(NAMES)}")
    kind: ScorerKind = import_module(f"hybrid.scorers.{name.replace('-', '_')}").SCORER
    return kind


def scorers() -> tuple[ScorerKind, ...]:
    """All kinds, those that need no checkpoint first."""
    return tuple(find_scorer(name) for name in NAMES)


def read_scores(text: str) -> Wanted:
    """What ``--scores`` says.

    >>> read_scores("blip-itm:checkpoints/blip,first=cls")
    Wanted(text='blip-itm:checkpoints/blip,first=cls', kind='blip-itm', checkpoint='checkpoints/blip', \
options={'first': 'cls'})

    Raises:
        InputError: the kind or an option is not known, or a checkpoint is missing.
    """
    name, colon, rest = text.partition(":")
    kind = find_scorer(name)
    checkpoint, *parts = rest.split(",")
    if not checkpoint and (colon or not kind.in_engine):
        raise InputError(f"scores are {text!r}; {name} needs a checkpoint: {name}:CHECKPOINT ({kind.needs})")
    options = dict(_option(part, kind) for part in parts)
    return Wanted(text, name, checkpoint or None, options)


def _option(part: str, kind: ScorerKind) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals or name not in kind.options:
        raise InputError(
            f"{part!r} is no option of the scores {kind.name}; its options are: {', '.join(kind.options) or 'none'} "
            "(written NAME=VALUE)"
        )
    return name, value


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
        text: ``KIND:CHECKPOINT`` (see the module's text).
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        batch_size: frames that are computed together; by default what suits the device.
        prompt, loading, constrained: of ``gens:CHECKPOINT`` (see :func:`hybrid.fine.load.load_scorer`).

    Raises:
        InputError: the text, the device or the dtype is not legal, or there is no checkpoint in the text.
        ModelLoadError: the checkpoint is missing, damaged, or of another kind.
    """
    wanted = read_scores(text)
    if wanted.checkpoint is None:
        raise InputError(f"scores are {text!r}, which answering makes from the index; to load one: {text}:CHECKPOINT")
    how = Loading(
        text,
        wanted.checkpoint,
        wanted.options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        prompt=prompt,
        loading=loading,
        constrained=constrained,
    )
    return find_scorer(wanted.kind).load(how)
