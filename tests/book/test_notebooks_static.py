"""What nbval cannot see in a stored notebook: whether it was run, in order, and whether everybody can read it."""

from __future__ import annotations

import ast
import base64
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from scripts.execute_notebooks import course_notebooks

ROOT = Path(__file__).parents[2]
NOTEBOOKS = course_notebooks()
ALLOWED_IMPORTS = {"ca14lib", "gymnasium", "numpy", "pandas", "torch", "matplotlib", "seaborn", "IPython"}
MAXIMAL_LINES = 15
IMAGES = {"image/png", "image/svg+xml", "image/jpeg", "image/gif"}
MAXIMAL_ANIMATION = 300_000
# more decimals than any two machines agree on after training
LONG_FLOAT = re.compile(r"\d\.\d{5,}")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source.strip()]


def outputs(cell: Any) -> Iterator[tuple[str, str]]:
    """Kind and text of everything the cell shows as text."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.name, output.text
        for kind, content in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield kind, content


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
    assert not any("assignments" in path.parts[-2:] for path in NOTEBOOKS)


@every_notebook
def test_notebook_is_valid_and_carries_no_state_of_widgets(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata, "widget state makes the page load a script from a CDN"
    for cell in code_cells(path):
        for output in cell.outputs:
            kinds = set(output.get("data", {}))
            assert not any("widget" in kind for kind in kinds), f"a widget, for example a progress bar: {cell.source}"


@every_notebook
def test_every_cell_was_run_once_and_in_order(path: Path) -> None:
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"


@every_notebook
def test_no_cell_stores_an_error_or_a_warning(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell.outputs:
            expected = "raises-exception" in cell.metadata.get("tags", [])
            assert output.output_type != "error" or expected, cell.source
            assert output.get("name") != "stderr", f"{cell.source}\n{output.text}"


@every_notebook
def test_every_picture_says_in_words_what_it_shows(path: Path) -> None:
    for cell in code_cells(path):
        if any(IMAGES & set(output.get("data", {})) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) >= 40, f"alt text {alt!r} of the cell\n{cell.source}"
            assert not re.match(r"(?i)(a |the )?(plot|figure|image|picture|graph|chart)\b", alt), (
                f"alt text says what the picture is instead of what it shows: {alt!r}"
            )


@every_notebook
def test_animations_are_small(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell.outputs:
            animation = base64.b64decode(output.get("data", {}).get("image/gif", ""))
            assert len(animation) <= MAXIMAL_ANIMATION, f"{len(animation)} bytes: {cell.source}"


@every_notebook
def test_cells_stay_short(path: Path) -> None:
    for cell in code_cells(path):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MAXIMAL_LINES, f"{len(lines)} lines: {cell.source}"


@every_notebook
def test_notebook_imports_only_what_the_course_names(path: Path) -> None:
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                package = name.split(".")[0]
                assert package in ALLOWED_IMPORTS or package in sys.stdlib_module_names, name


@every_notebook
def test_no_output_shows_more_decimals_than_machines_agree_on(path: Path) -> None:
    for cell in code_cells(path):
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        for kind, text in outputs(cell):
            if kind != "text/html":
                assert not LONG_FLOAT.search(text), f"round it: {text[:300]}"


@every_notebook
def test_notebook_ends_with_checks_that_are_met(path: Path) -> None:
    cells = read(path).cells
    headings = [
        number
        for number, cell in enumerate(cells)
        if cell.cell_type == "markdown" and re.search(r"^#+ Check", cell.source, re.MULTILINE)
    ]
    assert headings, "no section titled Check"
    checks = [cell for cell in cells[headings[-1] :] if cell.cell_type == "code"]
    assert checks, "the section Check has no cell"
    shown = "\n".join(text for cell in checks for _, text in outputs(cell))
    assert shown.strip(), "the checks show nothing that could differ"
    assert "False" not in shown, shown


def test_a_kernel_that_does_not_start_is_started_again_but_not_for_ever() -> None:
    start_again = runpy.run_path(str(ROOT / "notebooks" / "conftest.py"))["start_again"]
    failures = iter([RuntimeError, RuntimeError])

    def start(name: str) -> str:
        for failure in failures:
            raise failure
        return name

    assert start_again(start, tries=3)("kernel") == "kernel"
    failures = iter([RuntimeError, RuntimeError, RuntimeError])
    with pytest.raises(RuntimeError):
        start_again(start, tries=3)("kernel")
