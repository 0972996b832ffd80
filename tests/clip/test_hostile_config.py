"""A checkpoint's configuration that is not what it should be is refused when it is loaded, not when a frame is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.clip.open_clip import load_open_clip
from hybrid.errors import ModelLoadError


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda config: config["preprocess_cfg"].update(mean=[0.4, None, 0.4]), "cannot be loaded"),
        (lambda config: config["preprocess_cfg"].update(std=[0.4, "x", 0.4]), "cannot be loaded"),
        (lambda config: config["preprocess_cfg"].update(mean=[float("nan")] * 3), "NaN is no number"),
        (lambda config: config["model_cfg"].update(embed_dim=-1), "cannot be loaded"),
        (lambda config: config.pop("model_cfg"), "cannot be loaded"),
        (lambda config: config.update(more=json.loads("[" * 70 + "]" * 70)), "64 levels deep"),
    ],
)
def test_a_configuration_that_cannot_be_used(
    change: Callable[[dict[str, Any]], object], says: str, clip_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    place = folder / "open_clip_config.json"
    config = json.loads(place.read_text())
    change(config)
    place.write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=says):
        load_open_clip(f"local-dir:{folder}", device="cpu", dtype="float32")
