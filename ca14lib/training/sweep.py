"""The same function over a grid of settings and seeds, in parallel, resumable."""

import hashlib
import inspect
import itertools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from joblib.externals.loky import get_reusable_executor
from tqdm.auto import tqdm

from ca14lib.training.provenance import source_hash


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    seeds: int | Iterable[int],
    *,
    path: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run ``function(**point, seed=seed)`` for every point of a grid and every seed.

    Each run is a process of its own with one thread. With a ``path``, every finished run is a Parquet file there at
    once; called again, the sweep runs only what is missing, failed, or was made by other code.

    Args:
        function: Top-level function that returns a dict of numbers, a list of such dicts, or a data frame.
        grid: Values of every argument; the sweep covers their product.
        seeds: Seeds, or their number (then 0, 1, …).
        path: Folder for the results.
        jobs: Number of processes; None for one per core.
        progress: Show a progress bar.
    Returns:
        One row per row returned, with the columns of the grid, ``seed``, ``error`` (empty when fine) and ``seconds``.
    Raises:
        ValueError: If the grid or the seeds are empty.
    """
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if not seeds or not points:
        raise ValueError(f"a sweep needs at least one point and one seed, got {len(points)} and {len(seeds)}")
    runs = [point | {"seed": seed} for point in points for seed in seeds]
    folder = None if path is None else Path(path)
    code = _code_hash(function)
    results: dict[int, pd.DataFrame] = {}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for index, run in enumerate(runs):
            stored = _stored(folder / _file_name(function, run, code))
            if stored is not None:
                results[index] = stored
    missing = [index for index in range(len(runs)) if index not in results]
    workers = joblib.Parallel(n_jobs=jobs or os.cpu_count() or 1, return_as="generator_unordered")
    finished = workers(joblib.delayed(_run)(function, runs[index], index) for index in missing)
    for index, frame in tqdm(finished, total=len(runs), initial=len(results), disable=not progress, unit="run"):
        if folder is not None:
            _store(frame, folder / _file_name(function, runs[index], code))
        results[index] = frame
    get_reusable_executor().shutdown(wait=True)  # workers kept for a next sweep would go on with this code
    return pd.concat([results[index] for index in range(len(runs))], ignore_index=True)


def _code_hash(function: Callable[..., Any]) -> str:
    """Hash of the function's module and what it imports; of its own text if it was written in a script or notebook."""
    if function.__module__ == "__main__":
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    return source_hash(function.__module__)


def _run(function: Callable[..., Any], run: dict[str, Any], index: int) -> tuple[int, pd.DataFrame]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        returned = function(**run)
        if not isinstance(returned, pd.DataFrame):
            returned = pd.DataFrame([returned] if isinstance(returned, Mapping) else returned)
        taken = [column for column in ("error", "seconds") if column in returned]
        if taken:
            raise ValueError(f"the column {taken[0]!r} is the sweep's own; {function.__name__} must not return it")
        frame, error = returned.reset_index(drop=True), ""
    except Exception as problem:
        frame, error = pd.DataFrame([{}]), "".join(traceback.format_exception(problem))
    finally:
        torch.set_num_threads(threads)
    settings = pd.DataFrame([{key: _plain(value) for key, value in run.items()}] * len(frame))
    outcome = frame.drop(columns=[column for column in settings if column in frame])
    return index, pd.concat([settings, outcome], axis=1).assign(error=error, seconds=time.perf_counter() - start)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool | type(None)) else repr(value)


def _file_name(function: Callable[..., Any], run: dict[str, Any], code: str) -> str:
    key = json.dumps([function.__module__, function.__qualname__, code, {k: repr(_plain(v)) for k, v in run.items()}])
    return hashlib.sha256(key.encode()).hexdigest()[:24] + ".parquet"


def _stored(path: Path) -> pd.DataFrame | None:
    """A finished run, or None if it is missing, unreadable or failed."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError):
        return None
    return frame if "error" in frame and (frame["error"] == "").all() else None


def _store(frame: pd.DataFrame, path: Path) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    frame.to_parquet(temporary)
    os.replace(temporary, path)
