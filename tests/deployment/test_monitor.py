"""Thresholds keep their rate, detectors have closed forms, switches do not flicker, a watchdog keeps its limit.

What is decorated with ``holds`` is run on the healthy code here, and on code with a planted fault at the end.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats

from ca14lib.agents import PPO, BootstrappedDQN
from ca14lib.agents.check import ACTIONS, BOX
from ca14lib.agents.safe import ModelShield
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.agents.safe.shield import worst_case_cost
from ca14lib.deployment import detection, monitor
from ca14lib.deployment.monitor import LOG_COLUMNS, Alarm, RuntimeMonitor, Watchdog, critic_cost, shield_cost
from ca14lib.environments import SafeGridVector
from ca14lib.environments.safe_grid import SafeGridLayout
from tests.deployment.faults_monitor import FAULTS

PROPERTIES: dict[str, Callable[[], None]] = {}


def holds(test: Callable[[], None]) -> Callable[[], None]:
    PROPERTIES[test.__name__.removeprefix("test_").replace("_", "-")] = test
    return test


# Thresholds


@holds
def test_false_alarms_are_as_frequent_as_stated():
    """Over calibrations, the share of new scores beyond the threshold is 1 − k/(n+1), and Beta(n+1−k, k) around it."""
    rng = np.random.default_rng(0)
    for count, rate in ((19, 0.05), (30, 0.1), (99, 0.05)):
        rank = int(np.ceil((count + 1) * (1 - rate) - 1e-9))
        law = scipy.stats.beta(count + 1 - rank, rank)
        calibrations = rng.random((2_000, count))  # of scores uniform on [0, 1], the threshold's excess is 1 minus it
        beyond = [1 - detection.conformal_threshold(scores, rate) for scores in calibrations]
        assert rate - 1 / (count + 1) <= law.mean() <= rate + 1e-9
        assert abs(np.mean(beyond) - law.mean()) < 5 * law.std() / np.sqrt(2_000)
        assert scipy.stats.kstest(beyond, law.cdf).pvalue > 1e-4


def test_threshold_is_an_order_statistic_and_says_how_many_scores_it_needs():
    assert detection.conformal_threshold([5.0, 1.0, 3.0, 2.0], 0.4) == 3.0  # ceil(5 * 0.6) = 3rd smallest
    assert detection.conformal_threshold(np.arange(1.0, 20.0), 0.05) == 19.0
    with pytest.raises(ValueError, match="need at least 99 calibration scores, got 50"):
        detection.conformal_threshold(np.zeros(50), 0.01)
    with pytest.raises(ValueError, match="without NaN"):
        detection.conformal_threshold([0.0, np.nan], 0.5)
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 1"):
        detection.conformal_threshold([0.0, 1.0], 1)


@holds
def test_an_episode_raises_the_alarm_exactly_if_its_peak_exceeds_the_threshold():
    rng = np.random.default_rng(1)
    for patience in (1, 2, 5):
        for _ in range(100):
            scores, threshold = rng.normal(size=rng.integers(1, 30)), rng.normal()
            switch = monitor.Hysteresis(1, threshold, patience=patience, release=None)
            raised = [bool(switch.step(np.array([score]))[0]) for score in scores][-1]
            assert raised == (detection.persistent_peak(scores, patience) > threshold)


# Detectors


@holds
def test_the_distance_of_normal_observations_is_chi_squared():
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(3, 3))
    data = rng.normal(size=(20_000, 3)) @ mix.T + np.array([5.0, -2.0, 0.0])
    found = detection.Mahalanobis.fit(data[:15_000]).score(data[15_000:])
    assert scipy.stats.kstest(found, scipy.stats.chi2(3).cdf).statistic < 0.025
    exact = detection.Mahalanobis([1.0, 0.0], [[4.0, 2.0], [2.0, 2.0]])
    assert exact.score([[1.0, 0.0], [3.0, 0.0], [1.0, 1.0]]) == pytest.approx([0.0, 2.0, 1.0])


def test_numbers_that_determine_each_other_are_no_reason_to_fail():
    rng = np.random.default_rng(3)
    first = rng.normal(size=(500, 1))
    data = np.hstack([first, 2 * first, np.ones((500, 1))])
    detector = detection.Mahalanobis.fit(data)
    assert np.isfinite(detector.score(data)).all()
    broken = data[:1] + np.array([[0.0, 1.0, 0.0]])  # the relation no longer holds
    assert detector.score(broken)[0] > 1_000 * detector.score(data).max()
    assert (detection.Ranges.fit(data).score(broken) < 0.5).all(), "each number alone looks as it always did"


@holds
def test_the_kth_neighbour_of_a_line_of_points_is_k_steps_away():
    points = np.arange(10.0)[:, None]
    unit = points.std()
    for k in (1, 3):
        detector = detection.Neighbours.fit(points, k=k)
        assert detector.score([[-2.0], [12.0]]) * unit == pytest.approx([1.0 + k, 2.0 + k])
    assert detection.Neighbours.fit(points, k=1).score(points) == pytest.approx(np.zeros(10))
    assert len(detection.Neighbours.fit(np.random.default_rng(0).normal(size=(100, 2)), largest=30)._tree.data) == 30


def test_the_worst_number_decides_how_far_an_observation_is_out_of_range():
    detector = detection.Ranges([0.0, -1.0], [2.0, 1.0], [0.5, 2.0])
    assert detector.score([[1.0, 0.0], [2.0, 0.0], [3.0, 2.0], [1.0, -5.0]]) == pytest.approx([-0.5, 0.0, 2.0, 2.0])


def test_disagreement_is_the_spread_of_the_members():
    detector = detection.Disagreement(lambda observation: np.stack([observation, 3 * observation]))
    assert detector.score(np.array([[1.0, 1.0], [0.0, 2.0]])) == pytest.approx([1.0, np.sqrt(2.0)])
    agent = BootstrappedDQN(BOX, ACTIONS, seed=0)

    def members(observation):
        with np.errstate(all="ignore"):
            return agent.head_values(agent._observation_tensor(observation)).detach().numpy().swapaxes(0, 1)

    found = detection.Disagreement(members).score(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    assert found.shape == (5,)
    assert (found > 0).all()
    with pytest.raises(ValueError, match=r"predict must give \[M >= 2, 2"):
        detection.Disagreement(lambda observation: observation[None]).score(np.zeros((2, 3)))


@holds
def test_what_is_not_finite_is_strange_to_every_detector():
    data = np.random.default_rng(4).normal(size=(50, 2))
    seen = np.array([[0.0, 0.0], [np.nan, 0.0], [0.0, np.inf]])
    for detector in (detection.Ranges.fit(data), detection.Mahalanobis.fit(data), detection.Neighbours.fit(data),
                     detection.Disagreement(lambda rows: np.stack([rows, -rows]))):  # fmt: skip
        assert np.isfinite(detector.score(seen)).tolist() == [True, False, False]


def test_detectors_refuse_what_they_cannot_be_fitted_on():
    for wrong in (np.zeros((1, 2)), np.zeros(5), np.zeros((4, 2), dtype=int)):
        with pytest.raises(ValueError, match="fitted on at least two real-valued"):
            detection.Mahalanobis.fit(wrong)
    with pytest.raises(ValueError, match="NaN or infinity"):
        detection.Ranges.fit([[0.0], [np.nan]])
    with pytest.raises(ValueError, match="with 2 numbers each, got shape"):
        detection.Ranges.fit(np.eye(2)).score(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="k must lie in 1…5, the number of points, got 10"):
        detection.Neighbours.fit(np.random.default_rng(0).normal(size=(5, 2)))


# Switches


@holds
def test_a_switch_waits_on_both_sides_and_every_copy_for_itself():
    switch = monitor.Hysteresis(2, 1.0, 0.5, patience=2, release=3)
    first = [2.0, 0.0, 2.0, 2.0, 0.7, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0, 0.0]
    on = [switch.step(np.array([value, 0.0])) for value in first]
    assert [bool(row[0]) for row in on] == [False, False, False, True, *[True] * 6, False, False]
    assert not any(row[1] for row in on)
    switch.step(np.array([2.0, 2.0]))
    switch.reset(np.array([True, False]))
    assert switch.step(np.array([2.0, 2.0])).tolist() == [False, True]
    assert monitor.Hysteresis(1, 1.0).step(np.array([np.nan])).all()


# The monitor

OBSERVATION = gym.spaces.Box(-1, 1, (1,), np.float32)


class Constant:
    """A policy of one action."""

    def __init__(self, action: int) -> None:
        self.action = action

    def act(self, observation, *, mask=None, deterministic=False):
        return np.full(len(observation), self.action)


class Absolute:
    """A detector: the absolute value of the only number."""

    def score(self, observation):
        return abs(np.asarray(observation, dtype=np.float64)[:, 0])


def supervised(copies: int = 2, **keywords) -> RuntimeMonitor:
    return RuntimeMonitor(Constant(1), Constant(0), num_envs=copies, **keywords)


@holds
def test_copies_are_handed_over_one_by_one_and_every_time_is_logged():
    watched = supervised(alarm=Alarm(Absolute(), 0.5, patience=1, release=1))
    taken = []
    for first, second in ((0.0, 0.0), (0.9, 0.0), (0.9, 0.0), (0.1, 0.7), (0.1, np.nan)):
        taken.append(watched.act(np.array([[first], [second]])).tolist())
        watched.observe()
    assert taken == [[1, 1], [0, 1], [0, 1], [1, 0], [1, 0]]
    log = watched.log
    assert list(log) == LOG_COLUMNS
    assert log[["step", "copy", "event", "cause"]].to_numpy().tolist() == [
        [1, 0, "hand over", "strange"],
        [3, 0, "hand back", ""],
        [3, 1, "hand over", "strange"],
    ]
    assert log["score"].tolist() == [0.9, 0.1, 0.7]
    assert (watched.steps, watched.fallback_steps) == (10, 4)


def test_a_number_that_is_not_finite_hands_over_at_once_without_any_detector():
    watched = supervised(copies=1)
    assert watched.act(np.array([[np.nan]])).tolist() == [0]
    watched.observe()
    assert watched.act(np.array([[0.0]])).tolist() == [1]
    assert watched.log["cause"].tolist() == ["not finite", ""]


def test_an_episode_begins_without_alarm_and_without_costs():
    watched = supervised(alarm=Alarm(Absolute(), 0.5), watchdog=Watchdog(1.0))
    watched.act(np.array([[0.9], [0.0]]))
    watched.observe([0.3, 0.3], [True, False])
    assert watched.spent.tolist() == [0.0, 0.3]
    assert watched.act(np.array([[0.0], [0.0]])).tolist() == [1, 1]
    watched.observe([0.0, 0.9])
    assert watched.act(np.array([[0.0], [0.0]])).tolist() == [1, 0]
    assert watched.log["episode"].tolist() == [0, 0]
    assert watched.log["cause"].tolist() == ["strange", "cost"]


def test_bad_input_of_the_monitor_is_named():
    watched = supervised(watchdog=Watchdog(1.0))
    with pytest.raises(ValueError, match="observe follows act"):
        watched.observe([0.0, 0.0])
    with pytest.raises(ValueError, match="of 2 copies, got 3"):
        watched.act(np.zeros((3, 1)))
    watched.act(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="call observe"):
        watched.act(np.zeros((2, 1)))
    for wrong in (None, [0.0, np.nan], [0.0, -1.0], [0.0]):
        with pytest.raises(ValueError, match="needs 2 finite costs of at least 0"):
            watched.observe(wrong)
    with pytest.raises(ValueError, match=r"ended must have shape \(2,\)"):
        watched.observe([0.0, 0.0], [True])
    with pytest.raises(ValueError, match="leave must be at most enter"):
        monitor.Hysteresis(1, 0.0, 1.0)
    with pytest.raises(ValueError, match="at least 1 step, got 0 and 1"):
        monitor.Hysteresis(1, 0.0, patience=0)
    for wrong in (-1.0, np.inf):
        with pytest.raises(ValueError, match="limit must be finite"):
            Watchdog(wrong)
    with pytest.raises(ValueError, match="margin"):
        Watchdog(1.0, margin=-0.1)
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        supervised(copies=0)


# The watchdog on a problem whose worst case is known

LAYOUT = SafeGridLayout(4, ((1, 1), (2, 1)), goal=(3, 3), border_cost=0.1, horizon=12)


class Table:
    """A policy by state and steps left, ``[H + 1, S]``."""

    def __init__(self, environment: SafeGridVector, table) -> None:
        self.environment, self.table = environment, np.asarray(table)

    def rows(self, observation):
        left = np.rint(observation[:, -1].astype(np.float64) * LAYOUT.horizon).astype(int)
        return left, self.environment.state_index(observation)

    def act(self, observation, *, mask=None, deterministic=False):
        left, state = self.rows(observation)
        return self.table[left, state]


class Uniform:
    """Random moves."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def act(self, observation, *, mask=None, deterministic=False):
        return self.rng.integers(4, size=len(observation))


