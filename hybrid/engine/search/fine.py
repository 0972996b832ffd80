"""The fine stage of a search: GenS looks at the best videos."""

from __future__ import annotations

import time
from dataclasses import replace

from hybrid.answers import Answer, FoundVideo, Stage
from hybrid.engine.search.work import Search, SearchModels
from hybrid.errors import HybridError, InputError, ModelError, StageFailedError
from hybrid.formatting import plural

__all__ = ["ask_best_videos"]


def ask_best_videos(search: Search, videos: list[FoundVideo], models: SearchModels) -> list[FoundVideo]:
    """Ask GenS about the best videos, put them in order of what it says, and keep the record.

    Args:
        search: ``options.fine`` says how many are asked about.
        videos: what the coarse stage found, best first.
        models: what answers.

    Raises:
        StageFailedError: ``strict``, and a stage did not do what it was asked to.
        InputError, ModelError: as :class:`SearchModels`'s ``ask``; they would end every further question too.
    """
    chosen = videos[: search.options.fine]
    if not chosen:
        note = "not asked for" if not search.options.fine else "there was nothing to read"
        search.record(Stage(name="gens", ran=False, seconds=0.0, notes=(note,)))
        return videos
    started = time.perf_counter()
    asked: list[FoundVideo] = []
    reasons: list[str] = []
    for found in chosen:
        answer, reason = _ask(found, models)
        asked.append(replace(found, answer=answer))
        if reason is not None:
            reasons.append(f"{found.video}: {reason}")
    stage = Stage(
        name="gens",
        ran=any(_best_score(found) > 0 for found in asked),
        seconds=time.perf_counter() - started,
        model=_who_ran(asked) or models.sampler_name,
        candidates_in=len(chosen),
        candidates_out=sum(1 for found in asked if _best_score(found) > 0),
        fallback_reason=f"{len(reasons)} of {plural(len(chosen), 'video')}: {'; '.join(reasons[:3])}"
        if reasons
        else None,
        details={"videos": [found.video_id for found in chosen]},
    )
    search.record(stage)
    # Sorting is stable: equals stay in order of similarity.
    return sorted(asked, key=_best_score, reverse=True) + videos[len(chosen) :]


def _ask(found: FoundVideo, models: SearchModels) -> tuple[Answer | None, str | None]:
    """The answer about one video, and what did not go as asked."""
    try:
        answer = models.ask(found.video_id)
    except (InputError, ModelError, StageFailedError):
        raise
    except HybridError as exc:
        return None, str(exc)
    reasons = [stage.fallback_reason for stage in answer.stages if stage.fallback_reason is not None]
    return answer, "; ".join(reasons) or None


def _who_ran(asked: list[FoundVideo]) -> str | None:
    """The model that the answers name, those where it ran before those where it did not."""
    named = [stage for found in asked if found.answer for stage in found.answer.stages if stage.name == "gens"]
    return next((stage.model for stage in sorted(named, key=lambda stage: not stage.ran) if stage.model), None)


def _best_score(found: FoundVideo) -> float:
    """The best score that GenS gave a span of this video; 0 if none."""
    spans = () if found.answer is None else found.answer.spans
    return max((span.score for span in spans if span.scorer == "gens"), default=0.0)
