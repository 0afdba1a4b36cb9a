"""Whole files or none: written beside their place under another name, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it over ``path`` if the block succeeds.

    On any exception, Ctrl-C and a full disk included, the temporary file is removed and ``path``
    stays as it was. The data reach the disk before the rename.

    Raises:
        OSError: the folder is missing or not writable, ``path`` is a folder, or the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a file is to be written here")
    # A name of its own, for two processes may write the same file at once.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
