"""A notebook as one HTML page that needs nothing else: figures, their alternative texts and formulas are inside.

nbconvert writes the page. What is added: formulas as MathML, which browsers show without MathJax and thus without
a network; badges as words, for the same reason; and figures that know their size, so that a wide one can be scrolled
on a phone and is not shrunk to nothing.
"""

from __future__ import annotations

import base64
import re
import struct
from html import escape
from pathlib import Path

from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

try:
    from latex2mathml.converter import convert
except ImportError:  # then MathJax shows the formulas, where there is a network
    convert = None

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_UPRIGHT = re.compile(r"\\mathrm\{(\w)\}")
_BRACKETED = re.compile(r"<mo>&#x0005B;</mo>(<mtable>.*?</mtable>)<mo>&#x0005D;</mo>", re.S)


class _Renderer(IPythonRenderer):
    """Formulas as MathML; `left` is set where one stays TeX, which needs MathJax. Images from elsewhere as words."""

    left = False

    def image(self, text: str, url: str, title: str | None = None) -> str:
        if url.startswith("http"):  # a badge
            return f'<span class="badge">{escape(text)}</span>'
        return super().image(text, url, title)

    def inline_math(self, body: str) -> str:
        return self._mathml(body, "inline") or super().inline_math(body)

    def block_math(self, body: str) -> str:
        return self._mathml(body, "block") or super().block_math(body)

    def latex_environment(self, name: str, body: str) -> str:
        whole = rf"\begin{{{name}}}{body}\end{{{name}}}"
        return self._mathml(whole, "block") or super().latex_environment(name, body)

    def _mathml(self, body: str, display: str) -> str:
        # latex2mathml sets a single letter in italics whatever \mathrm says; and brackets grow with a matrix only
        # where the browser finds a mathematical font, so the page's style draws them.
        try:
            mathml = convert(_UPRIGHT.sub(r"\\text{\1}", body.strip()), display=display)
            mathml = _BRACKETED.sub(r'<mrow class="bracketed">\1</mrow>', mathml)
        except Exception:  # latex2mathml is not installed, or cannot read the formula
            mathml = "\\"
        if "\\" in mathml:  # a command that it does not know is left as it is
            self.left, mathml = True, ""
        return mathml


class Page(HTMLExporter):
    """nbconvert's exporter with our template and renderer."""

    def __init__(self, **options: object):
        super().__init__(template_name="fuse", extra_template_basedirs=[str(_TEMPLATES)], **options)
        self.register_filter("png_size", png_size)

    @pass_context
    def markdown2html(self, context: dict, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _Renderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        html = MarkdownWithMath(renderer=renderer).render(source)
        if renderer.left:
            context["resources"]["needs_mathjax"] = True  # read at the page's end
        return html


def png_size(encoded: str) -> tuple[int, int]:
    """Width and height, in pixels, of a PNG in base64: they stand in its first bytes.

    >>> png_size("iVBORw0KGgoAAAANSUhEUgAAAAIAAAAB")
    (2, 1)
    """
    return struct.unpack(">II", base64.b64decode(encoded[:32])[16:24])
