"""The page that a student gets back: points and reasons, no hidden test, nothing that could run in a browser."""

import builtins
import html
import re
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

import nbformat

from ca14lib.grading.batch import Judged
from ca14lib.grading.folders import replace_file
from ca14lib.grading.instances import module_name
from ca14lib.grading.notebooks import Assignment, Cell
from ca14lib.grading.results import Result

# No script and nothing from elsewhere is loaded, whatever slipped through the escaping.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1a1a1a; --line: #767676; --good: #0b6623; --bad: #a4161a;
  --soft: #f3f3f3; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181c; --ink: #e8e8e8; --good: #7bd88f; --bad: #ff9a9a; --soft: #26292e; }
}
html { background: var(--page); color: var(--ink); }
body { font: 1rem/1.55 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left; vertical-align: top; }
td.points, th.points { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
td:last-child { overflow-wrap: anywhere; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 0; }
@media (max-width: 40rem) {
  thead { position: absolute; left: -9999px; }
  tr { display: block; border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td, th { display: block; border: 0; padding: .1rem 0; }
  td.points { text-align: left; }
}
"""
OPEN = "not marked yet"
STUB = re.compile(r"^NotImplementedError: (.+) \(cell .+: raise NotImplementedError\(.+\)\)$", re.DOTALL)


def titles(released: str) -> dict[str, str]:
    """The heading over every graded cell of a released notebook, by the id of the cell.

    Args:
        released: Text of the notebook as students got it.
    """
    found: dict[str, str] = {}
    heading = ""
    for cell in nbformat.reads(released, as_version=4).cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,4} +(.+)$", cell.source, re.MULTILINE)
            heading = headings[-1].strip() if headings else heading
        if cell.metadata.get("nbgrader", {}).get("grade"):
            found[cell.metadata.nbgrader.grade_id] = heading or cell.metadata.nbgrader.grade_id
    return found


def feedback_page(result: Result, judged: Judged, assignment: Assignment, headings: Mapping[str, str]) -> str:
    """A page of its own, without scripts, readable offline and on a phone.

    Args:
        result: Points as they stand in the gradebook.
        judged: The judge's marks and the student's texts.
        assignment: Its single source.
        headings: From :func:`titles`.
    """
    name = f"{_text(assignment.name)} of {_text(result.student)}"
    points = f"{_points(result.score)} of {_points(result.maximum)} points"
    open_marks = " so far: some answers are not marked yet" if result.needs_marking else ""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>Feedback: {name}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>Feedback: {name}</h1>",
        f"<p><strong>{points}</strong>{open_marks}.</p>",
        _about(result, judged),
        _table(result, assignment, headings),
    ]
    for cell in assignment.manual:
        parts.append(_manual(cell, result, judged, headings.get(cell.key, cell.key)))
    errors = judged.grade.errors if judged.grade is not None else {}
    if errors:
        parts.append("<h2>Cells that failed</h2><p>Restart the kernel and run all cells to see where.</p><ul>")
        parts += [f"<li>{_text(where)}: {_kind(error)}</li>" for where, error in errors.items()]
        parts.append("</ul>")
    parts.append(
        "<h2>How this was graded</h2><p>Your cells ran in a fresh process with the files that you handed in and your "
        "own instance; tests came from the assignment, with inputs drawn anew. Of a hidden test you are told where the "
        "book explains what it asks for, not its inputs. A number that you print counts for nothing.</p>"
    )
    return "\n".join([*parts, "</main></body></html>\n"])


def write_feedback(
    results: list[Result], judged: list[Judged], assignment: Assignment, course: str | Path
) -> list[Path]:
    """Write the page of every student, ``feedback/STUDENT/NAME.html``, where it has changed.

    Returns:
        The pages, in the order of the results.
    """
    course = Path(course)
    released = course / "release" / assignment.name / f"{module_name(assignment.name)}.ipynb"
    headings = titles(released.read_text("utf8"))
    paths = []
    for result, one in zip(results, judged, strict=True):
        path = course / "feedback" / result.student / f"{assignment.name}.html"
        text = feedback_page(result, one, assignment, headings)
        if not path.is_file() or path.read_text("utf8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text)
        paths.append(path)
    return paths


def _about(result: Result, judged: Judged) -> str:
    lines = []
    if result.problem:
        lines.append(f'<strong class="bad">Your submission could not be graded</strong>: {_text(result.problem)}.')
    for note in (*judged.notes, *(judged.grade.notes if judged.grade is not None else ())):
        lines.append(f"Noticed: {_text(note)}.")
    if result.submitted is not None:
        lines.append(f"Handed in {result.submitted.astimezone(UTC):%d %B %Y, %H:%M} UTC.")
    if result.late_penalty:
        lines.append(f"Handed in late: {_points(result.late_penalty)} points are taken off.")
    return "".join(f"<p>{line}</p>" for line in lines)


def _table(result: Result, assignment: Assignment, headings: Mapping[str, str]) -> str:
    marks = {mark.key: mark for mark in result.grade.marks} if result.grade is not None else {}
    rows: list[tuple[Cell, float | None, str, bool]] = []
    for cell in assignment.tests:
        mark = marks.get(cell.key)
        reached = result.replaced.get(cell.key, mark.points if mark is not None else 0.0)
        message = mark.message if mark is not None else "This test was not run."
        message = STUB.sub(r"Not written yet: \1", message)
        if cell.key in result.replaced:
            message = f"Points were set by hand. {result.comments.get(cell.key, '')} {message}".strip()
        rows.append((cell, reached, message or "passed", not message))
    for cell in assignment.manual:
        points = result.manual.get(cell.key)
        message = OPEN if points is None else result.comments.get(cell.key, "marked by hand")
        rows.append((cell, points, message, points == cell.points))
    lines = [
        "<table><thead><tr><th scope=col>Task</th><th scope=col>Points for</th>"
        '<th scope=col class="points">Points</th><th scope=col>Why</th></tr></thead><tbody>'
    ]
    for cell, shown_points, message, good in rows:
        shown = "–" if shown_points is None else _points(shown_points)
        kind = "good" if good else "bad" if shown_points == 0 else ""  # marks by hand may lie in between
        lines.append(
            f"<tr><th scope=row>{_text(headings.get(cell.key, cell.key))}</th><td>{_text(cell.category)}</td>"
            f'<td class="points">{shown} of {_points(cell.points)}</td><td class="{kind}">{_text(message)}</td></tr>'
        )
    return "\n".join([*lines, "</tbody></table>"])


def _manual(cell: Cell, result: Result, judged: Judged, heading: str) -> str:
    points = result.manual.get(cell.key)
    shown = OPEN if points is None else f"{_points(points)} of {_points(cell.points)} points"
    answer = judged.texts.get(cell.key, "")
    comment = result.comments.get(cell.key, "")
    return (
        f"<h2>{_text(heading)}</h2><p>Marked by hand: {shown}.</p>"
        + (f"<p><strong>Comment</strong>: {_text(comment)}</p>" if comment else "")
        + (f"<p>Your answer:</p><pre>{_text(answer)}</pre>" if answer.strip() else "<p>There is no answer.</p>")
    )


def _kind(error: str) -> str:
    """The class of an error: its message could carry what a hidden test gave to the student's code."""
    name = error.partition(":")[0]
    found = getattr(builtins, name, None)
    return name if isinstance(found, type) and issubclass(found, BaseException) else "an error"


def _text(text: str) -> str:
    """As it is, without what HTML or a terminal would take for an instruction."""
    clean = "".join(c for c in text if c in "\n\t" or (c.isprintable() and not "\ud800" <= c <= "\udfff") or c == " ")
    return html.escape(clean)


def _points(points: float) -> str:
    return f"{points:.4g}"
