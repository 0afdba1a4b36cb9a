"""summary: a model layer by layer, with the bytes of the packed file to the byte."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from torch import Tensor, nn

from coarsegrad.errors import PackError
from coarsegrad.inspect import count
from coarsegrad.inspect.graph import graph_of
from coarsegrad.inspect.report import HEADER, Row, Summary
from coarsegrad.inspect.sizes import FileSizes, file_sizes, weight_bytes
from coarsegrad.inspect.watch import Call, calls, evaluation_copy, same_random_numbers


def summary(model: nn.Module, x: Tensor) -> Summary:
    """Return a table of ``model``: precisions, parameters, multiply-adds, packed bytes.

    The bytes are those of the file that ``deploy.pack(model, x, path)`` writes; scale, bias,
    batch norm and sign are in the row of the layer whose threshold they become. Nothing is
    written, and the model is left as it is: a copy runs once, on at most two samples of ``x``.

    Args:
        model: any module with one input; one without packed form has no ``total_bytes``.
        x: an example batch, (N, ...).

    Raises:
        InputError: the model cannot be copied, or does not accept ``x``.

    >>> import torch
    >>> from coarsegrad.models import small_cnn
    >>> found = summary(small_cnn(), torch.zeros(1, 1, 28, 28))
    >>> found.parameters
    Counts(one_bit=93088, k_bit=0, floats=468)
    >>> found.rows[0].kernel, found.rows[3].kernel, found.rows[3].bytes == 64 * 32 * 9 / 8 + 128
    ('float', 'bits', True)
    """
    with same_random_numbers(model):
        return _summary(model, x)


def _summary(model: nn.Module, x: Tensor) -> Summary:
    twin = evaluation_copy(model, "summary")
    x = x[:2] if isinstance(x, Tensor) and x.dim() else x
    made = calls(twin, x, "summary")
    sizes: FileSizes | None = None
    not_packable: str | None = None
    try:
        sizes = file_sizes(twin, x)
    except PackError as error:
        not_packable = str(error)
    inputs = _input_bits(twin)
    seen: set[Tensor] = set()
    if sizes is not None:
        sizes = replace(sizes, tensors=_by_layer(sizes.tensors, {call.name for call in made}))
    rows = [_row(call, inputs, sizes, seen, len(x)) for call in made]
    rows += _left_over(twin, seen, 0 if sizes else None)
    if sizes is not None:
        named = {row.name for row in rows}
        others = [name for name in sizes.tensors if name not in named]
        rows += [Row(name, "function", bytes=sizes.tensors[name]) for name in others]
        rows.append(Row(HEADER, "", bytes=sizes.header))
    total = None if sizes is None else sizes.total
    return Summary(type(model).__name__, tuple(rows), total, not_packable)


def _row(
    call: Call,
    inputs: dict[str, int | None],
    sizes: FileSizes | None,
    seen: set[Tensor],
    samples: int,
) -> Row:
    own = getattr(call.module, "input_quantizer", None)
    input_bits = inputs.get(call.name, None if own is None else int(own.bits))
    macs = count.multiply_adds(call, input_bits)
    row = Row(
        call.name,
        type(call.module).__name__,
        None if call.output is None else call.output[1:],
        input_bits,
        count.weight_bits(call.module),
        count.parameters(call.module, seen),
        macs // samples,
    )
    if sizes is not None:
        return replace(
            row, kernel=sizes.kernels.get(call.name), bytes=sizes.tensors.get(call.name, 0)
        )
    if macs.total and call.input is not None:
        return replace(row, bytes=weight_bytes(call.module, call.input))
    return row if not row.parameters.total else replace(row, bytes=None)


def _by_layer(tensors: dict[str, int], named: set[str]) -> dict[str, int]:
    """Return the bytes by owner, those of a layer's own input quantizer with the layer's."""
    found = Counter[str]()
    for name, size in tensors.items():
        layer = name.removesuffix(".input_quantizer")
        found[layer if name not in named and layer in named else name] += size
    return dict(found)


def _input_bits(model: nn.Module) -> dict[str, int | None]:
    """Return the bits that reach each layer, where torch.fx can tell; a layer knows its own."""
    try:
        return graph_of(model).input_bits()
    except PackError:
        return {}


def _left_over(model: nn.Module, seen: set[Tensor], size: int | None) -> list[Row]:
    """Return a row for each module with parameters that no call has used."""
    rows = []
    for name, module in model.named_modules():
        unused = count.parameters(module, seen)
        if unused.total:
            kind = f"{type(module).__name__}, unused"
            rows.append(Row(name or type(module).__name__, kind, parameters=unused, bytes=size))
    return rows
