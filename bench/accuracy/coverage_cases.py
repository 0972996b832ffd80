"""Questions to videos of the world with CLIP's similarities, and GenS's scores simulated at a stated error rate.

The frames are drawn, not decoded, one a second, with the camera's noise; the encoder is the real one. GenS is
simulated from the exact scores: what a rule is worth can then be told apart from what a checkpoint is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.world.draw import draw_scene
from bench.world.questions import ANSWER_SCORE, Kind, choose_questions
from bench.world.scenes import WORLD_VERSION, Split, World, make_world
from hybrid.clip.interface import FrameEncoder
from hybrid.values import ByteArray, Float32Array, FloatArray, IntArray

__all__ = ["WINDOW", "Case", "Length", "make_cases", "noisy_similarities", "simulated_gens"]

WINDOW: Final = 256
"""How many frames GenS reads: those that are most similar to the question."""


@dataclass(frozen=True, slots=True)
class Length:
    """Videos of one length: how long, how many kinds of things they show, and how many videos there are."""

    seconds: float
    things: int
    videos: int


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One question to one video, of which one frame a second is known.

    Attributes:
        video: its name.
        length_seconds: which :class:`Length` it is of.
        kind: of the question.
        moments: (start, end) in seconds of each scene that answers.
        scenes: int64 [N], the number of the scene that each frame shows.
        truth: int64 [N], what a perfect GenS gives.
        embeddings: float32 [N, D], unit vectors.
        query: float32 [D], unit vector.
    """

    video: str
    length_seconds: float
    kind: Kind
    moments: tuple[tuple[float, float], ...]
    scenes: IntArray
    truth: IntArray
    embeddings: Float32Array
    query: Float32Array

    @property
    def seconds(self) -> FloatArray:
        """float64 [N]: when each frame is shown."""
        return np.arange(len(self.scenes), dtype=np.float64)

    @property
    def similarities(self) -> FloatArray:
        """float64 [N]: cosines to the question."""
        found: FloatArray = (self.embeddings @ self.query).astype(np.float64)
        return found

    def recall(self, rows: IntArray) -> float:
        """The share of the moments of which a frame is among ``rows``."""
        return float(np.mean([bool(((rows >= start) & (rows < end)).any()) for start, end in self.moments]))


def make_cases(
    split: Split, length: Length, encoder: FrameEncoder, folder: Path, *, per_kind: int, first_seed: int = 0
) -> Iterator[Case]:
    """The cases of videos of one length; embeddings are kept in ``folder``.

    Args:
        split, length: which videos.
        encoder: of frames and questions.
        folder: holds one file a video; made if it is not there.
        per_kind: most questions of a kind about a video.
        first_seed: of the first video; the others follow.
    """
    for seed in range(first_seed, first_seed + length.videos):
        world = make_world(split, seed, seconds=length.seconds, things=length.things)
        times = np.arange(0.0, world.duration_seconds)
        # Vectors of another encoder must not meet the questions of this one.
        file = folder / encoder.identity["weights"][:16] / _file_name(world, length)
        embeddings = _embeddings(world, times, encoder, file)
        ends = np.array([scene.end_seconds for scene in world.scenes])
        scenes = np.searchsorted(ends, times, side="right").astype(np.int64)
        for question in choose_questions(world, per_kind=per_kind):
            # A scene between two whole seconds is shown by no frame; nobody can find it.
            moments = tuple((a, b) for a, b in question.moments if np.ceil(a) < b and np.ceil(a) < len(times))
            if not moments:
                continue
            query = encoder.encode_text(question.text).vector
            truth = question.scores_at(times)
            yield Case(world.name, length.seconds, question.kind, moments, scenes, truth, embeddings, query)


def _file_name(world: World, length: Length) -> str:
    return f"{world.name}-{length.seconds:g}-{length.things}-v{WORLD_VERSION}.npy"


def _embeddings(world: World, times: FloatArray, encoder: FrameEncoder, file: Path) -> Float32Array:
    if file.exists():
        stored: Float32Array = np.load(file)
        return stored
    rng = np.random.default_rng(world.seed)

    def drawn() -> Iterator[ByteArray]:
        for seconds in times.tolist():
            yield draw_scene(world.scene_at(seconds), seconds, width=world.width, height=world.height, rng=rng)

    made = np.concatenate(list(encoder.encode_frames(drawn())))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, made)
    return made


def noisy_similarities(case: Case, noise: float, rng: np.random.Generator) -> FloatArray:
    """CLIP's similarities as a worse encoder would give them.

    Args:
        case: which question.
        noise: in standard deviations of the similarities of this video: the spread of an error that all frames of
            a scene share. Each frame has an error of half of that besides.
        rng: draws the errors.
    """
    plain = case.similarities
    shared = rng.standard_normal(int(case.scenes.max()) + 1)[case.scenes]
    own = rng.standard_normal(len(plain))
    noisy: FloatArray = plain + noise * plain.std() * (shared + 0.5 * own)
    return noisy


def simulated_gens(case: Case, similarities: FloatArray, error: float, rng: np.random.Generator) -> IntArray:
    """Scores as a GenS with this error rate would give them: int64 [N], 0 for none.

    It reads the 256 frames that are most similar. A relevant scene is passed over with the probability ``error``;
    scenes that do not matter are named, on average ``error`` of them for each relevant one; a score is one or two
    too low, and an end of a stretch one frame off, with the same probability.

    Args:
        case: which question.
        similarities: float64 [N]: they decide which frames are read.
        error: 0 to 1.
        rng: draws the errors.
    """
    read = np.zeros(len(similarities), dtype=bool)
    read[np.argsort(-similarities, kind="stable")[:WINDOW]] = True
    scores = np.zeros(len(similarities), dtype=np.int64)
    relevant = np.unique(case.scenes[(case.truth > 0) & read])
    others = np.setdiff1d(np.unique(case.scenes[read]), relevant)
    wrong = rng.permutation(others)[: rng.poisson(error * max(1, len(relevant)))]
    for scene in [*relevant.tolist(), *wrong.tolist()]:
        rows = np.flatnonzero(case.scenes == scene)
        truth = int(case.truth[rows].max())
        if truth and rng.random() < error:
            continue
        value = truth if truth else int(rng.integers(2, ANSWER_SCORE + 1))
        if truth and rng.random() < error:
            value -= int(rng.integers(1, 3))
        start, end = int(rows[0]), int(rows[-1]) + 1
        if truth:
            shown = np.flatnonzero((case.scenes == scene) & (case.truth > 0))
            start, end = int(shown[0]), int(shown[-1]) + 1
        start += int(rng.integers(-1, 2)) if rng.random() < error else 0
        end += int(rng.integers(-1, 2)) if rng.random() < error else 0
        scored = np.arange(max(0, start), min(len(scores), end))
        scores[scored] = np.maximum(scores[scored], value)
    scores[~read] = 0
    return scores
