"""The choice of a token, against transformers' own logits processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.errors import ModelError


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.05, 1.3, 2.0])
@pytest.mark.parametrize("shift", [-8.0, 0.0, 8.0])
def test_repetition_penalty_on_logits_of_both_signs(penalty: float, shift: float) -> None:
    """With all logits negative the penalty works the other way round; a whole model seldom shows that."""
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    from hybrid.gens.decode import best_token

    generator = torch.Generator().manual_seed(7)
    changed = 0
    for _ in range(50):
        logits = torch.randn(40, generator=generator) + shift
        ids = torch.randint(0, 40, (30,), generator=generator)
        seen = torch.zeros(40, dtype=torch.bool)
        seen[ids] = True
        expected = int(RepetitionPenaltyLogitsProcessor(penalty)(ids[None], logits[None].clone()).argmax())
        assert best_token(logits, seen, repetition_penalty=penalty) == expected
        changed += expected != int(logits.argmax())
    assert (changed > 0) == (penalty != 1.0)


def test_of_equals_the_first() -> None:
    import torch

    from hybrid.gens.decode import best_token

    logits = torch.tensor([0.0, 3.0, 3.0, 1.0])
    assert best_token(logits, torch.zeros(4, dtype=torch.bool), repetition_penalty=1.0) == 1


def test_weights_that_give_no_numbers_are_said(gens_folder: Path) -> None:
    import numpy as np

    from hybrid.gens.load import load_scorer

    scorer = load_scorer(gens_folder, device="cpu")
    scorer._checkpoint.model.lm_head.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        scorer.score([np.zeros((8, 8, 3), dtype=np.uint8)], "a red circle")
