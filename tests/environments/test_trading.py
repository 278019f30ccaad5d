"""Trading on real prices: accounting by hand, filters against arch, a model against its days, and no look-ahead."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as stable_baselines_check

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.environments.applications import trading
from ca14lib.environments.applications.trading import (
    PORTFOLIOS,
    WEIGHTS,
    Trading,
    TradingVector,
    excess_limit,
    excess_loss,
    follow_rule,
    live_through,
    regime_model,
    table_policy,
    trade,
)
from ca14lib.environments.applications.trading_check import LookAheadError, check_no_look_ahead, check_rule
from ca14lib.environments.applications.trading_market import (
    ASSETS,
    Market,
    PriceHistory,
    fit_garch,
    fitted_market,
    load_prices,
)
from ca14lib.metrics.risk import conditional_value_at_risk
from ca14lib.solvers import policy_return, value_iteration
from ca14lib.training.on_policy import train_on_policy

TRAIN = (1999, 2004)
every_view = pytest.mark.parametrize("observes", ["features", "regime"])


def market() -> Market:
    return fitted_market(Market, load_prices(), TRAIN)


# The prices


def test_calendars_are_aligned_on_days_that_all_three_have():
    prices = load_prices()
    assert len(prices.dates) == 5_012
    assert str(prices.dates[0]) == "1999-01-04"
    assert str(prices.dates[-1]) == "2018-12-28"
    assert set(np.bincount(prices.dates.astype("datetime64[Y]").astype(int))[29:]) <= set(range(246, 254))
    assert prices.close[0] == pytest.approx([1228.10, 2208.05, 12.42], abs=0.01)


def test_a_year_of_bills_earns_the_published_rate():
    """Sums of the twelve monthly rates of Kenneth French's one-month bill."""
    prices = load_prices()
    for year, rate in ((2006, 0.0471), (2012, 0.0006)):
        days = prices.days((year, year))
        assert prices.bill[days.start - 1 : days.stop - 1].sum() == pytest.approx(rate, abs=7e-4)


def test_another_future_leaves_the_past_alone_bit_for_bit():
    prices, day = load_prices(), 2_000
    altered = prices.altered_after(day)
    assert prices.close[: day + 1].tobytes() == altered.close[: day + 1].tobytes()
    assert (prices.close[day + 1 :] != altered.close[day + 1 :]).all()
    assert (prices.bill[: day + 1] == altered.bill[: day + 1]).all()


def test_bad_histories_and_spans_are_refused():
    prices = load_prices()
    with pytest.raises(ValueError, match="close must be finite and positive"):
        PriceHistory(prices.dates, -prices.close, prices.bill)
    with pytest.raises(ValueError, match="dates must rise strictly"):
        PriceHistory(prices.dates[::-1], prices.close, prices.bill)
    with pytest.raises(ValueError, match=r"bill must have shape \(5012,\)"):
        PriceHistory(prices.dates, prices.close, prices.bill[1:])
    with pytest.raises(ValueError, match="years must lie in 1999…2018"):
        prices.days((2020, 2021))
    with pytest.raises(ValueError, match="at least 250 finite returns, got 10"):
        fit_garch(np.zeros(10))


# What is fitted


def test_the_filter_is_that_of_arch():
    """One-step forecasts of arch, given our parameters, once the first days are forgotten."""
    from arch import arch_model

    returns, model = market().returns[:, 0], market().garch[0]
    published = arch_model(returns, mean="Constant", vol="GARCH", p=1, q=1, rescale=False)
    theirs = published.fix([model.mean, model.omega, model.alpha, model.beta])
    # their volatility of a day is forecast at the close before
    np.testing.assert_allclose(model.forecast(returns)[600:-1], theirs.conditional_volatility[601:], rtol=1e-4)


def test_regimes_are_thirds_of_the_training_days_and_of_no_others():
    regime = market().regime
    train, later = regime[: market().train.stop], regime[market().train.stop :]
    np.testing.assert_allclose(np.bincount(train) / len(train), 1 / 3, atol=1e-3)
    assert (np.bincount(later, minlength=3) / len(later)).max() > 0.5


