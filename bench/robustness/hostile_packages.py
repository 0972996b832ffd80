"""Exported indexes that nobody should take in."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from bench.robustness.hostile_case import TINY, Case, Ground, Maker, digest_of, resealed
from indexes.format.manifest import generation_of
from indexes.format.timeline_file import NOTE, timeline_hash

__all__ = ["PACKAGES"]

_MANIFEST, _TIMELINE, _VECTORS = "manifest.json", "timeline.safetensors", "vectors.f16"

Parts = dict[str, bytes]


def _parts(ground: Ground) -> Parts:
    with zipfile.ZipFile(ground.package) as file:
        return {name: file.read(name) for name in (_MANIFEST, _TIMELINE, _VECTORS)}


def _case(ground: Ground, folder: Path, name: str, content: bytes, *, refused: bool = True) -> Case:
    """Import a file, then do with the archive what everybody does."""
    archive = str(ground.copy_of(ground.other, folder))
    path = folder / "foreign.hybrid"
    path.write_bytes(content)
    verbs = tuple((verb, "--archive", archive) for verb in ("list", "stats"))
    after = (*verbs, ("search", "a red circle", "--archive", archive, *TINY))
    return Case(
        "packages", name, ("import", str(path), "--archive", archive), "import", refused, after if refused else ()
    )


def _zipped(parts: Parts, *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in parts.items():
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


_FIELDS: tuple[tuple[str, Any], ...] = (
    ("video.duration_seconds", 1e308),
    ("video.duration_seconds", -1.0),
    ("video.duration_seconds", "long"),
    ("video.width", -320),
    ("video.height", 10**39),
    ("video.codec", "h" * 100_000),
    ("source.path", "/videos/a\0b.mp4"),
    ("source.path", ""),
    ("source.path", "/" + "x" * 10**6),
    ("source.path", ["a"]),
    ("source.path", "\ud83d.mp4"),
    ("source.size_bytes", -1),
    ("source.size_bytes", 2**80),
    ("source.also", ["/a\0"]),
    ("video_id", "ab"),
    ("video_id", "0" * 31),
    ("video_id", "../" * 10 + "ab"),
    ("video_id", "AB" * 16),
    ("video_id", "0" * 64),
    ("frames", 0),
    ("frames", 2**40),
    ("frames", 1.5),
    ("dimension", 2**31),
    ("dimension", -1),
    ("missing", -1),
    ("missing", 2**62),
    ("created_at", "x" * 10_000),
    ("generation", "../../x"),
    ("seconds", {"decode": 1e300}),
    ("seconds", {"decode": -5}),
    ("status", "sound"),
    ("format_version", 2**70),
    ("vectors_hash", None),
)
_CONFIG: tuple[tuple[str, Any], ...] = (
    ("rate", 0.0),
    ("rate", -1.0),
    ("rate", 1e308),
    ("policy", "none"),
    ("decoder", "x" * 10_000),
    ("encoder", {"model": ["deep"]}),
)


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    for folder in folders:
        document = document[folder]
    document[name] = value


def _field(ground: Ground, folder: Path, dice: random.Random) -> Case:
    parts = _parts(ground)
    document = json.loads(parts[_MANIFEST])
    path, value = dice.choice(_FIELDS)
    _set(document, path, value)
    parts[_MANIFEST] = resealed(document)
    return _case(ground, folder, f"{path} is {ascii(value)[:40]}", _zipped(parts))


def _config(ground: Ground, folder: Path, dice: random.Random) -> Case:
    parts = _parts(ground)
    document = json.loads(parts[_MANIFEST])
    name, value = dice.choice(_CONFIG)
    document["config"][name] = value
    document["fingerprint"] = digest_of({"format_version": 1, **document["config"]})
    parts[_MANIFEST] = resealed(document)
    return _case(ground, folder, f"config.{name} is {ascii(value)[:40]}", _zipped(parts))


def _missing(tensors: dict[str, Any], note: dict[str, Any], ordinal: int, reason: object) -> None:
    tensors["missing"], note["reasons"] = np.array([ordinal]), [reason]


_TIMES: tuple[tuple[str, Callable[[dict[str, Any], dict[str, Any]], object]], ...] = (
    ("a time that is not a number", lambda tensors, note: tensors["pts_seconds"].__setitem__(1, np.nan)),
    ("an endless time", lambda tensors, note: tensors["pts_seconds"].__setitem__(-1, np.inf)),
    ("a time of 1e308 s", lambda tensors, note: tensors["pts_seconds"].__setitem__(-1, 1e308)),
    ("ordinals below 0", lambda tensors, note: tensors["ordinals"].__isub__(2**40)),
    ("ordinals at the end of the integers", lambda tensors, note: tensors["ordinals"].__iadd__(2**63 - 100)),
    ("frame numbers below -1", lambda tensors, note: tensors["frame_numbers"].__isub__(2**40)),
    ("ordinals as floats", lambda tensors, note: tensors.update(ordinals=tensors["ordinals"].astype(np.float64))),
    ("ordinals in a square", lambda tensors, note: tensors.update(ordinals=tensors["ordinals"][:, None])),
    ("no ordinals", lambda tensors, note: tensors.pop("ordinals")),
    ("a rate of 0", lambda tensors, note: note.update(rate=0)),
    ("a rate of text", lambda tensors, note: note.update(rate="1")),
    ("another rate", lambda tensors, note: note.update(rate=7.0)),
    ("another policy", lambda tensors, note: note.update(policy="keyframes")),
    ("a length of 1e308 s", lambda tensors, note: note.update(duration_seconds=1e308)),
    ("a length of nothing", lambda tensors, note: note.update(duration_seconds=None)),
    ("reasons of numbers", lambda tensors, note: _missing(tensors, note, 2, 1)),
    (
        "a missing sample below 0",
        lambda tensors, note: (note.update(reasons=["x"]), tensors.update(missing=np.array([-2]))),
    ),
    ("reasons without end", lambda tensors, note: note.update(reasons="[" * 100_000)),
)


def _times(ground: Ground, folder: Path, dice: random.Random) -> Case:
    parts = _parts(ground)
    data = parts[_TIMELINE]
    note = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][NOTE])
    tensors = {name: tensor.copy() for name, tensor in load(data).items()}
    name, change = dice.choice(_TIMES)
    change(tensors, note)
    parts[_TIMELINE] = save(tensors, metadata={NOTE: json.dumps(note)})
    document = json.loads(parts[_MANIFEST])
    document["timeline_hash"] = timeline_hash(parts[_TIMELINE])
    document["generation"] = generation_of(document["vectors_hash"], document["timeline_hash"])
    if len(note["reasons"]) == 1:
        document["missing"] = 1
    parts[_MANIFEST] = resealed(document)
    return _case(ground, folder, name, _zipped(parts))


def _document(ground: Ground, folder: Path, dice: random.Random) -> Case:
    from bench.robustness.hostile_documents import hostile_text

    parts = _parts(ground)
    name, parts[_MANIFEST] = hostile_text(parts[_MANIFEST], dice)
    return _case(ground, folder, f"manifest: {name}", _zipped(parts), refused=name != "with a byte order mark")


def _vectors_in(parts: Parts, value: float) -> Parts:
    values = np.frombuffer(parts[_VECTORS], "<f2").copy()
    values[0] = value
    return {**parts, _VECTORS: values.tobytes()}


def _bomb(parts: Parts, dice: random.Random) -> bytes:
    """Compressed a thousand times smaller than it is, as the one that took 4 GB."""
    zeros = bytes(dice.choice([200, 400, 800]) * 10**6)
    return _zipped({**parts, dice.choice([_MANIFEST, _TIMELINE, _VECTORS]): zeros}, method=zipfile.ZIP_DEFLATED)


def _linked(parts: Parts) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            file.writestr(info, b"/etc/passwd" if name == _VECTORS else data)
    return buffer.getvalue()


def _twice(parts: Parts) -> bytes:
    data = _zipped({**parts, "manifest.jsom": parts[_MANIFEST]})
    return data.replace(b"manifest.jsom", b"manifest.json")


def _patched(data: bytes, offset: int, form: str, *values: int) -> bytes:
    """Other numbers in the first member's entry of the list at the end; offsets as in the format's description."""
    start = data.index(b"PK\x01\x02") + offset
    return data[:start] + struct.pack(form, *values) + data[start + struct.calcsize(form) :]


def _many(dice: random.Random) -> bytes:
    """A list of members without end, all of them empty and in one place."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    count = dice.choice([65_000, 500_000])
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, count * len(entry), 0, 0)
    return entry * count + end


