"""The same function over a grid of settings and seeds, in parallel, resumable, here or on a Dask cluster."""

import contextlib
import hashlib
import inspect
import itertools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from ca14lib.training.provenance import source_hash

SCHEDULER_VARIABLE = "CA14_SCHEDULER"  # address of a Dask scheduler, for sweeps that are given none
CONNECT_SECONDS = 10


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    seeds: int | Iterable[int],
    *,
    path: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
    scheduler: str | None = None,
) -> pd.DataFrame:
    """Run ``function(**point, seed=seed)`` for every point of a grid and every seed.

    Each run has a process of its own with one thread. With a ``path``, every finished run is a Parquet file there at
    once; called again, the sweep runs only what is missing, failed, or was made by other code.
    With a scheduler the runs go to the workers of a Dask cluster, and what they return is stored here, so that workers
    need the same code but no common folder. The run of a worker that dies is given to another one; results are those
    of a run in this process.

    Args:
        function: Top-level function that returns a dict of numbers, a list of such dicts, or a data frame.
        grid: Values of every argument; the sweep covers their product.
        seeds: Seeds, or their number (then 0, 1, …).
        path: Folder for the results.
        jobs: Number of processes; None for one per core. With a scheduler its workers decide.
        progress: Show a progress bar with the time left.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``; None for ``$CA14_SCHEDULER``, and processes of
            this computer where that is not set.
    Returns:
        One row per row returned, with the columns of the grid, ``seed``, ``error`` (empty when fine) and ``seconds``.
    Raises:
        ValueError: If the grid or the seeds are empty, a value has no stable ``repr`` that can name its file, or the
            workers' code differs from this one's.
        RuntimeError: If a process of this computer is killed; what was finished is kept.
        ConnectionError: If the scheduler cannot be reached.
        ImportError: If a scheduler is given and Dask is not installed.
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
        for name, values in grid.items():
            for value in values:
                if " at 0x" in repr(value):  # another object may have this address in the next process
                    raise ValueError(f"{name}={value!r} cannot name a file: give it by a name, or a dataclass's fields")
        folder.mkdir(parents=True, exist_ok=True)
        for index, run in enumerate(runs):
            stored = _stored(folder / _file_name(function, run, code))
            if stored is not None:
                results[index] = stored
    missing = [index for index in range(len(runs)) if index not in results]
    targets = {index: folder and folder / _file_name(function, runs[index], code) for index in missing}
    address = scheduler or os.environ.get(SCHEDULER_VARIABLE)
    finished = (
        _on_cluster(function, runs, targets, address, code) if address else _on_processes(function, runs, targets, jobs)
    )
    for index, frame in tqdm(finished, total=len(runs), initial=len(results), disable=not progress, unit="run"):
        results[index] = frame
    return pd.concat([results[index] for index in range(len(runs))], ignore_index=True)


def _on_processes(
    function: Callable[..., Any], runs: list[dict[str, Any]], targets: dict[int, Path | None], jobs: int | None
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Finished runs of processes of this computer, which store them: what is finished survives this process."""
    workers = joblib.Parallel(n_jobs=jobs or os.cpu_count() or 1, return_as="generator_unordered")
    calls = (joblib.delayed(_run)(function, runs[index], index, target) for index, target in targets.items())
    try:
        yield from workers(calls)
    except TerminatedWorkerError as problem:
        raise RuntimeError(
            "a process of the sweep was killed, most often for want of memory; finished runs are kept where the sweep "
            f"has a path: run it again, with fewer than {jobs or os.cpu_count() or 1} jobs"
        ) from problem
    get_reusable_executor().shutdown(wait=True)  # workers kept for a next sweep would go on with this code


