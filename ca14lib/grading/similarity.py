"""Which submissions of a class look alike: pairs for a person to read, no verdicts.

Texts are compared as copydetect does it: names become one letter, comments and spaces are left out, and what two
texts share are the runs of at least :data:`RUN` characters of this reduced code, wherever they stand. Names, comments,
layout and order of functions therefore do not matter. What the assignment itself gives (signatures, docstrings, code
to be mended) does not count.

The share from which a pair is shown, 0.4, was chosen from the solutions that test the six assignments, 240 pairs each.
Independent right solutions share 0.06 in the median and 0.35 at most; copies with other names, comments and order of
functions 0.98 and at least 0.87; copies in which every assignment to a name was rewritten as well 0.85 and at least
0.67; copies of half of the tasks 0.61, and 98 of 100 are above 0.4; copies of one task of four to eight 0.24, and 10 of
100 are above it. The independent ones were written to differ, so expect more in common in a class.

Every run is a fingerprint here, where winnowing keeps one in a window: the class is small enough, and which ones
winnowing keeps depends on the hashes of the process, so that the same class would give other numbers every time.
"""

import ast
import html
import importlib
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ca14lib.grading.folders import replace_file

RUN = 25  # characters of reduced code, about nine tokens: the shortest run that counts; copydetect's default
LEAST = 100  # characters of reduced code of a student's own: of fewer, no share is stated
LONGEST = 100_000  # characters of a student's text; the rest is not compared
MOST_NAMED = 5  # cells of a student that do not parse
MOST_SHOWN, MOST_LISTED = 50, 500  # pairs whose text the page shows, and pairs in its table

LIMITS = (
    "This page is no verdict. Short functions that solve the same task look alike, whoever wrote them; names and "
    "comments are left out, so that it sees neither who wrote first nor whether two students used the same source, "
    "talked to one another or asked a language model; and a single copied task among many is a small share. "
    "A person has to read both texts, and to hear both students, before anything follows from it."
)


@dataclass(frozen=True)
class SimilarityReport:
    """What is alike in a class.

    Attributes:
        pairs: ``student``, ``other``, ``tokens`` (characters of reduced code that they share, counted in the smaller of
            the two) and ``share`` of the smaller's own, the most alike first; every pair of students with text enough.
        reference: ``student``, ``tokens`` and ``share`` that each has in common with the reference solution.
        problems: ``student`` and ``problem``: what does not parse, is too long or too short.
        threshold: Share from which the page shows a pair.
        page: The page, HTML that needs nothing else.
    """

    pairs: pd.DataFrame
    reference: pd.DataFrame
    problems: pd.DataFrame
    threshold: float
    page: str

    def write(self, path: str | Path) -> None:
        """Write the page, atomically."""
        replace_file(Path(path), self.page)


@dataclass(frozen=True)
class _Text:
    """A student's cells, one behind the other, and their fingerprints.

    Attributes:
        student: Whose they are.
        cells: Id, start and end of each.
        text: All of it.
        runs: Hash of the run that begins at each character of the reduced code, 0 where it is of the given text.
        own: Characters of reduced code that are not of the given text.
        offsets: Where a character of the reduced code stands in the text, as copydetect has it.
    """

    student: str
    cells: tuple[tuple[str, int, int], ...]
    text: str
    runs: np.ndarray
    own: int
    offsets: np.ndarray


