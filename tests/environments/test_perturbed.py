"""Perturbations do what they say, to one environment and to many alike, and only through a seeded generator."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment
from ca14lib.environments.domains import CartPoleDomainVector, PendulumDomain, PendulumDomainVector
from ca14lib.environments.perturbed import (
    AbruptChange,
    ActionFailure,
    DelayedObservations,
    DroppedObservations,
    ObservationNoise,
    ParameterDrift,
    Perturbed,
    PerturbedVector,
    RandomStart,
    RewardNoise,
    RewardShift,
)
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.vector import vector_environment

ALL = (
    DelayedObservations(2), DroppedObservations(0.3), ObservationNoise(0.2), ActionFailure(0.3), RewardNoise(0.5),
    RewardShift(2.0, 1.0),
)  # fmt: skip


class Counter(BatchedEnvironment):
    """Shows the number of the step and the copy; pays the action; an episode takes ``last`` steps."""

    def __init__(self, num_envs=1, last=5, box=True):
        actions = gym.spaces.Box(-1.0, 1.0, (1,), dtype=np.float32) if box else gym.spaces.Discrete(5)
        space = gym.spaces.Box(0.0, 100.0, (2,), dtype=np.float32)
        super().__init__(num_envs, space, actions, time_limit=None)
        self.last, self.count, self.episode = last, np.zeros(num_envs), np.zeros(num_envs)
        self.executed = []

    def _restart(self, count, options):
        return np.zeros(count)

    def _place(self, where, states):
        self.count[where] = states
        self.episode[where] += 1

    def _transition(self, action):
        self.executed.append(action.copy())
        self.count = self.count + 1
        return action.reshape(self.num_envs, -1)[:, 0].astype(float), self.count >= self.last

    def _observe(self):
        return np.stack([self.count, self.episode], axis=-1).astype(np.float32)


def wrapped(*perturbations, num_envs=1, **arguments):
    environment = PerturbedVector(Counter(num_envs, **arguments), perturbations)
    environment.reset(seed=0)
    return environment


def shown(environment, steps):
    """First numbers of what is seen and of what ends an episode, ``[steps, N]``."""
    seen, final = [], []
    for _ in range(steps):
        observation, _, terminated, _, info = environment.step(np.zeros((environment.num_envs, 1), np.float32))
        seen.append(observation[:, 0])
        final.append(np.where(terminated, info.get("final_obs", observation)[:, 0], -1))
    return np.array(seen), np.array(final)


# Observations


def test_noise_has_its_deviation_and_widens_the_space():
    environment = wrapped(ObservationNoise(0.5), num_envs=5_000, last=100)
    assert environment.single_observation_space == gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    observation, *_ = environment.step(np.zeros((5_000, 1)))
    assert observation.dtype == np.float32
    noise = observation - [1.0, 1.0]
    assert noise.std(axis=0) == pytest.approx([0.5, 0.5], rel=0.05)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    assert (wrapped(ObservationNoise(0.0)).reset(seed=0)[0] == [[0.0, 2.0]]).all()


def test_a_dropped_observation_shows_the_last_one_that_was_seen():
    seen, final = shown(wrapped(DroppedObservations(1.0), num_envs=2), 12)
    assert (seen == 0).all()  # every episode begins with an observation that arrives
    assert set(final.ravel()) == {-1, 0}
    seen, final = shown(wrapped(DroppedObservations(0.0), num_envs=2), 12)
    assert seen[:, 0].tolist() == [1, 2, 3, 4, 0] * 2 + [1, 2]
    assert set(final.ravel()) == {-1, 5}
    seen, _ = shown(wrapped(DroppedObservations(0.4), num_envs=2_000, last=3), 2)
    first, second = seen
    assert np.mean(first == 0) == pytest.approx(0.4, abs=0.05)
    assert set(second[first == 0]) == {0, 2}  # held from before, not from the step that was lost
    assert np.mean(second[first == 1] == 1) == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("steps", [0, 1, 3, 7])
def test_a_delay_shows_earlier_observations_of_the_same_episode(steps):
    seen, final = shown(wrapped(DelayedObservations(steps), num_envs=2), 12)
    expected = [max(t % 5 - steps, 0) for t in range(1, 13)]
    assert seen[:, 0].tolist() == seen[:, 1].tolist() == expected
    assert set(final.ravel()) == {-1, max(5 - steps, 0)}


def test_order_is_from_the_environment_outwards():
    """Noise that is delayed is the same when it arrives again; delayed and then noisy it is not."""
    held = wrapped(ObservationNoise(1.0), DroppedObservations(1.0))
    fresh = wrapped(DroppedObservations(1.0), ObservationNoise(1.0))
    assert len(np.unique(shown(held, 4)[0])) == 1
    assert len(np.unique(shown(fresh, 4)[0])) == 4


# Actions


def executed_with(*perturbations, steps=6, num_envs=2_000, **arguments):
    environment = wrapped(*perturbations, num_envs=num_envs, **arguments)
    rng = np.random.default_rng(3)
    box = isinstance(environment.single_action_space, gym.spaces.Box)
    shape = (steps, num_envs, 1) if box else (steps, num_envs)
    asked = rng.uniform(-1, 1, shape).astype(np.float32) if box else rng.integers(5, size=shape)
    for action in asked:
        environment.step(action)
    return asked.reshape(steps, num_envs), np.array(environment.unwrapped.executed).reshape(steps, num_envs)


@pytest.mark.parametrize("box", [True, False])
def test_failed_actions_are_repeated_within_the_episode(box):
    asked, done = executed_with(ActionFailure(0.25, "repeat"), last=3, box=box)
    kept = np.isclose(done, asked)
    repeated = np.isclose(done[1:], done[:-1])
    assert kept[[0, 3]].all()  # nothing was done before in this episode
    assert (kept[1:] | repeated).all()
    assert np.mean(~kept[1:3]) == pytest.approx(0.25 * (1 if box else 0.8), abs=0.03)


def test_failed_actions_do_nothing():
    asked, done = executed_with(ActionFailure(0.25, "noop"))
    assert np.mean(done == 0) == pytest.approx(0.25, abs=0.02)
    assert np.isclose(done, asked)[done != 0].all()
    asked, done = executed_with(ActionFailure(1.0, "noop", noop=4), box=False)
    assert (done == 4).all()


def test_failed_actions_are_uniform_over_all_actions():
    asked, done = executed_with(ActionFailure(1.0), box=False)
    assert np.bincount(done.ravel().astype(int), minlength=5) / done.size == pytest.approx([0.2] * 5, abs=0.02)
    asked, done = executed_with(ActionFailure(0.5, "random"))
    failed = ~np.isclose(done, asked)
    assert failed.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(done[failed].mean()) < 0.05
    assert done[failed].std() == pytest.approx(2 / np.sqrt(12), rel=0.05)


def test_level_zero_changes_nothing():
    asked, done = executed_with(ActionFailure(0.0), ActionFailure(0.0, "repeat"), ActionFailure(0.0, "noop"))
    np.testing.assert_allclose(done, asked)


# Rewards


def test_reward_noise_keeps_the_mean_and_has_its_deviation():
    environment = wrapped(RewardNoise(2.0), num_envs=20_000)
    _, reward, *_ = environment.step(np.full((20_000, 1), 0.5))
    assert reward.mean() == pytest.approx(0.5, abs=0.06)
    assert reward.std() == pytest.approx(2.0, rel=0.03)


def test_reward_is_scaled_then_shifted():
    environment = wrapped(RewardShift(scale=-2.0, shift=3.0))
    assert environment.step(np.array([[0.5]]))[1] == pytest.approx([2.0])


# Parameters


def test_drift_is_linear_within_an_episode_and_begins_anew():
    environment = PerturbedVector(
        PendulumDomainVector(3, ranges={"mass": (1.0, 2.0)}, time_limit=6), [ParameterDrift("mass", 0.8, 4)]
    )
    _, info = environment.reset(seed=0)
    for _ in range(2):
        first = info["parameters"][:, 0]
        assert ((first >= 1.0) & (first <= 2.0)).all()
        for step in range(1, 7):
            *_, info = environment.step(np.zeros((3, 1)))
            now = info["parameters"] if step < 6 else info["final_info"]["parameters"]
            np.testing.assert_allclose(now[:, 0], first + 0.8 * min(step / 4, 1.0))
            if step < 6:
                np.testing.assert_allclose(environment.unwrapped.parameters["mass"], now[:, 0])


def test_drift_changes_the_dynamics_of_the_step_itself():
    drifting = PerturbedVector(PendulumDomainVector(1, start=(0.0, 0.0)), [ParameterDrift("gain", 1.0, 1)])
    drifting.reset(seed=0)
    drifting.step(np.array([[1.0]]))
    assert drifting.unwrapped.state[0, 1] == pytest.approx(0.05 * 3 * 2 * 2.0)


def test_abrupt_change_comes_between_episodes_of_every_copy_for_itself():
    environment = PerturbedVector(CartPoleDomainVector(8), [AbruptChange("length", 1.5, 2)])
    _, info = environment.reset(seed=0)
    episodes, rng = np.ones(8), np.random.default_rng(0)
    for _ in range(200):
        np.testing.assert_array_equal(info["parameters"][:, 2], np.where(episodes > 2, 1.5, 0.5))
        np.testing.assert_array_equal(environment.unwrapped.parameters["length"], info["parameters"][:, 2])
        _, _, terminated, truncated, info = environment.step(rng.integers(2, size=8))
        episodes += terminated | truncated
    assert len(set(episodes)) > 1
    _, info = environment.reset()
    assert (info["parameters"][:, 2] == 1.5).all()  # a reset without a seed goes on
    _, info = environment.reset(seed=1)
    assert (info["parameters"][:, 2] == 0.5).all()


def test_parameters_of_single_environments_change_as_well():
    environment = Perturbed(
        PendulumDomain(time_limit=3), [ParameterDrift("mass", 1.0, 2), AbruptChange("gain", 2.0, 1)]
    )
    environment.reset(seed=0)
    masses = [environment.step(np.zeros(1, np.float32))[4]["parameters"][0] for _ in range(3)]
    assert masses == [1.5, 2.0, 2.0]
    _, info = environment.reset()
    assert (info["parameters"][0], info["parameters"][4]) == (1.0, 2.0)


# One and many


def test_single_environment_is_perturbed_as_a_batch_of_one():
    single = Perturbed(SingleEnvironment(Counter(1, last=7)), ALL)
    batch = PerturbedVector(Counter(1, last=7), ALL)
    (first, _), (rows, _) = single.reset(seed=5), batch.reset(seed=5)
    np.testing.assert_array_equal(first, rows[0])
    rng = np.random.default_rng(0)
    for _ in range(40):
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        first, reward, terminated, *_ = single.step(action)
        rows, rewards, ends, _, info = batch.step(action[None])
        assert (reward, terminated) == (rewards[0], ends[0])
        if terminated:
            np.testing.assert_array_equal(first, info["final_obs"][0])
            first, _ = single.reset()
        np.testing.assert_array_equal(first, rows[0])


def run(environment, seed, steps=40):
    rng = np.random.default_rng(1)
    seen = [np.array(environment.reset(seed=seed)[0])]
    for _ in range(steps):
        observation, reward, *_ = environment.step(rng.integers(2, size=environment.num_envs))
        seen.append(np.column_stack([observation, reward]))
    return np.concatenate([row.ravel() for row in seen])


def test_same_seed_gives_the_same_perturbations_and_another_seed_others():
    def made():
        return gym.make_vec(
            "CA14/Perturbed-v0", num_envs=4, environment="CA14/CartPoleDomain-v0", perturbations=ALL,
            ranges={"length": (0.3, 0.9)},
        )  # fmt: skip

    first = made()
    history = run(first, 11)
    np.testing.assert_array_equal(history, run(made(), 11))
    np.testing.assert_array_equal(history, run(first, 11))
    other = run(made(), 12)
    assert len(other) != len(history) or (other != history).any()


def test_global_generator_is_neither_read_nor_moved():
    environment = PerturbedVector(CartPoleDomainVector(4), ALL)
    np.random.seed(0)  # noqa: NPY002 (the point of the test)
    first = run(environment, 3)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    np.testing.assert_array_equal(run(environment, 3), first)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_perturbing_what_is_seen_leaves_the_environments_own_randomness_alone():
    """So that agents can be compared on the same domains and starts with and without noise."""
    clean, noisy = (PerturbedVector(CartPoleDomainVector(3, ranges={"length": (0.3, 0.9)}), [ObservationNoise(std)])
                    for std in (0.0, 0.5))  # fmt: skip
    for environment in (clean, noisy):
        environment.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.integers(2, size=3)
        clean.step(action)
        noisy.step(action)
        np.testing.assert_array_equal(clean.unwrapped.state, noisy.unwrapped.state)


def test_gymnasiums_own_environments_are_perturbed_one_by_one():
    vector = vector_environment(
        "CA14/Perturbed-v0",
        3,
        environment="CartPole-v1",
        perturbations=(DelayedObservations(1), RewardShift(shift=1.0)),
    )
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    start, _ = vector.reset(seed=[1, 2, 3])
    plain = gym.make("CartPole-v1")
    np.testing.assert_array_equal(plain.reset(seed=2)[0], start[1])
    rng = np.random.default_rng(0)
    previous, ended = start, np.zeros(3, bool)
    for _ in range(60):
        observation, reward, terminated, truncated, info = vector.step(rng.integers(2, size=3))
        assert (reward == 2.0).all()
        ended |= terminated | truncated
        assert not (terminated.any() and "final_obs" not in info)
        previous = observation
    assert ended.all()
    assert previous.shape == (3, 4)


def test_hopper_drifts_inside_each_copy():
    vector = vector_environment(
        "CA14/Perturbed-v0", 2, environment="CA14/HopperDomain-v0", perturbations=(ParameterDrift("mass", 1.0, 4),),
        ranges={"mass": (0.8, 1.2)},
    )  # fmt: skip
    _, info = vector.reset(seed=0)
    first = np.array(info["parameters"])[:, 0]
    assert first[0] != first[1]
    for _ in range(2):
        *_, info = vector.step(np.zeros((2, 3), np.float32))
    np.testing.assert_allclose(np.array(info["parameters"])[:, 0], first + 0.5)


# With the training loop


def test_what_ends_an_episode_is_perturbed_as_the_rest_of_it():
    """Rollouts get the perturbed last observation, not the clean one and not the next episode's first."""
    environment = wrapped(ObservationNoise(0.01), RewardShift(shift=1.0), num_envs=3)
    for step in range(1, 11):
        observation, _, terminated, _, info = environment.step(np.zeros((3, 1)))
        if step % 5 == 0:
            assert terminated.all()
            assert (info["_final_obs"]).all()
            np.testing.assert_allclose(info["final_obs"][:, 0], 5.0, atol=0.06)
            assert (info["final_obs"][:, 0] != 5.0).all()
            np.testing.assert_allclose(observation[:, 0], 0.0, atol=0.06)
            assert (observation[:, 0] != 0.0).all()
        else:
            assert "final_obs" not in info


