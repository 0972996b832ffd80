"""What the server of :mod:`tests.forked` has in memory before it forks."""

from __future__ import annotations

import contextlib
import importlib

from hybrid.runtime import ensure_torchvision, settle_process

_MODULES = (
    "av",
    "faiss",
    "open_clip",
    "hybrid.cli.display.progress",
    "hybrid.cli.display.run_report",
    "hybrid.clip.open_clip",
    "hybrid.engine.engine",
    "hybrid.engine.batch.worker_process",
    "hybrid.engine.batch.workers",
    "hybrid.export.sheet",
    "hybrid.frames.decoders.pyav",
    "hybrid.fine.load",
    "hybrid.fine.qwen.load",
    "indexes.stores.faiss_store",
)
# lancedb itself does not survive a fork; most of its import are these, which start no threads.
_MODULES_OF_LANCEDB = ("lance_namespace_urllib3_client", "pyarrow")

settle_process()
ensure_torchvision()
for _name in _MODULES:
    importlib.import_module(_name)
for _name in _MODULES_OF_LANCEDB:
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)

import torch  # noqa: E402

torch.set_num_threads(1)