def _lies64(data: bytes) -> bytes:
    """A record for large packages that states a list of members of exabytes."""
    at = data.index(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, 2**60, 2**61)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    return data[:at] + record + locator + data[at:]


_FORMS: tuple[tuple[str, Callable[[Parts, random.Random], bytes]], ...] = (
    ("compressed bomb", _bomb),
    ("compressed", lambda parts, dice: _zipped(parts, method=zipfile.ZIP_DEFLATED)),
    ("one member more", lambda parts, dice: _zipped({**parts, "x": b"x"})),
    ("a member outside", lambda parts, dice: _zipped({**parts, "../../x": b"x"})),
    ("an absolute member", lambda parts, dice: _zipped({**parts, "/tmp/hostile": b"x"})),
    ("no vectors", lambda parts, dice: _zipped({name: parts[name] for name in (_MANIFEST, _TIMELINE)})),
    ("a link as a member", lambda parts, dice: _linked(parts)),
    ("a member twice", lambda parts, dice: _twice(parts)),
    ("overlapping members", lambda parts, dice: _patched(_zipped(parts), 42, "<I", 5)),
    ("a member behind the end", lambda parts, dice: _patched(_zipped(parts), 42, "<I", 2**31)),
    ("a member of 4 GB", lambda parts, dice: _patched(_zipped(parts), 20, "<2I", 2**32 - 2, 2**32 - 2)),
    ("sizes that differ", lambda parts, dice: _patched(_zipped(parts), 24, "<I", 2**31)),
    ("an encrypted member", lambda parts, dice: _patched(_zipped(parts), 8, "<H", 1)),
    ("an unknown compression", lambda parts, dice: _patched(_zipped(parts), 10, "<H", 99)),
    ("members without end", lambda parts, dice: _many(dice)),
    ("a false record for large packages", lambda parts, dice: _lies64(_zipped(parts))),
    ("vectors that are not numbers", lambda parts, dice: _zipped(_vectors_in(parts, np.nan))),
    ("endless vectors", lambda parts, dice: _zipped(_vectors_in(parts, np.inf))),
    ("vectors cut", lambda parts, dice: _zipped({**parts, _VECTORS: parts[_VECTORS][:-7]})),
    (
        "a package in a package",
        lambda parts, dice: _zipped({_MANIFEST: _zipped(parts), **dict(list(parts.items())[1:])}),
    ),
    ("nothing", lambda parts, dice: b""),
    ("two letters", lambda parts, dice: b"PK"),
    ("random bytes", lambda parts, dice: b"PK\x03\x04" + dice.randbytes(10_000)),
    ("cut", lambda parts, dice: (data := _zipped(parts))[: dice.randrange(len(data))]),
)


def _form(number: int) -> Maker:
    def make(ground: Ground, folder: Path, dice: random.Random) -> Case:
        name, change = _FORMS[number]
        return _case(ground, folder, name, change(_parts(ground), dice))

    return make


def _flipped(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """A flipped bit may lie where nothing depends on it."""
    data = bytearray(ground.package.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return _case(ground, folder, "a flipped bit", bytes(data), refused=False)


PACKAGES: tuple[Maker, ...] = (
    *(_field,) * 5,
    *(_times,) * 4,
    *(_config,) * 2,
    *(_document,) * 3,
    *map(_form, range(len(_FORMS))),
    *(_flipped,) * 2,
)
