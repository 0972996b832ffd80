"""The answer exporters by name."""

from __future__ import annotations

from hybrid.export.interface import AnswerExporter
from hybrid.registry import Registry

__all__ = ["EXPORTERS", "export_flags"]

EXPORTERS: Registry[AnswerExporter] = Registry(
    "exporter",
    "EXPORTER",
    {"images": "hybrid.export.images", "sheet": "hybrid.export.sheet", "json": "hybrid.export.answer_json"},
)
"""A new form is a file that ends in ``EXPORTER = ItsClass()``, and a line here."""


def export_flags() -> dict[str, tuple[str, str]]:
    """The option of ``hybrid ask`` of each exporter, by its name: flag and help."""
    return {exporter.name: (exporter.flag, exporter.help) for exporter in EXPORTERS}
