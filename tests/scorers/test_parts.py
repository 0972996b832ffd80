"""Parts that several scorers share."""

from __future__ import annotations

import math

import numpy as np
import torch

from hybrid.scorers.sinusoids import sinusoids
from hybrid.scorers.yes import _same_size


def test_positions_are_embedded_as_the_transformers_paper_has_it() -> None:
    embedded = sinusoids(torch.tensor([0, 3]), 4)
    expected = [[0, 1, 0, 1], [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]]
    torch.testing.assert_close(embedded, torch.tensor(expected, dtype=torch.float32))


def test_frames_of_one_size_that_follow_each_other_are_one_batch_of_at_most_64() -> None:
    small, large = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)
    batches = list(_same_size([small, small, large, *[small] * 130]))
    assert [len(batch) for batch in batches] == [2, 1, 64, 64, 2]
    assert [batch[0].shape[1] for batch in batches] == [4, 6, 4, 4, 4]
