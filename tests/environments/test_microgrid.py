"""Microgrid: step by step against a slow account in plain numbers, its days, its interface, faults that are noticed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from ca14lib.environments import ParallelView
from ca14lib.environments.applications import microgrid as module
from ca14lib.environments.applications.microgrid import Microgrid

GAMES: dict[str, dict[str, Any]] = {
    "three": {},
    "one": {"num_agents": 1},
    "half-hourly": {"num_agents": 5, "steps_per_hour": 2, "levels": 3},
    "two days": {"num_agents": 2, "days": 2, "efficiency": 1.0, "line_limit": 2.0},
}
every_game = pytest.mark.parametrize("name", GAMES)


def bought_at(hour: float) -> float:
    if hour < 6 or hour >= 22:
        return 0.20
    return 0.42 if hour >= 17 else 0.28


def account(game: Microgrid, action: list[int], day: int, step: int, stored: list[float]) -> tuple[float, list[float]]:
    """Bill in euro and stored energy in kWh after a step of one copy, by the words of the docstring."""
    load, solar = (values[day, :, step] for values in game.profiles)
    hours, one_way = 1 / game.steps_per_hour, math.sqrt(game.efficiency)
    draw, after = 0.0, []
    for i, level in enumerate(action):
        power = game.power * (2 * level / (game.levels - 1) - 1)
        if power >= 0:
            into = min(power * hours * one_way, game.capacity - stored[i])
            after.append(stored[i] + into)
            power = into / one_way / hours
        else:
            out = min(-power * hours / one_way, stored[i])
            after.append(stored[i] - out)
            power = -out * one_way / hours
        draw += load[i] - solar[i] + power
    price = bought_at((step + 0.5) / game.steps_per_hour % 24)
    limit = game.line_limit
    if draw > limit:
        bill = hours * (price * limit + 2.0 * (draw - limit))
    elif draw >= 0:
        bill = hours * price * draw
    else:
        bill = -hours * 0.08 * min(-draw, limit)
    return bill - 0.18 * (sum(after) - sum(stored)), after


def largest_difference(make: Callable[..., Microgrid], **arguments: Any) -> float:
    """Between the game and the account over an episode of two copies with random actions: rewards and energies."""
    game = make(2, **arguments)
    game.reset(seed=3)
    draws, worst = np.random.default_rng(0), 0.0
    stored = game.stored.tolist()
    for step in range(game.horizon - 1):  # the last step resets
        action = draws.integers(game.levels, size=(2, game.num_agents))
        _, reward, *_, info = game.step(action)
        for day in range(2):
            bill, stored[day] = account(game, action[day].tolist(), day, step, stored[day])
            worst = max(worst, abs(reward[day].sum() + bill), abs(info["bill"][day] - bill))
            worst = max(worst, np.abs(info["stored"][day] - stored[day]).max())
    return worst


@every_game
def test_steps_agree_with_a_slow_account(name: str) -> None:
    assert largest_difference(Microgrid, **GAMES[name]) < 1e-9


def test_losses_on_one_way_only_are_noticed() -> None:
    class OneWay(Microgrid):
        def battery(self, stored, wanted):
            power, after = super().battery(stored, wanted)
            lost = (1 / self.one_way - 1) * np.maximum(-power, 0) * self.step_hours
            return power, np.minimum(after + lost, self.capacity)

    assert largest_difference(OneWay) > 1e-3


def test_selling_what_the_line_cannot_carry_is_noticed() -> None:
    class NoCurtailment(Microgrid):
        def payment(self, line, price):
            return super().payment(line, price) - module.FEED_IN * np.maximum(-line - self.line_limit, 0)

    assert largest_difference(NoCurtailment) > 1e-3


def test_load_beyond_the_limit_at_the_tariff_is_noticed() -> None:
    class NoFine(Microgrid):
        def payment(self, line, price):
            excess = np.maximum(line - self.line_limit, 0)
            return super().payment(line, price) - (module.UNSERVED - price) * excess

    assert largest_difference(NoFine) > 1e-3


def test_a_price_that_is_an_hour_late_is_noticed() -> None:
    class Late(Microgrid):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            self.price = np.roll(self.price, 1)

    assert largest_difference(Late) > 1e-3


def test_a_battery_that_is_never_full_is_noticed() -> None:
    class Bottomless(Microgrid):
        def battery(self, stored, wanted):
            hours = self.step_hours
            after = stored + hours * np.where(wanted > 0, wanted * self.one_way, wanted / self.one_way)
            return wanted, np.maximum(after, 0)

    assert largest_difference(Bottomless) > 1e-3


def test_a_round_trip_returns_the_efficiency() -> None:
    game = Microgrid(1, efficiency=0.81)
    _, full = game.battery(np.array([0.0]), np.array([2.0]))
    assert full == pytest.approx(1.8)
    power, empty = game.battery(full, np.array([-2.5]))
    assert (-power[0], empty[0]) == (pytest.approx(0.81 * 2.0), pytest.approx(0.0, abs=1e-12))


def test_bills_of_an_episode_are_payments_less_what_is_left_in_the_batteries() -> None:
    game = Microgrid(4)
    game.reset(seed=0)
    first, draws, bill, paid = game.stored, np.random.default_rng(1), 0.0, 0.0
    for step in range(24):
        *_, info = game.step(draws.integers(9, size=(4, 3)))
        row = info["final_info"] if step == 23 else info
        bill, paid = bill + row["bill"], paid + game.payment(row["line"], game.price[step])
    np.testing.assert_allclose(bill, paid - 0.18 * (row["stored"] - first).sum(axis=1))


# Days


def test_mean_profiles_are_the_means_of_days_and_without_noise_the_days() -> None:
    game = Microgrid(20_000, sunshine=0.5)
    game.reset(seed=0)
    for drawn, mean in zip(game.profiles, game.mean_profiles(), strict=True):
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.02)
    still = Microgrid(2, noise=0.0)
    still.reset(seed=0)
    for drawn, mean in zip(still.profiles, still.mean_profiles(), strict=True):
        np.testing.assert_allclose(drawn, np.stack([mean, mean]))


def test_one_sky_for_all_and_loads_on_their_own() -> None:
    game = Microgrid(500)
    game.reset(seed=1)
    load, solar = (values[..., 12] for values in game.profiles)
    assert np.corrcoef(solar.T)[0, 1] == pytest.approx(1.0)
    assert abs(np.corrcoef(load.T)[0, 1]) < 0.15


def test_a_seed_fixes_the_days_whatever_is_done() -> None:
    games = Microgrid(3), Microgrid(3)
    for game, level in zip(games, (0, 8), strict=True):
        game.reset(seed=7)
        for _ in range(30):  # into the next day
            game.step(np.full((3, 3), level))
    for one, other in zip(games[0].profiles, games[1].profiles, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_sun_so_far_is_one_before_sunrise_and_the_clearness_without_clouds(monkeypatch) -> None:
    monkeypatch.setattr(module, "CLOUD_DEVIATION", 0.0)
    game = Microgrid(5)
    observation, _ = game.reset(seed=0)
    assert (observation[..., 5] == 1).all()
    for _ in range(12):
        observation, *_ = game.step(np.full((5, 3), 4))
    clearness = game.profiles[1][:, 0, 12] / game.mean_profiles()[1][0, 12]
    np.testing.assert_allclose(observation[:, 0, 5], clearness, rtol=1e-5)


# Interface


@every_game
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_view_passes_pettingzoos_tests(name: str) -> None:
    parallel_api_test(ParallelView(Microgrid(1, **GAMES[name])), num_cycles=60)
    parallel_seed_test(lambda: ParallelView(Microgrid(1, **GAMES[name])), num_cycles=30)


def test_observations_and_states_show_what_they_say() -> None:
    game = Microgrid(2)
    observation, info = game.reset(seed=0)
    assert all(game.single_observation_space.contains(row) for row in observation)
    assert all(game.state_space.contains(row) for row in info["state"])
    for _ in range(18):
        observation, *_, info = game.step(np.full((2, 3), 4))
    load, solar = (values[..., 18] for values in game.profiles)
    np.testing.assert_allclose(observation[..., 0], load / 4, rtol=1e-6)
    np.testing.assert_allclose(observation[..., 2], game.stored / 6, rtol=1e-6)
    np.testing.assert_allclose(observation[:, 1, 3], (load - solar).sum(axis=1) / 5.5, rtol=1e-5)
    assert observation[0, 0, 6] == pytest.approx(1.0)  # the evening's price is the highest
    assert observation[0, 0, 9] == pytest.approx(6 / 24)
    np.testing.assert_allclose(info["state"][:, 6:9], game.stored / 6, rtol=1e-6)


def test_the_horizon_terminates_and_the_end_is_of_the_old_day() -> None:
    game = Microgrid(2)
    game.reset(seed=0)
    for _ in range(24):
        observation, _, terminated, truncated, info = game.step(np.full((2, 3), 8))
    assert terminated.all()
    assert not truncated.any()
    assert (info["final_obs"][..., 9] == 0).all()
    assert (info["final_info"]["stored"] == 6).all()
    assert (observation[..., 2] <= 0.5).all()
    assert (info["cost"] == 0).all()  # of the new day


def test_copies_do_not_depend_on_each_other_and_given_days_are_played() -> None:
    game, single = Microgrid(2, num_agents=2), Microgrid(1, num_agents=2)
    draws = np.random.default_rng(0)
    load, solar = draws.uniform(0, 3, (2, 2, 2, 24))
    stored = draws.uniform(0, 6, (2, 2))
    game.reset(options={"load": load, "solar": solar, "stored": stored})
    single.reset(options={"load": load[1], "solar": solar[1], "stored": stored[1]})
    for action in draws.integers(9, size=(20, 2, 2)):
        one, other = game.step(action), single.step(action[1:])
        np.testing.assert_array_equal(one[0][1], other[0][0])
        np.testing.assert_array_equal(one[1][1], other[1][0])


def test_a_picture_shows_the_batteries_and_turns_red_when_the_line_is_overloaded() -> None:
    game = Microgrid(1, render_mode="rgb_array", line_limit=0.5)
    game.reset(seed=0)
    (before,) = game.render()
    game.step(np.full((1, 3), 8))
    (after,) = game.render()
    assert before.shape == (96, 96, 3)
    assert (after != before).any()
    assert (after == (200, 0, 0)).all(axis=-1).any()


def test_spawning_keeps_the_parameters() -> None:
    game = Microgrid(1, **GAMES["half-hourly"]).spawn(3)
    assert game.num_envs == 3
    assert game.parameters() == Microgrid(1, **GAMES["half-hourly"]).parameters()


@pytest.mark.parametrize(
    "arguments",
    [{"num_agents": 0}, {"days": 0}, {"steps_per_hour": 0.5}, {"levels": 4}, {"levels": 1}, {"capacity": 0.0},
     {"power": float("nan")}, {"efficiency": 1.2}, {"line_limit": float("inf")}, {"noise": -0.1}, {"sunshine": -1.0}],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Microgrid(1, **arguments)


@pytest.mark.parametrize(
    "options, named",
    [({"load": np.zeros((3, 24))}, "stored"), ({"load": np.zeros((3, 23))}, "load"),
     ({"stored": np.full(3, 6.1)}, "capacity"), ({"solar": np.full((3, 24), np.nan)}, "solar")],
)  # fmt: skip
def test_days_that_do_not_fit_are_refused(options: dict, named: str) -> None:
    whole = {"load": np.zeros((3, 24)), "solar": np.zeros((3, 24)), "stored": np.zeros(3)}
    with pytest.raises(ValueError, match=named):
        Microgrid(1).reset(options=options if named == "stored" else whole | options)