def test_features_are_what_they_say():
    day, m = 3_000, market()
    assert m.features.shape == (5_012, 18)
    past = [np.log(m.prices.close[day] / m.prices.close[day - window]) * 100 for window in (1, 5, 21, 63)]
    expected = np.concatenate([p / (m.scale * np.sqrt(w)) for p, w in zip(past, (1, 5, 21, 63))])
    np.testing.assert_allclose(m.features[day, :12], expected, rtol=1e-5)
    np.testing.assert_allclose(m.features[day, 12:15], np.log(m.volatility[day] / m.typical), rtol=1e-5)
    assert m.features[day, 15:].tolist() == np.eye(3)[m.regime[day]].tolist()


# Accounting


def assert_trade_is_right(trade) -> None:
    """A half in the index, all to be oil: cost on 1.5 of turnover, then a rise of 10%."""
    before, after = np.array([[0.5, 0.0, 0.0, 0.5]]), np.array([[0.0, 0.0, 1.0, 0.0]])
    earned, weights, turnover = trade(before, after, np.array([2.0, 3.0, 1.1, 1.0]), 0.001)
    assert turnover[0] == pytest.approx(1.5)
    assert earned[0] == pytest.approx(100 * np.log(1.1 * (1 - 0.0015)))
    assert weights[0].tolist() == [0, 0, 1, 0]
    # nothing is traded: no cost, and the shares drift
    thirds = np.array([[1 / 3, 1 / 3, 1 / 3, 0.0]])
    earned, weights, turnover = trade(thirds, thirds, np.array([2.0, 1.0, 1.0, 1.0]), 0.001)
    assert turnover[0] == 0
    assert earned[0] == pytest.approx(100 * np.log(4 / 3))
    assert weights[0].tolist() == pytest.approx([0.5, 0.25, 0.25, 0.0])
    # out of the index into cash: its value is traded once
    assert trade(np.array([[1.0, 0, 0, 0]]), np.array([[0, 0, 0, 1.0]]), np.ones(4), 0.001)[2][0] == 1.0


def test_trade_by_hand():
    assert_trade_is_right(trade)


FAULTS = {
    "cost-on-the-shares-held": lambda w, t, g, c: (
        100 * np.log((1 - c * t[:, :-1].sum(1)) * (t * g).sum(1)), t * g / (t * g).sum(1)[:, None],
        np.abs(t - w)[:, :-1].sum(1),
    ),
    "cash-counts-as-traded": lambda w, t, g, c: (
        100 * np.log((1 - c * np.abs(t - w).sum(1)) * (t * g).sum(1)), t * g / (t * g).sum(1)[:, None],
        np.abs(t - w).sum(1),
    ),
    "shares-do-not-drift": lambda w, t, g, c: (trade(w, t, g, c)[0], t, trade(w, t, g, c)[2]),
    "return-of-the-shares-before": lambda w, t, g, c: (
        100 * np.log((1 - c * np.abs(t - w)[:, :-1].sum(1)) * (w * g).sum(1)), *trade(w, t, g, c)[1:],
    ),
    "mean-of-log-returns": lambda w, t, g, c: (
        100 * ((t * np.log(g)).sum(1) + np.log(1 - c * np.abs(t - w)[:, :-1].sum(1))), *trade(w, t, g, c)[1:],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_of_the_accounting_are_noticed(name):
    with pytest.raises(AssertionError):
        assert_trade_is_right(FAULTS[name])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 1.2))
def test_the_limit_on_excess_losses_bounds_the_tail_of_any_losses(seed, threshold):
    """Rockafellar and Uryasev: for every v the bound holds, and at the value at risk it is attained."""
    losses = np.random.default_rng(seed).standard_t(4, 400)
    bound = threshold + excess_loss(-losses, threshold).mean() / 0.05
    tail = conditional_value_at_risk(losses, 0.95)
    assert tail <= bound + 1e-9
    # at this level the limit on a mandate of 63 days is attained exactly
    mean = excess_loss(-losses, threshold).mean()
    assert excess_limit(bound, threshold, 63) == pytest.approx(63 * mean, rel=1e-9)
    with pytest.raises(ValueError, match="threshold must be at most cvar_limit 1"):
        excess_limit(1.0, 1.1, 63)


