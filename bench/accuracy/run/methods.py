"""Methods by name: who scores the frames, and which rule chooses from the scores.

* ``hybrid``: CLIP finds candidates, GenS scores them, the best scores are taken; ``gens``: GenS reads the whole video
  in windows; ``clip``: the most similar frames;
* ``uniform``: evenly spaced frames of the video's timeline; no model;
* ``aks``, ``bolt`` ... (``hybrid selectors``): that rule over CLIP's similarities; ``hybrid+aks``, ``gens+aks``: over
  GenS's scores, where a frame that GenS did not name has 0;
* rules have options: ``aks:depth=3,threshold=0.2,faithful``, ``hybrid+bolt:power=2.5`` (see
  :mod:`hybrid.selectors.spec`). Each way of writing one is a method of its own;
* ``RULE@SCORES``: over the scores of another model (``aks@blip-itm:FOLDER``, see :mod:`hybrid.scorers.spec`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from hybrid.answers import Answer, AnswerFrame, Stage
from hybrid.engine import Engine
from hybrid.errors import InputError
from hybrid.options.ask import AskOptions
from hybrid.options.field import names_requiring
from hybrid.options.keywords import AskKeywords
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import SELECTORS
from hybrid.selectors.spec import parse_selector

__all__ = ["Method", "parse_method", "select_frames"]

Source = Literal["none", "clip", "gens", "hybrid"]

_SCORED: Final[dict[str, AskKeywords]] = {
    "clip": {"fine": False},
    "gens": {"coarse": False},
    "hybrid": {},
}
_NEED_NO_MODEL: Final = {"seconds"}
_KNOWN_MODELS: Final = ("coarse", "gens")


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        name: as it was given.
        source: who scores the frames.
        rule: the selector that chooses, with its options; None for the best scores.
        scores: scores of another model, by name; None for those of the source.
    """

    name: str
    source: Source
    rule: str | None = None
    scores: str | None = None

    @property
    def needs_gens(self) -> bool:
        """Whether GenS has to be loaded."""
        return self.source in ("gens", "hybrid")

    @property
    def gives_spans(self) -> bool:
        """Whether its answers hold spans: where something scored the frames."""
        return self.source != "none"

    def keywords(self, common: AskKeywords) -> AskKeywords:
        """The options of :meth:`hybrid.engine.Engine.ask`; the common ones as far as they decide something here."""
        own: AskKeywords = {**_SCORED[self.source], "select": self.rule, "scores": self.scores}
        left_out = set() if self._draws else {"seed"}
        left_out |= set() if own.get("fine", True) else names_requiring(AskOptions, "fine")
        merged = {name: value for name, value in {**common, **own}.items() if name not in left_out}
        return cast("AskKeywords", merged)

    @property
    def _draws(self) -> bool:
        """Whether a seed that is common to all methods is heeded."""
        spec = None if self.rule is None else parse_selector(self.rule)
        return spec is not None and spec.selector.draws and spec.seed is None


def parse_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: there is none of that name, or its rule cannot work from one question.
    """
    base, at, scores = name.partition("@")
    source, plus, rule = base.partition("+")
    if ":" in source:  # the plus sign of a number: aks:threshold=1e+3
        source, plus, rule = base, "", ""
    if not plus and not at and source in _SCORED:
        return Method(name, _as_source(source))
    if not plus:
        source, rule = "clip", base
    elif source not in _SCORED:
        raise InputError(f"the method is {name!r}; before the plus sign {', '.join(_SCORED)} are legal")
    try:
        needs = set(parse_selector(rule).selector.needs)
    except InputError as exc:
        hint = "" if rule.partition(":")[0] in SELECTORS.names else f"; or one of {', '.join(_SCORED)}"
        raise InputError(f"the method is {name!r}: {exc}{hint}") from exc
    if not plus and not at and needs <= _NEED_NO_MODEL:
        return Method(name, "none", rule)
    method = Method(name, _as_source(source), rule, scores if at else None)
    AskOptions(**method.keywords({}))  # refuses rules that need more than a question
    return method


def select_frames(engine: Engine, method: Method, video: Path, question: str, common: AskKeywords) -> Answer:
    """Choose frames of an indexed video; the answer lacks the models' identities, which are the same for all.

    Args:
        engine: whose archive holds its index.
        method: how.
        video: the file.
        question: plain text.
        common: options of all methods (``frames``, ``window`` ...).

    Raises:
        HybridError: as :meth:`hybrid.engine.Engine.ask`.
    """
    if method.source == "none":
        return _without_models(engine, method, video, question, common)
    return _slim(engine.ask_many(video, [question], **method.keywords(common))[0])


def _without_models(engine: Engine, method: Method, video: Path, question: str, common: AskKeywords) -> Answer:
    started = time.perf_counter()
    assert method.rule is not None  # only rules go without a model
    spec = parse_selector(method.rule)
    budget, seed = AskOptions(frames=common.get("frames")).frames, common.get("seed")
    archive = engine.archive
    manifest = archive.require(archive.identify(video))
    timeline = archive.timeline(manifest)
    rows = timeline.distinct_rows()
    chosen = rows[spec.choose(Candidates(timeline.pts_seconds[rows]), budget, seed=seed)]
    stage = Stage(
        name="select",
        ran=True,
        seconds=time.perf_counter() - started,
        model=spec.selector.name,
        device="cpu",
        candidates_in=len(rows),
        candidates_out=len(chosen),
        details=spec.record(seed=seed),
    )
    frames = tuple(AnswerFrame.of_row(timeline, row) for row in chosen.tolist())
    return Answer(question, str(video), manifest.video_id, timeline.duration_seconds, (), frames, (stage,))


def _slim(answer: Answer) -> Answer:
    """Without what the run's record says once for all samples: the identities of CLIP and GenS."""
    stages = tuple(
        replace(stage, details=_without_identity(stage.details)) if stage.name in _KNOWN_MODELS else stage
        for stage in answer.stages
    )
    return replace(answer, stages=stages)


def _without_identity(details: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in details.items() if key != "identity"}


def _as_source(name: str) -> Source:
    sources: dict[str, Source] = {"clip": "clip", "gens": "gens", "hybrid": "hybrid"}
    return sources[name]
