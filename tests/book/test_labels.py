"""Code and book point at each other by label: every label exists once, every page can be pointed at."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from book._ext.docstring_links import PAGE, cited_equations, page_name
from scripts.execute_notebooks import course_notebooks

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "book").rglob("*.md"))
SOURCES = sorted((ROOT / "ca14lib").rglob("*.py"))
DOLLARS = re.compile(r"\$\$\s*\(([\w-]+)\)[ \t]*$", re.MULTILINE)
DIRECTIVE = re.compile(r"^[`:]{3,}\{math\}[^\n]*\n(?:\s*:[\w-]+:[^\n]*\n)*?\s*:label:\s*([\w-]+)", re.MULTILINE)
PAGE_LABEL = re.compile(r"\A(?:---\n.*?\n---\n)?\s*\(([\w-]+)\)=\s*\n+(?:# |```\{include\})", re.DOTALL)


def equation_labels() -> Counter[str]:
    texts = [path.read_text("utf8") for path in PAGES]
    return Counter(label for text in texts for pattern in (DOLLARS, DIRECTIVE) for label in pattern.findall(text))


def test_no_equation_label_stands_twice() -> None:
    assert [label for label, count in equation_labels().items() if count > 1] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_formulas_stand_after_an_empty_line(path: Path) -> None:
    """Inside a paragraph a formula gets no number, and its label is printed as text."""
    inside, before, glued = False, "", []
    for line in path.read_text("utf8").splitlines():
        if line.strip().startswith("$$"):
            if not inside and before and not before.startswith((":", "```")):
                glued.append(before)
            inside = not inside and line.count("$$") == 1
        before = line.strip()
    assert glued == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_equation_that_the_code_cites_is_in_the_book(path: Path) -> None:
    missing = [label for label in cited_equations(path.read_text("utf8")) if label not in equation_labels()]
    assert missing == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_page_that_the_code_names_is_in_the_book(path: Path) -> None:
    named = [page_name(match) for match in PAGE.finditer(path.read_text("utf8"))]
    assert [page for page in named if not list(ROOT.glob(f"{page}.md")) + list(ROOT.glob(f"{page}.ipynb"))] == []


def test_every_page_of_the_contents_has_a_label_of_its_own() -> None:
    text = (ROOT / "_toc.yml").read_text("utf8")
    assert yaml.safe_load(text)["format"] == "jb-book"
    names = re.findall(r"(?:file|root): (book/\S+)", text)
    labels = {name: PAGE_LABEL.match((ROOT / f"{name}.md").read_text("utf8")) for name in names}
    assert [name for name, label in labels.items() if label is None] == []
    counts = Counter(label.group(1) for label in labels.values() if label)
    assert [label for label, count in counts.items() if count > 1] == []


def test_every_notebook_has_a_label_of_its_own() -> None:
    labels = [re.findall(r'"\((nb-[\w-]+)\)=', path.read_text("utf8")) for path in course_notebooks()]
    assert all(len(found) <= 1 for found in labels)
    counts = Counter(label for found in labels for label in found)
    assert [label for label, count in counts.items() if count > 1] == []


def test_every_page_is_in_the_contents() -> None:
    names = set(re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text("utf8")))
    there = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES}
    there |= {path.relative_to(ROOT).with_suffix("").as_posix() for path in course_notebooks()}
    assert sorted(there - names) == []


def test_citations_are_recognised() -> None:
    assert cited_equations("clip (book eq. iql-weight), then eqs. iql-value, iql-policy and cql-loss.") == [
        "iql-weight",
        "iql-value",
        "iql-policy",
        "cql-loss",
    ]
    assert cited_equations("see eq. polyak, which moves slowly and eq. (3)") == ["polyak"]
