"""The built site holds together: scripts/check_site.py finds nothing, and finds what is put in on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts.check_site import pages, problems
from scripts.execute_notebooks import course_notebooks

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
WHOLE = '<html><body><h1 id="top">Title</h1>{}</body></html>'


@pytest.mark.book
def test_links_anchors_alt_texts_and_assets_are_in_order() -> None:
    assert problems(SITE) == []


@pytest.mark.book
def test_every_page_of_the_contents_is_built_and_says_its_version() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    files = [contents["root"], *_files(contents)]
    for name in files:
        page = SITE / f"{name}.html"
        assert page.is_file(), f"{name} is not built"
        assert "Version " in page.read_text("utf8"), f"{name} does not say its version"


@pytest.mark.book
def test_every_notebook_page_offers_its_download() -> None:
    assert course_notebooks()
    for notebook in course_notebooks():
        page = SITE / notebook.relative_to(ROOT).with_suffix(".html")
        assert notebook.name in page.read_text("utf8"), f"{page.name} has no link to {notebook.name}"


@pytest.mark.parametrize(
    "fault, said",
    [
        ('<a href="nowhere.html">x</a>', "does not exist"),
        ('<a href="#nowhere">x</a>', "no anchor"),
        ('<a href="../../outside.html">x</a>', "out of the site"),
        ('<img src="data:image/png;base64,AA">', "no alt text"),
        ('<img src="data:image/png;base64,AA" alt="figure_1.png">', "no alt text"),
        ('<script src="https://cdn.example.org/x.js"></script>', "script loads"),
        ('<link rel="stylesheet" href="//cdn.example.org/x.css">', "link loads"),
        ("<script>import('https://cdn.example.org/x.js')</script>", "script loads"),
        ('<p id="twice"></p><p id="twice"></p>', "2 times"),
    ],
)
def test_check_site_sees(fault: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(WHOLE.format('<a href="#top">top</a>'), "utf8")
    assert problems(tmp_path) == []
    (tmp_path / "page.html").write_text(WHOLE.format(fault), "utf8")
    found = problems(tmp_path)
    assert len(found) == 1
    assert said in found[0]


def test_check_site_does_not_pass_an_empty_folder(tmp_path: Path) -> None:
    assert pages(tmp_path) == []
    assert "no page" in problems(tmp_path)[0]


def _files(entry: object) -> list[str]:
    """Every file named anywhere under an entry of _toc.yml."""
    if isinstance(entry, list):
        return [name for part in entry for name in _files(part)]
    if isinstance(entry, dict):
        own = [entry["file"]] if "file" in entry else []
        return own + [name for value in entry.values() for name in _files(value)]
    return []
