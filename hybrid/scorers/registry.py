"""All scorers by name.

A new one is a file that ends in ``SCORER = ScorerKind(...)``, and a line below.

HORNet (bishoygaloaa/HORNet) is missing. Known are its outline (a TimeSformer of width 768 with 4 spatial and 4
temporal blocks and patches of 16, on 32 even frames of 288 x 288, an MLP and a sigmoid, the best 8 frames), and that
its ``.pt`` file holds the trainable parameters only. Unknown are the parameters' names, the order of blocks, the number
of heads, the position embeddings, the sizes of the MLP, the normalisation of pixels, and where the other parameters
come from.
"""

from __future__ import annotations

from hybrid.registry import Registry
from hybrid.scorers.interface import ScorerKind

__all__ = ["SCORERS"]

SCORERS: Registry[ScorerKind] = Registry(
    "scorer",
    "SCORER",
    {
        "clip": "hybrid.scorers.clip",
        "gens": "hybrid.scorers.gens",
        "blip-itm": "hybrid.scorers.blip_itm",
        "yes": "hybrid.scorers.yes",
        "tspo": "hybrid.scorers.tspo",
        "peek": "hybrid.scorers.peek",
    },
)
"""Those that need no checkpoint come first."""
