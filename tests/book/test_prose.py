"""House style that a machine can see, in pages, notebooks and documents."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*(ROOT / "book").rglob("*.md"), *(ROOT / "notebooks").rglob("*.ipynb"), *ROOT.glob("*.md")],
)
FENCE = re.compile(r"^(?P<fence>[`~]{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
# pieces that are not sentences: comments, formulas, code, targets of links and pictures, options of directives
NOT_PROSE = [
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"^%.*$", re.MULTILINE),
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
    re.compile(r"(?<!\\)\$[^$\n]*(?:\n[^$\n]+)?\$"),
    re.compile(r"`[^`]*`"),
    re.compile(r"!?(?=\[)|\]\([^)]*\)"),
    re.compile(r"https?://\S+"),
    re.compile(r"^:(?!alt:|caption:)[\w-]+:.*$", re.MULTILINE),
]
EMOJI = re.compile("[\U0001f000-\U0001faff☀-⛿✅✨❌❎❓-❗➕-➗⬅-⬇⭐️]")
POINTING = re.compile(
    r"""\b(?:see|as|shown|seen|described|defined|derived|explained|mentioned|discussed|listed|given|stated|used|
        figures?|tables?|equations?|sections?|cells?|plots?|definitions?|code|formulas?|theorem|example|everything)
        \s+(?:above|below)\b
        |\b(?:the|both|two)\s+(?:above|below)\s+\w+
        |(?:\(|^)(?:above|below)\b
        |\b(?:above|below)\)""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|TBD|XXX|lorem ipsum|coming soon|under construction)\b", re.IGNORECASE)

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def text(path: Path) -> str:
    """What the reader reads: the page, or the Markdown cells of the notebook."""
    if path.suffix == ".md":
        return path.read_text("utf8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def sentences(source: str) -> str:
    """The source without code and formulas. A directive in braces keeps its body, unless that is code or math."""
    for _ in range(6):
        stripped = FENCE.sub(_body, source)
        if stripped == source:
            break
        source = stripped
    for pattern in NOT_PROSE:
        source = pattern.sub(" ", source)
    return source


def _body(fence: re.Match[str]) -> str:
    directive = re.match(r"\{([\w:-]+)\}", fence["info"].strip())
    if directive and directive[1] not in ("code", "code-block", "code-cell", "math", "literalinclude", "eval-rst"):
        return "\n" + fence["body"]
    return "\n"


@every_document
def test_no_emoji(path: Path) -> None:
    assert EMOJI.findall(text(path)) == []


@every_document
def test_no_exclamation_marks(path: Path) -> None:
    assert [line.strip() for line in sentences(text(path)).splitlines() if "!" in line] == []


@every_document
def test_cross_references_are_labels_not_directions(path: Path) -> None:
    found = [match.group().strip() for match in POINTING.finditer(sentences(text(path)))]
    assert found == []


@every_document
def test_nothing_is_left_to_be_written(path: Path) -> None:
    assert UNFINISHED.findall(sentences(text(path))) == []


@pytest.mark.parametrize(
    "source, clean",
    [
        ("It works!", False),
        ("```python\nx != 1\n```", True),
        ("```{note}\nIt works!\n```", False),
        ("Factorial $n! = n (n-1)!$ grows.", True),
        ("![alt text](picture.png)", True),
    ],
)
def test_exclamation_marks_are_seen_only_in_sentences(source: str, clean: bool) -> None:
    assert ("!" not in sentences(source)) is clean


@pytest.mark.parametrize(
    "source, clean",
    [
        ("See the table below.", False),
        ("As shown above, it diverges.", False),
        ("The above argument holds.", False),
        ("The value is bounded from below.", True),
        ("It stays below the optimum and above zero.", True),
    ],
)
def test_directions_are_seen_only_where_they_point(source: str, clean: bool) -> None:
    assert (POINTING.search(sentences(source)) is None) is clean
