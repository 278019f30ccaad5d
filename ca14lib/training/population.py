"""Population-based training (Jaderberg et al., 2017): hyperparameters that change while agents learn.

Book: multi_agent/competition.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ca14lib.agents.base import Agent, require

SCALES = ("log", "linear")


@dataclass(frozen=True)
class Range:
    """What a hyperparameter may be.

    Attributes:
        low: Smallest value.
        high: Largest value.
        scale: ``"log"`` draws its logarithm uniformly, ``"linear"`` the value itself.
    """

    low: float
    high: float
    scale: str = "log"

    def __post_init__(self) -> None:
        require(self.scale in SCALES, "scale", self.scale, f"one of {SCALES}")
        require(-math.inf < self.low < self.high < math.inf, "low", (self.low, self.high), "below high, both finite")
        require(self.scale == "linear" or self.low > 0, "low", self.low, "positive on a logarithmic scale")

    def sample(self, generator: np.random.Generator) -> float:
        """A fresh value."""
        if self.scale == "linear":
            return float(generator.uniform(self.low, self.high))
        return float(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))

    def within(self, value: float) -> float:
        """The nearest value of the range."""
        return float(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class PopulationConfig:
    size: int = 8
    generations: int = 10  # times that everyone trains and is judged
    exploited: float = 0.25  # share of the population that is replaced, and of those who replace it
    factors: tuple[float, float] = (0.8, 1.2)  # what a hyperparameter is multiplied by, either one
    resampled: float = 0.25  # probability that it is drawn afresh instead

    def __post_init__(self) -> None:
        whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        require(
            whole and self.size >= 2,
            "size",
            self.size,
            "an integer of at least 2: a population of one has nobody to copy",
        )
        whole = isinstance(self.generations, int) and not isinstance(self.generations, bool)
        require(whole and self.generations >= 1, "generations", self.generations, "a positive integer")
        require(0 < self.exploited <= 0.5, "exploited", self.exploited, "in (0, 0.5]")
        object.__setattr__(self, "factors", tuple(self.factors))
        require(len(self.factors) == 2 and min(self.factors) > 0, "factors", self.factors, "two positive numbers")
        require(0 <= self.resampled <= 1, "resampled", self.resampled, "in [0, 1]")


@dataclass(frozen=True, eq=False)
class Population:
    """What came of it.

    Attributes:
        members: The agents at the end.
        hyperparameters: Theirs, one dict per member.
        history: One row per generation and member: ``generation``, ``member``, ``score``, and the hyperparameters that
            were in force.
        lineage: One row per generation after the first and member: ``generation``, ``member``, ``parent``, the member
            whose weights it began the generation with, itself if it was not replaced.
    """

    members: list[Any]
    hyperparameters: list[dict[str, float]]
    history: pd.DataFrame
    lineage: pd.DataFrame

    @property
    def best(self) -> int:
        """The member with the highest score in the last generation."""
        last = self.history[self.history["generation"] == self.history["generation"].max()]
        return int(last.loc[last["score"].fillna(-np.inf).idxmax(), "member"])

    def ancestors(self, member: int) -> list[int]:
        """Whose weights a member's go back to, from the last generation to the first."""
        line = [member]
        for _, rows in sorted(self.lineage.groupby("generation"), reverse=True):
            line.append(int(rows.set_index("member").loc[line[-1], "parent"]))
        return line


