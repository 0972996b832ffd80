"""Made-up vectors that behave like CLIP's on video, and queries that behave like its text vectors.

What matters for a search is how the vectors lie. Those of images lie in a narrow cone (any two have a
cosine of about 0.5), those of one video closer together, those of one scene closer still, and the
frames of a scene drift slowly, so that neighbours are near-duplicates. Text vectors lie in a cone of
their own, far from every image: the best match has a cosine of about 0.3, and what sets it apart from
any other image is small. Cells of image vectors are therefore a bad guide for them.
"""

from __future__ import annotations

import numpy as np

from hybrid.values import Float32Array

__all__ = ["VideoWorld"]

_SCENE_FRAMES = 9.0
"""Mean length of a scene at one frame a second."""

_TABLE_ROWS = 2**15


class VideoWorld:
    """Vectors of one made-up world, each a function of the seed and of the number of the video.

    What tells the frames of a scene apart is read from one table of normal numbers, each video from two
    places of its own: drawing ten million frames' noise anew would take longer than searching them.
    Topics and scenes are drawn for each video.

    Args:
        dimension: values a vector.
        seed: of the world.
        content: how much of a query is about the frame that it is asked for; with 0 it is about nothing that is
            there, and its best frames lie scattered over all videos.
        shake: how far a frame lies beside its scene's drift; 0.04 gives neighbours a cosine of 0.998, 0.3 one of 0.95.
    """

    def __init__(self, dimension: int, *, seed: int = 0, shake: float = 0.04, content: float = 0.45) -> None:
        self.dimension = dimension
        self._content = content
        self._seed = seed
        self._shake = shake
        dice = np.random.default_rng([seed, 0])
        self._image_cone = _unit(dice.standard_normal(dimension))
        text = dice.standard_normal(dimension)
        self._text_cone = _unit(text - (text @ self._image_cone) * self._image_cone)
        self._table = dice.standard_normal((_TABLE_ROWS, dimension), dtype=np.float32) / np.float32(np.sqrt(dimension))

    def video(self, number: int, frames: int) -> Float32Array:
        """The vectors of one video: float32 [frames, dimension] of length 1."""
        dice = np.random.default_rng([self._seed, 1, number])
        topic = self._image_cone + 0.6 * _unit(dice.standard_normal(self.dimension))
        lengths = dice.geometric(1 / _SCENE_FRAMES, size=frames)
        ends = np.cumsum(lengths)
        starts = np.concatenate(([0], ends[ends < frames]))
        centres = topic + 0.7 * _unit(dice.standard_normal((len(starts), self.dimension)))
        drift = 0.06 * self._noise(frames, dice)
        np.cumsum(drift, axis=0, out=drift)
        # Every scene drifts from its own beginning.
        lengths = np.diff(np.append(starts, frames))
        vectors = np.repeat(centres.astype(np.float32) - drift[starts], lengths, axis=0)
        vectors += drift
        vectors += self._shake * self._noise(frames, dice)
        vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
        return vectors

    def _noise(self, frames: int, dice: np.random.Generator) -> Float32Array:
        rows = (int(dice.integers(_TABLE_ROWS)) + np.arange(frames)) % _TABLE_ROWS
        noise: Float32Array = self._table[rows]
        return noise

    def query(self, number: int, shown: Float32Array) -> Float32Array:
        """A text vector about one frame: float32 [dimension] of length 1.

        Args:
            number: of the query.
            shown: the frame's vector.
        """
        dice = np.random.default_rng([self._seed, 2, number])
        content = _unit(shown - (shown @ self._image_cone) * self._image_cone)
        query: Float32Array = _unit(
            self._text_cone + self._content * content + 0.6 * _unit(dice.standard_normal(self.dimension))
        ).astype(np.float32)
        return query


def _unit(values: np.ndarray) -> np.ndarray:
    unit: np.ndarray = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return unit
