"""What the site's hooks make: formulas, pictures, the page of the command line, no requests."""

from __future__ import annotations

import inspect
import re
import xml.etree.ElementTree
from pathlib import Path
from types import SimpleNamespace

import command_line
import curves
import markdown
import numpy as np
import offline
import pytest
import torch
from formulas import Formulas
from mkdocs.exceptions import PluginError

from coarsegrad import ste


@pytest.fixture(scope="module")
def drawn() -> dict[str, dict[str, curves.Picture]]:
    return curves.pictures()


def convert(text: str) -> str:
    return markdown.markdown(text, extensions=["pymdownx.superfences", Formulas()])


@pytest.mark.parametrize(
    "text",
    [
        ".. math:: a +\n    b",
        "```math\na +\nb\n```",
        "Words:\n\n.. math:: a\n    + b\n\nWords.",
    ],
)
def test_a_formula_is_drawn_in_the_colour_of_the_text(text: str) -> None:
    html = convert(text)
    assert 'role="img"' in html
    assert "currentColor" in html
    assert "math" not in re.sub(r'aria-label="[^"]*"', "", html)
    assert "<style" not in html, "a style sheet of a picture would hold for the whole page"


def test_ids_of_two_formulas_do_not_meet() -> None:
    html = convert(".. math:: a\n\n.. math:: a + b")
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert ids
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in re.findall(r'href="(#[^"]+)"', html)} <= set(ids)


def test_a_formula_that_cannot_be_drawn_fails() -> None:
    with pytest.raises(ValueError, match="Unknown symbol"):
        convert(r".. math:: \nosuchsymbol")


def test_a_doctest_becomes_a_code_block() -> None:
    html = convert("Words.\n\n>>> 1 + 1\n2\n\nWords.")
    assert "<blockquote>" not in html
    assert html.count("<p>Words.</p>") == 2
    assert '<code>' in html  # fmt: skip


def test_code_blocks_are_left_alone() -> None:
    html = convert("```text\n.. math:: a\n>>> b\n```")
    assert "svg" not in html
    assert ".. math:: a" in html


def test_every_class_is_drawn(drawn: dict[str, dict[str, curves.Picture]]) -> None:
    assert {"Sign"} <= drawn["quantizers"].keys() & {c.__name__ for c in curves.quantizer_classes()}
    for quantizer in curves.quantizer_classes():
        titles = [axes.get_title() for axes in drawn["quantizers"][quantizer.__name__].figure.axes]
        every = [repr(s).removesuffix("()") for s in curves.stes()]
        has_ste = "ste" in inspect.signature(quantizer).parameters
        assert [t for t in titles if t] == (every if has_ste else [quantizer.__name__])


def test_a_new_class_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    new = type("New", (ste.CoarseDerivative,), {
        "proxy": lambda self, x: x, "derivative": lambda self, x: x, "assumption2": None,
    })  # fmt: skip
    monkeypatch.setattr(ste, "New", new, raising=False)
    assert any(type(found) is new for found in curves.stes())


@pytest.mark.parametrize("quantizer", curves.quantizer_classes(), ids=lambda c: c.__name__)
def test_curves_are_the_quantizers(quantizer: type[torch.nn.Module]) -> None:
    panels = curves.quantizer_panels(quantizer)
    if "ste" not in inspect.signature(quantizer).parameters:
        ((curve,),) = [panel.curves for panel in panels]
        assert len(np.unique(curve.forward)) == len(curves.example(quantizer).levels)
        return
    for derivative, panel in zip(curves.stes(), panels, strict=True):
        (curve,) = panel.curves
        made = curves.example(quantizer, ste=derivative)
        scale = made.split(curves.X)[1]
        step = np.float32(1 if scale is None else scale.detach().reshape(-1)[0])
        expected = np.array(made.levels, np.float32) * step
        np.testing.assert_allclose(np.unique(curve.forward), expected, rtol=1e-6)
        np.testing.assert_allclose(curve.slope, made.ste.derivative(curves.X / step), atol=1e-6)


def test_a_picture_in_dark_keeps_no_light_colour(
    drawn: dict[str, dict[str, curves.Picture]],
) -> None:
    picture = curves.svg(drawn["ste"]["ste"].figure, curves.DARK)
    xml.etree.ElementTree.fromstring(picture)
    for name in ("ink", "grid", "forward", "slope"):
        assert curves.LIGHT[name] not in picture
        assert curves.DARK[name] in picture


def test_every_command_is_on_its_page() -> None:
    text = command_line.page()
    for command in ("train", "pack", "verify", "predict", "bench", "demo"):
        assert f"\n## {command}\n" in text
    assert "Exit codes" in text
    assert "| `--seeds" in text


@pytest.mark.parametrize(
    ("file", "text", "address"),
    [
        ("a.html", '<script async src="//b.c/d.js"></script>', "//b.c/d.js"),
        ("a.html", '<link rel="stylesheet" href="https://b.c/d.css">', "https://b.c/d.css"),
        ("a.html", "<img alt='' src='http://b.c/d.png'>", "http://b.c/d.png"),
        ("a.html", "<style>p {background: url(https://b.c/d.png)}</style>", "https://b.c/d.png"),
        ("a.css", "@import 'https://b.c/d.css';", "https://b.c/d.css"),
    ],
)
def test_a_request_elsewhere_fails(file: str, text: str, address: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(PluginError, match=re.escape(f"{file} would request {address}")):
        offline.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))


def test_links_are_no_requests() -> None:
    assert offline.requests('<a href="https://b.c">c</a> url(https://d)', ".txt") == ["https://d"]
    assert offline.requests('<a href="https://b.c">c</a><img src="d.png">', ".html") == []
