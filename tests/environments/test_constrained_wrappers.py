"""Costs added to any environment, and the two directions between five values a step and six."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import CostWrapper, VectorCostWrapper, from_safety_gymnasium, to_safety_gymnasium
from ca14lib.training import collect, vector_environment


class Counter(gym.Env):
    """Observes how often it was stepped; ends after ``length`` steps."""

    observation_space = gym.spaces.Box(0, 1_000, (1,), dtype=np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), dtype=np.float64)

    def __init__(self, length: int = 5) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([0.0]), {"note": "start"}

    def step(self, action):
        self.count += 1
        return np.array([float(self.count)]), 0.5, self.count >= self.length, False, {"note": self.count}


class SixValues:
    """A stand-in with Safety-Gymnasium's interface: deterministic given its seed and the actions."""

    observation_space = gym.spaces.Box(-10, 10, (2,), dtype=np.float64)
    action_space = gym.spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, costs: object = (0.0, 1.0, 2.5)) -> None:
        self.costs, self.closed = costs, False

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.time = 0
        return self.rng.uniform(-1, 1, 2), {"options": options}

    def step(self, action):
        self.time += 1
        info = {"time": self.time, "cost_sum": 7}
        return self.rng.uniform(-1, 1, 2), float(action), self.costs[action], self.time >= 9, self.time == 6, info

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)

    def close(self):
        self.closed = True


# CostWrapper


def assert_cost_function_sees_the_whole_transition(wrapper: type[CostWrapper]) -> None:
    seen = []

    def cost(observation, action, following, info):
        seen.append((float(observation[0]), float(action[0]), float(following[0]), info["note"]))
        return 10 * float(observation[0]) + float(following[0])

    environment = wrapper(Counter(3), cost, 1)
    for _ in range(2):
        _, info = environment.reset(seed=0)
        assert info == {"note": "start", "cost": 0.0}
        for step in range(3):
            observation, reward, terminated, truncated, info = environment.step(np.array([step / 4]))
            assert info["cost"] == 10 * step + step + 1
            assert (observation[0], reward, terminated, truncated) == (step + 1, 0.5, step == 2, False)
    assert seen == [(step, step / 4, step + 1, step + 1) for step in range(3)] * 2


def test_cost_function_sees_the_whole_transition():
    assert_cost_function_sees_the_whole_transition(CostWrapper)


class KeepsTheFirstObservation(CostWrapper):
    def step(self, action):
        kept = self._observation
        result = super().step(action)
        self._observation = kept
        return result


class SeesTheNextTwice(CostWrapper):
    def step(self, action):
        original = self.cost_function
        self.cost_function = lambda o, a, n, i: original(n, a, n, i)
        try:
            return super().step(action)
        finally:
            self.cost_function = original


class DoesNotStartAnew(CostWrapper):
    def reset(self, **arguments):
        kept = self._observation
        result = super().reset(**arguments)
        self._observation = result[0] if kept is None else kept
        return result


@pytest.mark.parametrize("faulty", [KeepsTheFirstObservation, SeesTheNextTwice, DoesNotStartAnew])
def test_check_of_the_wrapper_notices_the_fault(faulty):
    with pytest.raises(AssertionError):
        assert_cost_function_sees_the_whole_transition(faulty)


def test_wrapped_environment_passes_gymnasiums_checker():
    with pytest.warns(UserWarning, match="different from the unwrapped version"):
        check_env(CostWrapper(gym.make("CartPole-v1").unwrapped, lambda o, a, n, i: abs(n[0])), skip_render_check=True)


@given(costs=st.lists(st.floats(0, 1e6), min_size=1, max_size=4))
def test_several_costs_come_as_a_vector_and_one_as_a_number(costs):
    environment = CostWrapper(Counter(), lambda *_: costs)
    environment.reset(seed=0)
    info = environment.step(np.zeros(1))[-1]
    assert info["cost"].tolist() == costs
    _, info = environment.reset()
    assert info["cost"].tolist() == [0.0] * len(costs)
    environment = CostWrapper(Counter(), lambda *_: costs[0])
    environment.reset(seed=0)
    assert type(environment.step(np.zeros(1))[-1]["cost"]) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.5, r"finite and not negative, got -0\.5"),
        (float("nan"), "finite and not negative, got nan"),
        (float("inf"), "finite and not negative, got inf"),
        ([1.0, -2.0], r"finite and not negative, got \[1\.0, -2\.0\]"),
        ([[1.0]], r"shape \(1, 1\)"),
        ([], r"shape \(0,\)"),
        ("dear", "got 'dear'"),
        (None, "got (None|nan)"),
    ],
)
def test_bad_cost_is_named(value, message):
    environment = CostWrapper(Counter(), lambda *_: value)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        environment.step(np.zeros(1))