def similarity_report(
    submissions: Mapping[str, Mapping[str, str]],
    *,
    given: Iterable[str] = (),
    reference: Mapping[str, str] | None = None,
    threshold: float = 0.4,
    title: str = "",
    progress: bool = True,
) -> SimilarityReport:
    """Compare every submission with every other.

    Args:
        submissions: For every student, the text of the solution cells by id.
        given: Text that counts for nothing: the cells of the student version.
        reference: Text of the reference solution by cell id, which each student is compared with as well; it never
            stands beside a student's text on the page.
        threshold: Share from which the page shows a pair.
        title: Of the page, the assignment's name.
        progress: Whether to show a progress bar.
    Raises:
        ValueError: If the threshold is not in (0, 1].
        ImportError: If copydetect is not installed.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}")
    utils = _copydetect_utils()
    known = np.concatenate([_runs(_plain(text), utils)[0] for text in given] or [np.zeros(0, np.int64)])
    problems: list[tuple[str, str]] = []
    texts = []
    for student in tqdm(sorted(submissions), disable=not progress, desc="fingerprints", unit="student"):
        text, found = _fingerprinted(student, submissions[student], known, utils)
        problems += [(student, problem) for problem in found]
        texts += [text] if text.own >= LEAST else []
    model = _fingerprinted("", reference or {}, known, utils)[0]
    compared = [*texts, model]
    covered = _covered(compared, progress)
    own = np.array([text.own for text in compared])
    first, second = np.triu_indices(len(texts), 1)
    swap = own[second] < own[first]
    smaller, larger = np.where(swap, second, first), np.where(swap, first, second)
    tokens = covered[smaller, larger]
    names = np.array([text.student for text in texts], dtype=object)
    pairs = pd.DataFrame(
        {"student": names[first], "other": names[second], "tokens": tokens, "share": tokens / own[smaller]}
    ).sort_values(["share", "tokens", "student", "other"], ascending=[False, False, True, True], ignore_index=True)
    near = covered[:-1, -1]
    references = pd.DataFrame({"student": names, "tokens": near, "share": near / own[:-1]}).sort_values(
        ["share", "student"], ascending=[False, True], ignore_index=True
    )
    faults = pd.DataFrame(problems, columns=["student", "problem"])
    by_name = {text.student: text for text in texts}
    shown = [
        (row, _side_by_side(by_name[row.student], by_name[row.other], utils))
        for row in pairs[pairs["share"] >= threshold].head(MOST_SHOWN).itertuples()
    ]
    page = _page(pairs[pairs["share"] >= threshold], shown, references, faults, threshold, title, len(submissions))
    return SimilarityReport(pairs, references, faults, threshold, page)


def _copydetect_utils() -> Any:
    try:
        return importlib.import_module("copydetect.utils")
    except ImportError as problem:
        raise ImportError(
            f"the similarity report needs copydetect ({problem}): pip install 'ca14lib[grading]'"
        ) from None


def _plain(text: str) -> str:
    """The text as the tokeniser takes it: it would shift what comes behind line ends that it changes.

    Spaces at the ends of lines go: on many lines of nothing else, the tokeniser takes quadratic time.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _runs(text: str, utils: Any) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the runs that begin at each character of the reduced code, and where that stands in the text."""
    reduced, offsets = utils.filter_code(text, "cells.py")
    # copydetect forgets the sum at the name of a class
    offsets = np.stack([offsets[:, 0], np.maximum.accumulate(offsets[:, 1])], axis=1)
    return utils.hashed_kgrams(reduced, RUN).astype(np.int64), offsets


def _fingerprinted(student: str, cells: Mapping[str, str], known: np.ndarray, utils: Any) -> tuple[_Text, list[str]]:
    """A student's text with its fingerprints, and what is the matter with it."""
    problems, faulty, parts, places, start, left = [], [], [], [], 0, LONGEST
    if sum(map(len, cells.values())) > LONGEST:
        problems.append(f"more than {LONGEST:,} characters of code: the rest is not compared")
    for cell, source in cells.items():
        part, is_whole = _plain(source[:left]), len(source) <= left
        left = max(left - len(source), 0)
        places.append((cell, start, start + len(part)))
        parts.append(part)
        start += len(part) + 1
        if is_whole and (problem := _syntax_problem(part)):
            faulty.append(f"{cell} ({problem})")
    if faulty:
        more = f" and {len(faulty) - MOST_NAMED} more" if len(faulty) > MOST_NAMED else ""
        problems.append(f"does not parse, compared as it stands: {', '.join(faulty[:MOST_NAMED])}{more}")
    text = "\n".join(parts)
    if not text.strip():
        return _Text(student, tuple(places), text, np.zeros(0, np.int64), 0, np.zeros((1, 2), int)), [
            *problems,
            "no code: nothing to compare",
        ]
    # The tokeniser leaves out empty lines at the start, and everything behind would be marked in a wrong place.
    offset = len(text) - len(text.lstrip("\n"))
    runs, offsets = _runs(text[offset:], utils)
    offsets[:, 1] += offset
    runs[np.isin(runs, known)] = 0
    covered = np.zeros(len(runs) + RUN, bool)
    for place in range(RUN):
        covered[np.flatnonzero(runs) + place] = True
    own = int(covered.sum())
    if own < LEAST:
        problems.append(f"{own} characters of reduced code of its own, fewer than {LEAST}: not compared")
    return _Text(student, tuple(places), text, runs, own, offsets), problems


