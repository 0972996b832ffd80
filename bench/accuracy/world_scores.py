"""Scores of questions to videos of the world: CLIP's for every frame, GenS's for those that it named.

GenS reads the window that CLIP passes on, as for ``hybrid ask --select``; a frame that it did not name has 0.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets.question import Question
from hybrid.answers import Answer
from hybrid.clip.interface import FrameEncoder
from hybrid.engine import Engine
from hybrid.progress import NullProgress
from hybrid.selectors.candidates import Candidates
from hybrid.values import Float32Array, FloatArray, IntArray, Timeline

__all__ = ["OpenedVideo", "Scores", "candidates_of", "open_video", "score_questions"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one question, of every distinct frame of its video.

    Attributes:
        id: of the question.
        clip: cosines.
        gens: 1 to 5, 0 for none.
        clip_seconds, gens_seconds: how long the scoring took.
        note: why GenS gave no scores, if so.
    """

    id: str
    clip: tuple[float, ...]
    gens: tuple[float, ...]
    clip_seconds: float
    gens_seconds: float
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``json.dumps``."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Scores:
        """Rebuild them from :meth:`to_dict`."""
        return cls(**{**line, "clip": tuple(line["clip"]), "gens": tuple(line["gens"])})

    def seconds_of(self, source: str) -> float:
        """How long the scores of a source take: GenS's come after CLIP's."""
        return self.clip_seconds + (self.gens_seconds if source == "gens" else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class OpenedVideo:
    """An indexed video.

    Attributes:
        path: of the file.
        video_id: its content id.
        timeline: its sampled frames.
        rows: int64 [N], the first row of each distinct frame: the candidates.
        embeddings: float32 [N, D], their unit vectors.
    """

    path: Path
    video_id: str
    timeline: Timeline
    rows: IntArray
    embeddings: Float32Array


def open_video(engine: Engine, path: Path) -> OpenedVideo:
    """Index a video, with GenS's features, and open its index."""
    engine.index(path, features=None, progress=NullProgress())
    archive = engine.archive
    manifest = archive.require(archive.identify(path))
    timeline = archive.timeline(manifest)
    rows = timeline.distinct_rows()
    return OpenedVideo(path, manifest.video_id, timeline, rows, np.asarray(archive.read(manifest))[rows])


def score_questions(
    engine: Engine, encoder: FrameEncoder, video: OpenedVideo, asked: Sequence[Question], *, window: int
) -> Iterator[Scores]:
    """The scores of questions about one video; GenS is asked all of them together."""
    started = time.perf_counter()
    clip = [video.embeddings @ encoder.encode_text(question.question).vector for question in asked]
    compared = time.perf_counter()
    answers = engine.ask_many(
        video.path, [question.question for question in asked], frames=len(video.timeline), window=window
    )
    ended = time.perf_counter()
    for question, similarities, answer in zip(asked, clip, answers, strict=True):
        notes = [stage.fallback_reason for stage in answer.stages if stage.fallback_reason]
        yield Scores(
            id=question.id,
            clip=tuple(float(score) for score in similarities),
            gens=tuple(_gens_scores(video, answer).tolist()),
            clip_seconds=(compared - started) / len(asked),
            gens_seconds=(ended - compared) / len(asked),
            note="; ".join(notes) or None,
        )


def _gens_scores(video: OpenedVideo, answer: Answer) -> FloatArray:
    given = {frame.ordinal: float(frame.gens_score or 0) for frame in answer.frames}
    return np.array([given.get(int(ordinal), 0.0) for ordinal in video.timeline.ordinals[video.rows]])


def candidates_of(video: OpenedVideo, scores: Scores, source: str, query: Float32Array) -> Candidates:
    """What selectors see: the scores of a source, and CLIP's beside them; GenS's only where they are the source."""
    clip, gens = np.array(scores.clip), np.array(scores.gens)
    own = gens if source == "gens" else clip
    return Candidates(
        seconds=video.timeline.pts_seconds[video.rows],
        scores=own,
        similarities=clip,
        gens_scores=gens if source == "gens" else None,
        embeddings=video.embeddings,
        query=query,
        score_frames=own.__getitem__,
    )
