"""Routes, the map of the chapters and the pages on assignments agree with the book, the assignments and the grader."""

from __future__ import annotations

import json
import re
from functools import cache
from inspect import signature
from pathlib import Path

import pytest
import yaml

from book.assignments.figures.chapter_map import (
    ASSIGNMENTS,
    CHAPTERS,
    FIGURE,
    SECTIONS,
    description,
    drawing,
    everything_before,
    section,
)
from ca14lib.grading.commands import check, grade, release, split
from ca14lib.grading.connection import OUTPUT_ALLOWED
from ca14lib.grading.notebooks import FILE_BYTES, NOTEBOOK_BYTES
from ca14lib.grading.protocol import FRAME_BYTES, HEADER_BYTES
from ca14lib.grading.sandbox import NEEDED_VERSION, Limits
from ca14lib.grading.session import Times
from ca14lib.grading.similarity import RUN, similarity_report

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
ROUTES = (BOOK / "assignments" / "routes.md").read_text("utf8")
WEEKS = (4, 8, 14)
WORDS_A_MINUTE = 80  # formulas counted by their letters
LINK = re.compile(r"\{ref\}`[^`<]*<([\w-]+)>`")
# directives whose text is read with the exercises, or not at all
NOT_READ = "solution|exercise|dropdown|literalinclude|results-table|python|bash|figure|eval-rst|math"
FENCE = re.compile(rf"^(`{{3,}})\{{?(?:{NOT_READ})\b.*?^\1[ ]*$", re.MULTILINE | re.DOTALL)


def contents() -> list[str]:
    """All pages and notebooks in the order of the book."""
    return re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text("utf8"))


@cache
def text(page: str) -> str:
    """A page of the book, without the folder, or the Markdown of a notebook."""
    if page.startswith("notebooks/"):
        cells = json.loads((ROOT / f"{page}.ipynb").read_text("utf8"))["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return (BOOK / f"{page}.md").read_text("utf8")


@cache
def labels() -> dict[str, str]:
    """Labels of the book, of pages as of places in them, and the page or notebook of each."""
    found = {}
    for name in contents():
        page = name.removeprefix("book/")
        if page.startswith("notebooks/") or (BOOK / f"{page}.md").exists():
            places = re.findall(r"^\(([\w-]+)\)=|\$\$\s*\(([\w-]+)\)|^\s*:(?:label|name):\s*([\w-]+)", text(page), re.M)
            found.update({next(filter(None, place)): page for place in places})
    return found


def links(page: str) -> set[str]:
    """Other pages that a page points at, by label or by path."""
    source = text(page)
    named = re.findall(r"\{(?:ref|eq|numref|prf:ref)\}`(?:[^`<]*<)?([\w-]+)>?`|\]\(([\w-]+)\)", source)
    found = {labels()[label] for pair in named for label in pair if label in labels()}
    for path in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", source):
        folder = BOOK if path.startswith("/book/") else (BOOK / page).parent
        target = (folder / path.removeprefix("/book/")).resolve()
        if target.is_relative_to(BOOK):
            found.add(target.relative_to(BOOK).as_posix())
    return found - {page}


@cache
def minutes(page: str) -> float:
    """What a chapter takes to read; a notebook is read once and played with for as long again."""
    if page.startswith("notebooks/"):
        stated = re.search(r"\*(\d+) minutes to read", text(page))
        assert stated, f"{page} does not say how long it takes"
        return 2 * int(stated[1])
    return len(re.findall(r"\w+", FENCE.sub("", text(page)))) / WORDS_A_MINUTE


@cache
def assignment(name: str) -> tuple[str, int, int]:
    """Text of an assignment, its minutes and its points."""
    cells = json.loads((ROOT / "notebooks/assignments" / f"{name.replace('-', '_')}.ipynb").read_text("utf8"))["cells"]
    source = "\n\n".join("".join(cell["source"]) for cell in cells)
    head = "".join(cells[0]["source"])
    columns = next([cell.strip() for cell in row.split("|")] for row in head.splitlines() if row.startswith("| Task"))
    rows = [row.split("|") for row in head.splitlines() if re.match(r"\| \d", row)]
    points = sum(cell["metadata"].get("nbgrader", {}).get("points", 0) for cell in cells)
    return source, sum(int(row[columns.index("Minutes")]) for row in rows), points


def tasks(name: str) -> list[str]:
    """Rows of an assignment's table of tasks, each with difficulty, minutes and points as numbers."""
    rows = [re.findall(r"[^|]+", line) for line in assignment(name)[0].splitlines() if line.startswith("| ")]
    head = next([cell.strip() for cell in row] for row in rows if row[0].strip() == "Task")
    found = []
    for row in rows:
        cells = dict(zip(head, (cell.strip() for cell in row)))
        if len(row) == len(head) and re.match(r"\d+ ", cells["Task"]):
            difficulty = next(value for key, value in cells.items() if key.startswith("Difficulty"))
            numbers = (value.split()[0] for value in (difficulty, cells["Minutes"], cells["Points"]))
            found.append("| " + " | ".join([cells["Task"], *numbers]) + " |")
    return found


@cache
def route(weeks: int) -> list[tuple[list[str], list[str], dict[str, int], float]]:
    """Chapters, notebooks, assignments with their points, and hours of every week of a route."""
    part = re.search(rf"^## {weeks} weeks.*?(?=^## )", ROUTES, re.MULTILINE | re.DOTALL)
    assert part, f"there is no heading '{weeks} weeks'"
    found = []
    for row in re.findall(r"^\| \d.*\|$", part[0], re.MULTILINE):
        week, chapters, notebooks, assignments, hours = (cell.strip() for cell in row.strip("|").split("|"))
        assert int(week) == len(found) + 1
        given = {name: int(points) for name, points in re.findall(r"([\w-]+) \((\d+)\)", assignments)}
        read = [labels()[label] for label in LINK.findall(chapters)]
        run = [labels()[label] for label in LINK.findall(notebooks)]
        found.append((read, run, given, float(hours)))
    return found


def test_the_map_has_every_chapter_of_the_book_in_its_order() -> None:
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))["parts"]
    pages = [chapter["file"].removeprefix("book/") for part in parts for chapter in part["chapters"]]
    sections = [page for page in pages if page.partition("/")[0] in SECTIONS]
    chapters = [page for page in sections if page.rpartition("/")[2] not in ("index", "exercises")]
    assert list(CHAPTERS) == ["yardsticks", *chapters]


