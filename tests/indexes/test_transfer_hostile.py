"""Packages that nobody should take in: refused before they cost anything, and the archive stays as it was."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3
import pytest
from archive_samples import some_index, video_id

from hybrid.errors import IndexDamagedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.maintenance.transfer import export_index, import_index, read_export

Parts = dict[str, bytes]
_NAMES = ("manifest.json", "timeline.safetensors", "vectors.f16")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    with Archive.open(folder / "archive", backend="faiss") as archive:
        export_index(archive, archive.commit(video_id(1), NewIndex(**some_index(1))), folder / "sound.hybrid")
    return folder / "sound.hybrid"


@pytest.fixture
def parts(package: Path) -> Parts:
    with zipfile.ZipFile(package) as file:
        return {name: file.read(name) for name in _NAMES}


def zipped(parts: Parts, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return buffer.getvalue()


def sealed(document: dict[str, Any]) -> bytes:
    document.pop("digest", None)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return json.dumps({**document, "digest": blake3.blake3(text.encode()).hexdigest(length=16)}).encode()


def refusal(folder: Path, content: bytes) -> str:
    path = folder / "foreign.hybrid"
    path.write_bytes(content)
    with pytest.raises(IndexDamagedError) as caught:
        read_export(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("video.duration_seconds", 1e308),
        ("video.duration_seconds", -1),
        ("video.width", -1),
        ("video.height", 2**70),
        ("video.codec", "x" * 1000),
        ("source.path", "/a\0b.mp4"),
        ("source.path", ""),
        ("source.path", "x" * 10**5),
        ("source.also", ["/a\0b.mp4"]),
        ("source.size_bytes", -1),
        ("source.size_bytes", 2**63),
        ("config.rate", 0),
        ("config.rate", 1e308),
        ("config.decoder", "x" * 1000),
        ("video_id", "ab"),
        ("video_id", "0" * 31),
        ("video_id", "0" * 33),
        ("video_id", "AB" * 16),
        ("video_id", "0" * 31 + "\n"),
        ("video_id", "../" * 10 + "ab"),
        ("generation", "../../x"),
        ("frames", 0),
        ("frames", 2**31),
        ("dimension", 0),
        ("dimension", 2**20),
        ("missing", -1),
        ("created_at", "x" * 1000),
        ("seconds", {"decode": 1e300}),
        ("seconds", {"decode": -1}),
    ],
)
def test_no_value_beyond_its_bounds_comes_in(field: str, value: Any, parts: Parts, tmp_path: Path) -> None:
    document = json.loads(parts["manifest.json"])
    *folders, name = field.split(".")
    inner = document
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    said = refusal(tmp_path, zipped({**parts, "manifest.json": sealed(document)}))
    assert f"not a manifest: {field.removesuffix('.')}" in said


def test_no_field_is_left_without_bounds(parts: Parts, tmp_path: Path) -> None:
    """Each number of a manifest, in the place of which an absurd one stands."""

    def numbers(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if isinstance(value, dict):
            return [found for name, inner in value.items() for found in numbers(inner, (*path, name))]
        return [path] if isinstance(value, int | float) else []

    found = numbers(json.loads(parts["manifest.json"]))
    assert len(found) >= 9
    for path in found:
        for absurd in (-(2.0**40), 1e308):
            document = json.loads(parts["manifest.json"])
            inner = document
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = absurd
            assert "not a manifest" in refusal(tmp_path, zipped({**parts, "manifest.json": sealed(document)}))


def entry(data: bytes, offset: int, form: str, *values: int) -> bytes:
    start = data.index(b"PK\x01\x02") + offset
    return data[:start] + struct.pack(form, *values) + data[start + struct.calcsize(form) :]


def lies64(data: bytes) -> bytes:
    at = data.index(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, 2**60, 2**61)
    return data[:at] + record + struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1) + data[at:]


def many(count: int) -> bytes:
    listed = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    return listed * count + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, count * len(listed), 0, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: zipped(parts, zipfile.ZIP_DEFLATED), "is compressed"),
        (lambda parts: zipped({**parts, "vectors.f16": bytes(10**8)}, zipfile.ZIP_DEFLATED), "is compressed"),
        (lambda parts: zipped({**parts, "manifest.json": bytes(10**8)}, zipfile.ZIP_LZMA), "is compressed"),
        (lambda parts: zipped({**parts, "x": b""}), "it holds 'x', too"),
        (lambda parts: zipped({**parts, "../../x": b""}), "it holds '../../x', too"),
        (lambda parts: zipped({**parts, "/etc/x": b""}), "it holds '/etc/x', too"),
        (lambda parts: zipped({**parts, "y": b"1"}).replace(b"y", b"x", 0), "it holds 'y', too"),
        (
            lambda parts: zipped({**parts, "vectors.f17": b""}).replace(b"vectors.f17", b"vectors.f16"),
            "it holds 'vectors.f16', too",
        ),
        (lambda parts: zipped({name: parts[name] for name in _NAMES[:2]}), r"it holds no vectors.f16"),
        (lambda parts: entry(zipped(parts), 8, "<H", 1), "encrypted"),
        (lambda parts: entry(zipped(parts), 42, "<I", 10), "does not lie where"),
        (lambda parts: entry(zipped(parts), 24, "<I", 2**31), "does not lie where"),
        (lambda parts: entry(zipped(parts), 20, "<2I", 2**32 - 2, 2**32 - 2), "does not lie where|of [0-9]* bytes"),
        (lambda parts: many(50_000), "list of members takes 2350000 bytes"),
        (lambda parts: lies64(zipped(parts)), f"list of members takes {2**60} bytes"),
        (lambda parts: zipped({**parts, "manifest.json": b"[" * 200_000}), "line 1: more than 64 levels deep"),
        (lambda parts: zipped({**parts, "manifest.json": b" " * (17 * 2**20)}), "at most 16777216 are read"),
        (lambda parts: zipped({**parts, "vectors.f16": parts["vectors.f16"][:-1]}), "the manifest says 1280"),
        (lambda parts: zipped({**parts, "vectors.f16": parts["vectors.f16"] * 2}), "the manifest says 1280"),
        (lambda parts: zipped({**parts, "timeline.safetensors": bytes(10**7)}), "has 10000000 bytes; of 40 frames"),
        (lambda parts: zipped({**parts, "timeline.safetensors": b""}), "has 0 bytes; of 40 frames"),
        (lambda parts: zipped(parts)[:-1], "cut or damaged"),
        (lambda parts: zipped(parts) + b"more", "cut or damaged"),
    ],
)
def test_a_package_of_another_form_is_refused_before_it_is_read(
    change: Callable[[Parts], bytes], says: str, parts: Parts, tmp_path: Path
) -> None:
    import re

    assert re.search(says, refusal(tmp_path, change(parts)))


def test_a_pipe_is_no_package(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IndexDamagedError, match="no regular file"):
        read_export(tmp_path / "pipe")


def test_a_package_of_more_than_two_gigabytes_has_another_list(parts: Parts, tmp_path: Path) -> None:
    """Such a package has two more records before its end; they are made here without the gigabytes."""
    data = zipped(parts)
    at = data.index(b"PK\x05\x06")
    size, offset = struct.unpack("<2I", data[at + 12 : at + 20])
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, size, offset)
    path = tmp_path / "large.hybrid"
    path.write_bytes(data[:at] + record + struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1) + data[at:])
    assert read_export(path).manifest.frames == 40


def test_what_was_refused_leaves_the_archive_as_it_was(parts: Parts, package: Path, tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        archive.commit(video_id(2), NewIndex(**some_index(2)))
        before = {path: path.read_bytes() for path in archive.folder.rglob("*") if path.is_file()}
        for name in _NAMES:
            refusal(tmp_path, zipped({**parts, name: parts[name][1:]}))
        assert {path: path.read_bytes() for path in archive.folder.rglob("*") if path.is_file()} == before
        manifest, fresh = import_index(archive, read_export(package))
        assert fresh
        assert archive.verify(manifest.video_id) == manifest
