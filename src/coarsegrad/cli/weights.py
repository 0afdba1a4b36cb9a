"""``--weights``: a state_dict, or a Lightning checkpoint's, into a user's model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.errors import SourceError

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN = 3


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load the weights in ``path`` into ``model``; all of them, or none and an error.

    Keys may share a prefix that the model does not have, as Lightning's ``net.`` or
    ``DistributedDataParallel``'s ``module.``; a Lightning checkpoint may hold more besides.

    Raises:
        SourceError: no such file, no state_dict in it, or keys or shapes other than the model's.
    """
    state, lightning = _read(path)
    wanted = model.state_dict()
    prefix = _prefix(state, wanted, path)
    found = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    others = [] if lightning else [key for key in state if not key.startswith(prefix)]
    missing = [key for key in wanted if key not in found]
    unexpected = others + [key for key in found if key not in wanted]
    if missing or unexpected:
        said = [_listed("misses", missing), _listed("has unexpected", unexpected)]
        raise SourceError(
            f"{path} does not hold the weights of {name}: it {' and '.join(filter(None, said))}; "
            "give the function that made the model they were saved from"
        )
    for key, value in wanted.items():
        if found[key].shape != value.shape:
            raise SourceError(
                f"{path} does not hold the weights of {name}: {key} is "
                f"{list(found[key].shape)} there and {list(value.shape)} in the model"
            )
    model.load_state_dict(found)


def _read(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors by key, and whether a Lightning checkpoint held them."""
    import torch

    if not path.is_file():
        raise SourceError(
            f"--weights needs a file, there is none at {path}; write it with: "
            f"torch.save(net.state_dict(), {str(path)!r})"
        )
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(
            f"{path} is not a state_dict that torch.load(weights_only=True) reads ({reason}); "
            f"write it with: torch.save(net.state_dict(), {str(path)!r})"
        ) from None
    lightning = isinstance(saved, Mapping) and isinstance(saved.get("state_dict"), Mapping)
    state = saved["state_dict"] if lightning else saved
    if not isinstance(state, Mapping) or not all(_is_entry(*item) for item in state.items()):
        raise SourceError(
            f"{path} needs a state_dict, names and their tensors, or a Lightning checkpoint, it "
            f"holds {type(saved).__name__}; write it with: "
            f"torch.save(net.state_dict(), {str(path)!r})"
        )
    return dict(state), lightning


def _is_entry(key: Any, value: Any) -> bool:
    import torch

    return isinstance(key, str) and isinstance(value, torch.Tensor)


def _prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> str:
    """Return what stands before every key of the model in the file: mostly nothing."""
    if not wanted or any(key in state for key in wanted):
        return ""
    first = next(iter(wanted))
    candidates = [key.removesuffix(first) for key in state if key.endswith(f".{first}")]
    fitting = [p for p in candidates if all(f"{p}{key}" in state for key in wanted)]
    if len(fitting) > 1:
        raise SourceError(
            f"{path} holds several models of this shape, under {', '.join(sorted(fitting))}; save "
            "the state_dict of the one that is meant"
        )
    return fitting[0] if fitting else ""


def _listed(verb: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{verb} {', '.join(keys[:_SHOWN])}{more}"
