"""The header of a safetensors file: what it lists has to make sense before anything goes by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from hybrid.errors import InputError
from hybrid.fine.checkpoint import check_file_name
from hybrid.storage.foreign_json import read_note
from hybrid.storage.tensor_header import read_tensor_header


def write(folder: Path, document: Any, data: bytes = bytes(16), *, size: int | None = None) -> Path:
    header = document if isinstance(document, bytes) else json.dumps(document).encode()
    path = folder / "x.safetensors"
    path.write_bytes((len(header) if size is None else size).to_bytes(8, "little") + header + data)
    return path


def tensor(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        save({"a": np.zeros((2, 3), np.float16), "b": np.zeros(0, np.float32)}, metadata={"note": '{"x": 1}'})
    )
    header = read_tensor_header(path)
    assert {name: (listed.dtype, listed.shape, listed.count) for name, listed in header.tensors.items()} == {
        "a": ("F16", (2, 3), 6),
        "b": ("F32", (0,), 0),
    }
    assert header.size == path.stat().st_size
    assert read_note(path.read_bytes(), "note") == {"x": 1}
    with pytest.raises(InputError, match="no note other"):
        read_note(path.read_bytes(), "other")


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1, -1]},
        {"shape": [2.0, 2]},
        {"shape": [True, 4]},
        {"shape": "22"},
        {"shape": None},
        {"data_offsets": [0, -5]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 8, 16]},
        {"dtype": 32},
    ],
)
def test_a_tensor_that_cannot_be_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.safetensors has a damaged header: tensor 'a' is"):
        read_tensor_header(write(tmp_path, tensor(**changes)))


@pytest.mark.parametrize(
    ("document", "size", "says"),
    [
        (tensor(data_offsets=[0, 2**62]), None, "is cut: it has"),
        (tensor(), 2**63, "is cut or no safetensors file"),
        (tensor(), 10**6, "is cut or no safetensors file"),
        (b"[" * 200_000, None, "damaged header, line 1: more than 64 levels deep"),
        (b"[]", None, "it is no JSON object"),
        (b'{"a": 1}', None, "tensor 'a' is 1"),
        (b'{"a": ' + b"9" * 10_000 + b"}", None, "the integer 9"),
        (b'{"a": {}, "a": {}}', None, "twice"),
    ],
)
def test_a_header_that_cannot_be_is_refused(document: Any, size: int | None, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_tensor_header(write(tmp_path, document, size=size))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", "..", "a\0", 5, None])
def test_a_list_of_weights_names_files_beside_it(name: object) -> None:
    with pytest.raises(TypeError, match="is not the name of a file beside it"):
        check_file_name(name)
    assert check_file_name("model-00001-of-00002.safetensors")
