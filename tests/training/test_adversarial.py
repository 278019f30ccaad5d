"""The games of an agent and its adversary: whose turn it is, what both see, that training repeats; CartPole."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from ca14lib.agents import PPO, PPOConfig
from ca14lib.agents.robust.atla import ObservationAdversary
from ca14lib.agents.robust.attacks import MixedAttack
from ca14lib.agents.robust.rarl import DisturbanceAdversary
from ca14lib.environments.pushed_cart_pole import PushedCartPole, PushedCartPoleVector
from ca14lib.training import adversarial as training
from ca14lib.training.adversarial import (
    ObservationAdversaryView,
    PerturbedObservations,
    PushedView,
    PushingView,
    learned_perturbation,
    train_atla,
    train_observation_adversary,
    train_rarl,
    train_under_attack,
)

SMALL = PPOConfig(hidden_sizes=(8,), epochs=1, minibatches=1)
FAST = {"num_envs": 4, "rollout_steps": 8}


def agent(seed=0):
    vector = PushedCartPoleVector(1)
    return PPO(vector.single_observation_space, vector.single_action_space, SMALL, seed=seed)


def weights(learner):
    return torch.cat([value.flatten() for value in learner.parameters()])


def test_without_a_push_it_is_gymnasiums_cart_pole():
    ours, theirs = PushedCartPole(), gym.make("CartPole-v1")
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.reset(seed=0)
    observation, _ = theirs.reset(seed=1)
    ours.batched.states[0] = theirs.unwrapped.state
    for step in range(60):
        action = int(observation[2] + 0.3 * observation[3] > 0) if step < 40 else 1
        observation, reward, terminated, truncated, _ = theirs.step(action)
        mine = ours.step(action)
        np.testing.assert_allclose(mine[0], observation, rtol=1e-6, atol=1e-7)
        assert mine[1:4] == (reward, terminated, truncated)
        if terminated:
            break
    assert terminated


def test_environment_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on velocities without bounds, as Gymnasium's own has them
        check_env(PushedCartPole(), skip_render_check=True)


def test_push_is_added_to_the_force():
    vector = PushedCartPoleVector(2)
    vector.reset(seed=0)
    vector.states[:] = 0.0
    vector.push = np.array([0.0, 10.0])
    vector.step(np.array([1, 0]))
    still = vector.states[1]
    np.testing.assert_allclose(still, 0.0, atol=1e-12)  # −10 N and a push of 10 N
    assert vector.states[0, 1] > 0


def test_two_sides_of_the_disturbance_game():
    learner = agent()
    vector = PushedCartPoleVector(3)
    pushing = PushingView(vector, learner, 2.0)
    pushing.reset(seed=0)
    _, reward, *_ = pushing.step(np.full((3, 1), 1.5, np.float32))
    assert (reward == -1).all()
    assert (vector.push == 1.5).all()
    pushed = PushedView(vector, lambda observation: np.full((len(observation), 1), -0.5))
    pushed.reset(seed=0)
    _, reward, *_ = pushed.step(np.zeros(3, np.int64))
    assert (reward == 1).all()
    assert (vector.push == -0.5).all()


def test_adversary_learns_and_its_agent_does_not():
    learner = agent()
    before = weights(learner).clone()
    adversary, history = train_observation_adversary(learner, PushedCartPoleVector, 0.1, 64, **FAST)
    assert torch.equal(weights(learner), before)
    first, _ = train_observation_adversary(learner, PushedCartPoleVector, 0.1, 32, **FAST)
    assert not torch.equal(weights(adversary), weights(first))
    assert history.frame["step"].max() == 64
    again, same = train_observation_adversary(agent(), PushedCartPoleVector, 0.1, 64, **FAST)
    assert torch.equal(weights(adversary), weights(again))
    assert history == same


def test_adversary_takes_over_what_a_teacher_does():
    """A teacher that shows the cart too far to the right and too slow."""
    learner, lie = agent(), np.array([0.1, -0.1, 0.0, 0.05], np.float32)
    view = ObservationAdversaryView(PushedCartPoleVector(4), learner, 0.1)
    seen, moved = training._lesson(view, lambda observation: observation + lie, 0, 50)
    np.testing.assert_allclose(moved, np.tile(lie, (200, 1)), atol=1e-6)
    adversary = ObservationAdversary.against(learner, 0.1)
    assert adversary.imitate(seen, moved) < 1e-3
    np.testing.assert_allclose(adversary.act(seen.numpy(), deterministic=True), moved, atol=0.02)


def test_a_taught_adversary_starts_where_its_teacher_is():
    """With no step of its own that it could learn from, it differs from the untaught one by the lesson alone."""
    lie = np.float32(0.1)
    taught, plain = (
        train_observation_adversary(agent(), PushedCartPoleVector, 0.1, 32, teacher=teacher, **FAST)[0]
        for teacher in (lambda observation: observation + lie, None)
    )
    rows = np.zeros((5, 4), np.float32)
    assert (taught.act(rows, deterministic=True) > 0.05).all()
    assert (np.abs(plain.act(rows, deterministic=True)) < 0.05).all()


def test_adversary_trains_on_gymnasium_ids_too():
    adversary, _ = train_observation_adversary(agent(), "CartPole-v1", 0.1, 32, **FAST)
    shown = learned_perturbation(adversary, agent(), deterministic=True)(np.zeros((5, 4), np.float32))
    assert np.abs(shown).max() <= 0.1 + 1e-6


def test_turns_alternate_and_both_learn():
    learner = agent()
    before = weights(learner).clone()
    adversary, history = train_atla(
        learner, PushedCartPoleVector, 5 * 32, epsilon=0.1, agent_updates=2, adversary_updates=1, warmup_steps=32,
        seed=3, **FAST,
    )  # fmt: skip
    frame = history.frame
    assert sorted(frame[frame.metric == "policy_loss"].step) == [32, 64, 96, 160, 192]  # rounded up to a whole turn
    assert sorted(frame[frame.metric == "adversary_policy_loss"].step) == [128, 224]
    assert not torch.equal(weights(learner), before)
    other = agent()
    twin, again = train_atla(
        other, PushedCartPoleVector, 5 * 32, epsilon=0.1, agent_updates=2, adversary_updates=1, warmup_steps=32,
        seed=3, **FAST,
    )  # fmt: skip
    assert torch.equal(weights(learner), weights(other))
    assert torch.equal(weights(adversary), weights(twin))
    assert history == again


def test_protagonist_and_destabiliser_take_turns():
    learner = agent()
    adversary = DisturbanceAdversary.against(learner, 3.0)
    before = weights(learner).clone(), weights(adversary).clone()
    history = train_rarl(learner, adversary, 4 * 32, seed=1, **FAST)
    assert not torch.equal(weights(learner), before[0])
    assert not torch.equal(weights(adversary), before[1])
    frame = history.frame
    assert sorted(frame[frame.metric == "policy_loss"].step) == [32, 96]
    assert sorted(frame[frame.metric == "adversary_policy_loss"].step) == [64, 128]
    # separate baselines: of the two critics one learns positive returns and the other negative ones
    assert adversary.critics is not learner.critics


def test_attack_in_training_climbs_with_its_ramp():
    learner = agent()
    attack = MixedAttack(learner, 0.0)
    history = train_under_attack(learner, PushedCartPoleVector, 10 * 32, attack, epsilon=0.2, ramp=(0.2, 0.6), **FAST)
    radii = history.series("radius").to_numpy()
    np.testing.assert_allclose(radii, [0, 0, 0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2], atol=1e-12)


def test_attackers_change_once_a_step_however_many_episodes_end():
    calls = []
    vector = PushedCartPoleVector(3, time_limit=2)
    view = PerturbedObservations(vector, lambda observation: observation, lambda: calls.append(len(calls)))
    view.reset(seed=0)
    for _ in range(8):
        view.step(np.zeros(3, dtype=np.int64))
    assert len(calls) == 8


def test_bad_input_is_refused():
    learner = agent()
    other = PPO(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), SMALL)
    adversary = DisturbanceAdversary.against(learner, 1.0)
    cases = {
        "epsilon must be positive": lambda: train_observation_adversary(learner, PushedCartPoleVector, 0.0, 10),
        "epsilon must be a finite": lambda: train_observation_adversary(learner, PushedCartPoleVector, -1.0, 10),
        "steps must be a positive integer": lambda: train_observation_adversary(learner, PushedCartPoleVector, 0.1, 0),
        "agent's observation_space": lambda: train_atla(other, PushedCartPoleVector, 10, epsilon=0.1),
        "agent_updates must be": lambda: train_atla(learner, PushedCartPoleVector, 10, epsilon=0.1, agent_updates=0),
        "warmup_steps must lie": lambda: train_atla(learner, PushedCartPoleVector, 10, epsilon=0.1, warmup_steps=11),
        "adversary_updates must be": lambda: train_rarl(learner, adversary, 10, adversary_updates=0),
        "unknown environment": lambda: train_atla(learner, "CartPole-v99", 10, epsilon=0.1),
        "ramp must be": lambda: train_under_attack(
            learner, PushedCartPoleVector, 10, MixedAttack(learner, 0.1), epsilon=0.1, ramp=(0.5, 0.5)
        ),
        "time_limit": lambda: PushedCartPoleVector(1, time_limit=0),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
