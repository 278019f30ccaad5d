"""The agents with discrete actions on GridWorld, trained as in the section's experiment, against the optimum of 0.3."""

import functools

import pytest

from ca14lib.agents.base import DiscreteAgent
from ca14lib.data import OfflineDataset
from ca14lib.environments import tabular_model
from ca14lib.evaluation import value_error
from ca14lib.experiments.offline import GRIDWORLD, GRIDWORLD_AGENTS, GRIDWORLD_EPISODES, build
from ca14lib.solvers import policy_return
from ca14lib.training import collect, train_offline

pytestmark = pytest.mark.learning

OPTIMUM = 0.3
SEEDS = (0, pytest.param(1, marks=pytest.mark.verify))  # `make verify` runs both


@functools.cache
def data(behaviour: str, seed: int) -> OfflineDataset:
    return collect(GRIDWORLD, behaviour, GRIDWORLD_EPISODES[behaviour], seed)


def greedy_return(agent: DiscreteAgent) -> float:
    model = tabular_model(GRIDWORLD)
    return policy_return(model, agent.policy_table(model), horizon=50)


def last_returns(name: str, behaviour: str, seed: int) -> list[float]:
    """Exact returns of the greedy policy in the last quarter of the training and at its end."""
    entry = GRIDWORLD_AGENTS[name]
    dataset = entry.data(data(behaviour, seed))
    agent = build(entry, dataset, seed)
    every = entry.updates // 12
    history = train_offline(
        agent, dataset, entry.updates, batch_size=entry.batch_size, seed=seed, progress=False,
        evaluate=lambda a: {"return": greedy_return(a)}, evaluate_every=every,
    )  # fmt: skip
    return history.series("return").tolist()[-4:]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "behaviour, name",
    [
        *(("mixed", name) for name in ("DiscreteAWR", "DiscreteBCQ", "DiscreteCQL", "DiscreteIQL")),
        *(("random", name) for name in ("DiscreteBCQ", "DiscreteCQL", "DiscreteIQL")),
    ],
)
def test_pessimistic_agents_reach_the_optimum_and_stay_there(name, behaviour, seed):
    assert last_returns(name, behaviour, seed) == pytest.approx([OPTIMUM] * 4, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_dqn_reaches_the_optimum_where_the_data_cover_everything(seed):
    assert last_returns("DQN", "random", seed) == pytest.approx([OPTIMUM] * 4, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_greedy_copy_is_optimal_on_mixed_data_and_worthless_on_random_data(seed):
    assert last_returns("DiscreteBC", "mixed", seed) == pytest.approx([OPTIMUM] * 4, abs=1e-9)
    assert max(last_returns("DiscreteBC", "random", seed)) < 0


@pytest.mark.parametrize("name", ["DiscreteAWR", "DiscreteBCQ", "DiscreteBCRegularized", "DiscreteCQL", "DiscreteIQL"])
def test_agents_that_stay_near_the_data_keep_the_experts_return(name):
    assert last_returns(name, "expert", 0) == pytest.approx([OPTIMUM] * 4, abs=1e-9)


def test_the_best_tenth_of_random_data_is_worth_cloning():
    """Cloning all of it is worthless; the best episodes of a random walk lead to the goal without a detour."""
    assert last_returns("DiscreteBC10%", "random", 0)[-1] > 0.2


def test_the_naive_learner_overestimates_where_the_data_do_not_reach():
    """On expert data most actions are never seen: DQN's values run far above the true ones, CQL's much less."""
    model, errors = tabular_model(GRIDWORLD), {}
    for name in ("DQN", "DiscreteCQL"):
        entry, dataset = GRIDWORLD_AGENTS[name], data("expert", 0)
        agent = build(entry, dataset, 0)
        train_offline(agent, dataset, entry.updates, batch_size=entry.batch_size, progress=False)
        seen = dataset.visit_counts(model).sum(axis=1) > 0
        errors[name] = value_error(agent, model, entry.config.discount)[seen & ~model.terminal].max()
    assert errors["DQN"] > 3
    assert errors["DiscreteCQL"] < errors["DQN"] / 2
