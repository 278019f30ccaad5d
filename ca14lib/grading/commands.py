"""The commands ``ca14 assignment release``, ``check`` and ``split``, and ``ca14 grade``.

Book: assignments/students, assignments/instructors.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from ca14lib.grading.course import Graded
    from ca14lib.grading.public import PublicRun

# Heavy imports wait until a command needs them, as in ca14lib.cli.

NEEDS_GRADING = "this command needs nbgrader: pip install 'ca14lib[grading]'"
COLOURS = {"passed": "green", "failed": "red", "not written yet": "yellow"}

assignment_app = typer.Typer(help="Hand out assignments, check one's own, keep the sources.", no_args_is_help=True)
console = Console()


@assignment_app.command("release")
def release(
    name: Annotated[
        str, typer.Argument(help="Assignment: introduction, offline, safe, multi-agent, robust or evaluation.")
    ],
    source: Annotated[Path, typer.Option(help="Folder of the single sources, with solutions and hidden tests.")],
    to: Annotated[Path, typer.Option(help="Folder to write, with a folder for each student.")],
    secret_file: Annotated[Path, typer.Option(help="File with the secret of the term; instances are drawn from it.")],
    roster: Annotated[Path | None, typer.Option(help="CSV file of the class, with a column student.")] = None,
    student: Annotated[str | None, typer.Option(help="One student instead of a roster.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that were changed since they were released.")] = False,
    archives: Annotated[bool, typer.Option("--zip", help="Write a zip archive for each student, too.")] = False,
) -> None:
    """Write every student's copy of an assignment, without solutions and hidden tests, and with an own instance."""
    from ca14lib.grading.instances import ASSIGNMENTS
    from ca14lib.grading.roster import read_roster

    if name not in ASSIGNMENTS:
        raise ValueError(f"there is no assignment {name!r}; there are {', '.join(ASSIGNMENTS)}")
    if (roster is None) == (student is None):
        raise ValueError("--roster names the file of the class, --student a single one: give one of the two")
    with _one_line():
        from ca14lib.grading.release import find_source, read_secret, release_assignment

        students = [student] if student is not None else list(read_roster(roster or ""))
        secret, path = read_secret(secret_file), find_source(source, name)
        _say(f"{name}: comparing the student version with its source, and running it to the first stub")
        written = release_assignment(path, to, students, secret, overwrite=overwrite, archives=archives)
    count = "1 student" if len(students) == 1 else f"{len(students):,} students"
    _say(f"{name}: {count} in {to}, {len(written):,} files written")
    if secret_file.resolve().is_relative_to(to.resolve()):
        _warn(f"{secret_file} lies in {to}, which is handed out: move it elsewhere, it tells everybody's instance")


@assignment_app.command("check")
def check(
    notebook: Annotated[
        Path | None, typer.Argument(help="Notebook or its folder; by default the one in the present folder.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Only this task: its number, or the id of its cell, such as tail or safe-tail.")
    ] = None,
) -> None:
    """Run the cells and the public tests of your notebook, on this computer and without the grader."""
    from ca14lib.grading.public import find_notebook, run_public_tests

    os.environ["MPLBACKEND"] = "Agg"  # a window would wait for somebody to close it
    with _one_line():
        path = find_notebook(notebook)
        _say(f"{path.name}: running its cells and public tests; Ctrl-C stops")
        result = run_public_tests(path, task=task)
    console.print(_table(result))
    for note in result.notes:
        _say(f"- {note}")
    _say(f"public tests: {_points(result.score)} of {_points(result.maximum)} points")
    _say("Hidden tests with other inputs decide the mark. They ask for nothing that the tasks do not state.")
    if not result.passed:
        raise typer.Exit(1)


@assignment_app.command("split")
def split(
    to: Annotated[Path, typer.Option(help="Private folder for sources, hidden tests and the secret of the term.")],
    course: Annotated[Path, typer.Option(help="Folder of the course; by default the present one.")] = Path(),
) -> None:
    """Move solutions and hidden tests into a private folder and leave the student versions in their place."""
    with _one_line():
        from ca14lib.grading.release import split_sources

        done = split_sources(course, to)
    for path in done.moved:
        _say(f"moved {path}")
    if not done.moved:
        _say(f"nothing is left to be moved: {to} holds it already")
    _say(f"the secret of the term is in {done.secret}; keep a copy of the folder where only graders can read it")
    _say("notebooks/assignments holds the student versions; `ca14 assignment release` gives each an instance.json")
    if done.in_git:
        _warn(
            "git's history still holds what was committed before. Publish the course from a history that begins now:\n"
            '    git checkout --orphan published && git add --all && git commit --message "The course"\n'
            "    git push ADDRESS_OF_A_NEW_REPOSITORY published:main\n"
            "and push no other branch or tag there."
        )


