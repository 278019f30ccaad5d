"""Population-based training: who copies whom, what is copied, and what changes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.environments import multi_agent_environment
from ca14lib.training import population as module
from ca14lib.training.multi_agent import train_multi_agent
from ca14lib.training.population import (
    Population,
    PopulationConfig,
    Range,
    explored,
    inherited,
    selected,
    train_population,
)

RANGES = {"learning_rate": Range(1e-4, 1e-1), "entropy_weight": Range(0.0, 0.1, "linear")}
MATRIX = {"game": "matching_pennies", "memory": 0}


def build(values: Mapping[str, float], seed: int) -> IPPO:
    game = multi_agent_environment("MatrixGame", 1, **MATRIX)
    config = IPPOConfig(hidden_sizes=(4,), epochs=1, minibatches=1, team_reward=False, **values)
    return IPPO.for_game(game, config, seed=seed)


def train(agent: IPPO, seed: int) -> None:
    train_multi_agent(
        agent, "MatrixGame", 16, environment_arguments=MATRIX, num_envs=8, rollout_steps=1, seed=seed, progress=False
    )


def score(agent: IPPO) -> float:
    return float(agent.config.learning_rate)  # the higher the rate, the better: so it is known who wins


def small(seed: int = 0, **settings: Any) -> Population:
    config = PopulationConfig(**{"size": 4, "generations": 3} | settings)
    return train_population(build, train, score, RANGES, config, seed=seed)


def test_the_worst_quarter_copies_the_best_quarter_and_nobody_else_does() -> None:
    scores = [3.0, 9.0, 1.0, 4.0, 0.0, 8.0, 5.0, 6.0]
    seen = set()
    for seed in range(20):
        parents = selected(scores, 0.25, np.random.default_rng(seed))
        assert [parents[index] for index in (0, 1, 3, 5, 6, 7)] == [0, 1, 3, 5, 6, 7]
        seen |= {parents[2], parents[4]}
    assert seen == {1, 5}


def test_a_score_that_is_no_number_is_the_worst() -> None:
    assert selected([np.nan, 1.0, 2.0, 3.0], 0.25, np.random.default_rng(0)) == [3, 1, 2, 3]


def test_small_populations_replace_one() -> None:
    assert selected([1.0, 0.0], 0.25, np.random.default_rng(0)) == [0, 0]


def perturbs(change: Callable[..., dict[str, float]]) -> bool:
    """Without fresh draws every value is 0.8 or 1.2 of what it was, both occur, each on its own, within the range."""
    draws, config = np.random.default_rng(0), PopulationConfig(resampled=0.0)
    before = {"learning_rate": 1e-2, "entropy_weight": 0.05}
    ratios = np.array(
        [[after[name] / before[name] for name in RANGES]
         for after in (change(before, RANGES, config, draws) for _ in range(60))]
    )  # fmt: skip
    steps = {(round(float(one), 6), round(float(other), 6)) for one, other in ratios}
    edge = {"learning_rate": 0.099, "entropy_weight": 0.0999}
    at_edge = [change(edge, RANGES, config, draws) for _ in range(30)]
    inside = all(RANGES[name].low <= value <= RANGES[name].high for row in at_edge for name, value in row.items())
    return steps == {(0.8, 0.8), (0.8, 1.2), (1.2, 0.8), (1.2, 1.2)} and inside


def test_hyperparameters_are_multiplied_one_by_one_and_kept_in_range() -> None:
    assert perturbs(explored)


def test_planted_no_perturbation_is_noticed() -> None:
    assert not perturbs(lambda values, ranges, config, draws: dict(values))


def test_planted_one_factor_for_all_is_noticed() -> None:
    def together(values: Any, ranges: Any, config: Any, draws: Any) -> dict[str, float]:
        factor = config.factors[int(draws.integers(2))]
        return {name: span.within(values[name] * factor) for name, span in ranges.items()}

    assert not perturbs(together)


def test_planted_leaving_the_range_is_noticed() -> None:
    def unbounded(values: Any, ranges: Any, config: Any, draws: Any) -> dict[str, float]:
        return {name: values[name] * config.factors[int(draws.integers(2))] for name in ranges}

    assert not perturbs(unbounded)


def test_fresh_draws_come_as_often_as_asked_and_cover_the_range() -> None:
    draws, before = np.random.default_rng(0), {"learning_rate": 1e-2, "entropy_weight": 0.05}
    rates = [
        explored(before, RANGES, PopulationConfig(resampled=0.3), draws)["learning_rate"] / 1e-2 for _ in range(4000)
    ]
    afresh = [rate for rate in rates if not (np.isclose(rate, 0.8) or np.isclose(rate, 1.2))]
    assert 0.25 < len(afresh) / len(rates) < 0.35
    logs = np.log10(np.array(afresh) * 1e-2)
    assert abs(logs.mean() + 2.5) < 0.12  # uniform in the logarithm between −4 and −1
    assert logs.min() < -3.8
    assert logs.max() > -1.2


def equal_weights(one: IPPO, other: IPPO) -> bool:
    states = one.state_dict(), other.state_dict()
    return all((states[0][name] == states[1][name]).all() for name in states[0])


def inherits(copy: Callable[..., IPPO]) -> bool:
    """Weights and optimiser state are the parent's, rate and configuration new, draws its own, the parent unchanged."""
    parent, heir = (
        build({"learning_rate": 1e-2, "entropy_weight": 0.01}, 1),
        build({"learning_rate": 1e-3, "entropy_weight": 0.0}, 2),
    )
    train(parent, 0)
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    child = copy(build, parent, heir, {"learning_rate": 2e-2, "entropy_weight": 0.02})
    moments = [
        agent.optimizers["policy"].state_dict()["state"].get(0, {}).get("exp_avg_sq", torch.zeros(1))
        for agent in (parent, child)
    ]
    return bool(
        equal_weights(parent, child)
        and moments[0].abs().sum() > 0
        and moments[0].shape == moments[1].shape
        and (moments[0] == moments[1]).all()
        and child.config.learning_rate == 2e-2
        and child.config.entropy_weight == 0.02
        and child.optimizers["policy"].param_groups[0]["lr"] == 2e-2
        and (child.generator.get_state() == heir.generator.get_state()).all()
        and child.updates == parent.updates
        and all((parent.state_dict()[name] == value).all() for name, value in before.items())
    )


