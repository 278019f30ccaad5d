"""What an environment does against what its model says, for every registered environment.

Seeds are fixed; a right simulation would fail the chi-square tests for fewer than one seed in a million.
"""

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats

from ca14lib.environments import ENVIRONMENTS, TabularEnvironment, TabularModel, tabular_model

RARE = 1e-6
COPIES = 2_048
STEPS = {"CA14/RiverSwim-v0": 300, "CA14/ICUSepsis-v0": 300}


def state_numbers(model: TabularModel, observation: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """The state that each observation shows, told apart by whether it ended the episode; written anew for this test.

    Under a horizon any state may end an episode: there the observation alone must tell the states apart.
    """
    table = np.asarray(model.observation, dtype=float).reshape(model.num_states, -1)
    shown = observation.reshape(len(ended), -1)[:, : table.shape[1]].astype(float)
    weights = 1_000.0 ** np.arange(1, table.shape[1] + 1)  # the course's observations are small whole numbers
    told_apart = model.horizon is None
    codes = table @ weights + told_apart * model.terminal
    assert len(set(codes)) == model.num_states, "states that look alike cannot be told apart here"
    order = np.argsort(codes)
    wanted = shown @ weights + told_apart * ended
    found = order[np.searchsorted(codes[order], wanted).clip(max=len(codes) - 1)]
    assert (codes[found] == wanted).all(), "an observation shows no state of the model"
    return found


def transitions_of(environment_id: str, steps: int) -> dict[str, np.ndarray]:
    """Steps of uniformly random actions as arrays over time and copies in a row, with ``cost`` if the model has any.

    On the way: the clock that is counted here must be the one that the agent is shown.
    """
    model = tabular_model(environment_id)
    environment = gym.make_vec(environment_id, num_envs=COPIES)
    rng = np.random.default_rng(123)
    observation, info = environment.reset(seed=456)
    never = np.zeros(COPIES, dtype=bool)
    state = first = state_numbers(model, observation, never)
    elapsed = np.zeros(COPIES, dtype=int)
    names = ["state", "action", "reward", "next", "terminated", "truncated", "elapsed"]
    columns: dict[str, list] = {name: [] for name in [*names, *["cost"] * (model.num_costs > 0)]}
    starts = [first]
    assert_clock_is_shown(model, observation, elapsed)
    for _ in range(steps):
        action = rng.integers(model.num_actions, size=COPIES)
        observation, reward, terminated, truncated, info = environment.step(action)
        ended = terminated | truncated
        elapsed = elapsed + 1
        last, last_info = (info["final_obs"], info["final_info"]) if ended.any() else (observation, info)
        assert_clock_is_shown(model, last, elapsed)
        following = state_numbers(model, last, terminated)
        values = [state, action, reward, following, terminated, truncated, elapsed]
        if model.num_costs:
            values.append(last_info["cost"].reshape(COPIES, -1))
            assert (info["cost"][ended] == 0).all()  # a new episode has cost nothing yet
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
        state = state_numbers(model, observation, never)
        elapsed = np.where(ended, 0, elapsed)
        assert_clock_is_shown(model, observation, elapsed)
        starts.append(state[ended])
    return {name: np.concatenate(value) for name, value in columns.items()} | {"start": np.concatenate(starts)}


def assert_clock_is_shown(model: TabularModel, observation: np.ndarray, elapsed: np.ndarray) -> None:
    """The last number of an observation is the share of the horizon that is left, where the agent sees the time."""
    if model.observes_time:
        share = ((model.horizon - elapsed) / model.horizon).astype(np.float32)
        np.testing.assert_array_equal(observation[:, -1], share)
        for step in {0, 1, model.horizon // 2, model.horizon} & set(elapsed.tolist()):
            shown = model.timed_observation(step)
            copy = int(np.flatnonzero(elapsed == step)[0])
            assert (shown == observation[copy]).all(axis=1).sum() == 1


def chi_square(count: np.ndarray, probability: np.ndarray) -> tuple[float, int]:
    """Pearson's statistic and degrees of freedom of one row; outcomes expected under 5 times are pooled."""
    expected = count.sum() * probability
    common = expected >= 5
    cells = [(count[common], expected[common])]
    if (rest := expected[~common].sum()) > 0:
        cells.append((np.array([count[~common].sum()]), np.array([rest])))
    observed, expected = (np.concatenate(part) for part in zip(*cells))
    if expected[-1] < 5 and len(expected) > 1:
        observed, expected = (np.append(part[:-2], part[-2:].sum()) for part in (observed, expected))
    return float(((observed - expected) ** 2 / expected).sum()), len(expected) - 1


@pytest.mark.parametrize("environment_id", ENVIRONMENTS)
def test_simulation_agrees_with_the_model(environment_id):
    model = tabular_model(environment_id)
    seen = transitions_of(environment_id, STEPS.get(environment_id, 60))
    state, action, following = seen["state"], seen["action"], seen["next"]

    # what is deterministic given the transition must be exact
    probability = model.transition[state, action, following]
    assert (probability > 0).all(), "a transition of probability 0 was seen"
    reward = model.reward[state, action] if model.reward.ndim == 2 else model.reward[state, action, following]
    np.testing.assert_array_equal(seen["reward"], reward)
    out_of_time = False if model.horizon is None else seen["elapsed"] == model.horizon
    np.testing.assert_array_equal(seen["terminated"], model.terminal[following] | out_of_time)
    if model.horizon is not None:
        assert (seen["elapsed"] <= model.horizon).all()
        assert out_of_time.any(), "the horizon was never reached: the test needs more steps"
    if model.num_costs:
        pairs = model.cost[:, state, action]  # [K, N] or [K, N, S]
        cost = pairs if model.cost.ndim == 3 else np.take_along_axis(pairs, following[None, :, None], axis=2)[..., 0]
        np.testing.assert_array_equal(seen["cost"], cost.T)
    assert not (seen["terminated"] & seen["truncated"]).any()
    assert not model.terminal[state].any()

    # what is random must have the model's frequencies, over all pairs together
    statistic, freedom, count = 0.0, 0, np.zeros(model.transition.shape, dtype=np.int64)
    np.add.at(count, (state, action, following), 1)
    for s, a in np.argwhere(count.sum(axis=2) >= 10):
        part, degrees = chi_square(count[s, a], model.transition[s, a])
        statistic, freedom = statistic + part, freedom + degrees
    if freedom:
        assert RARE < stats.chi2.sf(statistic, freedom) < 1 - RARE
    else:
        assert (model.transition.max(axis=2) == 1).all()

    # and every state must be entered as often as the visits make it, which finds small faults of many rare transitions
    visits = count.sum(axis=2)[..., None]
    expected = (visits * model.transition).sum(axis=(0, 1))
    variance = (visits * model.transition * (1 - model.transition)).sum(axis=(0, 1))
    uncertain = variance > 5
    deviation = (count.sum(axis=(0, 1)) - expected)[uncertain] / np.sqrt(variance[uncertain])
    assert not uncertain.any() or stats.chi2.sf((deviation**2).sum(), uncertain.sum()) > RARE

    starts, degrees = chi_square(np.bincount(seen["start"], minlength=model.num_states), model.initial)
    assert (model.initial[seen["start"]] > 0).all()
    assert degrees == 0 or stats.chi2.sf(starts, degrees) > RARE


def test_the_comparison_notices_a_slightly_wrong_river():
    """The statistic above has power: 0.37 instead of 0.35 for getting forward is found."""
    model = tabular_model("CA14/RiverSwim-v0")
    seen = transitions_of("CA14/RiverSwim-v0", 60)
    count = np.zeros(model.transition.shape, dtype=np.int64)
    np.add.at(count, (seen["state"], seen["action"], seen["next"]), 1)
    wrong = model.transition.copy()
    wrong[1:-1, 1] += 0.02 * (np.eye(6)[2:] - np.eye(6)[1:-1])
    parts = [chi_square(count[s, a], wrong[s, a]) for s, a in np.argwhere(count.sum(axis=2) >= 10)]
    assert stats.chi2.sf(sum(part for part, _ in parts), sum(degrees for _, degrees in parts)) < RARE


def test_costs_and_successor_rewards_are_those_of_the_transition_taken():
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.ones(4), size=(4, 3))
    model = TabularModel(
        transition=transition,
        reward=rng.normal(size=(4, 3, 4)),
        cost=rng.normal(size=(2, 4, 3, 4)),
        terminal=[False, False, False, True],
        initial=[0.5, 0.5, 0, 0],
    )
    environment = TabularEnvironment(model, 50, time_limit=5)
    state, _ = environment.reset(seed=0)
    for _ in range(40):
        action = rng.integers(3, size=50)
        observation, reward, terminated, truncated, info = environment.step(action)
        ended = terminated | truncated
        following = info["final_obs"] if ended.any() else observation
        cost = info["final_info"]["cost"] if ended.any() else info["cost"]
        np.testing.assert_array_equal(reward, model.reward[state, action, following])
        np.testing.assert_array_equal(cost, model.cost[:, state, action, following].T)
        assert (info["cost"][ended] == 0).all()  # a new episode has cost nothing yet
        np.testing.assert_array_equal(info["cost"][~ended], cost[~ended])
        state = observation
