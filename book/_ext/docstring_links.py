"""API pages: the citations in docstrings are links, and types have the names by which the source calls them.

Citations are "book eq. LABEL", "Book: PAGE" and "Book: notebook PAGE".
"""

from __future__ import annotations

import re
from typing import Any

from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

LABEL = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
HYPHENATED = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+"
# "eq. a-b", or "eqs. a-b, c-d and e-f": what follows a comma counts only with a hyphen, as other words do not have one
EQUATIONS = re.compile(rf"\b(eqs?\.\s+)({LABEL}\b(?:(?:,\s+and|,|\s+and)\s+{HYPHENATED}\b)*)")
ONE_LABEL = re.compile(rf"\b(?!and\b){LABEL}")
PAGE = re.compile(r"\bBook: (notebook )?([a-z0-9_]+(?:/[a-z0-9_]+)*)")


# what autodoc makes of NumPy's two type aliases
ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
ARRAY = re.compile(r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[~([\w.]+)\]\]")


def cited_equations(text: str) -> list[str]:
    """Labels of the equations that a docstring or comment cites, in order."""
    return [label for _, labels in EQUATIONS.findall(text) for label in ONE_LABEL.findall(labels)]


def page_name(named: re.Match[str]) -> str:
    """Path of the page, without its ending, that a match of PAGE names."""
    return f"{'notebooks' if named[1] else 'book'}/{named[2]}"


def linked(text: str) -> str:
    """The text with its citations as roles."""
    text = EQUATIONS.sub(lambda cited: cited[1] + ONE_LABEL.sub(r":eq:`\g<0>`", cited[2]), text)
    return PAGE.sub(lambda named: f"Book: :doc:`/{page_name(named)}`", text)


def link(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = linked("\n".join(lines)).split("\n")


def short_type(annotation: str) -> str:
    """NumPy's aliases by their names: NDArray[float64], ArrayLike."""
    annotation = annotation.replace(ARRAY_LIKE, "ArrayLike")
    return ARRAY.sub(lambda array: "NDArray" if "_" in array[1].split(".")[-1] else f"NDArray[~{array[1]}]", annotation)


def shorten(app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, returned: str) -> None:
    recorded = app.env.temp_data.get("annotations", {}).get(name, {})
    recorded |= {parameter: short_type(annotation) for parameter, annotation in recorded.items()}


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", link)
    app.connect("autodoc-process-signature", shorten, priority=900)  # after autodoc has recorded the annotations
    return {"parallel_read_safe": True, "parallel_write_safe": True}
