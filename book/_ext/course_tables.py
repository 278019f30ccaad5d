"""A table whose caption, column headers and row headers a screen reader announces."""

from __future__ import annotations

from collections.abc import Sequence

from docutils import nodes

Cell = str | nodes.Node


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], inline: Sequence[nodes.Node] | None = None
) -> nodes.table:
    """Docutils table. The first cell of a row is its header; columns that hold only numbers are set flush right."""
    numeric = [
        bool(rows) and all(_is_number(row[column]) for row in rows) and column > 0 for column in range(len(header))
    ]
    group = nodes.tgroup("", cols=len(header))
    for column in range(len(header)):
        group += nodes.colspec("", colwidth=1, stub=1 if column == 0 else 0)
    group += nodes.thead("", _row(header, numeric))
    group += nodes.tbody("", *(_row(row, numeric) for row in rows))
    title = nodes.title(caption, caption) if inline is None else nodes.title(caption, "", *inline)
    return nodes.table("", title, group, classes=["course-table"])


def _row(cells: Sequence[Cell], numeric: Sequence[bool]) -> nodes.row:
    entries = []
    for cell, number in zip(cells, numeric, strict=True):
        content = nodes.Text(cell) if isinstance(cell, str) else cell
        entries.append(nodes.entry("", nodes.paragraph("", "", content), classes=["number"] if number else []))
    return nodes.row("", *entries)


def _is_number(cell: Cell) -> bool:
    if not isinstance(cell, str):
        return False
    try:
        float(cell.replace("−", "-").replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True
