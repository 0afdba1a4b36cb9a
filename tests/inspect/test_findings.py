from __future__ import annotations

import io
import json

from rich.console import Console
from torch import nn

from coarsegrad.inspect import Finding, Findings, NotApplied, check
from subjects import (
    X,
    adam,
    dense,
    net,
)  # fmt: skip


def test_text_fits_80_columns_and_joins_what_is_alike() -> None:
    model = net(nn.ReLU(), first=dense(16, 32, bias=True))
    found = check(model, X, adam(model))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"{len(found)} findings"
    assert "latents-without-box: 0, 3, 5" in lines
    assert sum(line.startswith("latents-without-box") for line in lines) == 1
    assert sum(line.startswith("  cure: ") for line in lines) == len({f.rule for f in found})
    assert repr(found) == str(found)


def test_findings_as_text_table_and_dict() -> None:
    finding = Finding("a.very.long.path" * 8, "rule", "consequence", "cure", "source")
    found = Findings((finding,), (NotApplied("other", "there was no time"),))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "1 finding"
    assert lines[-3:] == ["  source: source", "",
                          "not applied, since there was no time: other"]  # fmt: skip
    assert list(found) == [finding]
    assert len(found) == 1
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found.table())
    assert "consequence" in console.export_text().splitlines()[3]
    told = json.loads(json.dumps(found.to_dict()))
    assert told["findings"][0]["cure"] == "cure"
    assert told["not_applied"] == [{"rule": "other", "reason": "there was no time"}]
