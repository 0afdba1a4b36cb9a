"""A user's own model: ``package.module:function``, imported, called and tried."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from coarsegrad.errors import SourceError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(name: str) -> tuple[nn.Module, Tensor | None]:
    """Return the model that ``package.module:function`` gives, and its example batch if any.

    The current folder is importable. A class whose construction needs no arguments will do too.

    Raises:
        SourceError: it does not import, has no such attribute, needs arguments, fails, or returns
            something else; the message names the place in the user's file.
    """
    from torch import Tensor, nn

    module_name, _, attribute = name.partition(":")
    found = _call(_attribute(_import(module_name, name), attribute, name), name)
    model, example = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(model, nn.Module):
        raise SourceError(
            f"{name} needs to return a torch.nn.Module, or (module, example batch), got "
            f"{_described(found)}"
        )
    if example is not None and not isinstance(example, Tensor):
        raise SourceError(
            f"{name} returns an example batch of type {_described(example)}; it needs to be a "
            "float32 tensor (N, ...)"
        )
    return model, example


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in value)}"
    return type(value).__name__


def _import(module_name: str, name: str) -> ModuleType:
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise SourceError(
            f"{name} names a file; a module's name has dots and no ending: try "
            f"{dotted}:{name.partition(':')[2]}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise SourceError(
                f"there is no module {error.name!r} in {here} or in this Python's packages; run "
                f"coarsegrad where {module_name.split('.')[0]} lies, or set PYTHONPATH to there"
            ) from None
        raise SourceError(_failure(f"importing {module_name}", error)) from error
    except (Exception, SystemExit) as error:
        raise SourceError(_failure(f"importing {module_name}", error)) from error


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    if attribute and hasattr(module, attribute):
        return getattr(module, attribute)
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and value.__module__ == module.__name__
    ]
    raise SourceError(
        f"{module.__file__ or name} has no {attribute!r}.{nearest(attribute, own)} "
        f"It defines: {', '.join(own) or 'nothing to call'}"
    )


def _call(function: Any, name: str) -> Any:
    from torch import nn

    if not callable(function) or isinstance(function, nn.Module):
        raise SourceError(
            f"{name} is of type {type(function).__name__}; it needs to be a function that returns "
            "a torch.nn.Module"
        )
    needed = _needed(function)
    if needed:
        attribute = name.partition(":")[2]
        raise SourceError(
            f"{name} needs {', '.join(needed)}, but is called without arguments; add a function "
            f"to its file that fills them in: def make(): return {attribute}(...)"
        )
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise SourceError(_failure(name, error)) from error


def _needed(function: Any) -> list[str]:
    """Return the names of the arguments without which ``function`` cannot be called."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def example_of(name: str, given: Tensor | None, shape: str | None) -> Tensor:
    """Return the example batch: of the shape that was typed, else the function's own.

    Raises:
        SourceError: there is neither, or it is no batch.
    """
    import torch

    if shape is not None:
        return torch.zeros(1, *parse_shape(shape))
    if given is None:
        raise SourceError(
            f"{name} returns no example batch; say one sample's shape, as --input 1,28,28, or "
            "return (module, torch.zeros(1, 1, 28, 28))"
        )
    if given.dtype != torch.float32 or given.dim() < 2 or len(given) == 0:
        raise SourceError(
            f"{name} needs an example batch of float32 (N, ...), got {given.dtype} "
            f"{tuple(given.shape)}; or say one sample's shape with --input"
        )
    return given.detach().cpu()


def parse_shape(text: str) -> tuple[int, ...]:
    """Return one sample's shape from text.

    Raises:
        SourceError: not positive numbers with commas between them.

    >>> parse_shape("1,28,28")
    (1, 28, 28)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SourceError(
            f"--input needs one sample's sizes with commas between them, as 1,28,28, got {text!r}"
        )
    return tuple(int(part) for part in parts)


def try_out(name: str, model: nn.Module, example: Tensor) -> None:
    """Run the model on its example once, so that what fails in it is said in its own words.

    Raises:
        SourceError: it fails, or does not return a tensor.
    """
    import torch

    try:
        with torch.no_grad():
            y = model(example[:1])
    except Exception as error:
        said = _failure(f"the model of {name} on samples of {tuple(example.shape[1:])}", error)
        raise SourceError(f"{said}; another shape is said with --input") from error
    if not isinstance(y, torch.Tensor):
        raise SourceError(
            f"the model of {name} needs to return one tensor, got {_described(y)}; wrap it in a "
            "module that returns the tensor to deploy"
        )


def _failure(what: str, error: BaseException) -> str:
    """Return one line: what fails, the error's type and words, the place in the user's file."""
    words = " ".join(str(error).split())
    said = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"{what} fails with {said}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return `` (FILE:LINE)`` of the last call in the user's own code."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    installed = ("<", sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]))
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith(installed) and "site-packages" not in frame.filename
    ]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
