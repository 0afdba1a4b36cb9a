"""--weights: what is loaded, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coarsegrad.cli.weights import load_weights
from coarsegrad.errors import SourceError


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def forms() -> dict[str, Any]:
    """Return the same weights as they are saved here and there."""
    state = net().state_dict()
    return {
        "plain": state,
        "DataParallel": prefixed(state, "module."),
        "compiled": prefixed(state, "_orig_mod."),
        "Lightning": {
            "state_dict": {**prefixed(state, "net."), "accuracy.count": torch.zeros(1)},
            "epoch": 3,
            "hyper_parameters": {"lr": 0.1},
        },
    }


@pytest.mark.parametrize("form", ["plain", "DataParallel", "compiled", "Lightning"])
def test_weights_are_loaded(form: str, tmp_path: Path) -> None:
    saved = forms()[form]
    torch.save(saved, tmp_path / "w.pt")
    model = net()
    load_weights(model, tmp_path / "w.pt", "a:b")
    state = saved.get("state_dict", saved)
    weight = next(value for key, value in state.items() if key.endswith("0.weight"))
    assert torch.equal(model[0].weight, weight)


class Anything:
    """Something that weights_only=True does not read."""


STATE = net().state_dict()
BAD: list[tuple[str, Any, str]] = [
    ("missing", {k: v for k, v in STATE.items() if "0." not in k},
     r"w.pt does not hold the weights of a:b: it misses 0.weight, 0.bias; give the function"),
    ("unexpected", {**STATE, "2.weight": STATE["0.weight"]}, "it has unexpected 2.weight; give"),
    ("other", nn.Conv2d(1, 1, 1).state_dict(),
     "misses 0.weight, 0.bias, 1.weight and 4 more and has unexpected weight, bias; give"),
    ("outside of the prefix", {**prefixed(STATE, "net."), "head.weight": STATE["0.weight"]},
     "it has unexpected head.weight"),
    ("shapes", net(4).state_dict(), r"0.weight is \[4, 2\] there and \[3, 2\] in the model"),
    ("twins", {"state_dict": {**prefixed(STATE, "a."), **prefixed(STATE, "b.")}},
     r"holds several models of this shape, under a\., b\.; save the state_dict"),
    ("a module", net(), r"not a state_dict that torch.load\(weights_only=True\) reads"),
    ("an object", {"a": Anything()}, r"not a state_dict that torch.load\(weights_only=True\)"),
    ("numbers", {"a": 3}, "needs a state_dict, names and their tensors, .* it holds dict"),
    ("a tensor", torch.ones(3), "or a Lightning checkpoint, it holds Tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("saved", "message"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_weights_that_do_not_fit(saved: Any, message: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "w.pt")
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(SourceError, match=message):
        load_weights(model, tmp_path / "w.pt", "a:b")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_what_is_no_file_of_torch(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(SourceError, match=r"w.pt is not a state_dict that torch.load"):
        load_weights(net(), tmp_path / "w.pt", "a:b")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is none at .*w.pt; write it with: torch.save"):
        load_weights(net(), tmp_path / "w.pt", "a:b")
