"""What the server of :mod:`bench.robustness.kills` has in memory before it forks. lancedb would not survive that."""

from __future__ import annotations

import contextlib
import importlib

from hybrid.runtime import ensure_torchvision, settle_process

settle_process()
ensure_torchvision()

import av  # noqa: E402, F401
import faiss  # noqa: E402, F401
import open_clip  # noqa: E402, F401
import torch  # noqa: E402

import hybrid.cli.display.run_report  # noqa: E402
import hybrid.clip.open_clip  # noqa: E402
import hybrid.engine.engine  # noqa: E402
import hybrid.frames.decoders.pyav  # noqa: E402, F401

# Most of what importing lancedb takes is these, and they start no threads.
for _name in ("lance_namespace_urllib3_client", "pyarrow"):
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)

torch.set_num_threads(1)
