"""What the parts of the offline experiment share: an agent with its settings."""

from dataclasses import dataclass

from ca14lib.agents.base import Agent, AgentConfig
from ca14lib.data import OfflineDataset


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