def episode_costs(limit: float, ahead: bool = True, seed: int = 0, copies: int = 200) -> np.ndarray:
    """Costs of single episodes of random moves under a watchdog."""
    environment = SafeGridVector(copies, layout=LAYOUT)
    model = environment.tabular_model()
    worst = worst_case_cost(model, LAYOUT.horizon)
    fallback = Table(environment, worst.argmin(axis=2))

    def cost_to_go(observation, action):
        left, state = fallback.rows(observation)
        return worst[left, state, action]

    watched = RuntimeMonitor(
        Uniform(seed), fallback, num_envs=copies, watchdog=Watchdog(limit, cost_to_go if ahead else None)
    )
    observation, _ = environment.reset(seed=seed)
    total, running = np.zeros(copies), np.ones(copies, dtype=bool)
    while running.any():
        observation, _, terminated, truncated, info = environment.step(watched.act(observation))
        ended = terminated | truncated
        cost = np.where(ended, info["final_info"]["cost"] if ended.any() else 0.0, info["cost"])
        watched.observe(cost, ended)
        total += cost * running
        running &= ~ended
    return total


@holds
def test_a_watchdog_that_looks_ahead_never_exceeds_its_limit():
    assert set(episode_costs(0.1).round(9)) == {0.2}, "no policy can keep 0.1: what is least is paid"
    for limit in (0.2, 0.5, 1.3):
        costs = episode_costs(limit)
        assert costs.max() <= limit + 1e-9
        assert costs.max() > limit - 0.35, "and it leaves the policy what is left"