def _on_cluster(
    function: Callable[..., Any], runs: list[dict[str, Any]], targets: dict[int, Path | None], address: str, code: str
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Finished runs in the order in which they come from a cluster's workers, each once, stored on this computer."""
    module = function.__module__
    with connected(address, module if module != "__main__" else None, code) as client:
        from distributed import as_completed

        # pure=False: two sweeps must not share a key; the cluster itself starts a dead worker's run again elsewhere
        futures = {client.submit(_run, function, runs[index], index, pure=False): index for index in targets}
        for future in as_completed(list(futures), loop=client.loop):
            if future.status != "finished":  # the workers that had this run died too often
                cause, index = future.exception(), futures[future]
                frame = _failed(runs[index], f"{type(cause).__name__}: {cause}")
            else:
                index, frame = future.result()
            _store(frame, targets[index])
            yield index, frame
            future.release()


@contextlib.contextmanager
def connected(address: str, module: str | None, code: str) -> Iterator[Any]:
    """A client of a Dask cluster whose workers can do the work: one thread each, and the same code.

    Args:
        address: Of the scheduler, ``tcp://HOST:PORT``.
        module: Name of the module whose code is compared; None compares nothing.
        code: Its :func:`~ca14lib.training.provenance.source_hash` on this computer.
    Raises:
        ImportError: If Dask is not installed.
        ConnectionError: If the scheduler cannot be reached, or has no workers.
        ValueError: If workers have several threads or other code.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError("a scheduler needs Dask: pip install 'ca14lib[scale]'") from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as problem:
        raise ConnectionError(
            f"no Dask scheduler answers at {address!r} within {CONNECT_SECONDS} s ({problem}); "
            "`dask scheduler` starts one and prints its address, tcp://HOST:PORT"
        ) from None
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise ConnectionError(f"the scheduler at {address!r} has no workers; `dask worker {address}` starts one")
        if any(worker["nthreads"] != 1 for worker in workers.values()):
            raise ValueError("a run needs a process of its own: start the workers with --nthreads 1 (and --nworkers N)")
        if module is not None:
            for worker, found in client.run(_worker_code, module).items():
                if found != code:
                    raise ValueError(
                        f"worker {worker} has other code of {module} ({found}) than this computer "
                        f"({code}): install the same version there"
                    )
        yield client


def _worker_code(module: str) -> str:
    return source_hash(module)


def _code_hash(function: Callable[..., Any]) -> str:
    """Hash of the function's module and what it imports; of its own text if it was written in a script or notebook."""
    if function.__module__ == "__main__":
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    return source_hash(function.__module__)


def _run(
    function: Callable[..., Any], run: dict[str, Any], index: int, target: Path | None = None
) -> tuple[int, pd.DataFrame]:
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
    frame = _with_settings(run, frame).assign(error=error, seconds=time.perf_counter() - start)
    _store(frame, target)
    return index, frame


def _failed(run: dict[str, Any], error: str) -> pd.DataFrame:
    return _with_settings(run, pd.DataFrame([{}])).assign(error=error, seconds=np.nan)


def _with_settings(run: dict[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
    settings = pd.DataFrame([{key: _plain(value) for key, value in run.items()}] * len(frame))
    outcome = frame.drop(columns=[column for column in settings if column in frame])
    return pd.concat([settings, outcome], axis=1)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool | type(None)) else repr(value)


def _identity(value: Any) -> str:
    """What tells a value from others in the name of its file: the ``repr`` of a large array leaves most of it out."""
    plain = _plain(value)
    return repr(plain) if plain is value or isinstance(value, np.generic) else joblib.hash(value)


def _file_name(function: Callable[..., Any], run: dict[str, Any], code: str) -> str:
    key = json.dumps([function.__module__, function.__qualname__, code, {k: _identity(v) for k, v in run.items()}])
    return hashlib.sha256(key.encode()).hexdigest()[:24] + ".parquet"


def _stored(path: Path) -> pd.DataFrame | None:
    """A finished run, or None if it is missing, unreadable or failed."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError):
        return None
    return frame if "error" in frame and (frame["error"] == "").all() else None


def _store(frame: pd.DataFrame, path: Path | None) -> None:
    if path is None:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    frame.to_parquet(temporary)
    os.replace(temporary, path)
