"""``coarsegrad convert``: a plan of what becomes binary in a float model, and the Python for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from coarsegrad.cli.answer import Answer
from coarsegrad.cli.options import Json, Shape, Weights
from coarsegrad.errors import SourceError

if TYPE_CHECKING:
    from torch import Tensor, nn

QuantizerName = Literal["sign", "heaviside", "ternary", "none"]
Edge = Literal["float", "weights", "binary"]

# What each name means, as Python: the lines that are printed and the objects that are made.
INPUTS = {
    "sign": "Sign(ste=ClippedIdentity())",
    "heaviside": "Heaviside(ste=ClippedReLU())",
    "ternary": "Ternary(ste=ClippedIdentity(), threshold=0.5)",
    "none": "None",
}
WEIGHTS = {
    "sign": "Sign()",
    "heaviside": "Heaviside(ste=Identity())",
    "ternary": 'Ternary(scale="channel")',
    "none": "None",
}


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="package.module:function of the float model.", show_default=False
        ),
    ],
    weights: Weights = None,
    input_quantizer: Annotated[
        QuantizerName, typer.Option(help="What becomes of the inputs of layers.")
    ] = "sign",
    weight_quantizer: Annotated[
        QuantizerName, typer.Option(help="What becomes of their weights.")
    ] = "sign",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="WxAy",
            help="Bits of weights and inputs, 1 to 8 or 32 for float, as W1A2; instead of the two.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="Leave layers of such names; repeatable."),
    ] = None,
    first: Annotated[Edge, typer.Option(help="The first layer.")] = "float",
    last: Annotated[Edge, typer.Option(help="The last layer.")] = "float",
    shape: Shape = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.pt", help="Convert, and write the state_dict here."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Plan what becomes binary, or of a few bits, in a float model.

    Prints the plan and the Python that does the same; writes nothing without --out.
    """
    from coarsegrad.cli.paths import free_place
    from coarsegrad.cli.source import user_model

    _refuse_converted(source)
    if precision is not None and shape is not None:
        raise SourceError(
            f"convert --precision {precision} calibrates on the batch that {source} returns beside "
            "the model, and zeros of the shape --input tell it nothing; return (model, batch) "
            "there, or leave --input out: steps are then those for inputs of N(0, 1)"
        )
    if out is not None:
        free_place(out)
    model, given = user_model(source, weights)
    x = _example(source, given, shape)
    from coarsegrad import nn

    quantizers = _quantizers(input_quantizer, weight_quantizer, precision)
    plan = nn.convert(
        model,
        **{key: made(expression) for key, expression in quantizers.items()},
        skip=tuple(skip or ()),
        first=first,
        last=last,
        x=x,
        dry_run=out is None,
    )
    if out is not None:
        _save(plan.model, out)
    arguments = {
        **quantizers,
        "skip": repr(tuple(skip or ())),
        "first": f'"{first}"',
        "last": f'"{last}"',
    }
    python = lines(source, arguments, shape, returns_example=given is not None)
    document = {"source": source, **plan.to_dict(), "python": python, "out": out}
    typed = f" --input {shape or 'SHAPE'}" if shape or given is None else ""
    return Answer(document, (str(plan), _next(python, out, typed)))


def _quantizers(
    inputs: QuantizerName, weights: QuantizerName, precision: str | None
) -> dict[str, str]:
    """Return what becomes of both operands, as arguments of ``nn.convert`` in Python."""
    if precision is None:
        return {"input_quantizer": INPUTS[inputs], "weight_quantizer": WEIGHTS[weights]}
    if (inputs, weights) != ("sign", "sign"):
        raise SourceError(
            f"convert takes --precision {precision} or --input-quantizer and --weight-quantizer, "
            "not both; leave one of them out"
        )
    return {"precision": repr(precision).replace("'", '"')}


def _example(source: str, given: Tensor | None, shape: str | None) -> Tensor | None:
    """Return an example batch if there is one: convert needs none, but learns shapes from it."""
    from coarsegrad.cli.function import example_of

    return None if shape is None and given is None else example_of(source, given, shape)


def _refuse_converted(source: str) -> None:
    from coarsegrad.cli.source import kind_of

    kind = kind_of(source)
    if kind != "function":
        what = {
            "run": "a folder, and a run's model is what its recipe makes it",
            "packed": "a packed file",
        }
        raise SourceError(
            f"convert needs a float model, package.module:function; {source} is {what[kind]}"
        )


def made(expression: str) -> Any:
    """Return the object that one of this file's expressions writes.

    >>> made("None") is None
    True
    """
    from coarsegrad import quantizers, ste

    return eval(expression, {**vars(quantizers), **vars(ste)})


def lines(
    source: str, arguments: dict[str, str], shape: str | None, *, returns_example: bool
) -> str:
    """Return the Python that converts as the command does; what is a default is left out."""
    from coarsegrad.cli.function import parse_shape

    module, _, function = source.partition(":")
    default = {
        "input_quantizer": INPUTS["sign"],
        "weight_quantizer": WEIGHTS["sign"],
        "skip": "()",
        "first": '"float"',
        "last": '"float"',
    }
    changed = {key: value for key, value in arguments.items() if value != default.get(key)}
    imports = _imports(" ".join(changed.values()))
    net, result = ("net, x", ", x") if returns_example else ("net", "")
    if shape is not None:
        imports = ["import torch", *imports]
        sizes = ", ".join(map(str, parse_shape(shape)))
        changed["x"] = f"torch.zeros(1, {sizes})"
    elif returns_example:
        changed["x"] = "x"
    given = "".join(f"        {key}={value},\n" for key, value in changed.items())
    call = f"cg.nn.convert(\n        net,\n{given}    )" if given else "cg.nn.convert(net)"
    return "\n".join(
        [
            "import coarsegrad as cg",
            *imports,
            f"from {module} import {function}",
            "",
            "def binary():",
            f"    {net} = {function}()",
            f"    return {call}.model{result}",
        ]
    )


def _imports(code: str) -> list[str]:
    """Return the lines that import what ``code`` names from quantizers and ste."""
    rooms = {
        "quantizers": ("Heaviside", "Sign", "Ternary"),
        "ste": ("ClippedIdentity", "ClippedReLU", "Identity"),
    }
    called = set(re.findall(r"\w+(?=\()", code))
    found = {room: [n for n in names if n in called] for room, names in rooms.items()}
    return [
        f"from coarsegrad.{room} import {', '.join(names)}"
        for room, names in found.items()
        if names
    ]


def _next(python: str, out: Path | None, typed: str) -> str:
    indented = "\n".join(f"    {line}" if line else "" for line in python.splitlines())
    start = (
        "Nothing was changed or written (--out FILE.pt writes the converted weights)."
        if out is None
        else f"{out}: the converted model's state_dict; its weights are not trained as bits yet."
    )
    return f"""
{start}
The same in Python, say in bnets.py:

{indented}

Train what binary() returns, torch.save(net.state_dict(), "trained.pt"), then

    coarsegrad check bnets:binary --weights trained.pt{typed}
    coarsegrad pack bnets:binary --weights trained.pt{typed} \\
        --out net.cgrad"""


def _save(model: nn.Module, out: Path) -> None:
    import torch

    from coarsegrad.files import replacing

    with replacing(out) as temporary:
        torch.save(model.state_dict(), temporary)
