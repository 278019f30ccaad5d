"""TabularModel accepts exactly the finite problems, fills in what is left out, and cannot be changed afterwards."""

import numpy as np
import pytest

from ca14lib.environments import TabularModel

S, A, K = 3, 2, 2


def arguments(**changed: object) -> dict:
    rng = np.random.default_rng(0)
    return {
        "transition": rng.dirichlet(np.ones(S), size=(S, A)),
        "reward": rng.normal(size=(S, A)),
        "cost": rng.normal(size=(K, S, A)),
        "terminal": np.array([False, False, True]),
        "initial": np.array([0.25, 0.75, 0]),
        "observation": np.eye(S),
        "action_mask": np.array([[True, True], [True, False], [True, True]]),
        "horizon": 7,
    } | changed


def with_entry(name: str, index: tuple[int, ...], value: float) -> dict:
    changed = arguments()[name].copy()
    changed[index] = value
    return {name: changed}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"transition": np.ones((S, A))}, r"transition must have shape \[S, A, S\], got \(3, 2\)"),
        ({"transition": np.full((S, A, S + 1), 0.25)}, r"transition .*\(3, 2, 4\)"),
        (with_entry("transition", (1, 0, 2), np.nan), "transition must be finite, got nan"),
        (with_entry("transition", (1, 0), [0.5, 0.5, 0.5]), r"transition\[1, 0\].*sum is 1\.5"),
        (with_entry("transition", (2, 1), [1.5, -0.5, 0]), r"transition\[2, 1\].*-0\.5"),
        (with_entry("transition", (0, 1), [0.5, 0.5, 1e-6]), r"transition\[0, 1\]"),
        ({"reward": np.zeros(S)}, r"reward must have shape .*got \(3,\)"),
        ({"reward": np.zeros((A, S))}, r"reward .*\(2, 3\)"),
        ({"reward": np.zeros((S, A, A))}, r"reward .*\(3, 2, 2\)"),
        (with_entry("reward", (0, 0), np.inf), "reward must be finite, got inf"),
        ({"cost": np.zeros((S, A))}, r"cost must have shape .*got \(3, 2\)"),
        ({"cost": np.zeros((K, A, S))}, r"cost .*\(2, 2, 3\)"),
        (with_entry("cost", (0, 0, 0), np.nan), "cost must be finite, got nan"),
        ({"terminal": [False, True]}, r"terminal must have shape \(3,\), got \(2,\)"),
        ({"initial": [1.0, 0.0]}, r"initial must be a distribution over 3 states, got shape \(2,\)"),
        ({"initial": [0.5, 0.4, 0.0]}, r"initial .* sum 0\.9"),
        ({"initial": [1.5, -0.5, 0.0]}, "initial must be a distribution"),
        ({"initial": [np.nan, 1, 0]}, "initial must be finite, got nan"),
        ({"observation": np.zeros((S + 1, 2))}, r"observation must have 3 rows, got shape \(4, 2\)"),
        ({"action_mask": np.ones((S, A + 1), bool)}, r"action_mask must have shape \(3, 2\), got \(3, 3\)"),
        ({"action_mask": [[True, True], [False, False], [True, True]]}, "action_mask allows no action in state 1"),
        ({"horizon": 0}, "horizon must be at least 1 or None, got 0"),
        ({"horizon": -4}, "horizon .* got -4"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_argument_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        TabularModel(**arguments(**changed))


@pytest.mark.parametrize("shape", [(0, 2, 0), (2, 0, 2)])
def test_problem_without_states_or_actions_is_refused(shape):
    with pytest.raises(ValueError, match="transition"):
        TabularModel(transition=np.zeros(shape), reward=np.zeros(shape[:2]))


def test_rounding_errors_in_probabilities_are_accepted():
    transition = np.full((S, A, S), 1 / 3)
    transition[0, 0, 0] += 1e-12
    TabularModel(**arguments(transition=transition))


def test_left_out_arguments_get_the_documented_defaults():
    model = TabularModel(transition=np.full((S, A, S), 1 / 3), reward=np.ones((S, A)))
    assert model.cost.shape == (0, S, A)
    assert model.num_costs == 0
    assert model.expected_cost.shape == (0, S, A)
    assert model.terminal.tolist() == [False] * S
    assert model.initial.tolist() == [1, 0, 0]
    assert model.observation.tolist() == [0, 1, 2]
    assert model.action_mask is None
    assert model.horizon is None
    assert (model.num_states, model.num_actions) == (S, A)


@pytest.mark.parametrize("rewards", [(S, A), (S, A, S)])
def test_terminal_states_are_absorbing_and_free_whatever_the_arrays_say(rewards):
    given = arguments(reward=np.ones(rewards), cost=np.ones((K, *rewards)))
    model = TabularModel(**given)
    assert (model.transition[2] == np.eye(S)[2]).all()
    assert (model.reward[2] == 0).all()
    assert (model.cost[:, 2] == 0).all()
    np.testing.assert_array_equal(model.transition[:2], given["transition"][:2])
    np.testing.assert_array_equal(model.reward[:2], given["reward"][:2])
    np.testing.assert_array_equal(model.cost[:, :2], given["cost"][:, :2])


def test_arrays_cannot_be_written():
    model = TabularModel(**arguments())
    for name in ("transition", "reward", "cost", "terminal", "initial", "observation", "action_mask"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(model, name)[0] = 0
    with pytest.raises(AttributeError):
        model.horizon = 3


def test_arrays_are_neither_shared_with_nor_changed_for_the_caller():
    given = arguments()
    before = {name: value.copy() for name, value in given.items() if isinstance(value, np.ndarray)}
    model = TabularModel(**given)
    for name, value in before.items():
        np.testing.assert_array_equal(given[name], value)
        assert not np.shares_memory(given[name], getattr(model, name))
        assert given[name].flags.writeable


def test_expected_reward_and_cost_average_over_successors():
    rng = np.random.default_rng(1)
    reward, cost = rng.normal(size=(S, A, S)), rng.normal(size=(K, S, A, S))
    model = TabularModel(**arguments(reward=reward, cost=cost))
    for s in range(S):
        for a in range(A):
            chance = model.transition[s, a]
            expected = sum(chance[t] * reward[s, a, t] for t in range(S)) if s != 2 else 0.0
            assert model.expected_reward[s, a] == pytest.approx(expected)
            for k in range(K):
                expected = sum(chance[t] * cost[k, s, a, t] for t in range(S)) if s != 2 else 0.0
                assert model.expected_cost[k, s, a] == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(S, A), (S, A, S)])
def test_expected_reward_cannot_be_written(shape):
    """It is computed once and shared by all solvers."""
    with pytest.raises(ValueError, match="read-only"):
        TabularModel(**arguments(reward=np.ones(shape))).expected_reward[0, 0] = 5
