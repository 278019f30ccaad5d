"""The similarity report: planted copies are found, independent right solutions are not, and the page is safe."""

from __future__ import annotations

import builtins
import importlib
import io
import itertools
import keyword
import random
import re
import sys
import time
import tokenize
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ca14lib.grading.instances import ASSIGNMENTS, module_name
from ca14lib.grading.notebooks import read_assignment
from ca14lib.grading.similarity import LIMITS, LONGEST, RUN, SimilarityReport, similarity_report

pytest.importorskip("copydetect")

SOURCES = Path(__file__).parents[2] / "notebooks" / "assignments"
Cells = dict[str, str]


def without_marks(text: str) -> str:
    return re.sub(r"(?m)^[ \t]*### (BEGIN|END) SOLUTION\n?", "", text)


def stub(text: str) -> str:
    return re.sub(r"(?ms)^([ \t]*)### BEGIN SOLUTION\n.*?### END SOLUTION\n?", r"\1raise NotImplementedError\n", text)


def tasks(name: str) -> tuple[dict[str, list[str]], list[str]]:
    """Solutions of every task that were written differently, the reference first, and the given text."""
    assignment = read_assignment(SOURCES / f"{module_name(name)}.ipynb")
    cases = importlib.import_module(f"tests.assignments.{module_name(name)}_cases")
    others = {
        task if task.startswith(f"{name}-") else f"{name}-{task}": list(variants.values())
        for task, variants in cases.ALTERNATIVES.items()
    }
    code = [cell for cell in assignment.cells if cell.is_code and cell.kind in ("solution", "locked")]
    solutions = {cell.key: [cell.source, *others[cell.key]] for cell in code if cell.key in others}
    return (
        {key: [without_marks(text) for text in texts] for key, texts in solutions.items()},
        [stub(cell.source) for cell in code],
    )


