"""What every registered environment owes Gymnasium and its users: checkers, determinism, one dynamics for two views."""

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as stable_baselines_check

from ca14lib.environments import (
    CONTINUOUS_ENVIRONMENTS,
    ENVIRONMENTS,
    BatchedEnvironment,
    GridWorld,
    GridWorldVector,
    SingleEnvironment,
    batched_environment,
    tabular_model,
)

IDS = [*ENVIRONMENTS, *CONTINUOUS_ENVIRONMENTS]
STOCHASTIC = [
    "CA14/RiverSwim-v0", "CA14/ICUSepsis-v0", "CA14/ProbeValue-v0", "CA14/SafeCliff-v0", "CA14/Reactor-v0",
    "CA14/UncertainGrid-v0", "CA14/CartPoleDomain-v0", "CA14/PendulumDomain-v0",
]  # fmt: skip
WITH_PICTURE = [
    "CA14/GridWorld-v0", "CA14/RiverSwim-v0", "CA14/SafeGrid-v0", "CA14/SafeCliff-v0", "CA14/UncertainGrid-v0",
    "CA14/DeepSea-v0",
]  # fmt: skip
every_id = pytest.mark.parametrize("environment_id", IDS)
every_finite_id = pytest.mark.parametrize("environment_id", ENVIRONMENTS)


def actions_of(environment_id: str, steps: int, copies: int) -> np.ndarray:
    space, rng = gym.make(environment_id).action_space, np.random.default_rng(7)
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(space.n, size=(steps, copies))
    return rng.uniform(space.low, space.high, size=(steps, copies, *space.shape)).astype(space.dtype)


def run(environment: gym.vector.VectorEnv, seed: int | None, actions: np.ndarray) -> list:
    """Everything a run returns, in order."""
    return [environment.reset(seed=seed), *(environment.step(action) for action in actions)]