def test_rows_that_did_not_end_keep_their_observation_in_the_final_ones():
    environment = PerturbedVector(CartPoleDomainVector(16), [ObservationNoise(0.1)])
    environment.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        observation, _, terminated, _, info = environment.step(rng.integers(2, size=16))
        if terminated.any():
            np.testing.assert_array_equal(info["final_obs"][~terminated], observation[~terminated])
            assert (info["final_obs"][terminated] != observation[terminated]).all()


@pytest.mark.parametrize("environment", ["CA14/CartPoleDomain-v0", "CartPole-v1"])
def test_training_and_evaluation_take_a_perturbed_environment(environment):
    arguments = {"environment": environment, "perturbations": (ObservationNoise(0.05), ActionFailure(0.1, "repeat"))}
    spaces = gym.make("CA14/Perturbed-v0", **arguments)
    agent = PPO(spaces.observation_space, spaces.action_space, PPOConfig(hidden_sizes=(16,)), seed=0)
    history = train_on_policy(
        agent, "CA14/Perturbed-v0", 400, environment_arguments=arguments, num_envs=4, rollout_steps=50, progress=False,
        evaluate=RolloutEvaluation("CA14/Perturbed-v0", 3, environment_arguments=arguments),
    )  # fmt: skip
    returns = history.series("return")
    assert len(returns) == 2
    assert (returns > 5).all()


