"""What the experiments of all sections share: sweeps that hide no failed run, and running the parts of a section."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ca14lib.experiments.results import write_results
from ca14lib.metrics.intervals import interquartile_mean
from ca14lib.training.sweep import sweep

Sweep = Callable[..., pd.DataFrame]
Part = Callable[[Sweep, bool], dict[str, pd.DataFrame]]


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of a sweep, or an error that shows the first failure: a table never hides failed seeds."""
    failed = runs[runs["error"] != ""]
    if len(failed):
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs failed, the first with:\n{failed['error'].iloc[0]}")
    return runs.drop(columns="error")


def interquartile_means(runs: pd.DataFrame, by: Sequence[str], column: str) -> list[float]:
    """Interquartile mean of a column in every group; NaN where the agent has no such number."""
    groups = [group[column] for _, group in runs.groupby(list(by), sort=False)]
    return [interquartile_mean(values) if values.notna().all() else np.nan for values in groups]


def run_parts(
    available: Mapping[str, Part], command: str, *, seeds: int, quick: bool, parts: Iterable[str] | None,
    output: str | Path | None, cache_folder: str | Path | None, jobs: int | None, progress: bool,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Run parts of a section's experiment, write their tables and return them by name.

    Args:
        available: The section's parts by name; a part makes its tables from a sweep and says by its module which code
            they depend on.
        command: What the section is run with, for the provenance.
        seeds: Seeds per setting.
        quick: Minutes instead of hours.
        parts: Which parts to run; None for all.
        output: Folder of the tables; None for the course's ``results``.
        cache_folder: Folder of finished runs, from which a stopped experiment goes on.
        jobs: Processes; None for one per core.
        progress: Show progress bars.
    Raises:
        ValueError: If a part is unknown or there are fewer than two seeds.
    """
    chosen = list(available if parts is None else parts)
    unknown = [part for part in chosen if part not in available]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r}; there are {', '.join(available)}")
    if seeds < 2:
        raise ValueError(f"intervals over seeds need at least two seeds, got {seeds}")
    command = f"{command} --seeds {seeds}" + " --quick" * quick
    tables: dict[str, pd.DataFrame] = {}
    for part in chosen:
        sweeps = partial(sweep, seeds=seeds, jobs=jobs, progress=progress,
                         path=None if cache_folder is None else Path(cache_folder) / part)  # fmt: skip
        function = available[part]
        for name, table in function(sweeps, quick).items():
            write_results(
                name, table, command=f"{command} --part {part}", modules=[function.__module__], seeds=range(seeds),
                folder=output,
            )  # fmt: skip
            tables[name] = table
    return tables
