"""The families of fine-stage checkpoints, by the ``model_type`` of their config.json.

A new family is a module with a ``FAMILY`` (:class:`hybrid.fine.families.Family`) and one line here.
"""

from __future__ import annotations

from typing import Any

from hybrid.registry import Registry

__all__ = ["FAMILIES"]

FAMILIES: Registry[Any] = Registry(
    "model_type",
    "FAMILY",
    {
        "qwen2_5_vl": "hybrid.fine.qwen.load",
        "aria": "hybrid.fine.aria.load",
    },
)
