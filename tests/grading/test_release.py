"""Releasing an assignment: what students get, that it fits its source, everyone's own copy, and splitting it off."""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from ca14lib.grading.instances import ASSIGNMENTS, draw_instance, module_name
from ca14lib.grading.notebooks import read_assignment

pytest.importorskip("nbgrader", reason="releasing needs the extra grading")

from ca14lib.grading import release
from ca14lib.grading.release import (
    check_release,
    find_source,
    is_source,
    read_secret,
    release_assignment,
    replace_file,
    split_sources,
    student_version,
)
from tests.grading import toy

SOURCES = Path(__file__).parents[2] / "notebooks" / "assignments"
SECRET = "a secret of sixteen characters or more"
DOUBLE = '''\
def double(x):
    """Twice the number.

    x: any shape.
    """
    ### BEGIN SOLUTION
    twice_of_it = 2 * x
    return twice_of_it
    ### END SOLUTION'''
MEANS = '''\
def row_means(x):
    """Mean of every row."""
    if x.ndim == 2:
        ### BEGIN SOLUTION
        return x.mean(axis=1)
        ### END SOLUTION


class Table:
    def shape(self, x):
        ### BEGIN SOLUTION
        return x.shape
        ### END SOLUTION'''
ACT = """\
### BEGIN SOLUTION
from pathlib import Path
Path("policy.safetensors").write_bytes(b"1")
### END SOLUTION


def act(observations):
    ### BEGIN SOLUTION
    return np.ones(len(observations), dtype=int) * int(open("policy.safetensors").read())
    ### END SOLUTION"""
ANSWERS = {"toy-double": DOUBLE, "toy-means": MEANS, "toy-act": ACT}
ANALYSIS = "### BEGIN SOLUTION\nTwice a number is a number.\n### END SOLUTION"
Change = Callable[[dict[str, Any]], None]

every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


def single_source(folder: Path, change: Change | None = None) -> Path:
    """A single source of the toy assignment with regions; ``change`` is given its cells by id."""
    cells = toy.cells(ANSWERS)
    cells[-1]["source"] = ANALYSIS
    cells[4]["metadata"]["ca14"] = {"stub": 'return the means, "[N]"'}
    cells[0] = toy.cell("toy-text", "## 1 A toy", "markdown")
    if change is not None:
        change({cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in cells})
    return toy.write(folder / "toy.ipynb", toy.notebook(cells, files=["policy.safetensors"]))


def by_key(notebook: Any) -> dict[str, Any]:
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells}


def given(path: Path) -> Any:
    return student_version(nbformat.read(path, as_version=4))


def solved(path: Path) -> dict[str, Any]:
    """The student version of a source with the source's solutions written into it, as JSON has it."""
    original, notebook = by_key(nbformat.read(path, as_version=4)), given(path)
    for key, cell in by_key(notebook).items():
        if cell.metadata.nbgrader.solution:
            lines = original[key].source.splitlines()
            cell.source = "\n".join(line for line in lines if line.strip() not in release.MARKS["SOLUTION"])
    return json.loads(nbformat.writes(notebook))


def real_source(name: str) -> Path:
    path = SOURCES / f"{module_name(name)}.ipynb"
    if not is_source(path):
        pytest.skip("the sources have been split off")
    return path


def test_solutions_become_stubs_that_say_what_to_write(tmp_path: Path) -> None:
    cells = by_key(given(single_source(tmp_path)))
    assert cells["toy-double"].source == (
        'def double(x):\n    """Twice the number.\n\n    x: any shape.\n    """\n'
        '    raise NotImplementedError("double: Twice the number.")'
    )
    assert '        raise NotImplementedError("return the means, \\"[N]\\"")\n' in cells["toy-means"].source
    assert cells["toy-act"].source == (
        'raise NotImplementedError("write your code here")\n\n\n'
        'def act(observations):\n    raise NotImplementedError("write act")'
    )
    assert cells["toy-analysis"].source == "*Write your answer here.*"


def test_hidden_tests_outputs_and_notes_for_authors_are_gone(tmp_path: Path) -> None:
    def change(cells: dict[str, Any]) -> None:
        cells["toy-setup"] |= {"outputs": [nbformat.v4.new_output("stream", text="noise")], "execution_count": 3}

    notebook = given(single_source(tmp_path, change))
    cells = by_key(notebook)
    first, last = toy.DOUBLE_TEST.splitlines()[0], toy.DOUBLE_TEST.splitlines()[-1]
    assert cells["toy-double-test"].source == f"{first}\n{last}"
    assert cells["toy-means-test"].source == toy.MEANS_TEST.splitlines()[0]
    assert cells["toy-double-test"].metadata.ca14 == {"category": "correctness"}
    assert "ca14" not in cells["toy-means"].metadata
    assert cells["toy-setup"].outputs == []
    assert cells["toy-setup"].execution_count is None
    text = nbformat.writes(notebook)
    assert [word for word in ("HIDDEN", "SOLUTION", "secret_input", "twice_of_it", "stub") if word in text] == []


