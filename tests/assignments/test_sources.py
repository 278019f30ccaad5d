"""The single sources of the assignments: what is promised of a task stands there, adds up, and names what exists."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

import ca14lib
from ca14lib.grading.instances import ASSIGNMENTS, module_name

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
COURSE = ROOT if (ROOT / "_toc.yml").is_file() else Path(ca14lib.__file__).parents[1]
CATEGORIES = {"correctness", "safety and robustness", "coordination", "analysis"}
PACKAGES = {"numpy", "torch", "scipy", "pandas", "safetensors"}  # what every student has, beside the standard library
BEGIN_SOLUTION, END_SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
LONGEST_STUB = 85  # fits into a line of the student's cell
HEADING = re.compile(r"^## (\d+) (.+)$", re.MULTILINE)
FACTS = re.compile(r"Difficulty (\d) of 5(?:,| ·) (\d+) minutes(?:,| ·) (\d+) points? (?:for |\()(\w+(?: and \w+)?)")
PASSING = re.compile(r"\bPass(?:ing means|ing:|ed:)")
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5}
NAMED = re.compile(r"^(?:.* )?Book: (.+)$", re.MULTILINE)

every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


@dataclass(frozen=True)
class Task:
    """A section of an assignment: its number and title, the text up to its first cell of code, what it gives."""

    number: int
    title: str
    text: str
    graded: tuple[Any, ...]

    def facts(self) -> tuple[int, int, int, str]:
        """Difficulty, minutes, points and category, as the text states them."""
        found = FACTS.search(self.text)
        assert found, f"{self.title}: 'Difficulty 3 of 5, 30 minutes, 2 points for correctness' is missing"
        category = "analysis" if found[4] == "analysis and innovation" else found[4]
        return int(found[1]), int(found[2]), int(found[3]), category


@functools.cache
def source(name: str) -> Any:
    return nbformat.read(SOURCES / f"{module_name(name)}.ipynb", as_version=4)


def grader(cell: Any) -> Any:
    return cell.metadata.get("nbgrader", {})


def tasks(name: str) -> list[Task]:
    found: list[Task] = []
    cells = source(name).cells
    starts = [
        number for number, cell in enumerate(cells) if cell.cell_type == "markdown" and HEADING.search(cell.source)
    ]
    for start, stop in zip(starts, [*starts[1:], len(cells)]):
        heading = HEADING.search(cells[start].source)
        assert heading
        text = "\n\n".join(
            cell.source for cell in cells[start:stop] if cell.cell_type == "markdown" and not grader(cell).get("grade")
        )
        graded = tuple(cell for cell in cells[start:stop] if grader(cell).get("grade"))
        found.append(Task(int(heading[1]), heading[2], text, graded))
    return found


def code_cells(name: str) -> list[Any]:
    return [cell for cell in source(name).cells if cell.cell_type == "code"]


@functools.cache
def chapters() -> dict[str, set[str]]:
    """Titles of the pages in the contents, whole and up to the first colon, with the headings of the page."""
    if not (COURSE / "_toc.yml").is_file():
        pytest.skip("the book is not here: ca14lib is installed without the course around it")
    contents = (COURSE / "_toc.yml").read_text("utf8")
    names = re.findall(r"(?:file|root): (book/\S+)", contents)
    assert yaml.safe_load(contents)["format"] == "jb-book"
    found: dict[str, set[str]] = {}
    for name in names:
        headings = re.findall(r"^#+ (.+)$", (COURSE / f"{name}.md").read_text("utf8"), re.MULTILINE)
        if headings:
            found |= {title: set(headings[1:]) for title in {headings[0], headings[0].partition(": ")[0]}}
    return found


def places(text: str) -> Iterator[tuple[str, list[str]]]:
    """Chapters that stand in quotes behind "Book:", each with the sections that are named of it."""
    for line in NAMED.findall(text):
        for part in line.split("; "):
            chapter, *sections = re.findall(r'"([^"]+)"', part) or [""]
            if chapter:
                yield chapter, sections


@every_assignment
def test_the_source_is_a_notebook_without_outputs(name: str) -> None:
    notebook = source(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.ca14.assignment == name
    assert [cell.source for cell in code_cells(name) if cell.outputs or cell.execution_count is not None] == []


@every_assignment
def test_every_cell_has_an_id_of_its_own_in_the_present_format_of_nbgrader(name: str) -> None:
    cells = source(name).cells
    keys = [grader(cell).get("grade_id", "") for cell in cells]
    assert all(re.fullmatch(rf"{name}-[\w-]+", key) for key in keys), keys
    assert len(set(keys)) == len(keys)
    assert {grader(cell).schema_version for cell in cells} == {3}
    for cell in cells:
        assert grader(cell).locked is not grader(cell).solution, f"{grader(cell).grade_id}: locked or to be answered"
        assert grader(cell).grade is ("points" in grader(cell)), f"{grader(cell).grade_id}: points of what is graded"


@every_assignment
def test_solutions_can_be_taken_out(name: str) -> None:
    """Every cell to be answered has a solution between its marks, and of code words that say what to write there.

    They are the text of ``ca14.stub``, or where there is none the summary in the docstring of the function around it.
    """
    for cell in source(name).cells:
        key, lines = grader(cell).grade_id, [line.strip() for line in cell.source.splitlines()]
        marks = [line for line in lines if line in (BEGIN_SOLUTION, END_SOLUTION)]
        if not grader(cell).solution:
            assert marks == [], f"{key} holds a solution and is locked"
            continue
        assert marks, f"{key} has no solution"
        assert marks == [BEGIN_SOLUTION, END_SOLUTION] * (len(marks) // 2), f"{key}: marks out of order"
        if cell.cell_type == "code":
            stub = cell.metadata.get("ca14", {}).get("stub", "")
            assert "\n" not in stub
            tree = ast.parse(without_solution(cell.source, stub))
            explained = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and summary(node)]
            assert stub or sum(map(stubs, explained)) == stubs(tree), (
                f"{key} says not what to write: ca14.stub is missing"
            )
            own = [f"{node.name}: {summary(node)}" for node in explained]
            for words in [stub] if stub else own:
                assert len(words) <= LONGEST_STUB, f"{key}: {words!r}"


def summary(function: ast.FunctionDef) -> str:
    """First line of its docstring."""
    return (ast.get_docstring(function) or "").partition("\n")[0]


def stubs(tree: ast.AST) -> int:
    """How many solutions are missing in a piece of code."""
    return sum(isinstance(node, ast.Raise) for node in ast.walk(tree))


def without_solution(text: str, stub: str) -> str:
    """The cell as a student has it."""
    return re.sub(
        rf"^([ \t]*){BEGIN_SOLUTION}$.*?^[ \t]*{END_SOLUTION}$",
        lambda found: f"{found[1]}raise NotImplementedError({stub!r})",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


@every_assignment
def test_hidden_tests_can_be_taken_out(name: str) -> None:
    for cell in code_cells(name):
        if not (grader(cell).grade and not grader(cell).solution):
            assert BEGIN_HIDDEN not in cell.source
            continue
        marks = [line for line in cell.source.splitlines() if line.strip() in (BEGIN_HIDDEN, END_HIDDEN)]
        assert marks == [BEGIN_HIDDEN, END_HIDDEN], grader(cell).grade_id
        public = cell.source.partition(BEGIN_HIDDEN)[0] + cell.source.partition(END_HIDDEN)[2]
        assert "check_" in public, f"{grader(cell).grade_id} has no test that students see"
        ast.parse(public)


@every_assignment
def test_answers_in_words_are_given_nothing_but_the_place_for_them(name: str) -> None:
    """What stands beside the solution stays in the student version, before the words that nbgrader puts there."""
    for cell in source(name).cells:
        if cell.cell_type == "markdown" and grader(cell).solution:
            assert cell.source.startswith(BEGIN_SOLUTION), grader(cell).grade_id
            assert cell.source.endswith(END_SOLUTION), grader(cell).grade_id


def test_all_assignments_say_in_the_same_words_how_they_work() -> None:
    found = set()
    for name in ASSIGNMENTS:
        text = "\n\n".join(cell.source for cell in source(name).cells[:2])
        (first,) = re.findall(r"^## How it works\n\n((?:.+\n)+)", text, re.MULTILINE)
        files = source(name).metadata.ca14.files
        handed_in = [line for line in first.splitlines() if line.startswith("Hand in `policy.safetensors`")]
        assert len(handed_in) == len(files), name
        found.add(first.replace("".join(f"{line}\n" for line in handed_in), ""))
        assert "graded by hand" not in "".join(cell.source for cell in source(name).cells)
    assert len(found) == 1


@every_assignment
def test_tasks_are_numbered_and_stand_in_the_table_at_the_top(name: str) -> None:
    assert [task.number for task in tasks(name)] == list(range(1, len(tasks(name)) + 1))
    rows = [line for line in source(name).cells[0].source.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(tasks(name))
    for row, task in zip(rows, tasks(name)):
        first, *fields = row.strip("| ").split(" | ")
        number, _, title = first.partition(" ")
        assert number == str(task.number)
        assert task.title == title, row
        difficulty, minutes, points, category = task.facts()
        stated = " ".join(fields).replace(" of 5", "")
        assert [int(number) for number in re.findall(r"\d+", stated)] == [difficulty, minutes, points], row
        assert category in row, f"{row}: the category is {category}"


@every_assignment
def test_every_task_says_what_it_takes_and_gives(name: str) -> None:
    for task in tasks(name):
        difficulty, minutes, points, category = task.facts()
        assert 1 <= difficulty <= 5
        assert minutes > 0
        assert points == sum(grader(cell).points for cell in task.graded), task.title
        assert {cell.metadata.ca14.category for cell in task.graded} == {category}, task.title
        assert category in CATEGORIES
        by_hand = all(grader(cell).solution for cell in task.graded)  # the rubric says it
        assert by_hand or PASSING.search(task.text), f"{task.title}: the text says not what passing means"


@every_assignment
def test_every_graded_cell_belongs_to_a_task(name: str) -> None:
    graded = [grader(cell).grade_id for cell in source(name).cells if grader(cell).grade]
    assert [grader(cell).grade_id for task in tasks(name) for cell in task.graded] == graded


@every_assignment
def test_every_task_names_a_chapter_and_sections_that_exist(name: str) -> None:
    for task in tasks(name):
        named = list(places(task.text))
        assert named, f'{task.title}: no Book: "CHAPTER", section "SECTION"'
        for chapter, sections in named:
            assert chapter in chapters(), f"{task.title}: no chapter {chapter!r} in the contents"
            assert set(sections) <= chapters()[chapter], f"{task.title}: {sections} of {chapter!r}"


@every_assignment
def test_messages_point_at_chapters_that_exist(name: str) -> None:
    titles = sorted(chapters(), key=len, reverse=True)
    for cell in code_cells(name):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert 'book, "' not in node.value, f"{grader(cell).grade_id}: write 'Book: CHAPTER, SECTION'"
                for place in re.findall(r"Book: (.+)", node.value):
                    assert any(place.startswith(title) for title in titles), f"{grader(cell).grade_id}: {place!r}"


@every_assignment
def test_the_rubric_of_what_is_marked_by_hand_is_printed_and_adds_up(name: str) -> None:
    for task in tasks(name):
        by_hand = [cell for cell in task.graded if grader(cell).solution]
        if by_hand:
            assert rubric_points(task.text) == pytest.approx(sum(grader(cell).points for cell in by_hand)), task.title


def rubric_points(text: str) -> float:
    """The most that the tables of a task give which have a column of points.

    Rows with points of their own are added up. Where the head says "for each of the four parts", the largest of the
    rows counts for every part; where it has a column for "1 point", that counts for every row.
    """
    total = 0.0
    for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        head, _, *rows = [
            [field.strip() for field in line.strip().strip("|").split("|")] for line in table.splitlines()
        ]
        parts = re.search(r"Rubric, for each of the (\w+) parts", " ".join(head))
        if "Points" in head and "Rubric" in " ".join(head):
            points = [float(row[head.index("Points")]) for row in rows]
            total += COUNTS[parts[1]] * max(points) if parts else sum(points)
        elif "1 point" in head:
            total += len(rows)
    return total


@pytest.mark.parametrize(
    "table, points",
    [
        ("| Points | Rubric |\n|---|---|\n| 0.5 | this |\n| 1 | that |\n", 1.5),
        ("| Rubric | Points |\n|---|---|\n| this | 0.5 |\n", 0.5),
        ("| Points | Rubric, for each of the four parts |\n|---|---|\n| 0.5 | all |\n| 0.25 | half |\n", 2.0),
        (
            "| Criterion | 1 point | 0 points |\n|---|---|---|\n| Question | one | none |\n| Result | one | none |\n",
            2.0,
        ),
        ("| State | Value |\n|---|---|\n| 3 | 4 |\n", 0.0),
    ],
)
def test_rubrics_are_added_up(table: str, points: float) -> None:
    assert rubric_points(f"Text.\n\n{table}\nText.\n") == points


@every_assignment
def test_cells_that_students_run_import_only_what_they_have(name: str) -> None:
    listed = source(name).metadata.ca14.modules
    for cell in code_cells(name):
        is_test = grader(cell).grade and not grader(cell).solution
        for node in ast.walk(ast.parse(cell.source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for module in names:
                package = module.partition(".")[0]
                assert package in {"ca14lib", *PACKAGES} or package in sys.stdlib_module_names, module
                within = [*listed, "ca14lib.grading"]
                assert (
                    is_test or package != "ca14lib" or any(f"{module}.".startswith(f"{given}.") for given in within)
                ), f"{grader(cell).grade_id} imports {module}, which the grader's worker does not hold"
