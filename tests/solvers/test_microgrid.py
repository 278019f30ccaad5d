"""Microgrid's bounds: against cvxpy, closed forms, play and dynamic programming; the scripted policies; faults."""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest

from ca14lib.environments.applications.microgrid import Microgrid
from ca14lib.solvers import microgrid as module
from ca14lib.solvers.microgrid import (
    MicrogridPlan,
    MicrogridProgram,
    RecedingHorizon,
    idle_policy,
    microgrid_bounds,
    microgrid_dynamic_programming,
    microgrid_optimum,
    nearest_levels,
    play,
    self_consumption_policy,
)

GAMES = [{}, {"num_agents": 1, "line_limit": 1.5}, {"num_agents": 2, "steps_per_hour": 2}, {"days": 2, "num_agents": 4}]


def days(game: Microgrid, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    game.reset(seed=seed)
    return list(zip(*game.profiles, game.stored, strict=True))


def by_cvxpy(game: Microgrid, load: np.ndarray, solar: np.ndarray, stored: np.ndarray) -> float:
    """The same problem as a modeller would write it, with the bill as a convex function of the line's draw."""
    shape = load.shape
    charge, discharge = cp.Variable(shape, nonneg=True), cp.Variable(shape, nonneg=True)
    level = cp.Variable((shape[0], shape[1] + 1), nonneg=True)
    curtailed = cp.Variable(shape[1], nonneg=True)
    line = cp.sum(load - solar + charge - discharge, axis=0) + curtailed
    hours, one_way, limit = game.step_hours, np.sqrt(game.efficiency), game.line_limit
    bought, sold = cp.pos(line), cp.neg(line)
    # feed-in pays 0.08 for what is sold: price·bought − 0.08·sold is convex, as the price is higher
    pay = cp.multiply(game.price - 0.08, bought) + 0.08 * line
    fine = cp.multiply(2.0 - game.price, cp.pos(line - limit))
    rules = [
        level[:, 0] == stored, level <= game.capacity, charge <= game.power, discharge <= game.power, sold <= limit,
        level[:, 1:] == level[:, :-1] + hours * (one_way * charge - discharge / one_way),
    ]  # fmt: skip
    bill = hours * cp.sum(pay + fine) - 0.18 * cp.sum(level[:, -1] - stored)
    return float(cp.Problem(cp.Minimize(bill), rules).solve(solver=cp.CLARABEL))


@pytest.mark.parametrize("arguments", GAMES)
def test_optimum_agrees_with_cvxpy(arguments: dict) -> None:
    game = Microgrid(2, **arguments)
    for day in days(game):
        assert microgrid_optimum(game, *day).bill == pytest.approx(by_cvxpy(game, *day), abs=1e-5)


def plan_costs_what_it_says(solve: Callable[..., MicrogridPlan], game: Microgrid) -> None:
    """Powers that the batteries can follow, and the game's own bill for them."""
    for load, solar, stored in days(game):
        plan, energy, bill = solve(game, load, solar, stored), stored, 0.0
        for step in range(game.horizon):
            power, after = game.battery(energy, plan.battery[:, step])
            np.testing.assert_allclose(power, plan.battery[:, step], atol=1e-6)
            np.testing.assert_allclose(after, plan.stored[:, step + 1], atol=1e-6)
            line = (load - solar)[:, step].sum() + power.sum()
            assert line == pytest.approx(plan.line[step], abs=1e-6)
            bill += float(game.payment(line, game.price[step])) - 0.18 * (after - energy).sum()
            energy = after
        assert bill == pytest.approx(plan.bill, abs=1e-5)


@pytest.mark.parametrize("arguments", GAMES)
def test_the_plan_of_the_optimum_can_be_played_and_costs_its_bill(arguments: dict) -> None:
    plan_costs_what_it_says(microgrid_optimum, Microgrid(3, **arguments))


def bound_holds(bounds: Callable[[Microgrid], np.ndarray]) -> None:
    game = Microgrid(5)
    draws = np.random.default_rng(0)
    policies = [
        idle_policy(game), self_consumption_policy(game), self_consumption_policy(game, common=False),
        RecedingHorizon(game, "perfect"), lambda seen, info: draws.integers(9, size=seen.shape[:2]),
    ]  # fmt: skip
    game.reset(seed=4)
    bound = bounds(game)
    least = np.min([play(game, policy, seed=4)["bill"] for policy in policies], axis=0)
    assert (bound <= least + 1e-6).all()
    assert (least - bound).mean() < 1.0  # euro: a bound that is far away would bound everything


def test_no_policy_pays_less_than_the_bound_on_any_day_and_one_comes_close() -> None:
    bound_holds(microgrid_bounds)


@pytest.mark.parametrize("fault", ["lossless", "no set-off", "free line", "feed-in at the tariff"])
def test_a_wrong_programme_is_noticed(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def solve(game: Microgrid, *day: np.ndarray) -> MicrogridPlan:
        program = MicrogridProgram(game, game.horizon)
        if fault == "lossless":
            game.one_way, kept = 1.0, game.one_way
            program._matrix = program._equations()
            game.one_way = kept
        if fault == "free line":
            program._bounds[-4 * game.horizon :, 1] = np.inf
        return program.solve(*day)

    if fault == "no set-off":
        monkeypatch.setattr(module, "STORED", 0.0)
    if fault == "feed-in at the tariff":
        monkeypatch.setattr(module, "FEED_IN", 0.2)
    with pytest.raises(AssertionError):
        plan_costs_what_it_says(solve, Microgrid(3))


def test_bounds_that_are_too_low_or_too_high_are_noticed() -> None:
    def with_margin(game: Microgrid) -> np.ndarray:
        program = MicrogridProgram(game, game.horizon, margin=4.0)
        return np.array([program.solve(*day).bill for day in zip(*game.profiles, game.stored, strict=True)])

    with pytest.raises(AssertionError):
        bound_holds(with_margin)
    with pytest.raises(AssertionError):
        bound_holds(lambda game: microgrid_bounds(game) - 2.0)


def test_an_evening_that_the_night_pays_for_has_a_closed_form() -> None:
    game = Microgrid(1, num_agents=1)
    load, nothing = np.zeros((1, 24)), np.zeros((1, 24))
    assert microgrid_optimum(game, load, nothing, [3.0]).bill == pytest.approx(0.0)  # storing and selling lose
    load[0, 17:22] = 1.0
    # 5 kWh at 0.42 in the evening, or 5/0.9 kWh at 0.20 in the night: 5/√0.9 = 5.3 kWh fit into 6
    assert microgrid_optimum(game, load, nothing, [0.0]).bill == pytest.approx(0.20 * 5 / 0.9)
    # energy in the battery is set off at 0.18 and costs nothing else
    assert microgrid_optimum(game, load, nothing, [6.0]).bill == pytest.approx(0.18 * 5 / np.sqrt(0.9))


# Dynamic programming


@pytest.mark.parametrize("agents, coarse, fine", [(1, 16, 121), (2, 7, 19)])
def test_the_linear_programme_bounds_dynamic_programming_which_comes_closer_on_finer_grids(agents, coarse, fine):
    game = Microgrid(1, num_agents=agents, noise=0.0, line_limit=1.2 * agents)
    ((load, solar, _),) = days(game)
    stored = np.full(agents, game.capacity / 3)
    bound = microgrid_optimum(game, load, solar, stored).bill
    rough, good = (
        microgrid_dynamic_programming(game, load, solar, stored, points=points).bill for points in (coarse, fine)
    )
    assert bound <= good + 1e-9 < rough
    assert good - bound < 0.2 * (rough - bound) + 0.03


def test_the_plan_of_dynamic_programming_can_be_played_and_costs_its_bill() -> None:
    def solve(game: Microgrid, load, solar, stored) -> MicrogridPlan:
        return microgrid_dynamic_programming(game, load, solar, stored, points=13)

    class OnTheGrid(Microgrid):
        def _restart(self, count, options):
            load, solar, stored = super()._restart(count, options)
            return load, solar, np.rint(2 * stored) / 2

    plan_costs_what_it_says(solve, OnTheGrid(2, num_agents=2))


def test_dynamic_programming_refuses_what_it_is_not_for() -> None:
    game = Microgrid(1)
    ((load, solar, _),) = days(game)
    with pytest.raises(ValueError, match="at most 2 households"):
        microgrid_dynamic_programming(game, load, solar, np.zeros(3))
    pair = Microgrid(1, num_agents=2)
    with pytest.raises(ValueError, match="grid of 31"):
        microgrid_dynamic_programming(pair, load[:2], solar[:2], [0.1, 0.0])
    with pytest.raises(ValueError, match="2500"):
        microgrid_dynamic_programming(pair, load[:2], solar[:2], [0.0, 0.0], points=50)


# What practitioners run


def test_rounding_keeps_the_sum() -> None:
    game = Microgrid(1, num_agents=4)
    wanted = np.random.default_rng(0).uniform(-1.9, 1.9, (200, 4))
    done = game.level_powers[nearest_levels(game, wanted)]
    assert (abs(done.sum(axis=1) - wanted.sum(axis=1)) <= 0.625 / 2 + 1e-9).all()
    assert (abs(done - wanted) <= 0.625 + 1e-9).all()


def test_self_consumption_stores_the_surplus_and_uses_it_in_the_evening() -> None:
    game = Microgrid(1, noise=0.0)
    for common in (True, False):
        played = play(game, self_consumption_policy(game, common=common), seed=0)
        assert (played["battery"][0, :, 10] > 0).all()
        assert (played["battery"][0, :, 18] < 0).all()
    assert np.abs(play(game, idle_policy(game), seed=0)["battery"]).max() == 0


def test_with_mean_days_a_forecast_of_the_mean_is_perfect_and_on_others_it_is_not() -> None:
    for noise, equal in ((0.0, True), (1.0, False)):
        game = Microgrid(2, noise=noise)
        bills = [play(game, RecedingHorizon(game, forecast), seed=2)["bill"] for forecast in module.FORECASTS]
        assert np.allclose(bills[0], bills[2], atol=0.02) is equal
        assert np.allclose(bills[1], bills[2], atol=0.02) is equal


def test_a_forecast_is_corrected_by_what_today_has_shown_until_midnight() -> None:
    game = Microgrid(1, days=2, noise=0.0)
    policy = RecedingHorizon(game, "corrected")
    for step in range(13):
        load, solar = policy._coming(
            step, 1.5 * policy.mean_load[None, :, step], 0.5 * policy.mean_solar[None, :, step], np.array([0.5])
        )
    np.testing.assert_allclose(load[0, :, 1:11], 1.5 * policy.mean_load[:, 13:23])
    np.testing.assert_allclose(solar[0, :, 1:5], 0.5 * policy.mean_solar[:, 13:17])
    np.testing.assert_allclose(load[0, :, 11:], policy.mean_load[:, 23:] * ([1.5] + [1.0] * 24))


def test_a_margin_leaves_room_on_the_line() -> None:
    game = Microgrid(4)
    plain, careful = (play(game, RecedingHorizon(game, "mean", margin=kw), seed=1) for kw in (0.0, 1.0))
    assert careful["unserved"].mean() < plain["unserved"].mean()


@pytest.mark.parametrize(
    "change, named",
    [({"load": np.zeros((3, 23))}, "load"), ({"solar": np.full((3, 24), -1.0)}, "solar"),
     ({"stored": [7.0, 0.0, 0.0]}, "stored"), ({"stored": [1.0]}, "stored")],
)  # fmt: skip
def test_days_that_do_not_fit_are_refused(change: dict, named: str) -> None:
    day = {"load": np.zeros((3, 24)), "solar": np.zeros((3, 24)), "stored": np.zeros(3)} | change
    with pytest.raises(ValueError, match=named):
        microgrid_optimum(Microgrid(1), **day)


def test_unknown_forecasts_and_margins_are_refused() -> None:
    with pytest.raises(ValueError, match="oracle"):
        RecedingHorizon(Microgrid(1), "oracle")
    with pytest.raises(ValueError, match="margin"):
        MicrogridProgram(Microgrid(1), 24, margin=6.0)
    with pytest.raises(ValueError, match="start"):
        MicrogridProgram(Microgrid(1), 24).solve(np.zeros((3, 24)), np.zeros((3, 24)), np.zeros(3), start=1)
