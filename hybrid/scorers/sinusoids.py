"""Sinusoidal position embeddings, as in the transformer's paper (arXiv 1706.03762)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["sinusoids"]


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """PE[j, 2i] = sin(p_j f_i),  PE[j, 2i + 1] = cos(p_j f_i),  f_i = 10000^(-2i / width): float32 [T, width].

    Args:
        positions: [T].
        width: even.
    """
    import torch

    frequencies = torch.exp(torch.arange(0, width, 2) * (-np.log(10000.0) / width))
    angles = positions[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(len(positions), width)