def test_nbgrader_accepts_the_student_version_and_its_checksums(tmp_path: Path) -> None:
    from nbgrader.nbgraderformat import MetadataValidator
    from nbgrader.utils import compute_checksum

    notebook = given(single_source(tmp_path))
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    for cell in notebook.cells:
        assert cell.metadata.nbgrader.checksum == compute_checksum(cell)
        is_own = cell.metadata.nbgrader.solution
        assert (cell.metadata.deletable, cell.metadata.get("editable", True)) == (False, is_own)
    assert read_assignment(toy.write(tmp_path / "given.ipynb", notebook)).tests[0].points == 2


def test_the_source_itself_stays_as_it_is(tmp_path: Path) -> None:
    original = nbformat.read(single_source(tmp_path), as_version=4)
    before = copy.deepcopy(original)
    student_version(original)
    assert original == before


def test_a_source_that_fits_has_no_problems(tmp_path: Path) -> None:
    assert check_release(single_source(tmp_path)) == []


def replaced(key: str, old: str, new: str) -> Change:
    def change(cells: dict[str, Any]) -> None:
        assert old in cells[key]["source"]
        cells[key]["source"] = cells[key]["source"].replace(old, new)

    return change


FAULTS: list[tuple[str, Change, str]] = [
    (
        "other arguments",
        replaced("toy-double", "    ### END SOLUTION", "\ndef double(x, y):\n    return x\n    ### END SOLUTION"),
        r"toy-double: students are given double\(x\), the solution defines double\(x, y\)",
    ),
    (
        "another method",
        replaced(
            "toy-means", "return x.shape\n", "return x.shape\n\n    def shape(self):\n        return ()\n"
        ),
        r"given Table.shape\(self, x\), the solution defines Table.shape\(self\)",
    ),
    (
        "hidden line in Markdown",
        replaced("toy-text", "toy", "toy\n\nFor instance `secret_input = rng.normal(size=(2, 3))`."),
        "toy-double-test: a line that students must not see stands in toy-text: 'secret_input = rng",
    ),
    (
        "solution in the metadata",
        lambda cells: cells["toy-setup"]["metadata"].update(note="twice_of_it  = 2*x"),
        "toy-double: a line that students must not see stands in toy-setup: 'twice_of_it = 2",
    ),
    (
        "solution in a stub",
        lambda cells: cells["toy-means"]["metadata"].update(ca14={"stub": "return x.mean(axis=1)"}),
        "toy-means: a line that students must not see stands in toy-means",
    ),
    (
        "answer in a text",
        replaced("toy-text", "toy", "toy. Twice a number is a number."),
        "toy-analysis: a line that students must not see stands in toy-text",
    ),
    ("no region", replaced("toy-double", "### ", "# "), "toy-double: a mark stands alone on its line"),
    (
        "whole cell",
        lambda cells: cells["toy-double"].update(source=toy.DOUBLE),
        "toy-double is to be answered and has no region",
    ),
    ("no answer", replaced("toy-analysis", ANALYSIS, "*Your answer.*"), "toy-analysis is to be answered"),
    ("open region", replaced("toy-double", "    ### END SOLUTION", ""), "have to come in turns"),
    (
        "nested",
        replaced("toy-double", "    twice", "    ### BEGIN SOLUTION\n    twice"),
        "have to come in turns, got ### BEGIN SOLUTION, ### BEGIN SOLUTION, ### END",
    ),
    ("mark in a sentence", replaced("toy-double", "BEGIN SOLUTION", "BEGIN SOLUTION of it"), "stands alone"),
    (
        "solution in a locked cell",
        replaced("toy-setup", "unused", "### BEGIN SOLUTION\nhidden = 1\n### END SOLUTION\nunused"),
        "toy-setup has ### BEGIN SOLUTION and is not the kind of cell",
    ),
    (
        "hidden tests in an answer",
        replaced("toy-double", "    ### BEGIN", "    ### BEGIN HIDDEN TESTS\n    ### END HIDDEN TESTS\n    ### BEGIN"),
        "toy-double has ### BEGIN HIDDEN TESTS and is not the kind of cell",
    ),
    (
        "no Python with the solution",
        replaced("toy-double", "twice_of_it = 2 * x", "twice_of_it = = 2 * x"),
        "toy-double: with its regions it is not Python: invalid syntax, line 7",
    ),
    (
        "no Python without the solution",
        replaced("toy-double", "    ### END SOLUTION", "    y = (\n    ### END SOLUTION\n    )"),
        "toy-double: without its regions it is not Python: unmatched",
    ),
    (
        "name that only the solution defines",
        lambda cells: (
            replaced("toy-act", "from pathlib", "reference = 1\nfrom pathlib")(cells),
            replaced("toy-act-test", "chain =", "print(reference)\nchain =")(cells),
        ),
        "toy-act: toy-act-test uses reference, which only the solution defines",
    ),
    (
        "name that only a hidden line defines",
        replaced("toy-double-test", "check_true(double(1)", "print(secret_input)\ncheck_true(double(1)"),
        "toy-double-test: its public lines use secret_input, which only its hidden lines define",
    ),
    (
        "fails before the stub",
        replaced("toy-setup", "unused", "lost = 1 / 0\nunused"),
        "the student version stops in toy-setup, expected NotImplementedError of toy-double, the first stub: ZeroDiv",
    ),
    (
        "ends its process",
        replaced("toy-setup", "unused", "import os; os._exit(3)\nunused"),
        r"ends its own process \(status 3\)",
    ),
    (
        "a stub that is not reached",
        replaced("toy-double", "    ### BEGIN", "    if x is not None:\n        return 2 * x\n    ### BEGIN"),
        "toy-double-test passes although nothing is written",
    ),
    (
        "a stub behind another error",
        replaced("toy-double", "    ### BEGIN", "    undefined_name\n    ### BEGIN"),
        "the student version stops in toy-double-test, expected NotImplementedError of toy-double",
    ),
]  # fmt: skip


