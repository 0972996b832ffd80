"""What the server of :mod:`tests.engine.index_process` has in memory before it forks."""

from __future__ import annotations

from hybrid.runtime import ensure_torchvision

ensure_torchvision()

import av  # noqa: E402, F401
import faiss  # noqa: E402, F401
import open_clip  # noqa: E402, F401
import torch  # noqa: E402

import hybrid.cli  # noqa: E402, F401

torch.set_num_threads(1)