# Where a walk begins


def test_random_start_makes_up_to_its_number_of_steps():
    environment = RandomStart(SingleEnvironment(Counter(1, last=100)), 4)
    starts = [environment.reset(seed=seed)[0][0] for seed in range(60)]
    assert set(starts) == {0, 1, 2, 3, 4}
    assert environment.reset(seed=7)[0][0] == starts[7]
    endless = RandomStart(SingleEnvironment(Counter(1, last=1)), 3)
    endless.reset(seed=0)
    endless._rng = AlwaysMost()
    with pytest.raises(ValueError, match="3 random actions have ended a hundred episodes"):
        endless.reset()


class AlwaysMost:
    """A generator that draws the largest number."""

    def integers(self, high):
        return min(high - 1, 10)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ObservationNoise(-0.1), r"std must be finite and at least 0, got -0\.1"),
        (lambda: ObservationNoise(float("inf")), "std must be finite"),
        (lambda: RewardNoise(float("nan")), "std must be finite"),
        (lambda: DroppedObservations(1.2), r"probability must lie in \[0, 1\], got 1\.2"),
        (lambda: ActionFailure(-0.1), r"probability must lie in \[0, 1\], got -0\.1"),
        (lambda: ActionFailure(0.1, "sleep"), "mode must be one of repeat, noop, random, got 'sleep'"),
        (lambda: DelayedObservations(-1), "steps must be at least 0, got -1"),
        (lambda: DelayedObservations(1.5), r"steps must be an integer, got 1\.5"),
        (lambda: RewardShift(float("inf")), "scale must be finite"),
        (lambda: ParameterDrift("mass", float("nan"), 3), "change must be finite"),
        (lambda: ParameterDrift("mass", 1.0, 0), "steps must be at least 1, got 0"),
        (lambda: AbruptChange("mass", 1.0, -1), "after must be at least 0, got -1"),
        (lambda: RandomStart(PendulumDomain(), -1), "steps must be at least 0, got -1"),
        (lambda: wrapped(ActionFailure(0.1, "noop"), box=False), "needs noop, the action of Discrete.* got None"),
        (lambda: wrapped(ActionFailure(0.1, "noop", noop=5), box=False), "needs noop, .* got 5"),
        (lambda: wrapped("noise"), "perturbations must be perturbations, got 'noise'"),
        (lambda: wrapped(ParameterDrift("mass", 1.0, 2)), "has no physical parameters, so 'mass' cannot change"),
        (
            lambda: PerturbedVector(PendulumDomainVector(1), [ParameterDrift("colour", 1.0, 2)]),
            "unknown parameter 'colour'; there are mass",
        ),
        (lambda: PerturbedVector(PendulumDomainVector(1), [AbruptChange("mass", -1.0, 2)]), "mass must lie in"),
        (
            lambda: Perturbed(gym.make("CA14/RiverSwim-v0"), [ObservationNoise(0.1)]),
            "needs a Box of real observations, got Discrete",
        ),
        (
            lambda: PerturbedVector(gym.make_vec("CartPole-v1", num_envs=2), [ObservationNoise(0.1)]),
            "needs autoreset mode SAME_STEP, got AutoresetMode.NEXT_STEP",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_drift_beyond_what_a_parameter_may_be_is_named_when_it_gets_there():
    environment = PerturbedVector(PendulumDomainVector(1), [ParameterDrift("gain", -2.0, 2)])
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="gain must be a number in"):
        environment.step(np.zeros((1, 1)))


