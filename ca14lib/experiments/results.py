"""Result tables: a CSV file with its provenance beside it, read by notebooks, the book and the status page."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

import ca14lib
from ca14lib.training.provenance import source_hash

PACKAGES = ("numpy", "torch", "gymnasium", "rliable", "icu-sepsis", "minari")


def results_folder() -> Path:
    """``$CA14_RESULTS``, else the folder ``results`` of the course's checkout, else of the working folder."""
    if "CA14_RESULTS" in os.environ:
        return Path(os.environ["CA14_RESULTS"])
    checkout = Path(ca14lib.__file__).resolve().parents[1]
    return checkout / "results" if (checkout / "_toc.yml").exists() else Path.cwd() / "results"


def write_results(
    name: str,
    table: pd.DataFrame,
    *,
    command: str,
    modules: Sequence[str],
    seeds: Sequence[int] = (),
    folder: str | Path | None = None,
    **notes: Any,
) -> Path:
    """Write ``NAME.csv`` and its provenance ``NAME.json``, each replaced atomically.

    Args:
        name: Name of the table.
        table: The numbers, tidy.
        command: What makes the table again.
        modules: Modules whose code (with all of the course they import) the numbers depend on.
        seeds: Seeds of the runs.
        folder: Where to; None for :func:`results_folder`.
        notes: Anything else worth keeping, JSON-able.
    Returns:
        Path of the CSV file.
    """
    target = Path(folder) if folder is not None else results_folder()
    target.mkdir(parents=True, exist_ok=True)
    metadata = {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "seeds": list(seeds),
        "source_modules": list(modules),
        "source_hash": source_hash(*modules),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"ca14lib": ca14lib.__version__} | {package: _version(package) for package in PACKAGES},
    } | notes
    path = target / f"{name}.csv"
    _replace(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    _replace(path.with_suffix(".json"), json.dumps(metadata, indent=1) + "\n")
    return path


def read_results(name: str, folder: str | Path | None = None) -> pd.DataFrame:
    """A result table.

    Raises:
        FileNotFoundError: Naming the tables there are.
    """
    source = Path(folder) if folder is not None else results_folder()
    path = source / f"{name}.csv"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in source.glob("*.csv"))) or "none"
        raise FileNotFoundError(f"no results {name!r} in {source}; there are: {known}")
    return pd.read_csv(path)


def read_metadata(name: str, folder: str | Path | None = None) -> dict[str, Any]:
    """Provenance of a result table: command, date, seeds, versions, source hash."""
    path = (Path(folder) if folder is not None else results_folder()) / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"no provenance for results {name!r}: {path} is missing")
    return json.loads(path.read_text("utf8"))


def is_stale(name: str, folder: str | Path | None = None) -> bool:
    """True if the code that a table depends on has changed since the table was made."""
    metadata = read_metadata(name, folder)
    return source_hash(*metadata["source_modules"]) != metadata["source_hash"]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, "utf8", newline="\n")
    os.replace(temporary, path)


def this_command() -> str:
    """The command line of this process, with the program's bare name."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