def grade(
    submissions: Annotated[
        Path, typer.Argument(help="Folder with a folder or a zip archive per student, named by the student's id.")
    ],
    assignment: Annotated[str, typer.Option(help="Name of the assignment, for example offline.")],
    course: Annotated[
        Path, typer.Option(help="Private folder of the course: gradebook, marks, feedback, reports. Made if missing.")
    ],
    secret_file: Annotated[Path, typer.Option(help="The term's secret, with which instances were released.")],
    source: Annotated[Path, typer.Option(help="Folder of the single sources with solutions and hidden tests.")] = Path(
        "notebooks/assignments"
    ),
    roster: Annotated[
        Path | None, typer.Option(help="CSV file of the class; who is on it and handed in nothing is listed with 0.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes; one per core if left out.", min=1)] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT, in place of processes here.")
    ] = None,
    due: Annotated[
        str | None, typer.Option(help="When it was due, ISO 8601 with a zone: 2026-12-01T23:59+01:00. Is kept.")
    ] = None,
    times: Annotated[
        Path | None, typer.Option(help="CSV file with the columns student and submitted, times as for --due.")
    ] = None,
    late_per_day: Annotated[float, typer.Option(help="Share of the points for every late day that has begun.")] = 0.1,
    late_maximum: Annotated[float, typer.Option(help="Largest share that lateness costs.")] = 0.5,
    grace_minutes: Annotated[float, typer.Option(help="Minutes after the due time that cost nothing.")] = 0.0,
    similarity: Annotated[bool, typer.Option(help="Write the report on submissions that look alike.")] = True,
) -> None:
    """Grade all submissions of an assignment; run again it goes on where it stopped, and takes over marks by hand."""
    with _one_line():
        from ca14lib.grading.course import grade_course
        from ca14lib.grading.release import read_secret
        from ca14lib.grading.roster import read_roster
        from ca14lib.grading.sandbox import SandboxError

        late = None
        if due is not None:
            from ca14lib.grading.gradebook import late_policy

            late = late_policy(due, times, late_per_day, late_maximum, grace_minutes)
        elif times is not None:
            raise ValueError("--times needs --due: when was it due?")
        secret = read_secret(secret_file)
        students = read_roster(roster) if roster is not None else None
        try:
            graded = grade_course(
                submissions, assignment, course, source=source, secret=secret, roster=students, late=late, jobs=jobs,
                scheduler=dask, similarity=similarity,
            )  # fmt: skip
        except (SandboxError, RuntimeError) as problem:
            raise ValueError(str(problem)) from problem
        except KeyboardInterrupt:
            _warn("stopped; marks that were written stay, and the same command goes on with what is missing")
            raise
    console.print(_grades(graded))
    for text in graded.ignored:
        _say(f"not graded: {text}")
    handed_in = {result.student for result in graded.results}
    if students is not None and (others := sorted(handed_in - set(students))):
        _warn(f"not on the roster, but graded: {', '.join(others)}; is a folder or an archive misspelt?")
    if late is not None and (others := sorted(set(late.submitted) - handed_in - set(students or ()))):
        _warn(f"in {times}, but neither graded nor on the roster: {', '.join(others)}; is an id misspelt?")
    for kind, path in {"reports": graded.reports, "feedback": course.resolve() / "feedback"}.items():
        _say(f"{kind}: {path}")
    if any(result.needs_marking for result in graded.results):
        _say(f"answers wait for marks by hand: open formgrader with `jupyter lab` in {course}, then run this again")
    if graded.ungraded:
        _warn(f"to be graded by hand: {', '.join(graded.ungraded)}")
        raise typer.Exit(1)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Errors of files and of missing packages in the form that ``ca14`` prints in one line.

    Raises:
        ValueError: In place of an error of the file system.
        ImportError: If the extra is not installed.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError) as problem:
        if problem.errno is None:  # raised here, in words
            raise
        raise ValueError(f"{problem.filename}: {problem.strerror}") from problem
    except ModuleNotFoundError as problem:
        raise ImportError(f"{NEEDS_GRADING} ({problem})") from None
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        raise ValueError(f"{where}{problem.strerror or problem}") from problem


def _grades(graded: Graded) -> Table:
    from ca14lib.grading.session import printable_text

    table = Table(
        Column("student", no_wrap=True), Column("points", justify="right"), Column("tests", justify="right"), "by hand",
        "late", "remark", title=f"{graded.assignment.name}: {len(graded.results)} submissions",
    )  # fmt: skip
    for result in graded.results:
        waiting = sum(points is None for points in result.manual.values())
        table.add_row(
            escape(result.student),
            f"{result.score:.4g} of {result.maximum:.4g}",
            f"{result.test_score:.4g}",
            f"{result.manual_score:.4g}" + (f", {waiting} to mark" if waiting else ""),
            f"−{result.late_penalty:.3g}" if result.late_penalty else "",
            escape(printable_text(result.problem)),
        )
    return table


def _table(result: PublicRun) -> Table:
    table = Table(Column("task"), Column("points", justify="right"), Column("public test"), title=result.assignment)
    for task in result.tasks:
        colour = COLOURS.get(task.state, "default")
        words = f"[{colour}]{task.state}[/]" + (f": {escape(task.message)}" if task.message else "")
        table.add_row(escape(task.title), _points(task.points), words)
    return table


def _points(points: float) -> str:
    return f"{points:g}"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _warn(text: str) -> None:
    console.print(f"[bold yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)
