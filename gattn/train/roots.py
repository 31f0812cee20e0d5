"""Where PyG finds raw files and may write beside them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from gattn.terminal import UsageError, say


def pyg_root(given: str | None, family: str, name: str) -> Path:
    """The folder to give to PyG as root: the one under the user's that holds the data, or a copy of ours.

    Args:
        given: The user's folder; ``None``: a folder in the cache, filled from ``$GATTN_DATA``.
        family: Folder of data sets of one kind below ``$GATTN_DATA``, in its layout.
        name: Folder of the data set below that, whatever the case; holds ``raw``.
    """
    if given is None:
        return _cached_copy(family, name)
    root = Path(given).expanduser()
    for candidate in (root, root / family):
        if _holding(candidate, name) is not None:
            root = candidate
            break
    root.mkdir(parents=True, exist_ok=True)
    if not os.access(root, os.W_OK):
        raise UsageError(f"--root {root} is read-only, and PyG writes beside the raw files: give a copy")
    return root


def _holding(folder: Path, name: str) -> Path | None:
    """The data set's folder in ``folder``, whatever the case of its name."""
    if not folder.is_dir():
        return None
    named = (entry for entry in sorted(folder.iterdir()) if entry.name.lower() == name.lower())
    return next((entry for entry in named if (entry / "raw").is_dir()), None)


def _cached_copy(family: str, name: str) -> Path:
    """A writable folder for PyG in the user's cache, filled from ``$GATTN_DATA`` when that has the data."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gattn" / "data" / family
    cache.mkdir(parents=True, exist_ok=True)
    shared = os.environ.get("GATTN_DATA")
    source = _holding(Path(shared) / family, name) if shared else None
    if source is not None and not (cache / source.name).exists():
        say(f"copying {source} to {cache / source.name}")
        with tempfile.TemporaryDirectory(dir=cache) as scratch:  # then one rename: never half a copy
            copy = Path(scratch) / source.name
            for file in (*source.iterdir(), *(source / "raw").rglob("*")):
                if file.is_file():  # the contents only: the original's folders may be read-only
                    place = copy / file.relative_to(source)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, place)
            try:
                copy.rename(cache / source.name)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # otherwise another process has made the same copy meanwhile
                    raise
    return cache