def test_a_watchdog_that_reacts_exceeds_its_limit():
    assert episode_costs(0.5, ahead=False).max() > 0.5 + 1e-9
    assert episode_costs(0.5, ahead=False).mean() > episode_costs(0.5).mean()


@holds
def test_the_worst_cost_of_a_policy_is_that_of_all_its_paths():
    environment = SafeGridVector(1, layout=LAYOUT)
    model = environment.tabular_model()
    rng = np.random.default_rng(5)
    actions = rng.integers(4, size=model.num_states)
    policy = np.eye(4)[actions]
    found = monitor.worst_cost_of(model, policy, 6)
    following, cost = model.transition.argmax(axis=2), model.cost[0]
    for state in range(model.num_states):
        for action in range(4):
            total, where, chosen = 0.0, state, action
            for _ in range(6):
                if model.terminal[where]:
                    break
                total += cost[where, chosen]
                where = following[where, chosen]
                chosen = actions[where]
            assert found[6, state, action] == pytest.approx(total), (state, action)
    # of random moves it is at least the worst of every fixed policy, and at most that of all actions
    spread = monitor.worst_cost_of(model, np.full_like(policy, 0.25), 6)
    assert (spread >= found - 1e-9).all()
    assert (worst_case_cost(model, 6) <= found + 1e-9).all()


def test_a_shield_and_a_learned_critic_serve_as_cost_to_go():
    environment = SafeGridVector(3)
    model = environment.tabular_model()
    shield = ModelShield(model, environment.state_index, unsafe=environment.hazard)
    observation, _ = environment.reset(seed=0)
    allowed = shield(observation)
    for action in range(4):
        found = shield_cost(shield)(observation, np.full(3, action))
        assert (np.isfinite(found) == allowed[:, action]).all()
    spaces = environment.single_observation_space, environment.single_action_space
    agent = PPOLagrangian(*spaces, PPOLagrangianConfig(cost_limits=(0.5,)))
    expected = critic_cost(agent)(observation, np.zeros(3, int))
    assert expected.shape == (3,)
    assert (expected >= 0).all()
    with pytest.raises(ValueError, match="one of the agent's 0 costs, got 0"):
        critic_cost(PPO(*spaces))


# Planted faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    fault.plant(monkeypatch)
    for caught in fault.caught_by:
        with pytest.raises(AssertionError):
            PROPERTIES[caught]()


def test_every_property_fails_under_some_fault():
    assert {name for fault in FAULTS.values() for name in fault.caught_by} == PROPERTIES.keys()
