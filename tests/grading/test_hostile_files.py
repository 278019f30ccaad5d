"""Hostile notebooks, archives and names from the folder of submissions to the gradebook: none stops the others."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ca14lib.grading.batch import Judged
from ca14lib.grading.collect import find_submissions, read_content
from ca14lib.grading.judge import grade
from ca14lib.grading.notebooks import Assignment, SubmissionError, read_submission, read_texts
from ca14lib.grading.sandbox import Sandbox
from ca14lib.grading.session import Times
from tests.grading import toy

RIGHT = toy.notebook(toy.cells())
BYTES = json.dumps(RIGHT).encode()


def handed_in(folder: Path, content: bytes | str | dict[str, Any]) -> Path:
    """The folder of submissions with this notebook of the student anna."""
    text = json.dumps(content) if isinstance(content, dict) else content
    path = folder / "all" / "anna" / "toy.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf8", "surrogatepass"))
    return folder / "all"


def judged(folder: Path, assignment: Assignment, name: str = "anna") -> Judged:
    """What a batch does with the first submission, without processes and sandbox."""
    submission = find_submissions(folder)[0][0]
    try:
        content = read_content(submission, assignment)
        path = folder.parent / "read" / "toy.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.notebook)
        code, texts = tuple(read_submission(path, assignment)), read_texts(path, assignment)
        result = grade(assignment, path, seed=1, instance={}, worker="process-free")
    except SubmissionError as problem:
        return Judged(name, "1", None, str(problem), (), (), {}, "")
    return Judged(name, "1", result, "", content.notes, code, texts, "")


def nested(depth: int) -> str:
    return json.dumps(RIGHT).replace('"assignment": "toy"', '"assignment": ' + "[" * depth + "]" * depth)


def about(**entries: Any) -> dict[str, Any]:
    return toy.notebook(toy.cells(), **entries)


MALFORMED: dict[str, bytes | str | dict[str, Any]] = {
    "nothing": b"",
    "half of a notebook": BYTES[: len(BYTES) // 2],
    "a number": b"1",
    "a list": b"[]",
    "no cells": b'{"metadata": {}}',
    "cells that are an object": b'{"cells": {"0": 1}}',
    "cells that are numbers": b'{"cells": [1, 2]}',
    "a cell without a type": b'{"cells": [{"source": ""}]}',
    "a cell whose type is a list": b'{"cells": [{"cell_type": ["code"], "source": ""}]}',
    "a cell without text": b'{"cells": [{"cell_type": "code"}]}',
    "text of numbers": b'{"cells": [{"cell_type": "code", "source": [1, 2]}]}',
    "metadata that is a list": b'{"cells": [], "metadata": [1]}',
    "ten megabytes of brackets": b"[" * 10_000_000,
    "metadata as deep as JSON goes": nested(900),
    "metadata deeper than that": nested(100_000),
    "a whole number of a million digits": b'{"cells": [' + b"9" * 10**6 + b"]}",
    "numbers that are none": b'{"cells": [NaN, Infinity, 1e999]}',
    "not UTF-8": b"\xff\xfe" + BYTES,
    "UTF-16": json.dumps(RIGHT).encode("utf-16"),
    "a mark of byte order": b"\xef\xbb\xbf" + BYTES,
    "zeros": bytes(1000),
    "more cells than may be": {**RIGHT, "cells": [toy.cell(None, "")] * 2001},
    "format 3": {"worksheets": [{"cells": RIGHT["cells"]}], "metadata": RIGHT["metadata"], "nbformat": 3},
    "another version": about(version=2),
    "a version of letters": about(version="1"),
    "another assignment": about(assignment="safe"),
    "an assignment that leads elsewhere": about(assignment="../../toy"),
}


@pytest.mark.parametrize("label", MALFORMED)
def test_what_is_no_notebook_is_said_in_a_line(label: str, assignment: Assignment, tmp_path: Path) -> None:
    started = time.monotonic()
    found = judged(handed_in(tmp_path, MALFORMED[label]), assignment)
    assert found.grade is None
    assert found.problem.startswith("toy.ipynb")
    assert len(found.problem) < 400
    assert time.monotonic() - started < 5


ODD: dict[str, dict[str, Any]] = {
    "ids of wrong kinds": toy.notebook(
        [
            *toy.cells(),
            *(
                {**toy.cell(None, "1"), "metadata": {"nbgrader": {"grade_id": key}}}
                for key in (None, 1, True, ["toy-double"], {"a": 1}, 1.5)
            ),
        ]
    ),
    "metadata of wrong kinds": toy.notebook(
        [*toy.cells(), *({**toy.cell(None, "1"), "metadata": data} for data in (None, [], "x", {"nbgrader": [1]}))]
    ),
    "kinds of cells that do not exist": toy.notebook([*toy.cells(), {**toy.cell(None, "1"), "cell_type": "<script>"}]),
    "an id of a million characters": toy.notebook([*toy.cells(), toy.cell("x" * 10**6, "1")]),
    "an id of half a character": toy.notebook([*toy.cells(), toy.cell("\ud800", "1")]),
    "two thousand cells": toy.notebook([*toy.cells(), *[toy.cell(None, "1")] * 1900]),
    "a large cell": toy.notebook([*toy.cells(), toy.cell(None, "#" * 500_000)]),
    "zeros in the text": toy.notebook([*toy.cells(), toy.cell(None, "\0")]),
    "half a character in the text": toy.notebook([*toy.cells(), toy.cell(None, "'\ud800'")]),
    "IPython and await": toy.notebook([*toy.cells(), toy.cell(None, "get_ipython()\nawait x\n%%bash\n!ls")]),
    "the tests twice": toy.notebook([*toy.cells(), *toy.cells()[3::2]]),
    "the answer by hand fifty times": toy.notebook([*toy.cells(), *[toy.cells()[-1]] * 50]),
    "truth as the version": about(version=True),
    "files and modules of its own": about(files=["/etc/passwd"], modules=["os", "ca14lib.agents"]),
    "points of its own": toy.notebook(
        [
            {**cell, "metadata": {"nbgrader": {**cell["metadata"].get("nbgrader", {}), "points": 1000}}}
            for cell in toy.cells()
        ]
    ),
}


@pytest.mark.parametrize("label", ODD)
def test_oddities_beside_right_answers_change_no_score(label: str, assignment: Assignment, tmp_path: Path) -> None:
    found = judged(handed_in(tmp_path, ODD[label]), assignment)
    assert found.grade is not None, found.problem
    assert (found.grade.score, found.grade.maximum) == (toy.MAXIMUM, toy.MAXIMUM)
    assert found.grade.manual == {"toy-analysis": 2.0}
    assert Judged.from_json(found.to_json()) == found


def test_of_two_entries_of_one_name_the_last_counts_and_nothing_else_changes(
    assignment: Assignment, tmp_path: Path
) -> None:
    text = json.dumps(RIGHT).replace('{"cells"', '{"cells": [{"cell_type": "code", "source": "raise"}], "cells"', 1)
    found = judged(handed_in(tmp_path, text), assignment)
    assert found.grade is not None
    assert found.grade.score == toy.MAXIMUM


def test_accents_without_end_in_an_id_take_no_time(assignment: Assignment, tmp_path: Path) -> None:
    """Marks that stand in the wrong order are sorted one by one: a notebook of the allowed size took hours."""
    content = toy.notebook([*toy.cells(), toy.cell("a" + "\u0315\u0300" * 20_000, "1")])
    path = handed_in(tmp_path, content) / "anna" / "toy.ipynb"
    started = time.process_time()
    assert len(read_submission(path, assignment)) == len(toy.cells()) - 1
    assert time.process_time() - started < 0.5


def zipped(members: dict[str, bytes]) -> bytearray:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return bytearray(data.getvalue())


def without_a_name() -> bytearray:
    """The name of the first member is empty; its letter is an extra field."""
    data = zipped({"a": b"", "toy.ipynb": BYTES})
    central = data.index(b"PK\x01\x02")
    data[central + 28 : central + 32] = b"\0\0\1\0"
    return data


def beyond_the_end() -> bytearray:
    data = zipped({"toy.ipynb": BYTES})
    central = data.index(b"PK\x01\x02")
    data[central + 42 : central + 46] = (2**31 - 1).to_bytes(4, "little")
    return data


@pytest.mark.parametrize(
    "make",
    [
        without_a_name,
        beyond_the_end,
    ],
)
def test_a_damaged_directory_of_an_archive_is_that_student_s_alone(
    make: Callable[[], bytearray], assignment: Assignment, tmp_path: Path
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "anna.zip").write_bytes(make())
    found = judged(tmp_path / "all", assignment)
    assert found.grade is not None or "cannot be unpacked" in found.problem


def test_archives_with_random_bytes_raise_nothing_else(assignment: Assignment, tmp_path: Path) -> None:
    good, rng = zipped({"toy.ipynb": BYTES[:300], "other/x.txt": b"x"}), np.random.default_rng(0)
    central = good.index(b"PK\x01\x02")
    (tmp_path / "all").mkdir()
    for trial in range(400):
        data = bytearray(good)
        for place in rng.integers(central, len(good), size=int(rng.integers(1, 3))):
            data[place] = int(rng.choice([0, 1, 127, 128, 255]))
        (tmp_path / "all" / "anna.zip").write_bytes(data[: int(rng.integers(1, len(data)))] if trial % 5 == 0 else data)
        try:
            read_content(find_submissions(tmp_path / "all")[0][0], assignment)
        except SubmissionError:
            continue


NAMES = {
    "escapes for the terminal": "\x1b[2J\x1b]0;owned\x07",
    "a formula behind a line end": "x\n=1+1",
    "a formula behind a separator of another country": "x;=1+1|+2; @3",
    "a direction": "\u202egnp",
    "sixty thousand letters": "a" * 60_000,
}


@pytest.mark.parametrize("label", NAMES)
def test_names_in_archives_cannot_carry_instructions(label: str, assignment: Assignment, tmp_path: Path) -> None:
    """They stand in a terminal, in tables, and on pages.

    Where lists are separated by semicolons, a spreadsheet begins a cell at each and does not heed our quotes.
    """
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "anna.zip").write_bytes(zipped({f"{NAMES[label]}{n}.ipynb": BYTES for n in range(2)}))
    problem = judged(tmp_path / "all", assignment).problem
    assert problem.isprintable()
    assert not re.search(r"[;|]\s*[=+@-]", problem)
    assert len(problem) < 1000


def test_the_name_of_an_assignment_cannot_carry_instructions(assignment: Assignment, tmp_path: Path) -> None:
    problem = judged(handed_in(tmp_path, about(assignment="\x1b[2J\n=1+1;")), assignment).problem
    assert problem.isprintable()


def test_errors_of_many_cells_stay_small(assignment: Assignment, sandbox: Sandbox, tmp_path: Path) -> None:
    """Replies that a student forges fill neither the judge's memory nor the file of marks."""
    forge = """
import ca14lib.grading.worker as worker
pack = worker.pack
worker.pack = lambda message: pack({"id": message["id"], "ok": False, "where": ["z" * 300] * 3000})
"""
    content = toy.notebook([toy.cell(None, forge), *[toy.cell(None, "1")] * 20])
    path = handed_in(tmp_path, content) / "anna" / "toy.ipynb"
    result = grade(assignment, path, worker=sandbox, seed=1, times=Times(submission=60.0))
    assert result.score == 0
    assert len(result.to_json()) < 200_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the judge's memory is bounded on Linux")
