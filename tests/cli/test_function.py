"""package.module:function, and what its mistakes are called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from coarsegrad.cli.function import build, example_of, try_out
from coarsegrad.errors import SourceError
from commandline import MYNETS, Run


def at(line: str) -> str:
    """Return what a message says of the place of this line in mynets.py."""
    return rf"\(.*/mynets.py:{MYNETS.splitlines().index(line) + 1}\)"


# SOURCE, what is said
BAD = [
    ("absent:make", "there is no module 'absent' in"),
    ("mynets.sub:make", "there is no module 'mynets.sub' in"),
    ("mynets.py:tiny", r"names a file; .* try mynets:tiny"),
    ("./mynets.py:tiny", r"names a file; .* try mynets:tiny"),
    ("mynets:tinny", r"mynets.py has no 'tinny'. Did you mean 'tiny'\? It defines: tiny, pair,"),
    ("mynets:", r"mynets.py has no ''\. It defines: tiny"),
    ("mynets:instance", "mynets:instance is of type Sequential; it needs to be a function"),
    ("mynets:number", "mynets:number is of type int; it needs to be a function"),
    ("mynets:wide", r"needs width, but is called without arguments; .*: return wide\(\.\.\.\)"),
    (
        "mynets:broken",
        "mynets:broken fails with ValueError: no such width "
        + at('    raise ValueError("no such\\n  width")'),
    ),
    (
        "mynets:leaves",
        r"fails with SystemExit: bye " + at('    raise SystemExit("bye")'),
    ),
    ("mynets:three", "needs to return a torch.nn.Module, or .module, example batch., got int"),
    ("mynets:twice", "returns an example batch of type Sequential; it needs to be a float32"),
    ("imports:make", r"importing imports fails with ModuleNotFoundError: .*'gone' \(.*s.py:2\)"),
    ("fails:make", r"importing fails fails with ZeroDivisionError: .* \(.*/fails.py:1\)"),
    ("typo:make", r"importing typo fails with SyntaxError: .* \(.*/typo.py:2\)"),
]


@pytest.mark.parametrize(("name", "message"), BAD, ids=lambda value: value[:20])
def test_what_does_not_give_a_model(name: str, message: str, run: Run) -> None:
    Path("imports.py").write_text("import os\nimport gone\n")
    Path("fails.py").write_text("1 / 0\n")
    Path("typo.py").write_text("a = 1\ndef make(:\n")
    with pytest.raises(SourceError, match=message):
        build(name)


def test_what_gives_a_model(run: Run) -> None:
    model, example = build("mynets:pair")
    assert example is not None
    assert model(example.repeat(2, 1)).shape == (2, 4)
    assert build("mynets:tiny")[1] is None
    assert isinstance(build("mynets:Fails")[0], torch.nn.Module)


def test_the_example() -> None:
    given = torch.ones(2, 8)
    assert example_of("a:b", given, None) is not None
    assert example_of("a:b", given, "1, 4,4").shape == (1, 1, 4, 4)
    with pytest.raises(SourceError, match=r"a:b returns no example batch; say one sample's shape"):
        example_of("a:b", None, None)
    for bad in (given.long(), torch.ones(8), given[:0]):
        with pytest.raises(SourceError, match=r"needs an example batch of float32 \(N, \.\.\.\)"):
            example_of("a:b", bad, None)


def test_the_model_is_tried(run: Run) -> None:
    x = torch.zeros(2, 8)
    with pytest.raises(
        SourceError, match=r"\(8,\) fails with RuntimeError: only on Mondays \(.*my"
    ):
        try_out("mynets:Fails", build("mynets:Fails")[0], x)
    with pytest.raises(SourceError, match="return one tensor, got a tuple of Tensor, Tensor"):
        try_out("mynets:Pairs", build("mynets:Pairs")[0], x)
