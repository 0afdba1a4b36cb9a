"""Where data sets are looked for, and where what was made of them is kept."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of data sets: ``root``, else COARSEGRAD_DATA, else ``cache_folder()``.

    >>> data_root("/data")
    PosixPath('/data')
    """
    if root is not None:
        return Path(root).expanduser()
    if given := os.environ.get("COARSEGRAD_DATA"):
        return Path(given).expanduser()
    return cache_folder()


def cache_folder() -> Path:
    """Return ``coarsegrad`` in the user's cache folder (XDG_CACHE_HOME, else ``~/.cache``).

    >>> cache_folder().name
    'coarsegrad'
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "coarsegrad"