@pytest.mark.parametrize("page", CHAPTERS)
def test_prerequisites_come_before_and_form_no_cycle(page: str) -> None:
    order = list(CHAPTERS)
    assert page not in everything_before(page)
    assert [needed for needed in CHAPTERS[page][1] if order.index(needed) > order.index(page)] == []


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_prerequisite_is_not_one_of_another_prerequisite(page: str) -> None:
    needs = CHAPTERS[page][1]
    assert [one for one in needs if any(one in everything_before(other) for other in needs)] == []


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_points_at_what_it_needs(page: str) -> None:
    """The map says no more than the pages do; the yardsticks are used everywhere, often without a word."""
    assert set(CHAPTERS[page][1]) - {"yardsticks"} - links(page) == set()


def test_the_figure_and_its_description_are_those_of_the_map() -> None:
    """Otherwise: python book/assignments/figures/chapter_map.py"""
    assert FIGURE.read_text("utf8") == drawing()
    stated = re.search(r"^:alt: (.+)$", ROUTES, re.MULTILINE)
    assert stated
    assert stated[1] == description()


def test_the_list_of_needs_is_that_of_the_map() -> None:
    rows = re.findall(r"^\| (\{ref\}[^|]+?) \| ([^|]*?) \|$", ROUTES, re.MULTILINE)
    listed = {
        labels()[LINK.findall(page)[0]]: tuple(labels()[label] for label in LINK.findall(needs)) for page, needs in rows
    }
    assert listed == {page: needs for page, (_, needs) in CHAPTERS.items()}


@pytest.mark.parametrize("weeks", WEEKS)
def test_a_route_has_its_weeks_and_every_section(weeks: int) -> None:
    plan = route(weeks)
    assert len(plan) == weeks
    read = [page for chapters, *_ in plan for page in chapters]
    assert set(read) <= set(CHAPTERS)
    assert len(read) == len(set(read))
    assert {section(page) for page in read} == set(SECTIONS)
    if weeks == max(WEEKS):
        assert set(read) == set(CHAPTERS)


@pytest.mark.parametrize("weeks", WEEKS)
def test_the_chapters_of_a_week_come_after_what_they_need(weeks: int) -> None:
    done: list[str] = []
    for number, (chapters, notebooks, *_) in enumerate(route(weeks), start=1):
        for page in chapters:
            assert set(CHAPTERS[page][1]) <= set(done), f"week {number}: {page}"
            done.append(page)
        for notebook in notebooks:
            assert notebook.startswith("notebooks/")
            first = re.search(r"Read first: (.+?)\*", text(notebook))
            asked = re.findall(r"\]\(([\w-]+)\)", first[1]) if first else []
            needed = {labels()[label] for label in asked} & set(CHAPTERS)
            assert needed <= set(done), f"week {number}: {notebook}"


@pytest.mark.parametrize("weeks", WEEKS)
def test_assignments_are_handed_in_after_what_they_need(weeks: int) -> None:
    done: set[str] = set()
    for number, (chapters, _, assignments, _) in enumerate(route(weeks), start=1):
        done |= set(chapters)
        for name in assignments:
            if name != "capstone":
                assert set(ASSIGNMENTS[name]) <= done, f"week {number}: {name}"