def assert_identical(first: object, second: object) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_identical(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_identical(one, other)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize("environment_id", WITH_PICTURE)
def test_making_an_environment_with_its_picture_gives_no_warning(environment_id):
    """Gymnasium looks for the render modes on the class."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment = gym.make(environment_id, render_mode="rgb_array")
    assert "rgb_array" in environment.metadata["render_modes"]


@every_id
def test_gymnasium_checker_passes_without_a_warning(environment_id):
    picture = environment_id in WITH_PICTURE
    environment = gym.make(environment_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(environment.unwrapped, skip_render_check=not picture)


@every_id
def test_stable_baselines_checker_passes_without_a_warning(environment_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stable_baselines_check(gym.make(environment_id), warn=True)


@every_id
def test_make_and_make_vec_give_the_course_classes(environment_id):
    single, vector = gym.make(environment_id), gym.make_vec(environment_id, num_envs=3)
    assert isinstance(single.unwrapped, SingleEnvironment)
    assert isinstance(vector.unwrapped, BatchedEnvironment)
    assert vector.num_envs == 3
    assert single.observation_space == vector.single_observation_space
    assert single.action_space == vector.single_action_space
    assert single.spec.id == environment_id
    observation, _ = vector.reset(seed=0)
    assert observation in vector.observation_space
    observation, reward, terminated, truncated, _ = vector.step(vector.action_space.sample())
    assert observation in vector.observation_space
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)


def test_make_hands_its_keywords_on():
    assert gym.make("CA14/GridWorld-v0", size=3).observation_space.high.tolist() == [2, 2]
    assert gym.make_vec("CA14/GridWorld-v0", num_envs=2, size=3).single_observation_space.high.tolist() == [2, 2]
    assert gym.make("CA14/RiverSwim-v0", length=9).observation_space.n == 9
    assert gym.make("CA14/ICUSepsis-v0", time_limit=3).unwrapped.batched.time_limit == 3


@every_id
def test_same_seed_and_actions_give_the_same_run_bit_for_bit(environment_id):
    actions = actions_of(environment_id, 120, 5)
    first = gym.make_vec(environment_id, num_envs=5)
    history = copy.deepcopy(run(first, 11, actions))
    assert_identical(history, run(gym.make_vec(environment_id, num_envs=5), 11, actions))
    assert_identical(history, run(first, 11, actions))  # nothing of the first run is left in the object


@pytest.mark.parametrize("environment_id", STOCHASTIC)
def test_another_seed_gives_another_run(environment_id):
    environment = gym.make_vec(environment_id, num_envs=8)
    actions = actions_of(environment_id, 40, 8)
    first, second = (np.array([step[0] for step in run(environment, seed, actions)]) for seed in (1, 2))
    assert (first != second).any()


@pytest.mark.parametrize("environment_id", STOCHASTIC)
def test_copies_of_a_batch_are_independent(environment_id):
    environment = gym.make_vec(environment_id, num_envs=64)
    # the same actions in every copy
    actions = np.repeat(actions_of(environment_id, 20, 1), 64, axis=1)
    if "RiverSwim" in environment_id or "Sepsis" in environment_id:
        actions[:] = environment.single_action_space.n - 1
    observation = np.array([step[0] for step in run(environment, 3, actions)]).reshape(21, 64, -1)
    different = len(np.unique(observation, axis=1).swapaxes(0, 1))
    assert different > {"CA14/ProbeValue-v0": 1, "CA14/SafeCliff-v0": 8}.get(environment_id, 16)


@pytest.mark.parametrize("environment_id", STOCHASTIC)
def test_global_generator_is_neither_read_nor_moved(environment_id):
    actions = actions_of(environment_id, 60, 4)
    np.random.seed(0)  # noqa: NPY002 (the point of the test)
    first = copy.deepcopy(run(gym.make_vec(environment_id, num_envs=4), 5, actions))
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    second = run(gym.make_vec(environment_id, num_envs=4), 5, actions)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert_identical(first, second)


@pytest.mark.parametrize("environment_id", STOCHASTIC)
def test_all_randomness_comes_from_np_random(environment_id):
    """Put the generator back where it was, and the same future follows."""
    environment = gym.make_vec(environment_id, num_envs=4).unwrapped
    actions = actions_of(environment_id, 30, 4)
    environment.reset(seed=1)
    state = environment.np_random.bit_generator.state
    first = copy.deepcopy(run(environment, None, actions))
    environment.np_random.bit_generator.state = state
    assert_identical(first, run(environment, None, actions))


@every_id
def test_reset_without_seed_goes_on_with_the_generator(environment_id):
    environment = gym.make(environment_id).unwrapped
    environment.reset(seed=4)
    generator = environment.np_random
    environment.reset()
    assert environment.np_random is generator
    assert environment.np_random_seed == 4


@every_id
def test_single_environment_has_the_batchs_generator(environment_id):
    environment = gym.make(environment_id).unwrapped
    assert environment.np_random is environment.batched.np_random
    environment.reset(seed=9)
    assert environment.np_random is environment.batched.np_random
    assert environment.np_random_seed == environment.batched.np_random_seed == 9
    environment.np_random = generator = np.random.default_rng(3)
    assert environment.np_random is environment.batched.np_random is generator


def test_seed_of_an_environment_never_reset_is_that_of_its_generator():
    environment = gym.make("CA14/RiverSwim-v0").unwrapped
    seed = environment.np_random_seed
    expected, _ = gym.utils.seeding.np_random(seed)
    assert environment.np_random.random() == expected.random()


def test_seed_is_unknown_once_a_generator_was_put_in():
    environment = gym.make("CA14/RiverSwim-v0").unwrapped
    environment.reset(seed=3)
    environment.np_random = np.random.default_rng(0)
    assert environment.np_random_seed == -1  # as Gymnasium documents


@every_id
def test_single_environment_equals_a_batch_of_one_step_by_step(environment_id):
    single, vector = gym.make(environment_id), gym.make_vec(environment_id, num_envs=1)
    (observation, info), (batch, batch_info) = single.reset(seed=21), vector.reset(seed=21)
    np.testing.assert_array_equal(observation, batch[0])
    episodes = 0
    for (action,) in actions_of(environment_id, 650, 1):
        observation, reward, terminated, truncated, info = single.step(action)
        batch, rewards, terminations, truncations, batch_info = vector.step(np.array([action]))
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        assert type(reward) is float
        assert type(terminated) is type(truncated) is bool
        if terminated or truncated:
            episodes += 1
            np.testing.assert_array_equal(observation, batch_info["final_obs"][0])
            for key, value in info.items():
                np.testing.assert_array_equal(value, batch_info["final_info"][key][0])
            observation, info = single.reset()
        np.testing.assert_array_equal(observation, batch[0])
        for key, value in info.items():
            np.testing.assert_array_equal(value, batch_info[key][0])
    assert episodes > 2


@every_id
def test_single_environment_never_resets_itself(environment_id):
    environment = gym.make(environment_id, disable_env_checker=True)
    actions = actions_of(environment_id, 2_000, 1)[:, 0]
    with pytest.raises(gym.error.ResetNeeded):
        environment.unwrapped.step(actions[0])
    environment.reset(seed=0)
    ended = False
    for action in actions:
        last, _, terminated, truncated, _ = environment.step(action)
        if ended := terminated or truncated:
            break
    assert ended
    kept = last.copy()
    for _ in range(2):
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            environment.step(actions[0])
    np.testing.assert_array_equal(last, kept)
    environment.reset()
    environment.step(actions[0])


@every_id
def test_batch_must_be_reset_before_its_first_step(environment_id):
    environment = gym.make_vec(environment_id, num_envs=2)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        environment.step(actions_of(environment_id, 1, 2)[0])


@every_id
def test_returned_arrays_are_the_callers_own(environment_id):
    """Later steps do not change what was returned, and writing into it does not change the environment."""
    actions = actions_of(environment_id, 30, 4)
    untouched = copy.deepcopy(run(gym.make_vec(environment_id, num_envs=4), 2, actions))
    environment = gym.make_vec(environment_id, num_envs=4)
    kept = run(environment, 2, actions)
    assert_identical(untouched, kept)

    def spoil(value: object) -> None:
        if isinstance(value, np.ndarray):
            value[...] = 1
        elif isinstance(value, dict):
            for entry in value.values():
                spoil(entry)
        elif isinstance(value, tuple):
            for entry in value:
                spoil(entry)

    result = environment.reset(seed=2)
    spoil(result)
    for action, expected in zip(actions, untouched[1:], strict=True):
        result = environment.step(action)
        assert_identical(expected, result)
        spoil(result)


def test_single_environment_returns_copies():
    environment = GridWorld()
    observation, _ = environment.reset(seed=0)
    observation[:] = 3
    following, *_ = environment.step(0)
    assert following.tolist() == [0, 1]
    environment.step(0)
    assert following.tolist() == [0, 1]


def test_single_view_needs_a_batch_of_one():
    with pytest.raises(ValueError, match="num_envs=2"):
        SingleEnvironment(GridWorldVector(2))


@every_id
def test_spawned_batch_has_the_same_problem_and_its_own_state(environment_id):
    environment = batched_environment(environment_id)
    spawned = environment.spawn(6)
    assert (type(spawned), spawned.num_envs) == (type(environment), 6)
    assert (spawned.time_limit, spawned.horizon) == (environment.time_limit, environment.horizon)
    assert spawned.single_observation_space == environment.single_observation_space
    assert spawned.single_action_space == environment.single_action_space
    if environment_id in ENVIRONMENTS:
        np.testing.assert_array_equal(spawned.tabular_model().transition, environment.tabular_model().transition)


@pytest.mark.parametrize("environment_id", CONTINUOUS_ENVIRONMENTS)
def test_environment_that_cannot_be_enumerated_says_so(environment_id):
    with pytest.raises(ValueError, match="no tabular model"):
        tabular_model(environment_id)
    assert batched_environment(environment_id).behaviours() == {}


@every_id
def test_costs_are_finite_not_negative_and_zero_at_a_start(environment_id):
    environment = gym.make_vec(environment_id, num_envs=16)
    _, info = environment.reset(seed=1)
    if "cost" not in info:
        assert environment_id not in ENVIRONMENTS or tabular_model(environment_id).num_costs == 0
        return
    assert (info["cost"] == 0).all()
    width = info["cost"].shape[1:]
    if environment_id in ENVIRONMENTS:
        assert (width or (1,)) == (tabular_model(environment_id).num_costs,)
        assert width != (1,), "a single cost has no axis of its own"
    for action in actions_of(environment_id, 60, 16):
        *_, info = environment.step(action)
        for cost in (info["cost"], info.get("final_info", info)["cost"]):
            assert cost.shape == (16, *width)
            assert (np.isfinite(cost) & (cost >= 0)).all()


@every_id
def test_horizon_terminates_and_time_limit_truncates(environment_id):
    """Each on its step exactly, and an environment has one of them at most."""
    environment = gym.make_vec(environment_id, num_envs=8).unwrapped
    assert environment.horizon is None or environment.time_limit is None
    elapsed = np.zeros(8, dtype=int)
    environment.reset(seed=2)
    for action in actions_of(environment_id, 2 * (environment.horizon or environment.time_limit or 10), 8):
        *_, terminated, truncated, _ = environment.step(action)
        elapsed += 1
        np.testing.assert_array_equal(truncated, (elapsed == environment.time_limit) & ~terminated)
        assert terminated[elapsed == environment.horizon].all()
        elapsed[terminated | truncated] = 0


def test_spawned_batch_keeps_the_constructors_arguments():
    grid = batched_environment(gym.make("CA14/GridWorld-v0", size=3, time_limit=9)).spawn(2)
    assert (grid.width, grid.time_limit) == (3, 9)
    river = batched_environment(gym.make("CA14/RiverSwim-v0", length=8, time_limit=None)).spawn(2)
    assert (river.length, river.time_limit) == (8, None)


@every_finite_id
def test_behaviours_are_probability_tables_over_the_models_states(environment_id):
    environment, model = batched_environment(environment_id), tabular_model(environment_id)
    behaviours = environment.behaviours()
    assert "random" in behaviours
    for table in behaviours.values():
        assert table.shape == (model.num_states, model.num_actions)
        assert (table >= 0).all()
        np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-12)


@every_finite_id
def test_model_is_the_same_by_id_by_single_and_by_batch(environment_id):
    models = [
        tabular_model(environment_id),
        tabular_model(gym.make(environment_id)),
        tabular_model(gym.make_vec(environment_id, num_envs=2)),
        gym.make(environment_id).unwrapped.tabular_model(),
    ]
    for model in models[1:]:
        np.testing.assert_array_equal(model.transition, models[0].transition)
        np.testing.assert_array_equal(model.reward, models[0].reward)
        np.testing.assert_array_equal(model.initial, models[0].initial)
        np.testing.assert_array_equal(model.observation, models[0].observation)
