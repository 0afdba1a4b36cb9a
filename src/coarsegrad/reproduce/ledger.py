"""A table of finished runs that later processes read, skip and add to."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

from coarsegrad.errors import DataError
from coarsegrad.files import replacing


@final
class Ledger:
    """Rows of a CSV file, one for each key, read at the start and written anew with each addition.

    Tables of other processes count as well, read-only, if they lie beside it as ``NAME-*.csv``.
    All values are text, as in the file.

    Args:
        path: the file; it need not exist yet.
        columns: of every row.
        key: the columns that say which run a row is of.

    Raises:
        DataError: a table beside or at ``path`` has other columns.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = Ledger(Path(folder, "a.csv"), ("seed", "accuracy"), ("seed",))
    ...     ledger.add([{"seed": 0, "accuracy": 0.5}])
    ...     Ledger(Path(folder, "a.csv"), ("seed", "accuracy"), ("seed",)).find(seed=0)
    {'seed': '0', 'accuracy': '0.5'}
    """

    def __init__(self, path: Path, columns: tuple[str, ...], key: tuple[str, ...]) -> None:
        self.path = path
        self.columns = columns
        self.key = key
        self._own = self._read(path) if path.exists() else {}
        self._others: dict[tuple[str, ...], dict[str, str]] = {}
        for other in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")):
            self._others |= self._read(other)

    @property
    def rows(self) -> list[dict[str, str]]:
        """All rows, those of other processes included, in the order of their keys."""
        every = {**self._others, **self._own}
        return [every[key] for key in sorted(every, key=_in_order)]

    def find(self, **values: object) -> dict[str, str] | None:
        """Return the row with this key, if there is one."""
        key = tuple(str(values[name]) for name in self.key)
        return self._own.get(key, self._others.get(key))

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, in place of those with the same keys, and write the file.

        Raises:
            ValueError: a row has other columns.
            OSError: the folder is missing or not writable.
        """
        added = {}
        for row in rows:
            if set(row) != set(self.columns):
                raise ValueError(
                    f"{self.path.name} needs rows with the columns {list(self.columns)}, "
                    f"got {list(row)}"
                )
            text = {name: str(row[name]) for name in self.columns}
            added[tuple(text[name] for name in self.key)] = text
        self._own |= added
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._own[key] for key in sorted(self._own, key=_in_order))

    def _read(self, path: Path) -> dict[tuple[str, ...], dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if tuple(table.fieldnames or ()) != self.columns:
                raise DataError(
                    f"{path} needs the columns {', '.join(self.columns)}, got "
                    f"{', '.join(table.fieldnames or ()) or 'none'}; move it away, or choose "
                    "another folder for the results"
                )
            return {tuple(row[name] for name in self.key): row for row in table}


def _in_order(key: tuple[str, ...]) -> tuple[tuple[int, int, str], ...]:
    """Sort numbers as numbers, before words."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in key)
