"""Reading annotation files, with errors that say which line is wrong, or what to put where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hybrid.errors import HybridError
from hybrid.storage.foreign_json import (
    DATASET,
    ForeignJsonError,
    JsonLimitError,
    parse_json,
    parse_json_lines,
    read_text,
)

__all__ = ["DatasetError", "Row", "find_file", "read_json", "read_records", "validate"]

Model = TypeVar("Model", bound=BaseModel)


class DatasetError(HybridError):
    """An annotation file is missing, damaged, or of a form that is not known."""


class Row(BaseModel):
    """Base of one line of annotation. Fields that the benchmark does not use are let through unread."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def find_file(path: Path, names: Iterable[str], *, what: str, source: str) -> Path:
    """The annotation file: ``path`` itself, or the first of ``names`` in the folder ``path``.

    Args:
        path: a file or a folder, as the caller gave it.
        names: paths inside the folder under which the authors publish the file.
        what: the data set's name, for the error.
        source: where people get the file, for the error.

    Raises:
        DatasetError: there is no such file; the text says what to put where.
    """
    if path.is_file():
        return path
    names = list(names)
    for name in names:
        if (path / name).is_file():
            return path / name
    listed = " or ".join(names)
    raise DatasetError(f"{what}: there is no annotation file at {path}; put {listed} there ({source})")


def read_json(file: Path) -> Any:
    """The JSON document in a file; a file of JSON lines becomes a list.

    Raises:
        DatasetError: the file is not JSON.
    """
    try:
        text = read_text(file, limits=DATASET)
        return _parse(text, where=str(file))
    except OSError as exc:
        raise DatasetError(f"{file} cannot be read: {exc}") from exc
    except ForeignJsonError as exc:
        raise DatasetError(str(exc)) from exc


def _parse(text: str, *, where: str) -> Any:
    try:
        return parse_json(text, where=where, limits=DATASET)
    except JsonLimitError:
        raise
    except ForeignJsonError:
        lines = text.split("\n", 2)
        if len(lines) < 2 or not lines[0].rstrip().endswith(("}", "]")):
            raise
        return [document for _, document in parse_json_lines(text, where=where, limits=DATASET)]


def read_records(file: Path) -> list[dict[str, Any]]:
    """The rows of a table: JSON list, JSON lines, a JSON object of columns, or Parquet.

    Raises:
        DatasetError: the file cannot be read, or is no table.
    """
    if file.suffix == ".parquet":
        return _read_parquet(file)
    document = read_json(file)
    if isinstance(document, dict) and document and all(isinstance(column, list) for column in document.values()):
        if len({len(column) for column in document.values()}) != 1:
            raise DatasetError(f"{file} holds columns of different lengths")
        return [dict(zip(document, row, strict=True)) for row in zip(*document.values(), strict=True)]
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise DatasetError(f"{file} holds no list of questions")
    return document


def validate(model: type[Model], record: object, *, file: Path, line: int | str) -> Model:
    """One row, checked.

    Args:
        model: its form.
        record: as read.
        file: where it was read, for the error.
        line: number or name of the row, for the error.

    Raises:
        DatasetError: it has another form; the text names file, row, field and what is wrong.
    """
    try:
        return model.model_validate(record)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the row"
        raise DatasetError(f"{file}, row {line}: {where}: {first['msg']}") from exc


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as exc:
        raise DatasetError(f"{file} is not a Parquet file that can be read: {exc}") from exc
    return rows
