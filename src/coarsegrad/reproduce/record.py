"""A table that grows while an item runs, and is kept, marked, if the run does not end well."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from coarsegrad.files import replacing


@final
@dataclass
class Record:
    """Rows of a CSV file, written anew with each addition.

    Attributes:
        path: where the whole table will stand.
        rows: the rows so far; all have the columns of the first.
    """

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def partial(self) -> Path:
        """Where the rows stand until all are there."""
        return self.path.with_suffix(f".partial{self.path.suffix}")

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Append rows and write the partial table; None becomes an empty cell.

        Rows that belong together go in one call: each call waits for the disk.

        Raises:
            ValueError: the columns of one are not those of the first row.
            OSError: the folder is missing or not writable.
        """
        for row in rows:
            first = (self.rows or rows)[0]
            if row.keys() != first.keys():
                raise ValueError(
                    f"{self.path.name} needs rows with the columns {list(first)}, got {list(row)}"
                )
        self.rows += map(dict, rows)
        _write(self.partial, self.rows)


@contextmanager
def recorded(path: Path) -> Iterator[Record]:
    """Yield a Record; at the end of the block its table is at ``path``.

    Until then, and for good if the block raises, the rows so far are in ``NAME.partial.csv``
    beside it, and an older table at ``path`` stays as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with recorded(Path(folder, "a.csv")) as record:
    ...         record.add({"seed": 0, "loss": 0.5})
    ...     Path(folder, "a.csv").read_text().split()
    ['seed,loss', '0,0.5']
    """
    record = Record(path)
    record.partial.unlink(missing_ok=True)
    yield record
    _write(path, record.rows)
    record.partial.unlink(missing_ok=True)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
