"""LV-Haystack's visual precision, recall and F1: how alike the selected frames are to the frames of the evidence.

T* (arXiv 2504.02259), mll-lab-nu/TStar, ``val_tstar_results.py``. SSIM (Wang et al., Image quality assessment,
IEEE TIP 2004) of two pictures x, y scaled to 0..1, with a Gaussian window of 11 x 11, sigma 1.5, zeros beyond the
border:

    (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2)),   C1 = 0.01^2, C2 = 0.03^2

averaged over places and colours. Per question, precision = mean over selected frames of the best SSIM with a frame
of the evidence, recall = mean over evidence of the best with a selected frame. Both are averaged over questions;
unlike the temporal F1, the F1 is made of the two averages.

The released code takes pictures as [height, width, 3] where its SSIM expects [3, height, width]: the window slides
over width and colour, and each line of the picture is a channel of its own. ``layout="as_coded"`` does that and
gives numbers that compare with published ones; ``layout="image"`` slides the window over the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybrid.errors import InputError
from hybrid.values import ByteArray, FloatArray

__all__ = ["Layout", "VisualScore", "ssim", "visual_means", "visual_score"]

Layout = Literal["as_coded", "image"]

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


@dataclass(frozen=True, slots=True)
class VisualScore:
    """Precision and recall of one question, or as means; the F1 is that of the two."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean; 0 if both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


def visual_score(
    selected: Sequence[ByteArray], evidence: Sequence[ByteArray], *, layout: Layout = "as_coded"
) -> VisualScore | None:
    """The score of one question; None if there is no picture on one of the sides.

    Args:
        selected: pictures uint8 [H, W, 3], RGB. One that could not be read has size 0 and is left out.
        evidence: the same, of the same size.
        layout: see the module.

    Raises:
        InputError: pictures of different sizes.
    """
    ours = [picture for picture in selected if picture.size]
    theirs = [picture for picture in evidence if picture.size]
    if not ours or not theirs:
        return None
    alike = np.array([[ssim(theirs_one, ours_one, layout=layout) for ours_one in ours] for theirs_one in theirs])
    return VisualScore(precision=float(alike.max(axis=0).mean()), recall=float(alike.max(axis=1).mean()))


def visual_means(scores: Iterable[VisualScore | None]) -> VisualScore:
    """Means over the questions that have a score; both 0 if none has."""
    counted = [score for score in scores if score is not None]
    if not counted:
        return VisualScore(precision=0.0, recall=0.0)
    return VisualScore(
        precision=float(np.mean([score.precision for score in counted])),
        recall=float(np.mean([score.recall for score in counted])),
    )


def ssim(first: ByteArray, second: ByteArray, *, layout: Layout = "as_coded") -> float:
    """Structural similarity of two pictures, 1 for the same.

    Args:
        first, second: uint8 [H, W, 3], of the same size.
        layout: see the module.

    Raises:
        InputError: pictures of different sizes or of another shape.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise InputError(
            f"pictures have the shapes {list(first.shape)} and {list(second.shape)}; both must be [H, W, 3]"
        )
    x, y = _planes(first, layout), _planes(second, layout)
    rows, columns = _blur(x.shape[1]), _blur(x.shape[2])

    def mean(planes: FloatArray) -> FloatArray:
        blurred: FloatArray = rows @ planes @ columns
        return blurred

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    similarity = (2 * mx * my + C1) * (2 * vxy + C2) / ((mx * mx + my * my + C1) * (vx + vy + C2))
    return float(similarity.mean())


def _planes(picture: ByteArray, layout: Layout) -> FloatArray:
    """Float64 [channels, rows, columns] in 0..1, as the window sees them."""
    scaled: FloatArray = picture.astype(np.float64) / 255.0
    return scaled if layout == "as_coded" else scaled.transpose(2, 0, 1)


def _blur(length: int) -> FloatArray:
    """The Gaussian window along one axis with zeros beyond its ends, as a symmetric matrix [length, length]."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    distance = np.abs(np.arange(length)[:, None] - np.arange(length)[None, :])
    inside = distance <= WINDOW // 2
    blur: FloatArray = np.where(inside, weights[np.minimum(distance, WINDOW // 2) + WINDOW // 2], 0.0)
    return blur
