"""Numbers in the book come from results/: the role {result} and the directive {results-table}.

A number: {result}`NAME:key=value,key=value:column:format` is the cell of results/NAME.csv in the one row that the
filters leave, in Python's format notation (".2f" where none is given). With three columns joined by bars it is an
estimate and its interval: {result}`NAME:agent=DQN:share_iqm|share_low|share_high` reads
"0.83 (95% interval 0.81 to 0.85)".

A table:

    ```{results-table} NAME
    :columns: agent=Agent, return_iqm=Return, share_iqm|share_low|share_high=Share
    :where: dataset=mixed
    :format: return_iqm=.3f
    :caption: Exact return of the greedy policy.
    :missing: none
    ```

``missing`` is optional: what a cell says whose column is empty in the row. Without it an empty cell is an error.

A file, row or column that is missing, and filters that leave several rows, are reported where they stand and end the
build: no page can show a number that no run has produced.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from course_tables import table
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

logger = logging.getLogger(__name__)
DEFAULT_FORMAT = ".2f"


class ResultError(Exception):
    """Says what was asked for and what there is instead."""


@dataclass(frozen=True)
class Results:
    """One results file: its column names and its rows, all as text."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def where(self, filters: dict[str, str]) -> list[dict[str, str]]:
        """Rows that agree with every filter."""
        for column in filters:
            self.require(column)
        return [row for row in self.rows if all(_same(row[key], value) for key, value in filters.items())]

    def one(self, filters: dict[str, str]) -> dict[str, str]:
        """The only row that agrees with every filter."""
        found = self.where(filters)
        if len(found) != 1:
            asked = ", ".join(f"{key}={value}" for key, value in filters.items()) or "no filter"
            raise ResultError(f"results/{self.name}.csv has {len(found)} rows for {asked}; expected exactly one")
        return found[0]

    def require(self, column: str) -> None:
        if column not in self.columns:
            raise ResultError(f"results/{self.name}.csv has no column {column!r}, only {', '.join(self.columns)}")


def read_results(folder: Path, name: str) -> Results:
    """Read results/NAME.csv."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.csv"))) or "none"
        raise ResultError(f"results/{name}.csv does not exist; there are: {there}")
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, modified: int) -> Results:
    with path.open(encoding="utf8", newline="") as file:
        reader = csv.DictReader(file)
        rows = tuple(reader)
    return Results(path.stem, tuple(reader.fieldnames or ()), rows)


def parse_filters(text: str) -> dict[str, str]:
    """'agent=DQN, dataset=mixed' as a dictionary; a value may hold commas, as in 'driver=PPO, one arm, seed=0'."""
    return _parse_parts(_split(text))


def parse_formats(text: str) -> dict[str, str]:
    """'steps=,.0f, share=.2f' as a dictionary: a comma within a format groups thousands."""
    return _parse_parts(_split(text))


def _split(text: str) -> list[str]:
    """Parts of a list: a comma ends one where another key follows."""
    return re.split(r",(?=\s*(?:[\w.| ]+=|$))", text)


def _parse_parts(parts: list[str]) -> dict[str, str]:
    """Every 'key=value' of a list; empty parts are left out."""
    found = {}
    for part in filter(None, (part.strip() for part in parts)):
        key, equals, value = part.partition("=")
        if not equals:
            raise ResultError(f"expected key=value, got {part!r}")
        found[key.strip()] = value.strip()
    return found


def formatted(value: str, spec: str) -> str:
    """The cell as the reader sees it; text stays as it is, a number gets the format and a typographic minus."""
    try:
        number = float(value)
    except ValueError:
        if not value:
            raise ResultError("the cell is empty") from None
        return value
    if number != number:
        raise ResultError("the cell is not a number (nan)")
    try:
        text = format(int(value) if spec.endswith("d") else number, spec)
    except ValueError as error:
        raise ResultError(f"cannot write {value!r} as {spec!r}: {error}") from None
    if not any(digit in text for digit in "123456789"):
        text = text.replace("-", "")
    return text.replace("-", "−")


def sentence(folder: Path, text: str) -> str:
    """What stands in the page for the role's text."""
    parts = text.split(":", 3)
    if len(parts) < 3:
        raise ResultError(f"expected NAME:filters:column or NAME:filters:column:format, got {text!r}")
    name, filters, column = (part.strip() for part in parts[:3])
    spec = parts[3].strip() if len(parts) == 4 else DEFAULT_FORMAT
    results = read_results(folder, name)
    columns = [part.strip() for part in column.split("|")]
    for part in columns:
        results.require(part)
    row = results.one(parse_filters(filters))
    values = [formatted(row[part], spec) for part in columns]
    if len(values) == 1:
        return values[0]
    if len(values) == 3:
        return f"{values[0]} (95% interval {values[1]} to {values[2]})"
    raise ResultError(f"expected one column, or an estimate and the two ends of its interval; got {column!r}")


