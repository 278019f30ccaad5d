"""Run every notebook from top to bottom and store its outputs and its time: python scripts/execute_notebooks.py [NAME]

The notebooks are those of the book; assignments are sources with solutions and stay without outputs. With names only
those notebooks are run, and the times of the others stay. A notebook is written only when all its cells went through;
times go to results/notebook_times.csv, which the status page shows.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import nbclient
import nbformat
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
TIMES = ROOT / "results" / "notebook_times.csv"
CELL_SECONDS = 240
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py", "mimetype": "text/x-python"}


def course_notebooks() -> list[Path]:
    """All notebooks of the book, sorted; the assignments are none of them and have tests of their own."""
    others = {"assignments", ".ipynb_checkpoints"}
    return sorted(path for path in FOLDER.rglob("*.ipynb") if others.isdisjoint(path.relative_to(FOLDER).parts))


def execute(path: Path) -> float:
    """Run one notebook, store it, and return the seconds from the start of the kernel to the last cell."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    # nothing that differs between two machines or two runs
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE})
    part = path.with_suffix(".part")
    nbformat.write(notebook, part)
    part.replace(path)
    return seconds


def store_times(measured: dict[str, float]) -> None:
    from ca14lib.experiments.results import write_results

    known = pd.read_csv(TIMES).set_index("notebook")["seconds"].to_dict() if TIMES.exists() else {}
    there = {name(path) for path in course_notebooks()}
    times = {notebook: seconds for notebook, seconds in (known | measured).items() if notebook in there}
    frame = pd.DataFrame(sorted(times.items()), columns=["notebook", "seconds"]).round(1)
    write_results("notebook_times", frame, command="make notebooks", modules=imported_modules())


def imported_modules() -> list[str]:
    """Modules of ca14lib that any notebook imports: the times depend on them."""
    cells = [cell for path in course_notebooks() for cell in nbformat.read(path, as_version=4).cells]
    found = re.findall(
        r"^\s*(?:from|import) (ca14lib[\w.]*)",
        "\n".join(cell.source for cell in cells if cell.cell_type == "code"),
        re.MULTILINE,
    )
    return sorted(set(found))


def name(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def main(names: list[str]) -> int:
    paths = {name(path): path for path in course_notebooks()}
    unknown = sorted(set(names) - set(paths))
    if unknown or not paths:
        print(f"no notebook {', '.join(unknown)}; there are {', '.join(paths) or 'none'}")
        return 2
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    measured = {}
    for notebook in names or paths:
        measured[notebook] = execute(paths[notebook])
        print(f"{notebook}: {measured[notebook]:.0f} s", flush=True)
    store_times(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
