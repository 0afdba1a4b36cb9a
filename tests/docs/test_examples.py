"""Every example on the pages runs, and prints what stands below it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
# An example, and what it printed if that follows.
EXAMPLE = re.compile(
    r"^```python\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE
)
ROUNDING = re.compile(r"\b\d\.\de[+-]\d\d\b")  # how far floats differ is the machine's business


def pages() -> list[Path]:
    return sorted(page for page in DOCS.rglob("*.md") if "```python" in page.read_text())


def comparable(text: str) -> list[str]:
    return [ROUNDING.sub("(rounding)", line).rstrip() for line in text.strip().splitlines()]


def run(page: Path) -> int:
    """Run a page's examples one after the other, as a reader would; return how many."""
    names: dict[str, object] = {}
    count = 0
    for example in EXAMPLE.finditer(page.read_text()):
        line = page.read_text()[: example.start()].count("\n") + 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + example[1], str(page), "exec"), names)
        if example[2] is not None or printed.getvalue():
            where = f"{page.name}, line {line}"
            assert comparable(printed.getvalue()) == comparable(example[2] or ""), where
        count += 1
    return count


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_examples_print_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert page.read_text().count("```python") == len(EXAMPLE.findall(page.read_text()))
    assert run(page) > 0


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```python\nprint(1)\n```\n\nNothing of it is told.\n",
        "```python\npass\n```\n\n```text\n1\n```\n",
    ],
)
def test_a_page_that_tells_something_else_fails(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        run(page)


def test_a_page_whose_example_fails_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nraise KeyError(x)\n```\n")
    with pytest.raises(KeyError, match="1"):
        run(page)