def _syntax_problem(source: str) -> str:
    """Why it is not Python, empty if it is."""
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(source)
    except SyntaxError as problem:
        return f"line {problem.lineno}"
    except (ValueError, RecursionError, MemoryError) as problem:
        return type(problem).__name__
    return ""


def _covered(texts: Sequence[_Text], progress: bool) -> np.ndarray:
    """``[i, j]``: characters of text i in runs that text j has too, for all pairs; compare_files gives the same.

    For each j, one pass over the texts of everybody, laid out behind one another.
    """
    lengths = [len(text.runs) + RUN for text in texts]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    everything = np.zeros(starts[-1], np.int64)
    for start, text in zip(starts, texts, strict=False):
        everything[start : start + len(text.runs)] = text.runs
    numbers, inverse = np.unique(everything, return_inverse=True)
    inverse = inverse.astype(np.int32)
    covered = np.zeros((len(texts), len(texts)), int)
    there = np.zeros(len(numbers), bool)
    nothing = np.searchsorted(numbers, 0)
    for column in tqdm(range(len(texts)), disable=not progress, desc="pairs", unit="student"):
        there[:] = False
        there[inverse[starts[column] : starts[column + 1]]] = True
        there[nothing] = False
        count = np.cumsum(there[inverse], dtype=np.int32)
        count[RUN:] -= count[:-RUN].copy()  # runs that begin among the last RUN characters
        covered[:, column] = np.add.reduceat(count > 0, starts[:-1], dtype=int)
    return covered


def _side_by_side(one: _Text, other: _Text, utils: Any) -> list[tuple[str, str | None, str | None]]:
    """Id of every cell with something in common, and the cell's HTML of both with the matches marked."""
    common = np.intersect1d(one.runs[one.runs != 0], other.runs[other.runs != 0])
    marked = [_marked_cells(text, common, utils) for text in (one, other)]
    order = [cell for cell, _, _ in one.cells] + [cell for cell, _, _ in other.cells]
    rows = []
    for cell in dict.fromkeys(order):
        left, right = (cells.get(cell) for cells in marked)
        if any(side is not None and "<mark>" in side for side in (left, right)):
            rows.append((cell, left, right))
    return rows


def _marked_cells(text: _Text, common: np.ndarray, utils: Any) -> dict[str, str]:
    """The HTML of each cell, with what is in common in ``mark``."""
    slices = utils.get_copied_slices(np.flatnonzero(np.isin(text.runs, common)), RUN).astype(int)
    places = np.clip(np.searchsorted(text.offsets[:, 0], slices), 0, len(text.offsets) - 1)
    ranges = (slices + text.offsets[places, 1]).clip(0, len(text.text))
    cells = {}
    for cell, start, end in text.cells:
        pieces, at = [], start
        for left, right in ranges[:, (ranges[1] > start) & (ranges[0] < end)].T:
            left, right = max(left, at), min(right, end)
            matched = text.text[left:right].rstrip()
            if matched.strip():
                pieces += [_visible(text.text[at:left]), f"<mark>{_visible(matched)}</mark>"]
                at = left + len(matched)
        cells[cell] = "".join([*pieces, _visible(text.text[at:end])])
    return cells


def _visible(text: str) -> str:
    """Escaped for HTML, characters that cannot be seen or turn the direction of the text as escapes of Python."""
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    seen = (
        letter
        if letter in "\n\t" or unicodedata.category(letter) not in hidden
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
    return html.escape("".join(seen))


STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1rem auto; max-width: 90rem;
  padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2rem; } h3 { margin-top: 1.5rem; }