def test_number_of_costs_must_not_change():
    environment = CostWrapper(Counter(), lambda o, a, n, i: [1.0] * int(n[0]))
    environment.reset(seed=0)
    environment.step(np.zeros(1))
    with pytest.raises(ValueError, match=r"keep their shape \(1,\) .* got shape \(2,\)"):
        environment.step(np.zeros(1))
    environment = CostWrapper(Counter(), lambda *_: [1.0, 2.0], num_costs=3)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3,\) .* got shape \(2,\)"):
        environment.step(np.zeros(1))


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_bad_number_of_costs_is_named(count):
    with pytest.raises(ValueError, match="num_costs must be a positive integer or None"):
        CostWrapper(Counter(), lambda *_: 0.0, count)


def test_cost_function_must_be_one():
    with pytest.raises(ValueError, match="cost_function must be a function, got float"):
        CostWrapper(Counter(), 1.0)
    with pytest.raises(ValueError, match="cost_function must be a function, got str"):
        VectorCostWrapper(gym.make_vec("CA14/GridWorld-v0", num_envs=2), "cost")


def test_collected_data_hold_the_costs():
    environment = CostWrapper(gym.make("CartPole-v1"), lambda o, a, n, i: [abs(n[0]) > 0.01, a])
    data = collect(environment, "random", 5, seed=0)
    rows = data.transitions
    assert rows.cost.shape == (len(data), 2)
    assert (rows.cost[:, 0] == (rows.next_observation[:, 0].abs() > 0.01)).all()
    assert (rows.cost[:, 1] == rows.action).all()


# VectorCostWrapper


@pytest.mark.parametrize("environment_id", ["CartPole-v1", "CA14/GridWorld-v0"])
def test_vector_wrapper_agrees_with_single_ones(environment_id):
    def single(observation, action, following, info):
        return float(abs(following).sum() + 10 * abs(observation).sum() + action)

    def batch(observation, action, following, info):
        return abs(following).sum(axis=1) + 10 * abs(observation).sum(axis=1) + action

    copies = 3
    vector = VectorCostWrapper(vector_environment(environment_id, copies), batch)
    singles = [CostWrapper(gym.make(environment_id), single) for _ in range(copies)]
    vector.reset(seed=5)
    for number, environment in enumerate(singles):
        environment.reset(seed=5 + number)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(150):
        actions = rng.integers(2, size=copies)
        *_, terminated, truncated, info = vector.step(actions)
        ended = terminated | truncated
        for number, environment in enumerate(singles):
            *_, one_terminated, one_truncated, one_info = environment.step(int(actions[number]))
            assert (one_terminated or one_truncated) == ended[number]
            found = info["final_info"]["cost"][number] if ended[number] else info["cost"][number]
            assert found == pytest.approx(one_info["cost"], rel=1e-6)
            if ended[number]:
                ends += 1
                assert info["cost"][number] == 0
                environment.reset()
    assert ends > 3


def test_vector_wrapper_takes_several_costs():
    vector = VectorCostWrapper(gym.make_vec("CA14/GridWorld-v0", num_envs=4), lambda o, a, n, i: n)
    vector.reset(seed=0)
    *_, info = vector.step(np.array([0, 1, 2, 3]))
    assert info["cost"].tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
    _, info = vector.reset()
    assert info["cost"].tolist() == [[0, 0]] * 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([0.0, -1.0]), r"finite and not negative, got -1\.0"),
        (np.array([0.0, np.nan]), "finite and not negative, got nan"),
        (np.zeros(3), r"shape \[2\] or \[2, K\], got \(3,\)"),
        (0.0, r"got \(\)"),
        (np.zeros((2, 0)), r"got \(2, 0\)"),
    ],
)
def test_bad_batch_of_costs_is_named(value, message):
    vector = VectorCostWrapper(gym.make_vec("CA14/GridWorld-v0", num_envs=2), lambda *_: value)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        vector.step(np.zeros(2, dtype=int))


