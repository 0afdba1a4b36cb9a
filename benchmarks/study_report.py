"""Tables of the study: runs/study_mnist/*.json -> results/study_mnist.csv -> docs/study-mnist.md.

`--check` compares the tables in the document with those of the committed CSV and changes nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks/results/study_mnist.csv"
PAGE = ROOT / "docs/study-mnist.md"
BEGIN, END = "<!-- tables: benchmarks/study_report.py -->", "<!-- end of tables -->"
COLUMNS = (
    "net", "method", "phase", "number", "seed", "lr_real", "beta1", "lr_binary", "gamma",
    "threshold", "final_lr", "validation", "test", "epochs_to_96", "seconds",
)  # fmt: skip
REFERENCE = "adam"
GOAL = 0.96

Row = dict[str, Any]


def epochs_to(curve: list[list[float]], goal: float) -> float | None:
    """Return where the curve first passes the goal, between its points, or None.

    >>> epochs_to([[0.5, 0.9], [1.0, 1.0]], 0.95)
    0.75
    """
    before = (0.0, 0.1)
    for epoch, accuracy in curve:
        if accuracy >= goal:
            share = (goal - before[1]) / (accuracy - before[1])
            return round(before[0] + share * (epoch - before[0]), 3)
        before = (epoch, accuracy)
    return None


def collect(folder: Path) -> list[Row]:
    """Return one row a run, in the order of the study."""
    from study_mnist import METHODS, NETS, SEEDS, TRIALS, values_of

    rows = []
    for net in NETS:
        for method in METHODS:
            names = [("trial", i) for i in range(TRIALS)] + [("seed", s) for s in SEEDS]
            for phase, number in names:
                record = json.loads((folder / f"{net}-{method}-{phase}{number}.json").read_text())
                values = values_of(method, record["point"])
                row = {"net": net, "method": method, "phase": phase, "number": number}
                row |= {"seed": record["seed"], **values, **values["options"]}
                row["validation"] = round(record["validation"], 4)
                if phase == "seed":
                    row["test"] = record["test"]
                    row["epochs_to_96"] = epochs_to(record["curve"], GOAL)
                row["seconds"] = record["seconds"]
                rows.append({key: row.get(key, "") for key in COLUMNS})
    return rows


def mean_sd(values: list[float], digits: int = 2) -> str:
    """Return ``mean +- standard deviation``.

    >>> mean_sd([1.0, 2.0, 3.0])
    '2.00 ± 1.00'
    """
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def tables(rows: list[Row]) -> str:
    """Return the document's tables, one a network."""
    parts = []
    for net in dict.fromkeys(row["net"] for row in rows):
        lines = [
            f"### {net}",
            "",
            "| method | test accuracy, % | epochs to 96 % | minus Adam, paired, % | t "
            "| trials: best, median, worst, % | lr_real | beta1 | its own |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        own = [row for row in rows if row["net"] == net]
        for method in dict.fromkeys(row["method"] for row in own):
            lines.append(_line(own, method))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(rows: list[Row], method: str) -> str:
    finals = _phase(rows, method, "seed")
    reference = _phase(rows, REFERENCE, "seed")
    tests = [100 * float(row["test"]) for row in finals]
    paired = [
        a - 100 * float(b["test"]) for a, b in zip(tests, reference, strict=True)
    ]  # fmt: skip
    reached = [float(row["epochs_to_96"]) for row in finals if row["epochs_to_96"] != ""]
    epochs = mean_sd(reached) if len(reached) > 1 else "".join(f"{x:.2f}" for x in reached) or "-"
    if len(reached) < len(finals):
        epochs += f" ({len(reached)} of {len(finals)})"
    trials = sorted(100 * float(row["validation"]) for row in _phase(rows, method, "trial"))
    spread = f"{trials[-1]:.2f}, {statistics.median(trials):.2f}, {trials[0]:.2f}"
    difference, t = "", ""
    if method != REFERENCE:
        difference = mean_sd(paired)
        deviation = statistics.stdev(paired)
        t = f"{statistics.mean(paired) / (deviation / math.sqrt(len(paired))):.1f}"
    first = finals[0]
    names = ("lr_binary", "gamma", "threshold", "final_lr")
    chosen = [
        f"{name} {float(first[name]):g}" for name in names
        if first[name] != "" and not (name == "lr_binary" and method.startswith("bop"))
    ]  # fmt: skip
    cells = [method, mean_sd(tests), epochs, difference, t, spread]
    cells += [f"{float(first['lr_real']):g}", f"{float(first['beta1']):g}", ", ".join(chosen)]
    return "| " + " | ".join(cells) + " |"


def _phase(rows: list[Row], method: str, phase: str) -> list[Row]:
    return [row for row in rows if row["method"] == method and row["phase"] == phase]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="collect finished runs from this folder first")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.runs:
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(collect(args.runs))
    with TABLE.open(newline="") as file:
        text = tables(list(csv.DictReader(file)))
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    tail = rest.split(END)[1]
    new = f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"
    if args.check:
        if new != page:
            sys.exit(f"the tables of {PAGE} are not those of {TABLE}: run make study-report")
    else:
        PAGE.write_text(new, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
