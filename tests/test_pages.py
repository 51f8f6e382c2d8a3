"""The HTML pages: formulas that need no network, and nothing loaded from elsewhere."""

import base64
import re

import nbformat
import pytest
from bs4 import BeautifulSoup

from fuse_lib import pages

HEADER = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes([0, 0, 0, 4, 0, 0, 0, 2]) + b"\x08\2\0\0\0"
PNG = base64.b64encode(HEADER).decode()


def page(text, *outputs):
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("draw()", outputs=list(outputs))]
    html, _ = pages.Page().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    return html


def figure(**metadata):
    return nbformat.v4.new_output("display_data", {"image/png": PNG}, metadata={"image/png": metadata})


def test_formulas_are_mathml_and_dollars_in_code_are_left_alone():
    pytest.importorskip("latex2mathml")
    html = page(r"Inline $\theta_k < 1$, `$FUSE_DATA`, and" + "\n\n" + r"$$\frac{1}{2}\,\lVert w \rVert^2$$")
    assert html.count("<math") == 2
    assert 'display="block"' in html
    assert "<mfrac>" in html
    assert "$FUSE_DATA" in html
    assert "MathJax" not in html


def test_a_formula_that_cannot_be_converted_is_left_to_mathjax(monkeypatch):
    monkeypatch.setattr(pages, "convert", None)
    html = page("A formula, $x^2$.")
    assert "$x^2$" in html
    assert html.index("MathJax.Hub") > html.index("$x^2$")


def test_a_command_that_is_not_known_is_left_to_mathjax():
    pytest.importorskip("latex2mathml")
    html = page(r"A formula, $\nosuchcommand{x}$, and $y$.")
    assert r"$\nosuchcommand{x}$" in html
    assert html.count("<math") == 1
    assert "MathJax.Hub" in html


def test_nothing_is_loaded_from_elsewhere():
    html = page("Words.")
    assert not re.search(r"<script|<link|@import", html)


def test_a_figure_has_its_alternative_text_and_its_aspect():
    images = BeautifulSoup(page("Words.", figure(alt='A "line" <rises>.'), figure()), "html.parser").find_all("img")
    assert [(i["alt"], i["style"]) for i in images] == [('A "line" <rises>.', "--aspect: 2.0"), ("", "--aspect: 2.0")]


def test_a_badge_is_words_and_an_own_image_stays():
    html = page("[![Open in <Colab>](https://example.org/badge.svg)](https://example.org)\n\n![mine](mine.png)")
    assert '<a href="https://example.org"><span class="badge">Open in &lt;Colab&gt;</span></a>' in html
    assert [image["src"] for image in BeautifulSoup(html, "html.parser").find_all("img")] == ["mine.png"]


def test_one_upright_letter_is_upright_and_a_matrix_has_brackets_that_grow():
    pytest.importorskip("latex2mathml")
    html = page(r"$\mathrm{E}[g]$ and $$H = \begin{bmatrix} S & Y \end{bmatrix}$$")
    assert "<mtext>E</mtext>" in html
    matrix = BeautifulSoup(html, "html.parser").find("mrow", class_="bracketed")
    assert [cell.text for cell in matrix.find_all("mtd")] == ["S", "Y"]
