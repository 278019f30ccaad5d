"""Mends, in the finished pages, what theme and writers leave inaccessible; tests/book/test_browser.py looks for it.

- The sidebar's title stands outside every landmark: the sidebar becomes one.
- docutils gives bibliography entries a role that ARIA has given up, inside a list that then has no items.
- The theme's buttons that unfold a chapter in the contents have no name.
- pandas and Markdown put empty header cells into tables.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

REPAIRS = [
    (
        re.compile(r'<div([^>]*) class="bd-sidebar-primary'),
        r'<div\1 role="region" aria-label="Contents" class="bd-sidebar-primary',
    ),
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
    (re.compile(r"<summary>(?=<span class=\"toctree-toggle\")"), '<summary aria-label="Pages of this chapter">'),
    (re.compile(r"<th(?:\s[^>]*)?>(?:&nbsp;|\s|</?p>)*</th>"), "<td></td>"),
]


def mend(html: str) -> str:
    for pattern, replacement in REPAIRS:
        html = pattern.sub(replacement, html)
    return html


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    for name in [*app.env.found_docs, "search", "genindex"]:
        page = Path(app.outdir) / f"{name}.html"
        if page.is_file():
            page.write_text(mend(page.read_text(encoding="utf8")), encoding="utf8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
