"""What a notebook claims holds for another seed too: its checks come out the same.

A notebook that draws random numbers has one line `seed = ...`; here it runs from top to bottom with a different one.
Notebooks whose stored time is over LONG seconds do so in `make verify` only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pandas as pd
import pytest

from scripts.execute_notebooks import course_notebooks

ROOT = Path(__file__).parents[2]
SEED = re.compile(r"^seed = (\d+)", re.MULTILINE)
OTHER_SEED = 12
LONG = 12.0
NOTEBOOKS = [path for path in course_notebooks() if "seed" in path.read_text("utf8")]
TIMES = pd.read_csv(ROOT / "results" / "notebook_times.csv").set_index("notebook")["seconds"]


def case(path: Path) -> Any:
    """The parameter of one notebook; one without a stored time counts as short."""
    name = path.relative_to(ROOT / "notebooks").with_suffix("").as_posix()
    return pytest.param(path, id=path.stem, marks=[pytest.mark.verify] if TIMES.get(name, 0.0) > LONG else [])


def checks(notebook: Any) -> list[str]:
    """Lines shown by the cells after the last heading that begins with Check.

    The kernel may send what one cell prints in one message or in several, so the pieces are joined before they are
    split into lines.
    """
    shown: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^#+ Check", cell.source, re.MULTILINE):
            shown = []
        elif cell.cell_type == "code":
            texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
            shown += "".join(texts).splitlines()
    return shown


def test_pieces_of_a_message_make_no_difference() -> None:
    def notebook(*texts: str) -> Any:
        outputs = [nbformat.v4.new_output("stream", text=text) for text in texts]
        return nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell("## Check"), nbformat.v4.new_code_cell("", outputs=outputs)]
        )

    assert checks(notebook("holds: one", "\nholds: two\n")) == checks(notebook("holds: one\nholds: two\n"))
    assert checks(notebook("holds: one\n")) != checks(notebook("holds: two\n"))


@pytest.mark.slow
@pytest.mark.learning
@pytest.mark.parametrize("path", [case(path) for path in NOTEBOOKS])
def test_checks_come_out_the_same_with_another_seed(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    expected = checks(notebook)
    lines = [cell for cell in notebook.cells if cell.cell_type == "code" and SEED.search(cell.source)]
    assert len(lines) == 1, "a notebook with random numbers has exactly one line `seed = ...`"
    lines[0].source = SEED.sub(f"seed = {OTHER_SEED}", lines[0].source)
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    assert checks(notebook) == expected
