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


class VideoWorld:
    """Vectors of one made-up world, each a function of the seed and of the number of the video.

    Args:
        dimension: values a vector.
        seed: of the world.
    """

    def __init__(self, dimension: int, *, seed: int = 0) -> None:
        self.dimension = dimension
        self._seed = seed
        dice = np.random.default_rng([seed, 0])
        self._image_cone = _unit(dice.standard_normal(dimension))
        text = dice.standard_normal(dimension)
        self._text_cone = _unit(text - (text @ self._image_cone) * self._image_cone)

    def video(self, number: int, frames: int) -> Float32Array:
        """The vectors of one video: float32 [frames, dimension] of length 1."""
        dice = np.random.default_rng([self._seed, 1, number])
        topic = self._image_cone + 0.6 * _unit(dice.standard_normal(self.dimension))
        blocks = []
        left = frames
        while left > 0:
            length = min(left, int(dice.geometric(1 / _SCENE_FRAMES)))
            blocks.append(self._scene(topic, length, dice))
            left -= length
        return np.concatenate(blocks)

    def _scene(self, topic: np.ndarray, length: int, dice: np.random.Generator) -> Float32Array:
        centre = topic + 0.7 * _unit(dice.standard_normal(self.dimension))
        steps = dice.standard_normal((length, self.dimension)) * (0.06 / np.sqrt(self.dimension))
        shake = dice.standard_normal((length, self.dimension)) * (0.04 / np.sqrt(self.dimension))
        vectors: Float32Array = _unit(centre + np.cumsum(steps, axis=0) + shake).astype(np.float32)
        return vectors

    def query(self, number: int, shown: Float32Array) -> Float32Array:
        """A text vector about one frame: float32 [dimension] of length 1.

        Args:
            number: of the query.
            shown: the frame's vector.
        """
        dice = np.random.default_rng([self._seed, 2, number])
        content = _unit(shown - (shown @ self._image_cone) * self._image_cone)
        query: Float32Array = _unit(
            self._text_cone + 0.45 * content + 0.6 * _unit(dice.standard_normal(self.dimension))
        ).astype(np.float32)
        return query


def _unit(values: np.ndarray) -> np.ndarray:
    unit: np.ndarray = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return unit