def train_population(
    build: Callable[[Mapping[str, float], int], Agent],
    train: Callable[[Any, int], object],
    score: Callable[[Any], float],
    ranges: Mapping[str, Range],
    config: PopulationConfig | None = None,
    *,
    seed: int = 0,
) -> Population:
    """Train a population: the worst copy the best and then change their hyperparameters.

    In every generation all members train and are judged. Then each of the worst quarter takes over weights and
    optimiser state of a member drawn from the best quarter, with its hyperparameters, of which every one is multiplied
    by 0.8 or 1.2, or drawn afresh with probability ``resampled``, and kept within its range. The best and the middle
    are left as they are. After the last generation nobody is replaced.

    Args:
        build: Function of hyperparameters and a seed to a new agent, whose networks must not depend on the
            hyperparameters' values.
        train: Function of an agent and a seed that trains it for one generation, in place. The seed differs between
            members and generations.
        score: Function of an agent to the number that is to be high; NaN counts as the worst.
        ranges: Range of every hyperparameter.
        config: Sizes and rules; None for the defaults.
        seed: Fixes the hyperparameters, the seeds of agents and of their training, and who copies whom.
    Raises:
        ValueError: If there is no hyperparameter, or an agent of other hyperparameters cannot take over weights.
    """
    config = config or PopulationConfig()
    if not ranges:
        raise ValueError("population-based training needs at least one hyperparameter, got none")
    draws = np.random.default_rng(seed)
    values = [{name: span.sample(draws) for name, span in ranges.items()} for _ in range(config.size)]
    members = [build(own, _seed(seed, 0, index)) for index, own in enumerate(values)]
    history: list[dict[str, Any]] = []
    lineage: list[dict[str, int]] = []
    for generation in range(config.generations):
        for index, member in enumerate(members):
            train(member, _seed(seed, generation + 1, index))
        scores = [float(score(member)) for member in members]
        history += [
            {"generation": generation, "member": index, "score": own} | values[index]
            for index, own in enumerate(scores)
        ]
        if generation == config.generations - 1:
            break
        parents = selected(scores, config.exploited, draws)
        # all copies are of the members as they were: who is copied is never a copy of this round
        for index, parent in enumerate(parents):
            if parent != index:
                values[index] = explored(values[parent], ranges, config, draws)
                members[index] = inherited(build, members[parent], members[index], values[index])
        lineage += [
            {"generation": generation + 1, "member": index, "parent": parent} for index, parent in enumerate(parents)
        ]
    columns = ["generation", "member", "parent"]
    return Population(members, values, pd.DataFrame(history), pd.DataFrame(lineage, columns=columns))


def selected(scores: list[float], exploited: float, draws: np.random.Generator) -> list[int]:
    """Whom each member goes on from: itself, or for the worst share a member drawn from the best share.

    Args:
        scores: One per member; NaN counts as the worst.
        exploited: The share, in (0, 0.5]; it is at least one member.
        draws: Decides among the best.
    """
    values = np.nan_to_num(np.array(scores, dtype=np.float64), nan=-np.inf)
    order = np.argsort(-values, kind="stable")  # best first, ties by index
    number = max(1, int(exploited * len(scores)))
    parents = list(range(len(scores)))
    for index in order[-number:]:
        parents[int(index)] = int(draws.choice(order[:number]))
    return parents


def explored(
    values: Mapping[str, float], ranges: Mapping[str, Range], config: PopulationConfig, draws: np.random.Generator
) -> dict[str, float]:
    """Hyperparameters near others, or drawn afresh, each within its range."""
    changed = {}
    for name, span in ranges.items():
        if draws.random() < config.resampled:
            changed[name] = span.sample(draws)
        else:
            changed[name] = span.within(values[name] * config.factors[int(draws.integers(2))])
    return changed


def inherited(
    build: Callable[[Mapping[str, float], int], Agent], parent: Agent, heir: Agent, values: Mapping[str, float]
) -> Agent:
    """A new agent with the parent's weights and optimiser state and other hyperparameters.

    It goes on with the heir's own generator: with the parent's it would draw what the parent draws.
    """
    child = build(values, 0)
    tensors, metadata = parent.state()
    tensors |= {"generator": heir.generator.get_state()}
    # restore() refuses another configuration, which is right for a checkpoint; here the change is the point
    metadata |= {"config": child.state()[1]["config"]}
    child.restore(tensors, json.loads(json.dumps(metadata)))
    return child


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0] % 2**31)
