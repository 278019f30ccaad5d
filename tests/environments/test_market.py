"""The market of makers: profits by hand, equilibria by enumeration, simulation against expectation."""

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from ca14lib.environments import ParallelView, multi_agent_environment
from ca14lib.environments.applications.market import (
    QuoteMarket,
    demand,
    monopoly_spread,
    quote_payoffs,
    undercutting_equilibria,
)
from ca14lib.solvers import pure_equilibria


def assert_payoffs_are_right(payoffs) -> None:
    """Two makers, three ticks, cost one half: D(1) = 3/4, D(2) = 1/2."""
    table = payoffs(2, 3, 0.5)
    assert table[:, 0, 1].tolist() == pytest.approx([0.5 * 0.75, 0.0])
    assert table[:, 1, 0].tolist() == pytest.approx([0.0, 0.5 * 0.75])
    assert table[:, 1, 1].tolist() == pytest.approx([1.5 * 0.5 / 2] * 2)
    three = payoffs(3, 3, 0.5)
    assert three[:, 1, 1, 2].tolist() == pytest.approx([1.5 * 0.5 / 2] * 2 + [0.0])


def test_profits_by_hand():
    assert_payoffs_are_right(quote_payoffs)


def everybody_sells(n, levels, cost):
    ticks = np.stack(np.meshgrid(*[np.arange(1, levels + 1.0)] * n, indexing="ij"))
    return (ticks - cost) * demand(ticks, levels) / n


def ties_are_not_shared(n, levels, cost):
    table = quote_payoffs(n, levels, cost)
    return np.where(table > 0, table * (table > 0).sum(axis=0), 0)


def highest_quote_wins(n, levels, cost):
    return np.flip(quote_payoffs(n, levels, cost), axis=tuple(range(1, n + 1)))


def cost_is_free(n, levels, cost):
    return quote_payoffs(n, levels, 0.0)


@pytest.mark.parametrize("fault", [everybody_sells, ties_are_not_shared, highest_quote_wins, cost_is_free])
def test_planted_faults_are_noticed(fault):
    with pytest.raises(AssertionError):
        assert_payoffs_are_right(fault)


@pytest.mark.parametrize("makers", [2, 3])
@pytest.mark.parametrize("cost", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("levels", [3, 6, 10])
def test_equilibria_are_those_of_the_enumeration(makers, cost, levels):
    enumerated = pure_equilibria(quote_payoffs(makers, levels, cost))
    assert enumerated == [(tick - 1,) * makers for tick in undercutting_equilibria(makers, levels, cost)]


def test_the_numbers_of_the_page():
    assert undercutting_equilibria(2, 10, 0.5) == [1, 2]
    assert undercutting_equilibria(3, 10, 0.5) == [1]
    assert monopoly_spread(10, 0.5) == 6


def test_simulated_profits_are_the_expected_ones_on_average():
    game = multi_agent_environment("QuoteMarket", 4_096, customers=20)
    game.reset(seed=0)
    rng = np.random.default_rng(1)
    for _ in range(3):
        action = np.tile(rng.integers(10, size=2), (4_096, 1))
        _, reward, terminated, _, info = game.step(action)
        expected = quote_payoffs(2, 10, 0.5)[:, action[0, 0], action[0, 1]]
        np.testing.assert_allclose(reward.mean(axis=0), expected, atol=0.06)
        np.testing.assert_allclose(info["final_info"]["payoff"][0], expected)
        assert terminated.all()
        assert reward.std(axis=0).max() > 0.01


def test_a_run_repeats_and_customers_are_drawn_from_its_generator():
    def rewards(seed):
        game = QuoteMarket(8, horizon=5, memory=1)
        game.reset(seed=seed)
        return np.array([game.step(np.full((8, 2), 4))[1] for _ in range(5)])

    np.testing.assert_array_equal(rewards(1), rewards(1))
    assert (rewards(1) != rewards(2)).any()


def test_public_checker_passes():
    parallel_api_test(ParallelView(QuoteMarket(1, horizon=4, memory=1)), num_cycles=50)


def test_spawned_markets_are_the_same_market():
    game = QuoteMarket(2, num_agents=3, levels=6, cost=0.2, customers=5, horizon=3, memory=2).spawn(4)
    assert (game.num_envs, game.num_agents, game.levels, game.cost, game.customers) == (4, 3, 6, 0.2, 5)
    assert (game.horizon, game.memory) == (3, 2)


def test_bad_arguments_are_named():
    for arguments, message in (
        ({"num_agents": 1}, "num_agents"),
        ({"levels": 1}, "levels"),
        ({"customers": 0}, "customers"),
        ({"cost": 10}, r"cost must lie in \[0, 10\)"),
        ({"cost": np.nan}, "cost must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            QuoteMarket(1, **arguments)
