"""OfflineDataset takes whole, finite episodes inside their spaces, and counts, cuts and reports them rightly."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.data import OfflineDataset, Transitions
from ca14lib.environments import ENVIRONMENTS, TabularModel, behaviour_policy, tabular_model
from ca14lib.training import collect

GRID, RIVER = "CA14/GridWorld-v0", "CA14/RiverSwim-v0"
BOX = gym.spaces.Box(-1.0, 9.0, (2,), np.float32)
TWO = gym.spaces.Discrete(2)


def arguments(**changed: object) -> dict:
    """Two episodes: three steps to a true end, two steps to a time limit."""
    position = np.array([[0, 0], [1, 0], [2, 0], [5, 1], [6, 1]], dtype=np.float32)
    return {
        "observation": position,
        "action": np.array([0, 1, 1, 0, 1]),
        "reward": np.array([1.0, 2.0, 4.0, -1.0, 3.0]),
        "next_observation": position + np.array([1, 0], dtype=np.float32),
        "terminated": np.array([False, False, True, False, False]),
        "truncated": np.array([False, False, False, False, True]),
        "observation_space": BOX,
        "action_space": TWO,
    } | changed


def with_entry(name: str, index: object, value: object) -> dict:
    changed = arguments()[name].copy()
    changed[index] = value
    return {name: changed}


def river_dataset(lengths: list[int], **keywords: object) -> OfflineDataset:
    """Episodes of given lengths on a river of 4 states: every transition can be told apart by its reward."""
    rng = np.random.default_rng(0)
    size = sum(lengths)
    end = np.cumsum(lengths) - 1
    state = rng.integers(4, size=size)
    following = np.append(state[1:], 0)
    following[end] = rng.integers(4, size=len(lengths))
    terminated, truncated = np.zeros(size, bool), np.zeros(size, bool)
    terminated[end[::2]], truncated[end[1::2]] = True, True
    return OfflineDataset(
        state,
        rng.integers(2, size=size),
        np.arange(size, dtype=float),
        following,
        terminated,
        truncated,
        observation_space=gym.spaces.Discrete(4),
        action_space=TWO,
        **keywords,
    )


some_lengths = st.lists(st.integers(1, 6), min_size=2, max_size=12)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({name: arguments()[name][:0] for name in ("observation", "action", "reward", "next_observation")}
         | {"terminated": [], "truncated": []}, "at least one transition, got none"),
        (with_entry("observation", (2, 1), np.nan), "observation must be finite, got nan"),
        (with_entry("next_observation", (2, 1), np.inf), "next_observation must be finite, got inf"),
        (with_entry("reward", 3, np.nan), "reward must be finite, got nan"),
        (with_entry("observation", (0, 0), 9.5), "observation must lie in Box.*, got 9.5"),
        (with_entry("next_observation", (4, 1), -3), "next_observation must lie in Box.*, got -3"),
        (with_entry("action", 1, 2), r"action must lie in Discrete\(2\), got 2"),
        (with_entry("action", 1, -1), r"action must lie in Discrete\(2\), got -1"),
        ({"action": np.array([0.0, 1, 1, 0, 1])}, "action must be integers, got dtype torch.float"),
        ({"action": np.array([False, True, True, False, True])}, "action must be integers, got dtype torch.bool"),
        ({"action": np.array([[0], [1], [1], [0], [1]])}, r"action must have shape .*got \(5, 1\)"),
        ({"action": np.array([0, 1])}, r"action must have 5 rows .*got shape \(2,\)"),
        ({"observation": np.zeros((5, 3))}, r"observation must have shape .*got \(5, 3\)"),
        ({"observation": np.zeros(5)}, r"observation must have shape .*got \(5,\)"),
        ({"observation": np.zeros((4, 2))}, r"observation must have 5 rows .*got shape \(4, 2\)"),
        ({"next_observation": np.zeros((6, 2))}, r"next_observation must have 5 rows .*got shape \(6, 2\)"),
        ({"reward": np.zeros((5, 1))}, r"reward must have 1 dimension.*got shape \(5, 1\)"),
        ({"terminated": np.zeros(5)}, "terminated must be a vector of booleans, got dtype torch.float"),
        ({"truncated": np.array([0, 0, 0, 0, 1])}, "truncated must be a vector of booleans, got dtype torch.int"),
        ({"terminated": np.zeros((5, 1), bool)}, r"terminated must be a vector of booleans, .* shape \(5, 1\)"),
        ({"truncated": np.zeros(4, bool)}, r"truncated must have 5 rows .*got shape \(4,\)"),
        ({"cost": np.zeros(5)}, r"cost must have 2 dimension.*got shape \(5,\)"),
        ({"cost": np.zeros((4, 1))}, r"cost must have 5 rows .*got shape \(4, 1\)"),
        ({"cost": np.full((5, 1), np.nan)}, "cost must be finite, got nan"),
        ({"behaviour_log_prob": np.zeros((5, 1))}, r"behaviour_log_prob must have 1 dimension.*got shape \(5, 1\)"),
        ({"behaviour_log_prob": np.full(5, -np.inf)}, "behaviour_log_prob must be finite, got -inf"),
        (with_entry("truncated", 4, False), "last episode is not whole"),
        (with_entry("next_observation", 0, [1, 5]), r"next_observation\[0\] differs from observation\[1\]"),
        (with_entry("terminated", 2, False), r"next_observation\[2\] differs from observation\[3\]"),
        ({"action_space": gym.spaces.MultiBinary(2)}, r"action must .*"),
        ({"observation_space": gym.spaces.Dict({"a": BOX})}, "observation must .*Dict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_data_are_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        OfflineDataset(**arguments(**changed))


def test_unknown_device_is_named():
    with pytest.raises(RuntimeError, match="abacus"):
        OfflineDataset(**arguments(device="abacus"))


def test_column_of_a_batch_with_other_length_is_named():
    rows = OfflineDataset(**arguments()).transitions
    for name in ("observation", "action", "next_observation", "terminated", "cost"):
        fields = {item: getattr(rows, item) for item in rows.__dataclass_fields__}
        with pytest.raises(ValueError, match=rf"{name} must have 5 rows like reward, got shape \(4"):
            Transitions(**fields | {name: getattr(rows, name)[:-1]})


def test_a_single_transition_is_a_dataset():
    only = {name: value[:1] if isinstance(value, np.ndarray) else value for name, value in arguments().items()}
    data = OfflineDataset(**only | {"terminated": np.array([True])})
    assert (len(data), data.num_episodes) == (1, 1)
    assert data.episode_returns().tolist() == [1.0]


def test_one_episode_of_one_step_can_be_collected():
    assert len(collect("CA14/ProbeReward-v0", "random", 1, seed=0)) == 1


def test_bounds_of_a_double_precision_box_belong_to_it():
    """0.1 is a hair larger in single precision, in which the data are kept."""
    space = gym.spaces.Box(0.0, 0.1, (1,), np.float64)
    at_bound = np.array([[0.1], [0.1]])
    OfflineDataset(
        at_bound, [0, 1], [0.0, 0.0], at_bound, [True, True], [False, False], observation_space=space, action_space=TWO
    )


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_data_are_kept_raw_with_the_documented_types():
    rows = OfflineDataset(**arguments()).transitions
    for name in ("observation", "action", "reward", "next_observation", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(rows, name).numpy(), arguments()[name])
    assert rows.observation.dtype == rows.next_observation.dtype == rows.reward.dtype == torch.float32
    assert rows.action.dtype == torch.int64
    assert rows.terminated.dtype == rows.truncated.dtype == torch.bool
    assert (rows.cost.shape, rows.cost.dtype) == ((5, 0), torch.float32)
    assert rows.behaviour_log_prob is rows.action_mask is rows.next_action_mask is None


def test_the_callers_arrays_are_copied():
    """Arrays that already have the documented types too: what their owner does to them later is not in the data."""
    flags = np.array([False, True])
    given = {
        "observation": np.zeros((2, 1), np.float32), "action": np.zeros(2, np.int64),
        "reward": np.zeros(2, np.float32), "next_observation": np.zeros((2, 1), np.float32),
        "terminated": flags, "truncated": ~flags & False,
        "cost": np.zeros((2, 1), np.float32), "behaviour_log_prob": np.zeros(2, np.float32),
    }  # fmt: skip
    spaces = {"observation_space": gym.spaces.Box(-1, 1, (1,)), "action_space": gym.spaces.Discrete(2)}
    for arrays in (given, {name: torch.as_tensor(array) for name, array in given.items()}):
        data = OfflineDataset(**arrays, **spaces)
        before = {name: getattr(data.transitions, name).clone() for name in arrays}
        for array in arrays.values():
            array[:] = 1
        for name, values in before.items():
            assert torch.equal(getattr(data.transitions, name), values), name
            arrays[name][:] = values


def test_discrete_observations_are_integers():
    assert river_dataset([2, 3]).transitions.observation.dtype == torch.int64


def test_continuous_actions_are_kept_as_reals():
    action = np.linspace(-1, 1, 15).reshape(5, 3)
    data = OfflineDataset(**arguments(action=action, action_space=gym.spaces.Box(-1, 1, (3,))))
    np.testing.assert_allclose(data.transitions.action.numpy(), action, rtol=1e-6)
    with pytest.raises(ValueError, match="discrete actions"):
        data.action_distribution()


def test_costs_and_log_probabilities_are_kept():
    cost, log_prob = np.arange(10.0).reshape(5, 2), -np.arange(5.0)
    rows = OfflineDataset(**arguments(cost=cost, behaviour_log_prob=log_prob)).transitions
    np.testing.assert_array_equal(rows.cost.numpy(), cost)
    np.testing.assert_array_equal(rows.behaviour_log_prob.numpy(), log_prob)


def test_repr_says_what_the_data_are():
    text = repr(collect(GRID, "expert", 3, seed=5))
    for part in ("24 transitions", "3 episodes", GRID, "expert", "5"):
        assert part in text


# --- episodes -------------------------------------------------------------------------------------------------------


def test_time_limits_and_true_ends_both_end_episodes():
    data = OfflineDataset(**arguments())
    assert (len(data), data.num_episodes) == (5, 2)
    assert data.episode_lengths().tolist() == [3, 2]
    assert data.episode_slices == [slice(0, 3), slice(3, 5)]


@pytest.mark.parametrize(("discount", "expected"), [(1.0, [7, 2]), (0.5, [1 + 1 + 1, -1 + 1.5]), (0.0, [1, -1])])
def test_returns_are_discounted_from_each_episodes_start(discount, expected):
    np.testing.assert_allclose(OfflineDataset(**arguments()).episode_returns(discount), expected)


@given(lengths=some_lengths, discount=st.sampled_from([0.3, 0.9, 1.0]))
def test_returns_agree_with_a_plain_loop(lengths, discount):
    data = river_dataset(lengths)
    assert data.episode_lengths().tolist() == lengths
    rewards = iter(range(sum(lengths)))
    expected = [sum(discount**step * next(rewards) for step in range(length)) for length in lengths]
    np.testing.assert_allclose(data.episode_returns(discount), expected, rtol=1e-9)


def test_chosen_episodes_come_whole_and_in_the_given_order():
    data = river_dataset([2, 3, 1, 4], policy="p", seed=3, environment_id=RIVER)
    chosen = data.episodes([3, 0])
    assert chosen.transitions.reward.tolist() == [6, 7, 8, 9, 0, 1]
    assert chosen.episode_lengths().tolist() == [4, 2]
    assert (chosen.policy, chosen.seed, chosen.environment_id) == ("p", 3, RIVER)


@pytest.mark.parametrize("index", [[], [4], [-1], [0, 9]])
def test_episode_numbers_out_of_range_are_named(index):
    with pytest.raises(ValueError, match=r"0…3 and not be empty, got \["):
        river_dataset([2, 3, 1, 4]).episodes(index)


@given(lengths=some_lengths, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_split_is_disjoint_complete_and_by_episode(lengths, fraction, seed):
    data = river_dataset(lengths)
    parts = data.split(fraction, seed)
    whole = {tuple(data.transitions.reward[rows].tolist()) for rows in data.episode_slices}
    pieces = [{tuple(part.transitions.reward[rows].tolist()) for rows in part.episode_slices} for part in parts]
    assert pieces[0].isdisjoint(pieces[1])
    assert pieces[0] | pieces[1] == whole
    assert sum(part.num_episodes for part in parts) == len(lengths)
    assert min(part.num_episodes for part in parts) >= 1
    assert abs(parts[0].num_episodes - fraction * len(lengths)) <= 1


def test_split_depends_on_its_seed_alone():
    data = river_dataset([2] * 40)
    first, again, other = (data.split(0.5, seed)[0].transitions.reward.tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, float("nan")])
def test_split_fraction_outside_its_range_is_named(fraction):
    with pytest.raises(ValueError, match=rf"fraction must lie in \(0, 1\), got {fraction}"):
        river_dataset([2, 3]).split(fraction, 0)


def test_single_episode_cannot_be_split():
    with pytest.raises(ValueError, match="at least two episodes"):
        river_dataset([4]).split(0.5, 0)


# --- counts and quality ---------------------------------------------------------------------------------------------


def test_action_distribution_is_each_actions_share():
    assert OfflineDataset(**arguments()).action_distribution().tolist() == [0.4, 0.6]
    never = OfflineDataset(**arguments(action_space=gym.spaces.Discrete(4)))
    assert never.action_distribution().tolist() == [0.4, 0.6, 0, 0]


def test_action_distribution_starts_where_the_action_space_starts():
    shifted = arguments(action=arguments()["action"] + 1, action_space=gym.spaces.Discrete(2, start=1))
    assert OfflineDataset(**shifted).action_distribution().tolist() == [0.4, 0.6]


def test_visit_and_transition_counts_agree_with_a_plain_count():
    model = tabular_model(RIVER)
    data = collect(RIVER, "random", 40, seed=0)
    visits, counts, rewards = np.zeros((6, 2)), np.zeros((6, 2, 6)), np.zeros((6, 2))
    rows = data.transitions
    for s, a, t, r in zip(*(x.tolist() for x in (rows.observation, rows.action, rows.next_observation, rows.reward))):
        visits[s, a] += 1
        counts[s, a, t] += 1
        rewards[s, a] += r
    np.testing.assert_array_equal(data.visit_counts(model), visits)
    found, sums = data.empirical_counts(model)
    np.testing.assert_array_equal(found, counts)
    np.testing.assert_allclose(sums, rewards)


def test_counts_find_cells_by_their_coordinates():
    model, data = tabular_model(GRID), collect(GRID, "expert", 7, seed=0)
    visits = data.visit_counts(model)
    assert visits[[0, 5, 10, 15], 3].tolist() == [7] * 4
    assert visits[[20, 21, 22, 23], 0].tolist() == [7] * 4
    assert visits.sum() == 56
    counts, rewards = data.empirical_counts(model)
    assert counts[23, 0, 24] == 7
    assert rewards[23, 0] == pytest.approx(7)


@pytest.mark.parametrize("environment_id", ENVIRONMENTS)
def test_decisions_are_counted_in_states_where_decisions_are_taken(environment_id):
    """Also where the end looks like the start, as in two of the probes."""
    model = tabular_model(environment_id)
    data = collect(environment_id, "random", 30, seed=0)
    assert data.visit_counts(model)[model.terminal].sum() == 0
    assert data.empirical_counts(model)[0][model.terminal].sum() == 0


def test_end_that_looks_like_the_start_and_comes_before_it_is_still_no_decision():
    model = TabularModel(
        transition=[[[1, 0]] * 2, [[1, 0]] * 2], reward=np.ones((2, 2)), terminal=[True, False],
        initial=[0, 1], observation=np.zeros((2, 2)),
    )  # fmt: skip
    ends = np.ones(5, dtype=bool)
    same = np.zeros((5, 2), dtype=np.float32)
    data = OfflineDataset(**arguments(observation=same, next_observation=same, terminated=ends, truncated=~ends))
    assert data.visit_counts(model).tolist() == [[0, 0], [2, 3]]
    counts, rewards = data.empirical_counts(model)
    assert counts[1, :, 0].tolist() == [2, 3]
    assert counts.sum() == 5
    np.testing.assert_allclose(rewards, [[0, 0], [0, 9]])


def test_counting_in_a_model_with_other_actions_is_refused():
    """Otherwise action 3 of one state would be counted as action 1 of the next."""
    cells = [[x, y] for x in range(8) for y in range(2)]
    model = TabularModel(np.full((16, 2, 16), 1 / 16), np.zeros((16, 2)), observation=np.array(cells, dtype=float))
    data = OfflineDataset(**arguments(action=np.array([0, 1, 2, 3, 0]), action_space=gym.spaces.Discrete(4)))
    with pytest.raises(ValueError, match="action"):
        data.visit_counts(model)


def test_quality_reports_what_the_data_hold():
    data = OfflineDataset(**arguments(), policy="mine")
    report = data.quality()
    assert report.name == "mine"
    expected = {
        "episodes": 2, "transitions": 5, "return_mean": 4.5, "return_std": 2.5, "return_min": 2, "return_max": 7,
        "length_mean": 2.5, "terminated_share": 0.5, "action_0_share": 0.4, "action_1_share": 0.6,
    }  # fmt: skip
    assert report.to_dict() == pytest.approx(expected)


def test_quality_with_a_model_reports_coverage():
    report = collect(GRID, "expert", 5, seed=0).quality(tabular_model(GRID))
    assert report["pairs_seen"] == 8
    assert report["pairs_share"] == pytest.approx(8 / (24 * 4))
    everything = collect(GRID, "random", 3_000, seed=0).quality(tabular_model(GRID))
    assert everything["pairs_share"] == 1


def test_better_behaviours_have_better_data():
    mean = {name: collect(GRID, name, 500, seed=0).quality()["return_mean"] for name in ("expert", "mixed", "random")}
    assert mean["expert"] > mean["mixed"] > mean["random"]


def test_collected_log_probabilities_are_the_behaviours():
    model = tabular_model(GRID)
    rows = collect(GRID, "mixed", 50, seed=0).transitions
    state = (rows.observation[:, 0] * 5 + rows.observation[:, 1]).long().numpy()
    expected = np.log(behaviour_policy(GRID, "mixed")[state, rows.action.numpy()])
    np.testing.assert_allclose(rows.behaviour_log_prob.numpy(), expected, rtol=1e-6)
    assert (model.observation[state] == rows.observation.numpy()).all()