# The environment


@every_view
def test_public_checkers_pass_without_a_warning(observes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(Trading(observes=observes), skip_render_check=True)
        stable_baselines_check(Trading(observes=observes), warn=True)
    assert isinstance(gym.make("CA14/Trading-v0").unwrapped, Trading)


@every_view
def test_steps_are_trades_on_the_days_of_the_history(observes):
    environment, rng = TradingVector(6, observes=observes, years=(2003, 2006)), np.random.default_rng(0)
    growth, days = environment.prices.growth, environment.prices.days((2003, 2006))
    _, info = environment.reset(seed=3)
    for _ in range(130):
        action, day, held = rng.integers(6, size=6), info["day"], info["weights"]
        observation, reward, terminated, truncated, info = environment.step(action)
        seen = info["final_info"] if terminated.any() else info
        expected = trade(held, WEIGHTS[action], growth[day], 5e-4)
        np.testing.assert_allclose(reward, expected[0], rtol=1e-12)
        np.testing.assert_allclose(seen["weights"], expected[1], rtol=1e-12)
        np.testing.assert_allclose(seen["cost"], np.maximum(-reward - 1.0, 0), rtol=1e-12)
        assert (seen["day"] == day + 1).all()
        assert not truncated.any()
        assert observation in environment.observation_space
        assert days.start <= info["day"].min()
        assert info["day"].max() < days.stop


def test_an_episode_is_a_mandate_of_63_days_and_ends_with_the_history():
    environment = TradingVector(2)
    environment.reset(seed=0)
    ends = [environment.step(np.zeros(2, dtype=int))[2] for _ in range(63)]
    assert np.array(ends).sum(axis=0).tolist() == [1, 1]
    assert ends[-1].all()
    single = Trading()
    single.reset(options={"day": 5_008})
    assert [single.step(0)[2] for _ in range(3)] == [False, False, True]


def test_bad_arguments_are_named():
    for arguments, message in (
        ({"observes": "all"}, "observes must be 'features' or 'regime', got 'all'"),
        ({"cost_bps": -1}, "cost_bps must lie in"),
        ({"loss_threshold": np.nan}, "loss_threshold must lie in"),
        ({"horizon": 0}, "horizon"),
        ({"years": (2004, 2003)}, "a span of years must be"),
        ({"years": (2004, 2004), "horizon": 500}, "an episode needs 501"),
    ):
        with pytest.raises(ValueError, match=message):
            TradingVector(1, **arguments)
    environment = TradingVector(1)
    for options, message in (
        ({"day": 9_999}, "day"),
        ({"day": 5, "portfolio": 6}, "portfolio"),
        ({"day": 5, "weights": [1, 1, 0, 0]}, "weights"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            environment.reset(options=options)


# The model


def test_the_model_is_the_mean_over_the_training_days():
    environment = TradingVector(1, observes="regime")
    model, m = regime_model(environment), environment.market
    assert (model.num_states, model.num_actions, model.num_costs, model.horizon) == (18, 6, 1, 63)
    days = np.arange(m.train.stop - 1)
    turbulent = days[m.regime[days] == 2]
    growth = environment.prices.growth[turbulent]
    index, cash = (list(PORTFOLIOS).index(name) for name in ("index", "cash"))
    state = cash * 3 + 2
    earned = 100 * (np.log(growth[:, 0]) + np.log(1 - 5e-4))
    assert model.reward[state, index] == pytest.approx(earned.mean())
    assert model.cost[0, state, index] == pytest.approx(np.maximum(-earned - 1, 0).mean())
    assert model.transition[state, index].reshape(6, 3)[index].sum() == pytest.approx(1)
    stays = (m.regime[turbulent + 1] == 2).mean()
    assert model.transition[state, index, index * 3 + 2] == pytest.approx(stays)


def test_the_model_predicts_what_simulated_mandates_of_its_training_days_earn():
    """Kept portfolios: what is left out is the drift, and that regimes remember more than one day."""
    environment = TradingVector(4_096, observes="regime")
    model = regime_model(environment)
    for portfolio in (0, 3, 5):
        total = np.zeros(4_096)
        environment.reset(seed=1)
        for _ in range(63):
            total += environment.step(np.full(4_096, portfolio))[1]
        policy = np.eye(6)[np.full(18, portfolio)]
        # mandates overlap: they are about 24 independent ones, with a deviation of 10 for the index
        assert total.mean() == pytest.approx(policy_return(model, policy), abs=0.05 if portfolio == 0 else 2.0)


def test_a_table_acts_by_regime_portfolio_and_time():
    table = np.zeros((63, 18, 6))
    table[..., 0] = 1
    table[10, 4 * 3 + 1] = np.eye(6)[5]
    act = table_policy(table, 63)
    environment = TradingVector(1, observes="regime")
    observation = np.concatenate([np.eye(3)[1], np.eye(6)[4], [53 / 63]]).astype(np.float32)
    assert observation in environment.single_observation_space
    other = observation.copy()
    other[-1] = 52 / 63
    assert act(np.stack([observation, other])).tolist() == [5, 0]


def test_living_through_years_is_one_history_without_gaps():
    environment = TradingVector(1, observes="regime")
    lived = live_through(environment, lambda observation: np.array([5]), (2005, 2006))
    days = environment.prices.days((2005, 2006))
    np.testing.assert_array_equal(lived["date"].to_numpy().astype("datetime64[D]"), environment.prices.dates[days])
    rule = follow_rule(environment.market, lambda day, held: WEIGHTS[5], (2005, 2006))
    np.testing.assert_allclose(lived["log_return"], rule["log_return"], rtol=1e-9, atol=1e-12)
    # the last mandate is cut by the end of the years, and shares are carried over from mandate to mandate
    assert lived["turnover"].iloc[0] == pytest.approx(1.0)
    assert lived["turnover"].iloc[1:].max() < 0.15


def test_holding_trades_once():
    held = follow_rule(market(), lambda day, now: WEIGHTS[3] if now[-1] == 1 else now, (2005, 2006))
    assert (held["turnover"] > 0).sum() == 1
    close = load_prices().close[:, 0]
    days = load_prices().days((2005, 2006))
    total = 100 * np.log(close[days.stop - 1] / close[days.start - 1] * (1 - 5e-4))
    assert held["log_return"].sum() == pytest.approx(total)
    assert np.allclose(held[list(ASSETS)].sum(axis=1), 1)


# No look-ahead: the honest versions pass, and what is planted is caught


def quick_policy(environment: TradingVector):
    """An agent trained on the training years, and on those alone."""
    agent = PPO(environment.single_observation_space, environment.single_action_space, PPOConfig(hidden_sizes=(8,)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trading, "load_prices", lambda: environment.prices)
        train_on_policy(
            agent, "CA14/Trading-v0", 256, environment_arguments={"observes": environment.observes}, num_envs=8,
            rollout_steps=32, progress=False,
        )  # fmt: skip
    return lambda observation: agent.act(observation, deterministic=True)


def planned_policy(environment: TradingVector):
    return table_policy(value_iteration(regime_model(environment)).policy, environment.horizon or 1)


@every_view
def test_what_is_seen_decided_and_earned_does_not_look_ahead(observes):
    found = check_no_look_ahead(lambda prices: TradingVector(1, prices=prices, observes=observes))
    assert found > 300
    found = check_no_look_ahead(
        lambda prices: TradingVector(1, prices=prices, observes=observes),
        policy_factory=quick_policy,
        days=[1_495],
    )
    assert found > 80


def test_plans_in_the_fitted_model_do_not_look_ahead():
    assert check_no_look_ahead(
        lambda prices: TradingVector(1, prices=prices, observes="regime"), policy_factory=planned_policy
    )


class TomorrowInTheObservation(TradingVector):
    def _observe(self):
        seen = super()._observe()
        tomorrow = np.log(self._growth[np.minimum(self._day, len(self._growth) - 1), 0])
        seen[:, 0] = np.clip(100 * tomorrow, -10, 10)
        return seen


class ScalerOfAllYears(Market):
    def _fit_scales(self, returns, volatility):
        return returns.std(axis=0), super()._fit_scales(returns, volatility)[1]


class GarchOfAllYears(Market):
    def _fit_volatility(self, returns):
        return [fit_garch(column) for column in returns.T]


class ThresholdsOfAllYears(Market):
    def _fit_thresholds(self, forecast):
        return np.quantile(forecast, [1 / 3, 2 / 3])


class SmoothedVolatility(Market):
    """A centred mean of forecasts: nothing fitted is wrong, yet every value contains the next days."""

    def _features(self):
        self.volatility = np.apply_along_axis(lambda v: np.convolve(v, np.ones(5) / 5, "same"), 0, self.volatility)
        return super()._features()


class Concealed(Market):
    """Says nothing of what it fitted: the observations have to give it away."""

    def fitted(self):
        return {}


def leaky(market_class):
    return type(market_class.__name__, (TradingVector,), {"market_class": market_class})


PLANTED = {
    "tomorrow's return in the observation": (TomorrowInTheObservation, "observation"),
    "scaler fitted on all years": (leaky(ScalerOfAllYears), "fitted parameter scale"),
    "GARCH fitted on all years": (leaky(GarchOfAllYears), "fitted parameter garch"),
    "regimes fitted on all years": (leaky(ThresholdsOfAllYears), "fitted parameter thresholds"),
    "centred smoothing": (leaky(SmoothedVolatility), "observation"),
    "scaler of all years, concealed": (leaky(type("Hidden", (Concealed, ScalerOfAllYears), {})), "observation"),
    "GARCH of all years, concealed": (leaky(type("Hidden", (Concealed, GarchOfAllYears), {})), "observation"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_future_information_is_caught(name):
    environment_class, what = PLANTED[name]
    with pytest.raises(LookAheadError, match="looks ahead") as caught:
        check_no_look_ahead(lambda prices: environment_class(1, prices=prices), days=[1_495, 3_000])
    assert caught.value.what == what
    assert caught.value.day == 1_495


def test_a_policy_that_was_chosen_on_test_years_is_caught():
    def best_in_hindsight(environment):
        growth = environment.prices.growth[environment.market.train.stop :]
        best = int((np.log(growth @ WEIGHTS.T)).sum(axis=0).argmax())
        # from the other history another portfolio comes out best; a single one would stay the best by luck
        seed = int(1e6 * growth[:, 0].mean())
        return lambda observation: np.full(len(observation), (best + seed) % 6)

    with pytest.raises(LookAheadError) as caught:
        check_no_look_ahead(
            lambda prices: TradingVector(1, prices=prices), policy_factory=best_in_hindsight, days=[1_495]
        )
    assert caught.value.what in ("decision", "observation")


def test_rules_are_checked_as_well():
    def follows(offset):
        return lambda m: lambda day, held: WEIGHTS[3 if m.returns[min(day + offset, 5_011), 0] > 0 else 0]

    assert check_rule(follows(0), TRAIN, days=[1_600], futures=2) > 200
    with pytest.raises(LookAheadError, match="decision looks ahead"):
        check_rule(follows(1), TRAIN, days=[1_600], futures=8)
    with pytest.raises(LookAheadError, match="fitted parameter garch"):
        check_rule(follows(0), TRAIN, days=[1_600], market_class=GarchOfAllYears)


def test_the_check_refuses_days_of_training_and_a_future_without_consequences():
    with pytest.raises(ValueError, match=r"days must lie in 1495…\d+, after all training, got 700"):
        check_no_look_ahead(lambda prices: TradingVector(1, prices=prices), days=[700])
    fixed = load_prices()
    with pytest.raises(ValueError, match="earns the same: the comparison would prove nothing"):
        check_no_look_ahead(lambda prices: TradingVector(1, prices=fixed), days=[1_600])
