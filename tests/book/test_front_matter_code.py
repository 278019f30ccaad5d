"""The programs on the book's first pages run as printed and do what the pages say."""

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted((Path(__file__).parent / "solutions").glob("yardsticks_*.py"))


@pytest.mark.learning
def test_the_program_on_the_first_page_learns_the_optimum():
    page = ROOT / "book" / "index.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text("utf8"), flags=re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, str(page), "exec"), {})
    assert printed.getvalue().split() == ["0.3", "0.3"]


def test_every_solution_on_the_yardsticks_page_is_run_here():
    page = (ROOT / "book" / "yardsticks.md").read_text("utf8")
    assert sorted(re.findall(r"tests/book/solutions/(\w+)\.py", page)) == [path.stem for path in SOLUTIONS]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_solution_holds_what_it_asserts(path):
    assert "assert " in path.read_text("utf8")
    runpy.run_path(str(path))
