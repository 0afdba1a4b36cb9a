"""coarsegrad convert: the plan, and the Python that does the same."""

from __future__ import annotations

import itertools
import json
import textwrap
from pathlib import Path

import pytest
import torch

from coarsegrad import nn, quantizers
from coarsegrad.cli.convert import INPUTS, WEIGHTS, lines, made
from coarsegrad.cli.function import build
from commandline import Run


def test_the_default_is_a_dry_run(run: Run) -> None:
    before = sorted(Path().iterdir())
    done = run("convert", "mynets:floats")
    assert done.code == 0, done.err
    assert "convert Sequential (dry run: nothing was changed)" in done.out
    assert "Nothing was changed or written" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert sorted(Path().iterdir()) == before
    found = json.loads(run("convert", "mynets:floats", "--json").out)
    assert found["dry_run"] is True
    assert {change["name"] for change in found["changes"]} >= {"1", "2"}
    assert found["out"] is None


@pytest.mark.parametrize("options", [
    [],
    ["--first", "weights", "--last", "binary"],
    ["--skip", "4", "--first", "binary", "--last", "weights"],
    ["--input-quantizer", "heaviside", "--weight-quantizer", "ternary"],
    ["--input-quantizer", "none", "--weight-quantizer", "heaviside"],
    ["--precision", "W1A2"],
    ["--precision", "W4A4", "--first", "weights"],
], ids=str)  # fmt: skip
@pytest.mark.parametrize("source", ["mynets:floats", "mynets:float_pair"])
def test_the_python_does_what_the_command_does(source: str, options: list[str], run: Run) -> None:
    done = run("convert", source, *options, "--out", "c.pt", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["dry_run"], found["out"]) == (False, "c.pt")
    Path("bnets.py").write_text(found["python"])
    model, example = build("bnets:binary")
    assert (example is not None) == (source == "mynets:float_pair")
    saved = torch.load("c.pt", weights_only=True)
    assert {k: v.shape for k, v in saved.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    quantized = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    expected = [c["after"] for c in found["changes"] if c["before"] == "Linear"]
    assert len(quantized) == len(expected) > 0
    for layer, after in zip(quantized, expected, strict=True):
        for side in ("input", "weight"):
            quantizer = getattr(layer, f"{side}_quantizer")
            words = "float" if quantizer is None else f"{quantizer.bits}-bit"
            assert f"{words} {side}s" in after


def test_from_plan_to_packed_file_as_the_command_says(run: Run) -> None:
    ends = ("--first", "weights", "--last", "binary")
    done = run("convert", "mynets:floats", "--input", "8", "--out", "c.pt", *ends)
    assert "c.pt: the converted model's state_dict; its weights are not trained" in done.out
    python = done.out.split("bnets.py:\n")[1].split("\nTrain")[0]
    Path("bnets.py").write_text(textwrap.dedent(python))
    steps = " ".join(done.out.split("then\n")[1].split()).replace("\\ ", "")
    check, pack = steps.removeprefix("coarsegrad ").split(" coarsegrad ")
    torch.save(build("bnets:binary")[0].state_dict(), "trained.pt")
    done = run(*check.split())
    assert "looked at 256 random normal samples" in done.out, done.err
    done = run(*pack.split())
    assert done.code == 0, done.err
    assert "net.cgrad: " in done.out
    done = run("verify", "bnets:binary", "net.cgrad", "--weights", "trained.pt", "--input", "8")
    assert done.code == 0, done.err


BAD = [
    (["mynets:floats", "--skip", "features.*"], "got 'features.*', which matches none of 0, 2, 4"),
    (["mynets:floats", "--skip", "("], "missing ), unterminated subpattern"),
    (["mynets:Branches"], "convert needs a model that torch.fx can trace, got Branches"),
    (["mynets:tiny"], "already converted or quantized"),
    (["mynets:floats", "--out", "no/c.pt"], "make it with: mkdir -p no"),
    (["mynets:floats", "--weights", "w.pt"], "there is none at w.pt"),
    (["mynets:floats", "--precision", "W9A9"], "needs a name such as 'W1A2'"),
    (["mynets:floats", "--precision", "W1A2", "--weight-quantizer", "ternary"], "not both"),
    (["mynets:floats", "--precision", "W1A2", "--input", "8"], "leave --input out"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=str)
def test_what_cannot_be_converted(words: list[str], message: str, run: Run) -> None:
    Path("c.pt").write_bytes(b"precious")
    done = run("convert", *(words if "--out" in words else [*words, "--out", "c.pt"]))
    assert (done.code, done.out) == (1, "")
    assert message in done.said
    assert Path("c.pt").read_bytes() == b"precious"


@pytest.mark.parametrize("expression", [*INPUTS.values(), *WEIGHTS.values()])
def test_each_name_is_a_quantizer(expression: str) -> None:
    quantizer = made(expression)
    assert quantizer is None or isinstance(quantizer, quantizers.Quantizer)


@pytest.mark.parametrize(("inputs", "weights"), list(itertools.product(INPUTS, WEIGHTS)))
def test_the_lines_name_what_they_import(inputs: str, weights: str) -> None:
    arguments = {"input_quantizer": INPUTS[inputs], "weight_quantizer": WEIGHTS[weights]}
    python = lines("os.path:join", arguments, None, returns_example=False)
    exec(python.replace("cg.nn.convert", "dict(net=1) or dict"), names := {})
    assert callable(names["binary"])
    code = python[python.index("def binary") :]
    imported = {name for line in python.splitlines() if line.startswith("from coarsegrad.")
                for name in line.partition("import ")[2].split(", ")}  # fmt: skip
    assert imported == {
        name for name in (*vars(quantizers), "Identity", "ClippedIdentity", "ClippedReLU")
        if f"={name}(" in code
    }  # fmt: skip