def _same(cell: str, value: str) -> bool:
    if cell == value:
        return True
    try:
        return float(cell) == float(value)
    except ValueError:
        return False


def _folder(env: BuildEnvironment) -> Path:
    return Path(env.srcdir) / "results"


def _report(env: BuildEnvironment, message: str, location: Any) -> None:
    """Warn at the place now, so that one build lists every fault; `refuse` ends the build afterwards."""
    logger.warning(message, location=location, type="results")
    if not hasattr(env, "results_faults"):
        env.results_faults = []  # type: ignore[attr-defined]
    env.results_faults.append(f"{env.docname}: {message}")  # type: ignore[attr-defined]


class ResultRole(SphinxRole):
    """{result}`NAME:filters:column:format`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            text = sentence(_folder(self.env), self.text)
        except ResultError as error:
            _report(self.env, str(error), self.get_location())
            return [nodes.problematic(self.rawtext, f"[no result: {self.text}]")], []
        self.env.note_dependency(str(_folder(self.env) / f"{self.text.split(':')[0].strip()}.csv"))
        return [nodes.inline(self.rawtext, text, classes=["result"])], []


class ResultsTable(SphinxDirective):
    """{results-table} NAME."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "columns": directives.unchanged_required,
        "where": directives.unchanged,
        "format": directives.unchanged,
        "caption": directives.unchanged_required,
        "missing": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        folder, name = _folder(self.env), self.arguments[0]
        try:
            content = self._table(folder, name)
        except ResultError as error:
            _report(self.env, str(error), self.get_location())
            return [nodes.paragraph("", "", nodes.problematic(name, f"[no result: {name}]"))]
        self.env.note_dependency(str(folder / f"{name}.csv"))
        return [content, *self._origin(folder, name)]

    def _table(self, folder: Path, name: str) -> nodes.table:
        caption = self.options.get("caption")
        if not caption:
            raise ResultError(f"the table of {name} needs a caption")
        results = read_results(folder, name)
        headers = parse_headers(self.options.get("columns", ""), results.columns)
        formats = parse_formats(self.options.get("format", ""))
        for column in (*(part for key in headers for part in key.split("|")), *formats):
            results.require(column)
        rows = results.where(parse_filters(self.options.get("where", "")))
        if not rows:
            raise ResultError(f"no row of results/{name}.csv matches {self.options.get('where')!r}")
        missing = self.options.get("missing")
        cells = [[table_cell(row, key, formats, missing) for key in headers] for row in rows]
        inline, _ = self.parse_inline(caption)  # a caption may cite and refer
        return table(caption, list(headers.values()), cells, inline)

    def _origin(self, folder: Path, name: str) -> list[nodes.Node]:
        """A line under the table: the command that made it."""
        path = folder / f"{name}.json"
        if not path.is_file():
            return []
        self.env.note_dependency(str(path))
        command = json.loads(path.read_text(encoding="utf8")).get("command")
        if not command:
            return []
        line = nodes.paragraph("", "Made by ", classes=["table-origin"])
        line += [nodes.literal(command, command), nodes.Text(".")]
        return [line]


def table_cell(row: dict[str, str], key: str, formats: dict[str, str], missing: str | None = None) -> str:
    """One cell; the key share|low|high gives "0.83 (0.81 to 0.85)", all three in the format of the first column.

    Where a column is empty it says what ``missing`` says, or is an error if that says nothing.
    """
    columns = key.split("|")
    if missing is not None and not all(row[column] for column in columns):
        return missing
    spec = formats.get(columns[0], DEFAULT_FORMAT if len(columns) > 1 else None)
    values = [formatted(row[column], spec) if spec else _plain(row[column]) for column in columns]
    if len(values) not in (1, 3):
        raise ResultError(f"expected one column, or an estimate and the two ends of its interval; got {key!r}")
    return values[0] if len(values) == 1 else f"{values[0]} ({values[1]} to {values[2]})"


def parse_headers(text: str, columns: tuple[str, ...]) -> dict[str, str]:
    """'agent=Agent, return_iqm=Return' as column -> header; every column under its own name where nothing is given."""
    headers = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        column, equals, header = part.partition("=")
        headers[column.strip()] = header.strip() if equals else column.strip()
    return headers or {column: column for column in columns}


def _plain(value: str) -> str:
    try:
        float(value)
    except ValueError:
        return value
    return value.replace("-", "−", 1) if value.startswith("-") else value


def refuse(app: Sphinx, env: BuildEnvironment) -> None:
    faults = getattr(env, "results_faults", [])
    if faults:
        env.results_faults = []  # type: ignore[attr-defined]
        raise ExtensionError("numbers without a result:\n  " + "\n  ".join(faults))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_role("result", ResultRole())
    app.add_directive("results-table", ResultsTable)
    app.connect("env-check-consistency", refuse)
    # faults are collected on the environment, so pages are read by one process
    return {"parallel_read_safe": False, "parallel_write_safe": True}