a { color: #0b4f9e; } .wide { overflow-x: auto; }
table { border-collapse: collapse; } caption { text-align: left; padding: .3rem 0; }
th, td { border-bottom: 1px solid #767676; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.sides { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
@media (max-width: 50rem) { .sides { grid-template-columns: minmax(0, 1fr); } }
pre { overflow-x: auto; background: #f4f4f4; border: 1px solid #767676; padding: .5rem; margin: .3rem 0; }
mark { background: #ffe08a; color: #000; }
"""


def _page(
    pairs: pd.DataFrame,
    shown: Sequence[tuple[Any, list[tuple[str, str | None, str | None]]]],
    reference: pd.DataFrame,
    problems: pd.DataFrame,
    threshold: float,
    title: str,
    students: int,
) -> str:
    heading = _visible(f"Similar solutions: {title}" if title else "Similar solutions")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>\n"
        f"<p><strong>{LIMITS}</strong></p>\n"
        f"<p>{students} submissions, each compared with every other. Names count as one letter, comments and spaces "
        "as nothing, and what the assignment gives is left out. A pair has in common what stands in runs of at least "
        f"{RUN} characters of this reduced code in both; the share is of the smaller text of the two.</p>\n"
    ]
    parts.append(f"<h2>Pairs with a share of at least {threshold:.0%}</h2>\n")
    rows = []
    for number, row in enumerate(pairs.head(MOST_LISTED).itertuples(), start=1):
        both = f"{_visible(row.student)} and {_visible(row.other)}"
        name = f'<a href="#pair-{number}">{both}</a>' if number <= len(shown) else both
        rows.append((name, f"{row.tokens:,}", f"{row.share:.0%}"))
    parts.append(_table("Most alike first", ("Students", "Characters in common", "Share"), rows, "There are none."))
    if len(pairs) > len(shown):
        parts.append(
            f"<p>Of {len(pairs):,} pairs the first {len(rows)} are listed; "
            f"the texts of the first {len(shown)} follow.</p>\n"
        )
    near = [
        (_visible(row.student), f"{row.tokens:,}", f"{row.share:.0%}")
        for row in reference[reference["share"] >= threshold].itertuples()
    ]
    parts.append(f"<h2>Reference solution: at least {threshold:.0%} in common</h2>\n")
    parts.append(
        _table("Most alike first", ("Student", "Characters in common", "Share"), near, "Nobody, or it was not given.")
    )
    parts.append("<h2>Compared in part, or not at all</h2>\n")
    faults = [(_visible(row.student), _visible(row.problem)) for row in problems.itertuples()]
    parts.append(_table("By student", ("Student", "What is the matter"), faults, "None.", numbers=False))
    for number, (row, cells) in enumerate(shown, start=1):
        student, other = _visible(row.student), _visible(row.other)
        parts.append(f'<section id="pair-{number}">\n<h2>{student} and {other}: {row.share:.0%}</h2>\n')
        for cell, left, right in cells:
            parts.append(f'<h3>{_visible(cell)}</h3>\n<div class="sides">\n')
            parts += [_side(student, _visible(cell), left), _side(other, _visible(cell), right)]
            parts.append("</div>\n")
        parts.append("</section>\n")
    parts.append("</main>\n</body>\n</html>\n")
    return "".join(parts)


def _table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], empty: str, *, numbers: bool = True
) -> str:
    """A table of cells that are HTML already; the first of each row is its heading."""
    if not rows:
        return f"<p>{empty}</p>\n"
    kind = ' class="number"' if numbers else ""
    head = "".join(f'<th scope="col"{kind if n else ""}>{name}</th>' for n, name in enumerate(header))
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td{kind}>{cell}</td>" for cell in row[1:]) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="wide"><table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _side(student: str, cell: str, text: str | None) -> str:
    if text is None:
        return f"<div><strong>{student}</strong><p>No such cell.</p></div>\n"
    return (
        f'<div><strong>{student}</strong><pre tabindex="0" role="region" aria-label="{cell} of {student}">'
        f"<code>{text}</code></pre></div>\n"
    )