@pytest.mark.parametrize("name", [name for name in ASSIGNMENTS if name != "introduction"])
def test_an_assignment_needs_the_chapters_that_it_names(name: str) -> None:
    """The introduction names, for whom a task resists, chapters that come later."""
    named = set()
    for page in CHAPTERS:
        title = re.search(r"^# (.+)$", text(page), re.MULTILINE)
        assert title
        for form in (title[1], title[1].partition(":")[0]):
            if any(start + form + end in assignment(name)[0] for start, end in (('"', '"'), ("ook: ", ","))):
                named.add(page)
    needed = set(ASSIGNMENTS[name]) | {page for needs in ASSIGNMENTS[name] for page in everything_before(needs)}
    assert named
    assert named - needed == set()


@pytest.mark.parametrize("weeks", WEEKS)
def test_points_of_a_route_are_those_of_its_assignments(weeks: int) -> None:
    given: dict[str, int] = {}
    for *_, assignments, _ in route(weeks):
        given |= assignments
    capstone = given.pop("capstone", 0)
    assert capstone in (0, 5)
    for name, points in given.items():
        assert points == assignment(name)[2] - (5 if name == "evaluation" else 0)
    stated = re.search(rf"^## {weeks} weeks.*?\*\*(\d+) points", ROUTES, re.MULTILINE | re.DOTALL)
    assert stated
    assert int(stated[1]) == sum(given.values()) + capstone
    if weeks > min(WEEKS):
        assert int(stated[1]) == 100


@pytest.mark.parametrize("weeks", WEEKS)
def test_hours_follow_from_the_pages(weeks: int) -> None:
    """To half an hour and a tenth: pages may change a little without a new plan."""
    for number, (chapters, notebooks, assignments, hours) in enumerate(route(weeks), start=1):
        found = sum(minutes(page) for page in (*chapters, *notebooks))
        for name in assignments:
            found += 300 if name == "capstone" else assignment(name)[1] - (300 if name == "evaluation" else 0)
        assert hours == pytest.approx(found / 60, abs=0.5, rel=0.1), f"week {number}"


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_overview_says_of_an_assignment_what_its_notebook_says(name: str) -> None:
    overview = text("assignments/index")
    row = re.search(rf"^\| {name} \| (\d+) \| (\d+) \| (.*?) \|", overview, re.MULTILINE)
    assert row
    assert (int(row[2]), int(row[1])) == assignment(name)[1:]
    assert {labels()[label] for label in LINK.findall(row[3])} == set(ASSIGNMENTS[name])
    listed = re.search(rf"^### {name}$(.*?)(?=^##)", overview, re.MULTILINE | re.DOTALL)
    assert listed
    assert re.findall(r"^\| \d.*\|$", listed[1], re.MULTILINE) == tasks(name)


GRADER_LIMITS = [
    ("instructors", r"(\d+) GiB of address space", Limits().memory_bytes / 2**30),
    ("instructors", r"(\d+) s of processor time", Limits().processor_seconds),
    ("instructors", r"(\d+) threads", Limits().threads),
    ("instructors", r"(\d+) open files", Limits().open_files),
    ("instructors", r"(\d+) MiB of files", Limits().scratch_bytes / 2**20),
    ("instructors", r"(\d+) MiB of output", OUTPUT_ALLOWED / 2**20),
    ("instructors", r"(\d+) s for a call", Times().call),
    ("instructors", r"(\d+) s for the calls of a test", Times().test),
    ("instructors", r"(\d+) s for a cell", Times().cell),
    ("instructors", r"(\d+) s for a submission", Times().submission),
    ("instructors", r"(\w+) restarts", {3: "three"}.get(Times().restarts)),
    ("instructors", r"at most (\d+) MiB and \d+ MiB", HEADER_BYTES / 2**20),
    ("instructors", r"at most \d+ MiB and (\d+) MiB", FRAME_BYTES / 2**20),
    ("instructors", r"runs of at least (\d+) characters", RUN),
    ("instructors", r"share at least (\d+)%", 100 * signature(similarity_report).parameters["threshold"].default),
    ("instructors", r"bubblewrap (\d+\.\d+) or newer", ".".join(map(str, NEEDED_VERSION))),
    ("students", r"notebook may have up to (\d+) MiB", NOTEBOOK_BYTES / 2**20),
    ("students", r"any other file (\d+) MiB", FILE_BYTES / 2**20),
    ("students", r"no answer within (\d+) s", Times().call),
]


@pytest.mark.parametrize(("page", "pattern", "value"), GRADER_LIMITS)
def test_limits_that_a_page_states_are_those_of_the_grader(page: str, pattern: str, value: float | str) -> None:
    stated = re.findall(pattern, text(f"assignments/{page}"))
    assert len(stated) == 1
    assert stated[0] == (value if isinstance(value, str) else f"{value:g}")


def test_options_that_the_pages_name_are_those_of_the_commands() -> None:
    known = {name for command in (grade, release, check, split) for name in signature(command).parameters}
    options = {f"--{name.replace('_', '-')}" for name in known} | {"--zip"}
    for page in ("instructors", "students"):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text(f"assignments/{page}")))
        assert named <= options, f"{page}: {named - options}"
