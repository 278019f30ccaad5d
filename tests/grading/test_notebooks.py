"""Reading assignments and submissions: order, restored cells, and a clear word about every file that is not one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ca14lib.grading.notebooks import (
    Assignment,
    SubmissionError,
    missing_cells,
    read_assignment,
    read_regular_file,
    read_submission,
    steps,
)
from tests.grading import toy


def ran(assignment: Assignment, cells: list, tmp_path: Path) -> list[str]:
    path = toy.write(tmp_path / "toy.ipynb", toy.notebook(cells))
    return [step.source for step in steps(assignment, read_submission(path, assignment), {})]


ORDER = [toy.SETUP, toy.DOUBLE, toy.DOUBLE_TEST, toy.MEANS, toy.MEANS_TEST, toy.ACT, toy.ACT_TEST]


def test_a_submission_runs_in_the_order_of_the_assignment(assignment: Assignment, tmp_path: Path) -> None:
    assert ran(assignment, toy.cells(), tmp_path) == ORDER
    assert ran(assignment, toy.cells()[::-1], tmp_path) == ORDER
    assert [step.source for step in steps(assignment, None, {})] == ORDER


def test_what_is_not_the_students_is_restored(assignment: Assignment, tmp_path: Path) -> None:
    cells = [cell for cell in toy.cells() if "setup" not in cell["id"]]
    cells[2]["source"] = "changed"
    cells += [cells[2], cells[2]]
    assert ran(assignment, cells, tmp_path) == ORDER


def test_further_cells_follow_the_cell_they_stood_behind(assignment: Assignment, tmp_path: Path) -> None:
    cells = toy.cells()
    cells.insert(4, toy.cell(None, "behind the first test"))
    cells.insert(3, toy.cell("toy-double", "a copy of the answer", solution=True, locked=False))
    cells.insert(0, toy.cell(None, "before everything"))
    found = ran(assignment, cells, tmp_path)
    assert found == [
        "before everything",
        *ORDER[:2],
        "a copy of the answer",
        ORDER[2],
        "behind the first test",
        *ORDER[3:],
    ]


def test_a_missing_answer_is_named_and_leaves_a_gap(assignment: Assignment, tmp_path: Path) -> None:
    cells = [cell for cell in toy.cells() if cell["id"] != "toy-means"]
    assert ran(assignment, cells, tmp_path) == [*ORDER[:3], *ORDER[4:]]
    path = toy.write(tmp_path / "toy.ipynb", toy.notebook(cells))
    assert missing_cells(assignment, read_submission(path, assignment)) == ["toy-means"]


def test_answers_can_be_replaced_and_nothing_else_can(assignment: Assignment) -> None:
    found = steps(assignment, None, {"toy-means": "other"})
    assert [step.source for step in found] == [*ORDER[:3], "other", *ORDER[4:]]
    for key in ("toy-means-test", "toy-setup", "toy-analysis", "unknown"):
        with pytest.raises(ValueError, match="is not a solution cell; there are toy-act, toy-double, toy-means"):
            steps(assignment, None, {key: "other"})


def test_hidden_lines_are_those_between_the_marks(assignment: Assignment) -> None:
    assert assignment.tests[0].hidden_lines() == {2, 3, 4, 5, 6}
    assert [cell.points for cell in assignment.tests] == [2, 3, 5]
    assert [cell.key for cell in assignment.manual] == ["toy-analysis"]


VALID = json.dumps(toy.notebook(toy.cells())).encode()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is not a notebook"),
        (b"not JSON", "is not a notebook"),
        (VALID[:-10], "is not a notebook"),
        (b"[]", "no list of cells"),
        (b"{}", "no list of cells"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"worksheets": [{"cells": []}], "nbformat": 3}', "format 4"),
        (b'{"cells": [1]}', "cell 1 has no type"),
        (b'{"cells": [{"cell_type": "code"}]}', "cell 1 has no text"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}]}', "cell 1 has no text"),
        (b'{"cells": [' + b'{"cell_type": "code", "source": ""},' * 2000 + b"0]}", "more than 2,000 cells"),
        (b"[" * 100_000, "nested too deeply"),
        ("ü".encode("latin1"), "UTF-8"),
        (VALID.decode().encode("utf-16"), "UTF-8"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "UTF-8"),
        (b'{"cells": []}', "is of assignment None, version None; expected 'toy', version 1"),
        (json.dumps(toy.notebook([], version=2)).encode(), "version 2; expected 'toy', version 1"),
        (json.dumps(toy.notebook([], assignment="x" * 10**6)).encode(), "expected 'toy'"),
        (b'{"cells": [], "metadata": []}', "is of assignment None"),
        (b'{"cells": [], "metadata": {"ca14": "toy"}}', "is of assignment None"),
    ],
    ids=range(20),
)
def test_a_file_that_is_no_submission_is_refused(
    content: bytes, said: str, assignment: Assignment, tmp_path: Path
) -> None:
    path = tmp_path / "toy.ipynb"
    path.write_bytes(content)
    with pytest.raises(SubmissionError, match=said) as refusal:
        read_submission(path, assignment)
    assert len(str(refusal.value)) < 400


def test_odd_metadata_of_cells_is_passed_over(assignment: Assignment, tmp_path: Path) -> None:
    cells = toy.cells()
    for odd in (None, [], "text", {"nbgrader": None}, {"nbgrader": {"grade_id": ["toy-double"]}}, {"nbgrader": []}):
        cells.append(toy.cell(None, "free") | {"metadata": odd})
    cells.append({"cell_type": "raw", "source": "raw"})
    assert ran(assignment, cells, tmp_path) == [*ORDER, *["free"] * 6]


def test_only_regular_files_of_a_bounded_size_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular_file(tmp_path / "file", 5) == b"12345"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**11)
    for name, said in [
        ("link", "links are not followed"),
        ("dangling", "links are not followed"),
        ("pipe", "not a regular file"),
        ("sparse", "more than 5 bytes"),
        (".", "not a regular file"),
        ("missing", "missing is missing"),
        ("x" * 300, "cannot be read"),
        ("nul\0", "cannot be read"),
    ]:
        with pytest.raises(SubmissionError, match=said):
            read_regular_file(tmp_path / name, 5)
    with pytest.raises(SubmissionError, match="more than 4 bytes"):
        read_regular_file(tmp_path / "file", 4)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda nb: nb["metadata"].clear(), "is no assignment"),
        (lambda nb: nb["cells"][1]["metadata"].clear(), "cell 2 has no nbgrader id"),
        (lambda nb: nb["cells"].append(nb["cells"][1]), "'toy-setup' stands at two cells"),
        (lambda nb: nb["cells"][3]["metadata"]["nbgrader"].update(points=0), "needs points above 0, got 0"),
        (lambda nb: nb["cells"][3]["metadata"]["nbgrader"].update(points="2"), "needs points above 0, got '2'"),
        (lambda nb: nb["cells"][3].update(cell_type="markdown"), "has to be a code cell"),
        (lambda nb: nb["metadata"]["ca14"].update(files=["../secret"]), "files must be plain names"),
        (lambda nb: nb["metadata"]["ca14"].update(version="1"), "is no assignment"),
    ],
)
def test_an_assignment_with_a_fault_is_refused(change, said: str, tmp_path: Path) -> None:
    content = json.loads(VALID)
    change(content)
    with pytest.raises(ValueError, match=said):
        read_assignment(toy.write(tmp_path / "toy.ipynb", content))


def test_a_missing_assignment_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_assignment(tmp_path / "toy.ipynb")