def test_results_that_broadcast_against_each_other_do_not_fill_the_judge(sandbox: Sandbox, tmp_path: Path) -> None:
    """Two replies of 40 kB, of which a comparison makes 1.6 GB: a true one, but no test may cost the judge that."""
    double = "def double(x):\n    return np.zeros((40_000, 1) if x else (1, 40_000), np.int8)"
    content = toy.cells({"toy-double": double})
    content[3]["source"] = "check_true(bool((double(0) <= double(1)).all()), 'ordered')"
    result = grade(toy.write(tmp_path / "toy.ipynb", toy.notebook(content)), worker=sandbox, seed=1)
    assert result.score == toy.MAXIMUM - 2


def test_no_submission_keeps_the_others_out_of_the_gradebook(assignment: Assignment, tmp_path: Path) -> None:
    """Everything that nbgrader and its database might stumble over, recorded after one another."""
    gradebook = pytest.importorskip("ca14lib.grading.gradebook", exc_type=ImportError)
    source = toy.write(tmp_path / "toy.ipynb", RIGHT)
    marks = tmp_path / "course" / "marks" / "toy"
    marks.mkdir(parents=True)
    with warnings.catch_warnings(action="ignore"):
        book = gradebook.CourseGradebook(tmp_path / "course")
        book.set_assignment(source)
        answer = {**toy.cells()[-1], "source": "\ud800\0\x1b[2J</pre><script>"}
        notebooks = {
            "half a character": about() | {"cells": [*toy.cells({"toy-double": f"# \ud800\n{toy.DOUBLE}"})]},
            "zeros": toy.notebook([*toy.cells()[:-1], answer, toy.cell(None, "\0")]),
            "honest": RIGHT,
        }
        rows = []
        for student, content in notebooks.items():
            folder = handed_in(tmp_path / student, content)
            rows.append(judged(folder, assignment, student))
        names = os.fsencode(tmp_path / "names" / "all" / "anna")
        os.makedirs(names)
        for name in (b"\xff.ipynb", b"\xfe.ipynb"):
            Path(os.fsdecode(names), os.fsdecode(name)).write_bytes(BYTES)
        rows.append(judged(tmp_path / "names" / "all", assignment, "names"))
        for row in rows:
            (marks / f"{row.student}.json").write_text(row.to_json())
        book.record(assignment, rows)
        found = {result.student: result.test_score for result in book.results(assignment, rows)}
    assert found == {"half a character": 10, "zeros": 10, "honest": 10, "names": 0}
