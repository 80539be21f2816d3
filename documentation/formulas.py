"""An extension of Python-Markdown: formulas between dollars become MathML, which browsers draw by themselves.

`$…$` within a line, and `$$…$$` as a paragraph, as GitHub has them.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

__all__ = ["Formulas", "makeExtension"]

FORMULA = r"(?<![\\$\w])(\$\$?)(?![\s$])(.+?)(?<![\s\\])\1(?![\w$])"
PRIORITY = 185
"""Before escapes (180), so that backslashes are those of the formula; after code (190)."""


class _Formula(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str | Element, int, int]:
        display = "block" if m[1] == "$$" else "inline"
        return self.md.htmlStash.store(convert(m[2], display=display)), m.start(0), m.end(0)


class Formulas(Extension):
    """Formulas as MathML."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Add the pattern to a Markdown."""
        md.inlinePatterns.register(_Formula(FORMULA, md), "formulas", PRIORITY)


def makeExtension(**options: Any) -> Formulas:
    """The extension, as Python-Markdown finds it by the name of this module."""
    return Formulas(**options)
