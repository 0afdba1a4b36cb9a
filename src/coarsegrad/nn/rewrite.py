"""Another forward for one instance: its operations as torch.fx found them, some of them changed.

The instance gets a generated subclass of its class. So it stays an instance of the user's class,
with all methods, keys and hooks, and torch.fx, which reads ``type(module).forward``, sees the new
forward; an attribute on the instance it would not. A ``GraphModule`` would be another object of
another class, without the user's methods, and would flatten what the module holds.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import fx, nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn.kinds import input_of
from coarsegrad.nn.trace import Frame, trace_forward

_PLAIN = (bool, int, float, str, type(None))


@dataclass
class Rewrite:
    """What changes in one forward: operations by their number in it."""

    removed: list[int] = field(default_factory=list)
    norms_behind: dict[int, str] = field(default_factory=dict)
    norms_before: dict[int, str] = field(default_factory=dict)
    added: dict[str, nn.Module] = field(default_factory=dict)


def generate(
    original: nn.Module, twin: nn.Module, frames: list[Frame], rewrite: Rewrite
) -> type[nn.Module]:
    """Return a subclass of ``original``'s class with the rewritten forward.

    Args:
        original: the module whose class is extended.
        twin: its structural copy, which is traced.
        frames: all runs of its forward in the traced model; they have to agree.
        rewrite: what to change.

    Raises:
        ConvertError: the forward cannot be traced by itself, or its runs differ.
    """
    owner = frames[0].owner
    own = set(vars(original))
    graph, operations = trace_forward(twin, frames[0])
    for frame in frames:
        if frame.operations != operations or frame.constants != frames[0].constants:
            raise _refusal(owner, original, "runs differently in different places of the model")
    if "forward" in own:
        raise _refusal(owner, original, "hangs on the instance instead of the class")
    nodes = {node.meta["place"].number: node for node in graph.nodes if "place" in node.meta}
    _apply(rewrite, graph, nodes)
    for node in graph.nodes:
        if node.op == "get_attr" and not _has(original, str(node.target)):
            raise _refusal(owner, original, "makes tensors of its own; register them as buffers")
    _guard_constants(graph, frames[0].constants, owner, original)
    return _subclass(type(original), graph)


def _apply(rewrite: Rewrite, graph: fx.Graph, nodes: dict[int, fx.Node]) -> None:
    """Insert calls of norms and take activations out of a graph."""
    for number, key in rewrite.norms_behind.items():
        with graph.inserting_after(nodes[number]):
            norm = graph.call_module(key, (nodes[number],))
        nodes[number].replace_all_uses_with(norm)
        norm.args = (nodes[number],)
    for number, key in rewrite.norms_before.items():
        source = input_of(nodes[number])
        with graph.inserting_before(nodes[number]):
            nodes[number].replace_input_with(source, graph.call_module(key, (source,)))
    for number in rewrite.removed:
        nodes[number].replace_all_uses_with(input_of(nodes[number]))
        graph.erase_node(nodes[number])


def _refusal(owner: str, module: nn.Module, reason: str) -> ConvertError:
    return ConvertError(
        f"convert needs to change the forward of {owner or 'the model'} ({type(module).__name__}), "
        f"which {reason}; call modules such as nn.ReLU and nn.BatchNorm2d there instead of "
        "functions, so that only modules have to change"
    )


def _has(module: nn.Module, target: str) -> bool:
    """Whether a dotted attribute exists."""
    value: object = module
    for part in target.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def constant_argument(value: object, expected: object, name: str, where: str) -> None:
    """Refuse another value of an argument than the one a generated forward was made for.

    >>> constant_argument(None, None, "mask", "Block")
    """
    if value is expected or value == expected or isinstance(value, fx.Proxy):
        return
    raise ConvertError(
        f"{where}.forward was converted for {name}={expected!r}, got {value!r}; undo the plan, or "
        "make another converted model for that value"
    )


def _guard_constants(
    graph: fx.Graph, constants: dict[str, object], owner: str, module: nn.Module
) -> None:
    """Let the generated forward check the arguments that tracing has baked in."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    behind = placeholders[-1] if placeholders else None
    for node in placeholders:
        name = str(node.target)
        if name not in constants:
            continue
        if not isinstance(constants[name], _PLAIN):
            raise _refusal(owner, module, f"depends on its argument {name}={constants[name]!r}")
        arguments = (node, constants[name], name, type(module).__name__)
        with graph.inserting_after(behind):
            graph.call_function(constant_argument, arguments)  # type: ignore[arg-type]


def _subclass(base: type[nn.Module], graph: fx.Graph) -> type[nn.Module]:
    code = graph.python_code("self")
    modules = {k: v.__name__ for k, v in code.globals.items() if isinstance(v, ModuleType)}
    values = {k: v for k, v in code.globals.items() if not isinstance(v, ModuleType)}
    return _build(base, code.src, modules, values)


def _build(
    base: type[nn.Module], source: str, modules: dict[str, str], values: dict[str, Any]
) -> type[nn.Module]:
    """Return the subclass whose forward is ``source``; by these arguments it is pickled."""
    names = {key: importlib.import_module(name) for key, name in modules.items()} | values
    file = f"<coarsegrad forward of {base.__module__}.{base.__qualname__}>"
    exec(compile(source, file, "exec"), names)

    def __reduce_ex__(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        return _revive, (base, source, modules, values), self.__getstate__()

    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce_ex__": __reduce_ex__,
        "forward": names["forward"],
    }
    return type(base.__name__, (base,), body)


def _revive(
    base: type[nn.Module], source: str, modules: dict[str, str], values: dict[str, Any]
) -> nn.Module:
    """Return an empty instance of a generated class, for pickle and deepcopy to fill."""
    made = _build(base, source, modules, values)
    return made.__new__(made)
