"""All sections, part by part: what ``ca14 run all`` does. Book: evaluation/scale."""

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

# name on the command line and of the cache's folder -> module
SECTIONS: dict[str, str] = {
    "offline": "ca14lib.experiments.offline",
    "safe": "ca14lib.experiments.safe",
    "multi-agent": "ca14lib.experiments.multi_agent",
    "robust": "ca14lib.experiments.robust",
    "evaluation": "ca14lib.experiments.evaluation",
}


# errors of a part that needs something which is not there, in the part itself or in its runs
MISSING = ("ImportError", "ModuleNotFoundError", "FileNotFoundError")


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        section: Its section.
        part: Its name.
        tables: Number of tables written.
        seconds: Time it took.
        left_out: What was missing that it needs; empty if nothing was.
        error: Why it failed; empty if it did not.
    """

    section: str
    part: str
    tables: int = 0
    seconds: float = 0.0
    left_out: str = ""
    error: str = ""

    @property
    def failed(self) -> bool:
        """True if it ended with an error."""
        return self.error != ""

    @property
    def text(self) -> str:
        """In words."""
        if self.failed:
            return f"failed: {self.error}"
        return f"left out: {self.left_out}" if self.left_out else f"{self.tables} tables"


def run_everything(
    *, seeds: int = 10, quick: bool = False, output: str | Path | None = None, cache_folder: str | Path = "runs",
    jobs: int | None = None, progress: bool = True, sections: Mapping[str, str] | None = None,
) -> list[Outcome]:  # fmt: skip
    """Run every part of every section; one that fails does not end the others.

    Finished runs are kept under ``cache_folder``, so that what is stopped goes on where it was.

    Args:
        seeds: Seeds per setting, at least 2.
        quick: The short version of every part.
        output: Folder of the tables; None for the course's ``results``.
        cache_folder: Folder of finished runs, with one folder per section and part.
        jobs: Processes; None for one per core.
        progress: Show a bar over the parts with the time left, and one for each sweep.
        sections: Modules of sections by name; None for all.
    Returns:
        What became of each part, in order.
    Raises:
        ValueError: If there are fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"intervals over seeds need at least two seeds, got {seeds}")
    modules = {
        name: importlib.import_module(path) for name, path in (SECTIONS if sections is None else sections).items()
    }
    todo = [(name, part) for name, module in modules.items() for part in module.PARTS]
    outcomes: list[Outcome] = []
    bar = tqdm(todo, disable=not progress, unit="part", desc="all sections")
    for name, part in bar:
        bar.set_postfix_str(f"{name} {part}")
        outcomes.append(_run_part(name, modules[name], part, seeds, quick, output, Path(cache_folder), jobs, progress))
    return outcomes


def _run_part(
    name: str, module: Any, part: str, seeds: int, quick: bool, output: str | Path | None, cache: Path,
    jobs: int | None, progress: bool,
) -> Outcome:  # fmt: skip
    begun = time.perf_counter()
    try:
        tables = module.run(
            seeds=seeds, quick=quick, parts=[part], output=output, cache_folder=cache / name, jobs=jobs,
            progress=progress,
        )  # fmt: skip
        return Outcome(name, part, len(tables), time.perf_counter() - begun)
    except ConnectionError:
        raise  # no other part would find the scheduler either
    except Exception as problem:
        said = _line(problem)
        missing = said.startswith(MISSING) and "cannot import name" not in said and "'ca14lib." not in said
        kind = {"left_out" if missing else "error": said}
        return Outcome(name, part, seconds=time.perf_counter() - begun, **kind)  # type: ignore[arg-type]


def _line(problem: Exception) -> str:
    """What a person has to know of an error: of a sweep with failed runs, the last line of the first one's."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    if isinstance(problem, RuntimeError) and len(lines) > 1:  # the last line names the error of the run
        return lines[-1]
    return f"{type(problem).__name__}: {lines[-1] if lines else ''}"
