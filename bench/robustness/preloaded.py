"""What the server of :mod:`bench.robustness.kills` has in memory before it forks. lancedb would not survive that."""

from __future__ import annotations

from hybrid.runtime import ensure_torchvision

ensure_torchvision()

import av  # noqa: E402, F401
import faiss  # noqa: E402, F401
import open_clip  # noqa: E402, F401
import torch  # noqa: E402

import hybrid.cli  # noqa: E402, F401

torch.set_num_threads(1)