@pytest.mark.parametrize("change, said", [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_source_with_a_fault_is_not_released(change: Change, said: str, tmp_path: Path) -> None:
    source = single_source(tmp_path, change)
    problems = check_release(source)
    assert any(re.search(said, problem) for problem in problems), problems
    with pytest.raises(ValueError, match="not ready to be released"):
        release_assignment(source, tmp_path / "out", ["amara"], SECRET, progress=False)
    assert not (tmp_path / "out").exists()


@every_assignment
def test_the_assignments_of_the_course_fit_their_student_versions(name: str) -> None:
    assert check_release(real_source(name), run=False) == []


@every_assignment
@pytest.mark.slow
def test_the_assignments_run_to_their_first_stub_and_no_further(name: str) -> None:
    assert check_release(real_source(name)) == []


@every_assignment
def test_a_student_version_says_nothing_of_solutions_and_hidden_tests(name: str) -> None:
    text = nbformat.writes(given(real_source(name)))
    assert [word for word in ("BEGIN SOL", "END SOL", "HIDDEN", '"stub"') if word in text] == []
    assert "raise NotImplementedError(" in text


def out(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def released(source: Path, to: Path, *students: str, **options: Any) -> list[Path]:
    return release_assignment(source, to, students or ("amara", "bo"), SECRET, progress=False, **options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run of the student version, which other tests hold."""
    monkeypatch.setattr(release, "_runs_to_the_first_stub", lambda *_: [])


@pytest.mark.usefixtures("quick")
def test_everyone_gets_the_notebook_and_an_instance_of_their_own(tmp_path: Path) -> None:
    source = real_source("introduction")
    assert len(released(source, tmp_path / "out")) == 4
    files = out(tmp_path / "out")
    assert set(files) == {
        f"{student}/{name}" for student in ("amara", "bo") for name in ("introduction.ipynb", "instance.json")
    } | {".introduction.released.json"}
    assert files["amara/introduction.ipynb"] == files["bo/introduction.ipynb"]
    for student in ("amara", "bo"):
        assert json.loads(files[f"{student}/instance.json"]) == draw_instance("introduction", SECRET, student)
    assert files["amara/instance.json"] != files["bo/instance.json"]


@pytest.mark.usefixtures("quick")
def test_a_second_release_writes_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    source, to = single_source(tmp_path), tmp_path / "out"
    released(source, to, archives=True)
    before = out(to)
    assert released(source, to, archives=True) == []
    (to / "bo" / "instance.json").unlink()
    assert released(source, to, archives=True) == [to / "bo" / "instance.json"]
    assert out(to) == before
    assert len(released(source, to, "carl")) == 2
    assert before.items() <= {**out(to), ".toy.released.json": before[".toy.released.json"]}.items()


@pytest.mark.usefixtures("quick")
def test_a_mended_source_replaces_what_was_released_and_no_work_of_a_student(tmp_path: Path) -> None:
    source, to = single_source(tmp_path), tmp_path / "out"
    released(source, to)
    (to / "bo" / "toy.ipynb").write_text("the work of bo")
    mended = single_source(tmp_path, replaced("toy-text", "A toy", "A mended toy"))
    before = out(to)
    with pytest.raises(FileExistsError, match=r"bo/toy.ipynb differs from what was released: --overwrite"):
        released(mended, to)
    assert out(to) == before
    assert released(mended, to, "amara") == [to / "amara" / "toy.ipynb"]
    assert released(mended, to, overwrite=True) == [to / "bo" / "toy.ipynb"]
    assert b"A mended toy" in (to / "bo" / "toy.ipynb").read_bytes()


@pytest.mark.usefixtures("quick")
def test_a_release_that_was_killed_is_known_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, to = single_source(tmp_path), tmp_path / "out"

    def killed(path: Path, content: bytes) -> None:
        if path.parent.name == "bo":
            raise KeyboardInterrupt
        replace_file(path, content)

    monkeypatch.setattr(release, "replace_file", killed)
    with pytest.raises(KeyboardInterrupt):
        released(source, to)
    monkeypatch.setattr(release, "replace_file", replace_file)
    mended = single_source(tmp_path, replaced("toy-text", "A toy", "A mended toy"))
    assert len(released(mended, to)) == 3


@pytest.mark.usefixtures("quick")
def test_two_assignments_do_not_share_a_folder(tmp_path: Path) -> None:
    released(single_source(tmp_path), tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"holds toy.ipynb, whose instance.json would be replaced"):
        released(real_source("introduction"), tmp_path / "out", overwrite=True)


@pytest.mark.usefixtures("quick")
def test_an_archive_holds_the_same_files(tmp_path: Path) -> None:
    released(single_source(tmp_path), tmp_path / "out", archives=True)
    with zipfile.ZipFile(tmp_path / "out" / "bo.zip") as archive:
        assert sorted(archive.namelist()) == ["toy/instance.json", "toy/toy.ipynb"]
        assert archive.read("toy/toy.ipynb") == (tmp_path / "out" / "bo" / "toy.ipynb").read_bytes()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "students, said",
    [
        (["../bo"], "slash"),
        (["bo\\x"], "backslash"),
        ([".bo"], "begins with a dot"),
        (["bo\n"], "space|control"),
        (["b\0o"], "control"),
        ([""], "is empty"),
        (["bo", "Bo"], "the same folder"),
        ([], "no students"),
    ],
)
def test_ids_that_name_no_folder_are_refused(students: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        release_assignment(single_source(tmp_path), tmp_path / "out", students, SECRET, progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FileExistsError, match="out is a file, expected a folder"):
        released(single_source(tmp_path), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert out(tmp_path) == {"file": b"old"}


def test_the_secret_is_one_line_without_blanks_around(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbf  0123456789abcdef\r\n")
    assert read_secret(path) == "0123456789abcdef"


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "holds 0 characters, expected one line of at least 16"),
        (b"0123456789abcde\n   ", "holds 15 characters"),
        (b"0123456789\nabcdefghij", "expected one line"),
        ("0123456789abcdefä".encode("latin1"), "not text in UTF-8"),
    ],
)
def test_a_secret_that_can_be_guessed_or_is_no_text_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_secret(tmp_path / "secret")


def test_a_missing_secret_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ca14 assignment split"):
        read_secret(tmp_path / "secret")


def test_a_source_is_found_in_its_folder_or_in_the_private_one(tmp_path: Path) -> None:
    path = single_source(tmp_path / "private" / "sources")
    for place in (path, path.parent, tmp_path / "private"):
        assert find_source(place, "toy") == path
    with pytest.raises(FileNotFoundError, match=r"safe\.ipynb is missing: --source names"):
        find_source(tmp_path, "safe")
    with pytest.raises(ValueError, match="is the assignment 'toy', expected 'safe'"):
        find_source(path, "safe")
    toy.write(tmp_path / "toy.ipynb", given(path))
    with pytest.raises(ValueError, match="is a student version"):
        find_source(tmp_path, "toy")


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course with one assignment and its cases, in a git repository."""
    folder = tmp_path / "course"
    single_source(folder / "notebooks" / "assignments")
    cases = folder / "tests" / "assignments"
    (cases / "__pycache__").mkdir(parents=True)
    (cases / "toy_cases.py").write_text("MUTANTS = {}")
    (cases / "__pycache__" / "toy_cases.pyc").write_bytes(b"compiled")
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    (folder / ".gitignore").write_text("private/\n")
    return folder


def test_splitting_moves_sources_and_cases_and_leaves_student_versions(course: Path, tmp_path: Path) -> None:
    source = (course / "notebooks" / "assignments" / "toy.ipynb").read_bytes()
    private = tmp_path / "private"
    done = split_sources(course, private)
    assert [path.as_posix() for path in done.moved] == [
        "notebooks/assignments/toy.ipynb",
        "tests/assignments/toy_cases.py",
    ]
    assert done.in_git
    assert out(private) == {
        "sources/toy.ipynb": source,
        "tests/assignments/toy_cases.py": b"MUTANTS = {}",
        "secret": done.secret.read_bytes(),
    }
    assert not (course / "tests" / "assignments").exists()
    left = course / "notebooks" / "assignments" / "toy.ipynb"
    assert not is_source(left)
    assert nbformat.read(left, as_version=4) == given(private / "sources" / "toy.ipynb")
    assert (done.secret.stat().st_mode & 0o777, private.stat().st_mode & 0o777) == (0o600, 0o700)
    assert len(read_secret(done.secret)) > 40


def test_splitting_twice_changes_nothing(course: Path, tmp_path: Path) -> None:
    split_sources(course, tmp_path / "private")
    before = out(tmp_path)
    assert split_sources(course, tmp_path / "private").moved == []
    assert out(tmp_path) == before


def test_a_split_that_is_stopped_loses_nothing_and_goes_on(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {path: data for path, data in out(course).items() if path.endswith(("toy.ipynb", "cases.py"))}
    stops = 0
    for at in range(20):
        copied, private = tmp_path / f"course {at}", tmp_path / f"private {at}"
        shutil.copytree(course, copied)
        with monkeypatch.context() as patch:
            stop_at(at, patch)
            try:
                split_sources(copied, private)
            except KeyboardInterrupt:
                stops += 1
        everywhere = {*out(copied).values(), *(out(private).values() if private.exists() else ())}
        assert set(moved.values()) <= everywhere
        split_sources(copied, private)
        assert not (copied / "tests" / "assignments").exists()
        assert not is_source(copied / "notebooks" / "assignments" / "toy.ipynb")
        assert set(moved.values()) <= set(out(private).values())
        assert (private / "secret").is_file()
    assert 5 < stops < 20


def stop_at(at: int, patch: pytest.MonkeyPatch) -> None:
    """Let the write or removal of that number be interrupted."""
    calls = itertools.count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if next(calls) == at:
                raise KeyboardInterrupt
            return function(*args, **options)

        return call

    patch.setattr(release.os, "fsync", counted(release.os.fsync))
    for name in ("replace", "unlink", "read_bytes"):
        patch.setattr(Path, name, counted(getattr(Path, name)))


def test_a_private_folder_in_the_course_has_to_be_ignored_by_git(course: Path) -> None:
    for inside in ("answers", ".", "notebooks"):
        with pytest.raises(ValueError, match="git does not ignore it"):
            split_sources(course, course / inside)
    assert is_source(course / "notebooks" / "assignments" / "toy.ipynb")
    split_sources(course, course / "private")
    assert is_source(course / "private" / "sources" / "toy.ipynb")


def test_a_private_folder_with_other_content_is_refused(course: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds thesis\.tex"):
        split_sources(course, private)
    with pytest.raises(FileExistsError, match="is a file"):
        split_sources(course, private / "thesis.tex")
    (private / "thesis.tex").unlink()
    single_source(private / "sources", replaced("toy-text", "A toy", "Another toy"))
    before = out(tmp_path)
    with pytest.raises(FileExistsError, match="remove the one that is out of date"):
        split_sources(course, private)
    assert out(tmp_path) == before


def test_what_is_split_off_elsewhere_or_no_course_is_refused(course: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the folder of the course"):
        split_sources(tmp_path, tmp_path / "private")
    split_sources(course, tmp_path / "private")
    with pytest.raises(FileNotFoundError, match=r"has no solutions, and .*second does not hold them"):
        split_sources(course, tmp_path / "second")


def test_a_source_with_a_fault_is_not_split_off(course: Path, tmp_path: Path) -> None:
    single_source(course / "notebooks" / "assignments", replaced("toy-analysis", ANALYSIS, "open"))
    before = out(tmp_path)
    with pytest.raises(ValueError, match="toy-analysis is to be answered"):
        split_sources(course, tmp_path / "private")
    assert out(tmp_path) == before
