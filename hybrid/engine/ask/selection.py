"""The last step: which frames are the answer. By default GenS's best, or CLIP's; else a selector by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.engine.ask.context import AskContext
from hybrid.engine.ask.external_scores import DemandedScores, scores_on_demand
from hybrid.engine.models import Models
from hybrid.errors import MissingDependencyError, ModelError, VideoError
from hybrid.fine.windows import FineScores
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.selector import Selector
from hybrid.selectors.spec import SelectorSpec
from hybrid.selectors.tifre import object_prompts
from hybrid.values import FloatArray, Hits, IntArray

__all__ = ["Chosen", "choose_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What a selector chose.

    Attributes:
        rows: int64, increasing rows of the index.
        went_by: whose scores it went by.
        prompts: texts that it compared frames with, if it did.
        scoring_seconds: how long frames were scored that it asked for, which is another stage's time.
    """

    rows: IntArray
    went_by: str
    prompts: tuple[str, ...] = ()
    scoring_seconds: float = 0.0


def choose_rows(
    context: AskContext,
    selector: SelectorSpec,
    fine: FineScores | None,
    hits: Hits | None,
    models: Models,
    external: FloatArray | None = None,
) -> Chosen:
    """Choose frames of the whole video with a selector.

    Args:
        context: the question.
        wanted: the selector with its options.
        fine: GenS's scores; frames that it did not name have 0. They are what the selector goes by.
        hits: all frames of the video by similarity; what the selector goes by without GenS.
        models: whose encoder is loaded if the selector compares frames with texts itself, and whose scorer if it
            asks for scores of some frames.
        external: float64 [rows of the index], scores that the caller asked for, which then come first; frames
            without one (NaN) cannot be chosen.

    Returns:
        Of the rows, a frame that is held over several samples counts once.
    """
    rows = context.video.timeline.distinct_rows()
    if external is None and context.options.scores_need_model and scores_on_demand(context.options):
        with DemandedScores(context, models.video_scorer, rows) as demanded:
            try:
                chosen = selector.choose(
                    Candidates(seconds=context.video.timeline.pts_seconds[rows], score_frames=demanded),
                    context.options.frames,
                    seed=context.options.seed,
                )
            except (VideoError, ModelError, MissingDependencyError) as exc:
                demanded.record_failure(exc)  # and go by the scores of the other stages
            else:
                demanded.record()
                selected = np.setdiff1d(rows[chosen], demanded.missing)
                return Chosen(selected, str(context.options.scores_text), scoring_seconds=demanded.seconds)
    if external is not None:
        rows = rows[np.isfinite(external[rows])]
    own = _own_scores(context, fine, hits, external)
    if context.options.scores_text in own:  # "clip" or "gens": then no other scores are looked at
        own = {context.options.scores_text: own[context.options.scores_text]}
    own = {source: scores[rows] for source, scores in own.items()}
    source = _source(context, own, external)
    scores = own.get(source)
    gens = own.get("gens")
    alone = next((kind for kind in ("external", "clip") if kind in own), None)
    needs = selector.selector.needs
    prompts = (context.options.look_for or object_prompts(context.question)) if "prompts" in needs else ()
    candidates = Candidates(
        seconds=context.video.timeline.pts_seconds[rows],
        scores=scores,
        similarities=own[alone] if alone is not None else None,
        gens_scores=gens,
        embeddings=context.video.archive.read(context.video.manifest)[rows] if "embeddings" in needs else None,
        query=models.encoder().encode_text(context.question).vector if "query" in needs else None,
        prompts=np.stack([models.encoder().encode_text(text).vector for text in prompts]) if prompts else None,
        score_frames=None if scores is None else scores.__getitem__,
    )
    chosen = selector.choose(candidates, context.options.frames, seed=context.options.seed)
    went_by = _went_by(context, selector.selector, source, alone, gens is not None)
    return Chosen(rows[np.unique(chosen)], went_by, prompts)


def _own_scores(
    context: AskContext, fine: FineScores | None, hits: Hits | None, external: FloatArray | None
) -> dict[str, FloatArray]:
    """The scores that there are, each float64 [rows of the index]."""
    found: dict[str, FloatArray] = {}
    if external is not None:
        found["external"] = external
    if fine is not None:
        found["gens"] = fine.scores.astype(np.float64)
    if hits is not None:
        # A frame that was held back from the search as a copy of another is left out above as well.
        scores = np.full(len(context.video.timeline), float(hits.similarities.min()) if len(hits) else 0.0)
        scores[hits.rows] = hits.similarities
        found["clip"] = scores
    return found


def _source(context: AskContext, own: dict[str, FloatArray], external: FloatArray | None) -> str:
    """Which of them are the scores: those that were asked for, or GenS's, or CLIP's."""
    if external is not None:
        return "external"
    if context.options.scores_text in own:  # "clip" or "gens"
        return str(context.options.scores_text)
    return "gens" if "gens" in own else "clip"


def _went_by(context: AskContext, selector: Selector, source: str, alone: str | None, gens: bool) -> str:
    """Whose scores a selector went by, for the record."""
    if not selector.uses_scores:
        return "none"
    if {"similarities", "gens_scores"}.isdisjoint({*selector.needs, *selector.takes}):
        both = [source]
    else:
        both = [name for name in (alone, "gens" if gens else None) if name is not None]
    return " and ".join(str(context.options.scores_text) if name == "external" else name for name in both)
