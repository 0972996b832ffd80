"""Where the models of the ``tiny`` preset lie; they are made on first use.

Both are small and untrained: they show that every stage runs, through the code of the real models,
on a machine without a model hub. What they answer means nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hybrid.errors import ModelLoadError

__all__ = ["tiny_encoder", "tiny_sampler"]

# To be raised whenever the makers' output changes, so that a stale folder is not taken.
_VERSION = "untrained-1"


def tiny_encoder(folder: Path | None = None) -> str:
    """The name of the tiny CLIP encoder, made if it is not there yet (a few seconds).

    Args:
        folder: where the tiny models lie; by default the user's cache folder (``HYBRID_CACHE``
            overrides it).

    Raises:
        ModelLoadError: the folder cannot be written.
    """
    from hybrid.models.untrained_clip import make_untrained_clip

    return f"local-dir:{_made_once((folder or _cache_folder()) / 'clip', make_untrained_clip)}"


def tiny_sampler(folder: Path | None = None) -> str:
    """The name of the tiny GenS checkpoint; see :func:`tiny_encoder`."""
    from hybrid.models.untrained_gens import make_untrained_gens

    return str(_made_once((folder or _cache_folder()) / "gens", make_untrained_gens))


def _cache_folder() -> Path:
    override = os.environ.get("HYBRID_CACHE")
    if override:
        return Path(override) / "models" / _VERSION
    import platformdirs

    return platformdirs.user_cache_path("hybrid") / "models" / _VERSION


def _made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.is_dir():
                unfinished = folder.with_name(folder.name + ".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                make(unfinished)
                unfinished.rename(folder)
    except OSError as exc:
        raise ModelLoadError(
            f"the tiny models cannot be made in {folder.parent}: {exc.strerror or exc}; set HYBRID_CACHE to a folder "
            "that can be written"
        ) from exc
    return folder