def test_an_heir_has_weights_and_optimiser_state_of_its_parent_and_its_own_hyperparameters() -> None:
    assert inherits(inherited)


def test_planted_an_optimiser_that_starts_anew_is_noticed() -> None:
    def weights_only(make: Any, parent: IPPO, heir: IPPO, values: Any) -> IPPO:
        child = make(values, 0)
        child.load_state_dict(parent.state_dict())
        child.generator.set_state(heir.generator.get_state())
        child.updates = parent.updates
        return child

    assert not inherits(weights_only)


def test_planted_the_winner_overwritten_is_noticed() -> None:
    def swapped(make: Any, parent: IPPO, heir: IPPO, values: Any) -> IPPO:
        child = inherited(make, parent, heir, values)
        parent.load_state_dict(heir.state_dict())
        return child

    assert not inherits(swapped)


def test_planted_the_old_learning_rate_in_the_optimiser_is_noticed() -> None:
    def stale(make: Any, parent: IPPO, heir: IPPO, values: Any) -> IPPO:
        child = inherited(make, parent, heir, values)
        child.optimizers["policy"].param_groups[0]["lr"] = parent.config.learning_rate
        return child

    assert not inherits(stale)


def test_planted_the_parents_generator_is_noticed() -> None:
    def twins(make: Any, parent: IPPO, heir: IPPO, values: Any) -> IPPO:
        return inherited(make, parent, parent, values)

    assert not inherits(twins)


def test_the_population_moves_to_the_better_hyperparameters_and_says_where_they_come_from() -> None:
    result = small(generations=6)
    scores = result.history.groupby("generation")["score"]
    assert scores.min().is_monotonic_increasing
    assert scores.max().is_monotonic_increasing
    assert scores.mean().iloc[-1] > 1.5 * scores.mean().iloc[0]
    assert len(result.history) == 6 * 4
    assert len(result.lineage) == 5 * 4
    assert ((result.lineage.parent != result.lineage.member).groupby(result.lineage.generation).sum() == 1).all()
    line = result.ancestors(result.best)
    assert len(line) == 6
    assert line[0] == result.best
    assert [agent.config.learning_rate for agent in result.members] == [
        values["learning_rate"] for values in result.hyperparameters
    ]


def test_equal_seeds_repeat_and_others_differ() -> None:
    one, same, other = small(3), small(3), small(4)
    assert one.history.equals(same.history)
    assert one.lineage.equals(same.lineage)
    assert all(equal_weights(first, second) for first, second in zip(one.members, same.members, strict=True))
    assert not one.history.equals(other.history)


def test_members_are_trained_with_different_seeds() -> None:
    seeds: list[int] = []
    train_population(
        build, lambda agent, seed: seeds.append(seed), score, RANGES, PopulationConfig(size=4, generations=3), seed=0
    )
    assert len(set(seeds)) == 12


def test_nobody_is_replaced_after_the_last_generation() -> None:
    result = small(generations=1)
    assert result.lineage.empty
    assert sorted(result.history["score"]) == sorted(values["learning_rate"] for values in result.hyperparameters)


@pytest.mark.parametrize(
    "settings",
    [{"size": 1}, {"size": 0}, {"generations": 0}, {"exploited": 0.6}, {"exploited": 0.0}, {"factors": (0.8,)},
     {"factors": (-1.0, 1.2)}, {"resampled": 1.5}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        PopulationConfig(**settings)


@pytest.mark.parametrize("arguments", [(1.0, 0.5), (0.0, 1.0), (1.0, float("inf")), (0.1, 1.0, "square")])
def test_ranges_that_are_none_are_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match=r"low|scale"):
        Range(*arguments)


def test_no_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one hyperparameter"):
        train_population(build, train, score, {})


def test_planted_training_that_skips_the_copying_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "selected", lambda scores, share, draws: list(range(len(scores))))
    result = small(generations=6)
    assert (result.lineage.parent == result.lineage.member).all()
    assert result.history.groupby("generation")["score"].mean().nunique() == 1