def disguised(cells: Cells, rng: random.Random, *, edited: bool = False) -> Cells:
    """A copy: other names, comments and layout, functions and cells in another order; statements split if edited."""
    names: dict[str, str] = {}
    copy = {}
    for key, text in cells.items():
        if edited:
            text = re.sub(r"(?m)^( +)(\w+) = (.+[^,(\[{\\])$", r"\1value = \3\n\1\2 = 1.0 * value", text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        changed = []
        for before, token in itertools.pairwise([tokens[0], *tokens]):
            word = token.string
            own = token.type == tokenize.NAME and not keyword.iskeyword(word) and before.string != "."
            if own and not hasattr(builtins, word) and word not in ("np", "torch"):
                word = names.setdefault(word, f"renamed_{len(names)}")
            changed.append((token.type, "# other words" if token.type == tokenize.COMMENT else word))
        first, *functions = re.split(r"(?m)^(?=def |class )", tokenize.untokenize(changed))
        rng.shuffle(functions)
        copy[key] = "\n# mine\n\n".join([first, *functions])
    order = list(copy)
    rng.shuffle(order)
    return {key: copy[key] for key in order}


def report(submissions: dict[str, Cells], **options: object) -> SimilarityReport:
    return similarity_report(submissions, progress=False, **options)  # type: ignore[arg-type]


def shares(found: SimilarityReport) -> dict[frozenset[str], float]:
    pairs = found.pairs
    return {frozenset(row[:2]): row[2] for row in zip(pairs.student, pairs.other, pairs.share, strict=True)}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_copies_are_above_the_share_and_independent_solutions_below(name: str) -> None:
    solutions, given = tasks(name)
    rng = random.Random(3)
    submissions: dict[str, Cells] = {}
    for number in range(8):
        drawn = {key: rng.sample(texts, 2) for key, texts in solutions.items()}
        submissions[f"first {number}"] = {key: texts[0] for key, texts in drawn.items()}
        submissions[f"second {number}"] = {key: texts[1] for key, texts in drawn.items()}
        submissions[f"copy {number}"] = disguised(submissions[f"first {number}"], rng)
        submissions[f"edited {number}"] = disguised(submissions[f"first {number}"], rng, edited=True)
    found = report(submissions, given=given)
    share = shares(found)
    for number in range(8):
        first = f"first {number}"
        assert share[frozenset({first, f"copy {number}"})] > 0.8
        assert share[frozenset({first, f"edited {number}"})] > 0.6
        assert share[frozenset({first, f"second {number}"})] < found.threshold == 0.4
    assert found.problems.empty


def own_code(seed: int, lines: int = 30) -> str:
    """Code that nobody else has."""
    rng = random.Random(seed)
    made = [
        f"    a{n} = {rng.randrange(999)} {rng.choice('+-*/')} b.f{n}({rng.random():.3f}, x[{rng.randrange(99)}])"
        for n in range(lines)
    ]
    return "\n".join(["def task(b, x):", *made])


def test_shares_are_those_of_copydetect() -> None:
    detector = importlib.import_module("copydetect.detector")
    solutions, _ = tasks("offline")
    submissions = {
        f"student {n}": {key: texts[(n + m) % 3] for m, (key, texts) in enumerate(solutions.items())} for n in range(4)
    } | {"short": {"x": solutions["offline-mask"][0]}}
    prints = {
        student: detector.CodeFingerprint(
            "a.py", RUN, 1, fp=io.StringIO("\n".join(t.strip("\n") for t in cells.values()))
        )
        for student, cells in submissions.items()
    }
    for row in report(submissions).pairs.itertuples():
        one, other = prints[row.student], prints[row.other]
        _, ratios, slices = detector.compare_files(one, other)
        assert row.share == pytest.approx(ratios[0 if one.token_coverage <= other.token_coverage else 1])
        assert (row.tokens > 0) == (slices[0].size > 0)


def test_the_report_is_the_same_every_time() -> None:
    """copydetect's hashes are those of the process."""
    submissions = {str(n): {"a": own_code(n // 2)} for n in range(6)}
    first, second = report(submissions), report(dict(reversed(submissions.items())))
    assert first.page == second.page
    assert first.pairs.equals(second.pairs)
    assert first.pairs["share"].iloc[:3].tolist() == [1.0] * 3
    assert first.pairs["share"].iloc[3] < 0.2


def test_given_text_does_not_count() -> None:
    start = own_code(0)
    submissions = {name: {"a": start + "\n" + own_code(seed)} for name, seed in (("ann", 1), ("bob", 2))}
    assert report(submissions).pairs["share"][0] > 0.4
    assert report(submissions, given=[start]).pairs["share"][0] < 0.1


def test_the_reference_has_a_row_and_no_text() -> None:
    reference = {"a": own_code(7).replace("def task", "def secret_reference")}
    submissions = {"ann": {"a": own_code(7)}, "bob": {"a": own_code(8)}}
    found = report(submissions, reference=reference)
    assert found.reference["student"].tolist() == ["ann", "bob"]
    assert found.reference["share"].tolist() == pytest.approx([1.0, 0.0], abs=0.2)
    assert set(found.pairs["student"]) | set(found.pairs["other"]) == {"ann", "bob"}
    assert "secret_reference" not in found.page
    assert "Reference solution" in found.page


def test_what_cannot_be_compared_is_listed() -> None:
    submissions = {
        "ann": {"a": own_code(1)},
        "broken": {"a": own_code(1) + "\n    )", "b": "x = 1"},
        "empty": {"a": "\n\n"},
        "nothing": {},
        "short": {"a": "x = 1"},
        "long": {"a": own_code(2), "b": own_code(1), "c": "# " + "x" * LONGEST},
        "magic": {"a": "%matplotlib inline\n" + own_code(3)},
        "deep": {"a": "(" * 5000, "b": own_code(4)},
        "zero": {"a": "\0" + own_code(5)},
        "many": {str(n): f"x{n} = (" for n in range(2000)},
    }
    found = report(submissions)
    problems = found.problems.groupby("student")["problem"].agg(" / ".join).to_dict()
    assert set(problems) == {"broken", "empty", "nothing", "short", "long", "magic", "deep", "zero", "many"}
    assert problems["broken"] == "does not parse, compared as it stands: a (line 32)"
    assert "no code" in problems["empty"]
    assert "no code" in problems["nothing"]
    assert "fewer than" in problems["short"]
    assert problems["long"].startswith("more than 100,000 characters")
    assert "does not parse" in problems["magic"]
    assert "2 (line 1), 3 (line 1), 4 (line 1) and 1995 more" in problems["many"]
    share = shares(found)
    assert share[frozenset({"ann", "broken"})] > 0.9
    assert share[frozenset({"ann", "long"})] == 1.0
    assert not any("short" in pair or "empty" in pair for pair in share)


@pytest.mark.parametrize("submissions", [{}, {"ann": {"a": "x"}}, {"ann": {"a": own_code(1)}}])
def test_a_class_without_pairs_has_a_page(submissions: dict[str, Cells]) -> None:
    found = report(submissions, reference={"a": own_code(1)})
    assert found.pairs.empty
    assert "There are none." in found.page


HOSTILE = {
    "spaces": " \n" * (LONGEST // 2),
    "quotes": "'''a\n\"\"\"\n" * (LONGEST // 9),
    "f-strings": 'f"{' * (LONGEST // 3),
    "attributes": "a." * (LONGEST // 2),
    "brackets": "(" * LONGEST,
    "imports": "from \\\n" * (LONGEST // 7),
    "one letter": "x" * (LONGEST * 10),
    "repeated": "x = x + 1\n" * (LONGEST // 10),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])
def test_a_hostile_text_takes_seconds(text: str) -> None:
    started = time.process_time()
    report({"ann": {"a": text, "b": own_code(1)}, "bob": {"a": own_code(1)}})
    assert time.process_time() - started < 20


def test_copies_in_thousands_of_cells_take_seconds() -> None:
    cells = {str(n): f"f{n}(a[{n}], b{n % 7} + {n})" for n in range(2000)}
    started = time.process_time()
    report({"ann": cells, "bob": {key: text.replace("b", "c") + f" * {key}" for key, text in cells.items()}})
    assert time.process_time() - started < 20


@pytest.mark.slow
def test_a_class_of_300_takes_less_than_three_minutes() -> None:
    solutions, given = tasks("safe")
    rng = random.Random(1)
    submissions = {
        f"student {n}": disguised({key: rng.choice(texts) for key, texts in solutions.items()}, rng) for n in range(300)
    }
    started = time.process_time()
    assert len(report(submissions, given=given).pairs) == 44_850
    assert time.process_time() - started < 180


class Page(HTMLParser):
    """Elements, attributes and the text in marks; the text of every cell as it is read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.marked: list[str] = []
        self.codes: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)
        if tag == "code":
            self.codes.append("")
        if tag == "mark":
            self.marked.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "code" in self.open:
            self.codes[-1] += data
        if "mark" in self.open:
            self.marked[-1] += data


def test_the_page_marks_what_is_shared_and_nothing_else() -> None:
    shared = own_code(1, 12)
    submissions = {
        "ann": {"a": "\n\nclass Helper:\n    pass\n\n\n" + shared + "\n\n\n" + own_code(2, 4)},
        "bob": {"b": "alone = 1\r\n\r\n" + shared.replace("\n", "\r\n"), "a": own_code(3, 4)},
    }
    page = Page(report(submissions).page)
    ann = next(code for code in page.codes if "Helper" in code)
    assert ann == submissions["ann"]["a"].strip("\n")
    lines = shared.splitlines()
    for marked in page.marked:
        assert "Helper" not in marked
        assert "alone" not in marked
    assert all(any(line.strip() in marked for marked in page.marked) for line in lines[1:-1])
    assert not any(own_code(2, 4).splitlines()[2].strip() in marked for marked in page.marked)


def test_the_page_is_accessible_and_needs_nothing_else() -> None:
    submissions = {name: {"a": own_code(1)} for name in ("ann", "bob")}
    found = report(submissions, reference=submissions["ann"], title="offline")
    page = Page(found.page)
    tags = [tag for tag, _ in page.elements]
    assert page.open == []
    assert page.elements[0] == ("html", {"lang": "en"})
    assert tags.count("h1") == tags.count("main") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    assert tags.count("caption") == tags.count("table") > 0
    assert {"script", "link", "img", "iframe"}.isdisjoint(tags)
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on") or a == "src"]
    assert all(a["href"].startswith("#") for tag, a in page.elements if tag == "a")  # type: ignore[union-attr]
    assert any(a.get("name") == "viewport" for _, a in page.elements)
    assert LIMITS in found.page
    identifiers = {a["id"] for _, a in page.elements if "id" in a}
    assert {a["href"] for tag, a in page.elements if tag == "a"} == {f"#{name}" for name in identifiers}


def test_hostile_text_is_shown_as_text() -> None:
    evil = "</code><script>alert(1)</script><!-- \u202e \x1b ' \" & \ud800"
    submissions = {name: {evil: own_code(1) + f"\n# {evil}"} for name in (f"ann{evil}", "<b>bob</b>")}
    found = report(submissions, title=evil)
    page = Page(found.page)
    assert {"script", "b"}.isdisjoint(tag for tag, _ in page.elements)
    assert "<!-- " not in found.page
    assert "\u202e" not in found.page
    assert "\\u202e" in found.page
    found.page.encode("utf8")


def test_many_pairs_are_listed_and_fewer_shown() -> None:
    page = report({f"student {n:02}": {"a": own_code(1)} for n in range(40)}).page
    assert page.count('scope="row"') == 500
    assert page.count("<section") == 50
    assert "Of 780 pairs the first 500 are listed; the texts of the first 50 follow." in page


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    found = report({name: {"a": own_code(1)} for name in ("ann", "bob")})
    found.write(tmp_path / "similarity.html")
    assert [path.name for path in tmp_path.iterdir()] == ["similarity.html"]
    assert (tmp_path / "similarity.html").read_text(encoding="utf-8") == found.page


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must lie"):
        report({}, threshold=threshold)


def test_without_copydetect_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "copydetect.utils", None)
    with pytest.raises(ImportError, match=r"pip install 'ca14lib\[grading\]'"):
        report({})