def test_vector_wrapper_refuses_environments_that_hide_the_last_observation():
    with pytest.raises(ValueError, match="needs autoreset mode SAME_STEP"):
        VectorCostWrapper(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"), lambda *_: np.zeros(2))


# Safety-Gymnasium's six values


def run(environment: object, actions: list[int], seed: int) -> list:
    observation, info = environment.reset(seed=seed, options={"a": 1})
    results = [(observation.tolist(), info)]
    for action in actions:
        result = list(environment.step(action))
        result[0] = result[0].tolist()
        results.append(tuple(result))
        if result[-3] or result[-2]:
            break
    return results


@given(actions=st.lists(st.integers(0, 2), min_size=1, max_size=12), seed=st.integers(0, 100))
def test_round_trip_changes_nothing_but_the_costs_second_place(actions, seed):
    expected = run(SixValues(), actions, seed)
    found = run(to_safety_gymnasium(from_safety_gymnasium(SixValues())), actions, seed)
    assert found[0] == expected[0]
    assert len(found) == len(expected)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one[:5] == other[:5]
        assert one[5] == other[5] | {"cost": other[2]}


def test_five_values_hold_the_cost_in_the_info():
    environment = from_safety_gymnasium(SixValues())
    assert isinstance(environment, gym.Env)
    assert environment.observation_space == SixValues.observation_space
    assert environment.action_space == SixValues.action_space
    environment.reset(seed=0)
    observation, reward, terminated, truncated, info = environment.step(2)
    assert (reward, terminated, truncated) == (2.0, False, False)
    assert info == {"time": 1, "cost_sum": 7, "cost": 2.5}
    assert observation in environment.observation_space
    assert environment.render().shape == (4, 4, 3)
    environment.close()
    assert environment.source.closed


def test_converted_environment_can_be_collected_from():
    data = collect(from_safety_gymnasium(SixValues()), "random", 3, seed=0)
    np.testing.assert_array_equal(data.transitions.cost[:, 0], np.array([0, 1, 2.5])[data.transitions.action])


def test_several_costs_survive_the_round_trip():
    costs = [np.array([0.0, 1.0]), np.array([2.0, 0.5]), np.array([1.0, 1.0])]
    environment = to_safety_gymnasium(from_safety_gymnasium(SixValues(costs)))
    environment.reset(seed=0)
    for action in (2, 0, 1):
        assert environment.step(action)[2].tolist() == costs[action].tolist()


def test_six_values_pass_on_the_rest_of_the_environment():
    environment = to_safety_gymnasium(CostWrapper(Counter(7), lambda *_: 0.25))
    assert environment.action_space == Counter.action_space
    assert environment.unwrapped.length == 7
    environment.reset(seed=0)
    assert environment.step(np.zeros(1))[2] == 0.25
    with pytest.raises(AttributeError):
        environment.no_such_thing  # noqa: B018


def test_missing_cost_is_named_with_what_there_is():
    environment = to_safety_gymnasium(Counter())
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="info has no 'cost', only note: CostWrapper"):
        environment.step(np.zeros(1))


def test_wrong_number_of_values_is_named():
    environment = from_safety_gymnasium(Counter())
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="six in all, got 5"):
        environment.step(np.zeros(1))


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf"), "x"])
def test_bad_cost_is_named_in_both_directions(cost):
    environment = from_safety_gymnasium(SixValues([cost] * 3))
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="cost"):
        environment.step(0)

    class Reports(Counter):
        def step(self, action):
            return *super().step(action)[:4], {"cost": cost}

    environment = to_safety_gymnasium(Reports())
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="cost"):
        environment.step(np.zeros(1))


class Halting(gym.Env):
    """Speeds up by 10 a step and ends after three; its info shows the speed, which is 0 again at a start."""

    observation_space = gym.spaces.Box(0, 100, (1,), dtype=np.float64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.speed = 0
        return np.array([0.0]), {"speed": 0}

    def step(self, action):
        self.speed += 10
        return np.array([float(self.speed)]), 0.0, self.speed >= 30, False, {"speed": self.speed}


def test_cost_function_of_a_batch_sees_the_info_of_the_step_that_ends_an_episode():
    def speed(observation, action, following, info):
        return np.asarray(info["speed"]) / 10

    vector = VectorCostWrapper(
        gym.vector.SyncVectorEnv([Halting] * 2, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP), speed
    )
    single = CostWrapper(Halting(), speed)
    vector.reset(seed=0)
    single.reset(seed=0)
    for wanted in (1.0, 2.0, 3.0):
        info = vector.step(np.zeros(2, int))[4]
        assert single.step(0)[4]["cost"] == wanted
        assert info.get("final_info", info)["cost"].tolist() == [wanted, wanted]
    assert info["speed"].tolist() == [0, 0], "what is shown is of the next episode"


class Uneven(gym.Env):
    """Costs an integer 0, a real number or a list, as the copy has it."""

    observation_space = gym.spaces.Box(0, 1, (1,), dtype=np.float32)
    action_space = gym.spaces.Discrete(2)
    made = 0

    def __init__(self, costs=(0, 0.7)) -> None:
        self.cost = costs[Uneven.made % len(costs)]
        Uneven.made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {"cost": 0}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {"cost": self.cost}


@pytest.mark.parametrize(
    "costs, wanted", [((0, 0.7), [0.0, 0.7, 0.0]), ((0.7, 0), [0.7, 0.0, 0.7]), (([1, 0.5],), [[1, 0.5]] * 3)]
)
def test_whole_numbers_in_one_copy_leave_the_costs_of_the_others_as_they_are(costs, wanted):
    Uneven.made = 0
    gym.register("CourseTest/Uneven-v0", Uneven)
    try:
        vector = vector_environment("CourseTest/Uneven-v0", 3, costs=costs)
        vector.reset(seed=0)
        assert np.asarray(vector.step(np.zeros(3, int))[4]["cost"]).tolist() == wanted
        bad = vector_environment("CourseTest/Uneven-v0", 1, costs=("much",))
        bad.reset(seed=0)
        with pytest.raises(ValueError, match=r"info\['cost'\] must be a number or K numbers, got 'much'"):
            bad.step(np.zeros(1, int))
    finally:
        del gym.registry["CourseTest/Uneven-v0"]
