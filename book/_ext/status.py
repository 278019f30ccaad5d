"""The directive {course-status}: what this build of the book was made with, what is measured and what is out of date.

Also puts the version of the course at the foot of every page.
"""

from __future__ import annotations

import json
import platform
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from course_tables import Cell, table
from docutils import nodes
from results_role import ResultError, read_results
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
PACKAGES = (
    "numpy",
    "torch",
    "gymnasium",
    "minari",
    "icu-sepsis",
    "pandas",
    "scipy",
    "matplotlib",
    "rliable",
    "jupyter-book",
    "sphinx",
)


def course_version(root: Path) -> str:
    """The version that pyproject.toml states."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"]["version"])


class CourseStatus(SphinxDirective):
    """{course-status}: versions, notebooks with their measured time, results with what made them."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        return [
            self._section("Versions", [versions_table(root)]),
            self._section("Notebooks", self._notebooks(root)),
            self._section("Results", self._results(root)),
        ]

    def _section(self, title: str, content: list[nodes.Node]) -> nodes.section:
        section = nodes.section("", nodes.title(title, title), ids=[nodes.make_id(f"status {title}")])
        self.state.document.note_implicit_target(section)
        section.extend(content)
        return section

    def _notebooks(self, root: Path) -> list[nodes.Node]:
        try:
            times = read_results(root / "results", "notebook_times")
        except ResultError as error:
            logger.warning("%s; run `make notebooks`", error, location=self.get_location())
            return []
        measured = {Path(row["notebook"]).with_suffix("").as_posix(): row["seconds"] for row in times.rows}
        paths = sorted(path.relative_to(root).with_suffix("") for path in root.glob("notebooks/**/*.ipynb"))
        paths = [path for path in paths if "assignments" not in path.parts]  # sources with solutions, no pages
        rows = []
        for path in paths:
            name = path.relative_to("notebooks").as_posix()
            rows.append([name, f"{float(measured[name]):.0f}" if name in measured else "not measured"])
        return [table("Seconds that each notebook takes from start to end", ["Notebook", "Seconds"], rows)]

    def _results(self, root: Path) -> list[nodes.Node]:
        rows = [
            [path.stem, *described(path.with_suffix(".json")), freshness(path.stem)]
            for path in sorted((root / "results").glob("*.csv"))
        ]
        if not rows:
            logger.warning("results/ holds no table; run `make verify`", location=self.get_location())
            return []
        caption = "Files in results/, the command that made each, and whether its code has changed since"
        return [table(caption, ["File", "Made by", "Date", "Seeds", "Made with the present code"], rows)]


def versions_table(root: Path) -> nodes.table:
    rows: list[list[str]] = [["ca14lib", course_version(root)], ["Python", platform.python_version()]]
    for package in PACKAGES:
        try:
            rows.append([package, version(package).split("+")[0]])
        except PackageNotFoundError:
            rows.append([package, "not installed"])
    return table("Versions that built this book", ["Package", "Version"], rows)


def described(path: Path) -> list[Cell]:
    """Command, date and number of seeds out of the metadata that stand beside a results file."""
    if not path.is_file():
        return ["not recorded"] * 3
    metadata = json.loads(path.read_text(encoding="utf8"))
    command, date, seeds = (metadata.get(key) for key in ("command", "date", "seeds"))
    return [
        nodes.literal("", command) if command else "not recorded",
        str(date)[:10] if date else "not recorded",
        str(len(seeds) if isinstance(seeds, list) else seeds or "none"),
    ]


def freshness(name: str) -> str:
    """Whether the source that made the file is the source of this build."""
    try:
        stale = import_module("ca14lib.experiments.results").is_stale(name)
    except FileNotFoundError:
        return "unknown, nothing recorded"
    return "no, run it again" if stale else "yes"


def show_version(app: Sphinx, config: Config) -> None:
    config.version = config.release = course_version(Path(app.srcdir))
    # a new dictionary: the configuration compares it with the last build's
    config.html_theme_options = config.html_theme_options | {
        "extra_footer": f"<p>Version {config.version} of the course and of its package ca14lib.</p>"
    }


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("course-status", CourseStatus)
    app.connect("config-inited", show_version)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