def test_a_reset_comes_before_the_first_step():
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        PerturbedVector(Counter(1), [RewardShift()]).step(np.zeros((1, 1)))


# Planted faults


def test_fault_a_delay_that_reaches_into_the_episode_before_is_caught(monkeypatch):
    healthy = DelayedObservations.observation
    monkeypatch.setattr(
        DelayedObservations,
        "observation",
        lambda self, seen, memory, rows, start, rng: healthy(self, seen, memory, rows, False, rng),
    )
    with pytest.raises(AssertionError):
        test_a_delay_shows_earlier_observations_of_the_same_episode(3)


def test_fault_an_action_repeated_from_the_episode_before_is_caught(monkeypatch):
    monkeypatch.setattr(ActionFailure, "begin", lambda *arguments: None)
    with pytest.raises(AssertionError):
        test_failed_actions_are_repeated_within_the_episode(True)


def test_fault_last_observations_left_clean_is_caught(monkeypatch):
    healthy = PerturbedVector.step

    def clean_at_the_end(self, actions):
        clean = {}
        inner = self.env.step

        def kept(chosen):
            result = inner(chosen)
            clean.update(result[4])
            return result

        monkeypatch.setattr(self.env, "step", kept)
        *rest, info = healthy(self, actions)
        monkeypatch.setattr(self.env, "step", inner)
        return *rest, info | {key: clean[key] for key in ("final_obs",) if key in clean}

    monkeypatch.setattr(PerturbedVector, "step", clean_at_the_end)
    with pytest.raises(AssertionError):
        test_what_ends_an_episode_is_perturbed_as_the_rest_of_it()


def test_fault_a_drift_that_goes_on_from_the_last_episode_is_caught(monkeypatch):
    monkeypatch.setattr(ParameterDrift, "begin", lambda self, memory, rows, domain: memory.array("first"))
    with pytest.raises((AssertionError, ValueError)):
        test_drift_is_linear_within_an_episode_and_begins_anew()
