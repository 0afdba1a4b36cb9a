"""The errors coarsegrad raises on purpose, and the one shape of their sentences.

Every message says what the function needed, what it got, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import ModuleType


class CoarsegradError(Exception):
    """Any error that coarsegrad raises on purpose."""


class ArgumentError(CoarsegradError, TypeError, ValueError):
    """An argument of the wrong type, or a tensor of the wrong dtype: caught by either name."""


class PackedFileError(CoarsegradError):
    """A packed file is truncated, damaged, inconsistent or of another version."""


class ConvertError(CoarsegradError, ValueError):
    """A float model cannot be converted as asked, or a conversion cannot be undone."""


class CalibrationError(CoarsegradError, ValueError):
    """A batch from which no step can be found, or a model that cannot run on it."""


class PackError(CoarsegradError):
    """A model, or a layer of it, has no packed form."""


class VerifyError(CoarsegradError):
    """A packed layer does not compute what its torch layer computes."""


class InputError(CoarsegradError, ValueError):
    """An array or batch has the wrong shape, dtype or values."""


class TargetError(CoarsegradError, ValueError):
    """A runtime target that does not exist, does not run here, or cannot run this network."""


class RecipeError(CoarsegradError, ValueError):
    """A recipe has an unknown key or a value outside its range."""


class SourceError(CoarsegradError):
    """What the command line was given as a model, or as its weights or samples, is not one."""


class DataError(CoarsegradError):
    """A data set is missing, damaged or cannot be fetched."""


class MissingDataError(DataError):
    """A data set is not at hand; the message says which file to put where."""


class TrainError(CoarsegradError):
    """Training cannot go on."""


class DivergenceError(CoarsegradError, ArithmeticError):
    """A run left the finite numbers; the message names it, the iteration and what to do."""


class MissingExtraError(CoarsegradError, ImportError):
    """A feature needs an optional dependency that is not installed."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` when something close to ``name`` is allowed, else nothing.

    >>> nearest("epoch", ["epochs", "seed"])
    " Did you mean 'epochs'?"
    """
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""


def require(module: str, extra: str, what: str) -> ModuleType:
    """Import an optional dependency, or say in one sentence what to install.

    >>> require("json", "none", "reading JSON").__name__
    'json'
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs the package '{module}', which is not installed; "
            f"run: pip install 'coarsegrad[{extra}]'"
        ) from error
