"""Made the archives in ``v1/``: one of each backend, and ``expected.json`` with what they answer.

And those in ``v1-checksum/``, of the same content, once manifests held ``vectors_checksum``.

They stand for every archive that users have on disk, so they are never made anew: a later version
of hybrid must open these very bytes. This script says what they are. To run it (in another folder):

    python tests/data/archives/make_v1.py OUTPUT
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from hybrid.values import MissingFrame, Sampling, Timeline
from indexes.archive import Archive
from indexes.base import BACKENDS
from indexes.manifest import IndexConfig, IndexedVideo, Source

VIDEOS = {"0123456789abcdef0123456789abcdef": (25, 8), "ff" * 16: (3, 8), "00" * 16: (4, 6)}
"""Content id -> number of rows and dimension. Two dimensions: an archive may hold several encoders."""


def vectors(rows: int, dimension: int) -> np.ndarray:
    """Unit vectors by a closed form; row 2 repeats row 1, as a held frame does."""
    place = np.arange(rows)[:, None] - (np.arange(rows)[:, None] == 2)
    values = np.sin(1.0 + 0.7 * place * (1 + np.arange(dimension)[None]) + place**2)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def timeline(rows: int) -> Timeline:
    """One sample a second, the last but one missing, frames of 29.97 fps."""
    ordinals = np.array([*range(rows - 1), rows], dtype=np.int64)
    numbers = np.floor(ordinals * 30000 / 1001).astype(np.int64)
    return Timeline(
        ordinals=ordinals,
        pts_seconds=numbers * 1001 / 30000,
        frame_numbers=numbers,
        sampling=Sampling(rate=1.0, policy="exact"),
        duration_seconds=rows + 1.25,
        missing=(MissingFrame(rows - 1, "the decoder refused the packet"),),
    )


def fill(archive: Archive) -> None:
    """Commit the videos."""
    for video_id, (rows, dimension) in VIDEOS.items():
        times = timeline(rows)
        archive.commit(
            video_id,
            timeline=times,
            vectors=vectors(rows, dimension),
            config=IndexConfig(
                encoder={"model": f"test-{dimension}", "weights": "00ff", "precision": "float32"},
                rate=1.0,
                policy="exact",
                decoder="pyav",
            ),
            source=Source(path="/videos/talk.mp4", size_bytes=123456),
            video=IndexedVideo(
                kind="file", duration_seconds=times.duration_seconds, width=320, height=180, codec="h264"
            ),
            note="1 of the samples is missing",
            seconds={"decode_and_embed": 1.5},
        )


def answers() -> dict[str, object]:
    """What a search for each video's row 1 must give, computed by numpy alone."""
    found = {}
    for video_id, (rows, dimension) in VIDEOS.items():
        stored = vectors(rows, dimension).astype(np.float16).astype(np.float64)
        similarity = stored @ stored[1]
        best = np.lexsort((np.arange(rows), -similarity))
        found[video_id] = {
            "query": stored[1].tolist(),
            "rows": best.tolist(),
            "similarities": similarity[best].tolist(),
            "pts_seconds": timeline(rows).pts_seconds.tolist(),
        }
    return found


def main(output: Path) -> None:
    """Write both archives and the answers."""
    for backend in BACKENDS:
        with Archive.open(output / backend, backend=backend) as archive:
            fill(archive)
        for rubbish in ("locks", "pending", "cache"):
            shutil.rmtree(output / backend / rubbish, ignore_errors=True)
    (output / "expected.json").write_text(json.dumps(answers(), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
