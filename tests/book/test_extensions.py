"""The book's own Sphinx extensions: numbers come from results/ or the build ends; links and tables are as promised."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))

from accessible_pages import mend
from docstring_links import linked, short_type
from launch_links import binder_address, colab_address
from numpy.typing import ArrayLike, NDArray
from results_role import ResultError, formatted, parse_filters, parse_formats, read_results, sentence
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.typing import stringify_annotation

ROWS = "agent,episodes,share,low,high\nDQN,500,-0.10,-0.2,0.049\nIQL,500,0.571,0.55,0.6\nIQL,50000,0.6,nan,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "sepsis.csv").write_text(ROWS, "utf8")
    return tmp_path / "results"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("sepsis:agent=IQL,episodes=500:share", "0.57"),
        ("sepsis:agent=IQL, episodes=500.0:share:.0%", "57%"),
        ("sepsis:agent=DQN:share:.1f", "−0.1"),
        ("sepsis:agent=DQN:high:.1f", "0.0"),
        ("sepsis:agent=DQN:episodes:,d", "500"),
        ("sepsis:agent=IQL,episodes=500:share|low|high:.2f", "0.57 (95% interval 0.55 to 0.60)"),
        ("sepsis:agent=DQN:agent", "DQN"),
    ],
)
def test_role_shows_the_cell(folder: Path, text: str, shown: str) -> None:
    assert sentence(folder, text) == shown


@pytest.mark.parametrize(
    "text, said",
    [
        ("other:agent=IQL:share", "other.csv does not exist"),
        ("sepsis:agent=CQL:share", "0 rows for agent=CQL"),
        ("sepsis:agent=IQL:share", "2 rows for agent=IQL"),
        ("sepsis:agent=DQN:return", "no column 'return'"),
        ("sepsis:colour=red:share", "no column 'colour'"),
        ("sepsis:agent:share", "expected key=value"),
        ("sepsis:agent=DQN", "expected NAME:filters:column"),
        ("sepsis:agent=DQN:share|low", "ends of its interval"),
        ("sepsis:agent=DQN:share:.2q", "cannot write"),
        ("sepsis:agent=IQL,episodes=50000:low", "nan"),
        ("sepsis:agent=IQL,episodes=50000:high", "empty"),
    ],
)
def test_role_refuses(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ResultError, match=said.replace("(", r"\(")):
        sentence(folder, text)


def test_a_changed_file_is_read_again(folder: Path) -> None:
    assert len(read_results(folder, "sepsis").rows) == 3
    (folder / "sepsis.csv").write_text(ROWS + "BC,500,0,0,0\n", "utf8")
    assert len(read_results(folder, "sepsis").rows) == 4


def test_filters_and_minus_zero() -> None:
    assert parse_filters(" a=1 ,b= x=y") == {"a": "1", "b": "x=y"}
    assert parse_filters("driver=PPO, one arm, seed=0,") == {"driver": "PPO, one arm", "seed": "0"}
    assert formatted("-0.001", ".2f") == "0.00"


def test_formats_may_group_thousands() -> None:
    assert parse_formats("steps=,.0f, share=.2f,seeds=d") == {"steps": ",.0f", "share": ".2f", "seeds": "d"}
    assert parse_formats("steps=,.0f, always left=.2f, x=d") == {"steps": ",.0f", "always left": ".2f", "x": "d"}
    assert formatted("1001472", ",.0f") == "1,001,472"
    with pytest.raises(ResultError, match="expected key=value, got 'share'"):
        parse_formats("share")


def build(folder: Path, page: str) -> str:
    """Build one page with the role and return its HTML."""
    source = folder.parent
    (source / "index.md").write_text(f"# Title\n\n{page}\n", "utf8")
    settings = {"extensions": ["myst_parser", "results_role"], "html_theme": "basic"}
    out, trees = source / "out", source / "trees"
    Sphinx(str(source), None, str(out), str(trees), "html", settings, status=None, warning=None).build()
    return (out / "index.html").read_text("utf8")


def test_build_shows_a_number_and_a_table_with_header_cells(folder: Path) -> None:
    (folder / "sepsis.json").write_text(json.dumps({"command": "ca14 run offline --seeds 10"}), "utf8")
    html = build(
        folder,
        "{result}`sepsis:agent=DQN:share`\n\n```{results-table} sepsis\n:columns: agent=Agent, share|low|high=Share\n"
        ":where: episodes=500\n:caption: Share of the *optimum* of `DQN`\n```",
    )
    assert "−0.10" in html
    assert len(re.findall(r"<th\b", html)) == 4, "two column headers, two row headers"
    assert "Share of the <em>optimum</em> of <code" in html, "captions are text with markup"
    assert "0.57 (0.55 to 0.60)" in html
    assert "Made by ca14 run offline --seeds 10." in re.sub(r"<[^>]+>", "", html)


def test_empty_cells_say_what_is_missing_or_end_the_build(folder: Path) -> None:
    (folder / "times.csv").write_text("team,minutes\nMAPPO,0.42\nVDN,\n", "utf8")
    table = "```{results-table} times\n:columns: team=Team, minutes=Minutes\n:format: minutes=.1f\n:caption: Times\n"
    html = build(folder, f"{table}:missing: never\n```")
    assert "0.4" in html
    assert html.count("never") == 1
    with pytest.raises(ExtensionError, match="numbers without a result"):
        build(folder, f"{table}```")


@pytest.mark.parametrize(
    "page",
    [
        "{result}`sepsis:agent=CQL:share`",
        "```{results-table} sepsis\n:where: agent=CQL\n:caption: Nothing\n```",
        "```{results-table} sepsis\n:columns: agent=Agent\n```",
        "```{results-table} other\n:caption: Nothing\n```",
    ],
)
def test_build_ends_where_a_result_is_missing(folder: Path, page: str) -> None:
    with pytest.raises(ExtensionError, match="numbers without a result"):
        build(folder, page)


def test_docstrings_link_to_equations_and_pages() -> None:
    assert linked("Loss (book eq. iql-value). Book: offline/iql.") == (
        "Loss (book eq. :eq:`iql-value`). Book: :doc:`/book/offline/iql`."
    )
    assert linked("eqs. cql-penalty and cql-loss, then") == "eqs. :eq:`cql-penalty` and :eq:`cql-loss`, then"


def test_types_have_the_names_of_the_source() -> None:
    array = stringify_annotation(NDArray[np.float64] | None, "smart")
    assert short_type(array) == "NDArray[~numpy.float64] | None"
    assert short_type(stringify_annotation(ArrayLike | None, "smart")) == "ArrayLike | None"
    assert short_type(stringify_annotation(NDArray, "smart")) == "NDArray"


def test_launch_addresses_name_the_notebook() -> None:
    repository, notebook = "https://github.com/owner/name", "notebooks/offline/datasets.ipynb"
    assert colab_address(repository, notebook).endswith("/github/owner/name/blob/main/notebooks/offline/datasets.ipynb")
    assert binder_address(repository, notebook).endswith(
        "/gh/owner/name/main?labpath=notebooks%2Foffline%2Fdatasets.ipynb"
    )


def test_pages_are_mended() -> None:
    assert mend("<thead><tr><th></th><th>a</th></tr>") == "<thead><tr><td></td><th>a</th></tr>"
    assert 'role="region"' in mend('<div id="x" class="bd-sidebar-primary bd-sidebar">')
