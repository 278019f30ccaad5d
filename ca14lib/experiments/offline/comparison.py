"""What the parts of the offline experiment share: an agent with its settings, and tables over seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ca14lib.agents.base import Agent, AgentConfig
from ca14lib.data import OfflineDataset
from ca14lib.metrics.intervals import interquartile_mean

Sweep = Callable[..., pd.DataFrame]


@dataclass(frozen=True)
class Entry:
    """One agent of a comparison: its class, its settings, the length of its training and the data it is given."""

    agent_class: type[Agent]
    config: AgentConfig
    updates: int
    batch_size: int = 256
    top_episodes: float = 1.0  # share of the episodes it is given: those of highest return

    def data(self, dataset: OfflineDataset) -> OfflineDataset:
        """The part of a dataset that the agent is given."""
        return dataset if self.top_episodes == 1.0 else dataset.top_episodes(self.top_episodes)


def build(entry: Entry, dataset: OfflineDataset, seed: int) -> Agent:
    """A new agent for a dataset, with the dataset's normalizer."""
    return entry.agent_class(
        dataset.observation_space, dataset.action_space, entry.config, normalizer=dataset.normalizer(), seed=seed
    )


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
