"""Perturbations, attacks, the regulariser and PPO with it: closed forms, brute force, and planted faults."""

import itertools
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import ca14lib.agents.robust.adversarial_ppo as adversarial_ppo
import ca14lib.agents.robust.perturbations as perturbations
from ca14lib.agents import DQN, PPO, SAC, PPOConfig, check_agent
from ca14lib.agents.check import random_rollout
from ca14lib.agents.robust.adversarial_ppo import AdversarialPPO, AdversarialPPOConfig
from ca14lib.agents.robust.atla import ObservationAdversary, observation_unit, perturbed_observation
from ca14lib.agents.robust.attacks import Attack, MixedAttack, Victim, target_loss
from ca14lib.agents.robust.rarl import DisturbanceAdversary
from ca14lib.data import Normalizer
from tests.agents.robust.faults_adversarial import FAULTS, PROPERTIES

OBSERVATIONS = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(3)
REAL_ACTIONS = gym.spaces.Box(-1, 2, (2,), dtype=np.float32)
SMALL = {"hidden_sizes": (16,), "epochs": 2, "minibatches": 2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observations(count, seed=0):
    """Observations that an agent's normalizer makes standard normal."""
    drawn = np.random.default_rng(seed).normal(size=(count, 3))
    return (np.array([1.0, -2.0, 0.5]) + drawn * np.array([2.0, 0.1, 1.0])).astype(np.float32)


def trained(actions=ACTIONS, agent_class=PPO, **settings):
    """A small agent whose policy is no longer uniform."""
    normalizer = Normalizer(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 1.0]))
    agent = agent_class(
        OBSERVATIONS, actions, agent_class.config_class(**SMALL | settings), normalizer=normalizer, seed=3
    )
    with torch.no_grad():
        agent.policy.network[-1].weight.mul_(100)
    return agent


@pytest.mark.parametrize("case", PROPERTIES)
def test_property_holds(case):
    PROPERTIES[case]()


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_noticed(name, monkeypatch):
    fault = FAULTS[name]
    fault.plant(monkeypatch)
    for caught_by in fault.caught_by:
        with pytest.raises((AssertionError, ValueError)):
            PROPERTIES[caught_by]()


# Pure functions


def test_l2_projection_shortens_only_what_is_too_long():
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    found = perturbations.project(rows, 1.0, "l2")
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_exact_for_linear_losses(norm):
    weight = torch.randn(4, 5, generator=generator(1), dtype=torch.float64)
    centre = torch.randn(4, 5, generator=generator(2), dtype=torch.float64)
    found = perturbations.fgsm(lambda x: (x * weight).sum(-1), centre, 0.3, norm=norm)
    dual = weight.abs().sum(-1) if norm == "linf" else weight.norm(dim=-1)
    torch.testing.assert_close(((found - centre) * weight).sum(-1), 0.3 * dual)


def test_pgd_finds_the_corner_of_a_box_and_beats_one_step():
    """A loss whose gradient at the centre points to the wrong corner."""

    def loss(x):
        return x[:, 0] * 0.1 - x[:, 0] * x[:, 1] * 10 + x[:, 1] * 0.2

    centre = torch.zeros(16, 2, dtype=torch.float64)
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2)), dtype=torch.float64)
    best = loss(corners).max()
    one = loss(perturbations.fgsm(loss, centre, 1.0))
    many = loss(perturbations.pgd(loss, centre, 1.0, 10, None, generator(), restarts=12))
    assert (one < best - 1).all()
    torch.testing.assert_close(many, best.expand(16))


def test_pgd_keeps_the_best_point_it_has_seen():
    def loss(x):
        return -x.abs().sum(-1)  # the start is better than any step away from it

    centre = torch.zeros(5, 2)
    torch.testing.assert_close(perturbations.pgd(loss, centre, 1.0, 3, 1.0), centre)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_perturbations_fill_the_ball_uniformly(norm):
    drawn = perturbations.random_perturbation(torch.zeros(20_000, 3), 0.5, generator(), norm)
    size = drawn.abs().amax(-1) if norm == "linf" else drawn.norm(dim=-1)
    assert size.max() <= 0.5 + 1e-6
    # the share within half the radius is an eighth of the volume in three dimensions
    assert (size < 0.25).float().mean() == pytest.approx(1 / 8, abs=0.01)
    assert drawn.mean(0).abs().max() < 0.01


def test_attack_gradients_leave_parameters_alone():
    agent = trained()
    Attack(agent, "mad", 0.1)(np.zeros((4, 3), np.float32))
    assert all(parameter.grad is None for parameter in agent.parameters())


def test_expected_value_loss_is_minus_the_value_of_the_perturbed_policy_at_the_true_state():
    log_prob = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log()
    q = torch.tensor([[1.0, 3.0], [-2.0, 4.0]], requires_grad=True)
    found = perturbations.expected_value_loss(log_prob, q)
    torch.testing.assert_close(found, torch.tensor([-2.6, -1.0]))
    assert not found.requires_grad


def test_target_of_continuous_actions_lowers_and_raises_a_dimension():
    mean = torch.tensor([[0.3, -0.2]])
    assert [float(target_loss((mean, mean), k, False)) for k in range(4)] == pytest.approx([-0.3, 0.3, 0.2, -0.2])


# Attacks on an agent


@pytest.mark.parametrize("actions", [ACTIONS, REAL_ACTIONS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("name", ["random", "fgsm", "pgd", "critic", "mad", "target"])
def test_attacks_stay_in_the_ball_in_units_of_normalised_observations(name, actions):
    agent = trained(actions)
    truth = observations(32)
    shown = Attack(agent, name, 0.2)(truth)
    moved = np.abs(shown - truth) * agent.normalizer.scale.numpy()
    assert shown.dtype == np.float32
    assert moved.max() <= 0.2 * (1 + 1e-4)
    assert moved.max() > 0.01


@pytest.mark.parametrize("agent_class", [DQN, SAC])
def test_agents_with_values_and_deterministic_continuous_ones_are_attacked_too(agent_class):
    actions = ACTIONS if agent_class is DQN else REAL_ACTIONS
    agent = agent_class(OBSERVATIONS, actions, agent_class.config_class(hidden_sizes=(8,)))
    truth = np.zeros((4, 3), np.float32)
    victim = Victim(agent)
    clean = victim.policy(torch.as_tensor(truth))
    for name in ("fgsm", "pgd", "mad", "target"):
        shown = Attack(agent, name, 0.5)(truth)
        after = victim.policy(torch.as_tensor(shown))
        assert victim.divergence(clean, after).mean() > 1e-6
    if agent_class is DQN:
        assert np.abs(Attack(agent, "critic", 0.5)(truth)).max() > 0


def test_margin_attack_finds_a_flip_wherever_dense_search_does():
    agent = trained()
    truth = observations(100, 1)
    best = agent.act(truth, deterministic=True)
    axis = np.linspace(-0.3, 0.3, 13)
    grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    unit = observation_unit(agent).numpy()
    searched = np.array([
        (agent.act((row + grid * unit).astype(np.float32), deterministic=True) != action).any()
        for row, action in zip(truth, best, strict=True)
    ])  # fmt: skip
    attacked = agent.act(Attack(agent, "pgd", 0.3, restarts=2)(truth), deterministic=True) != best
    assert searched.sum() > 5
    assert (attacked | ~searched).mean() > 0.98


def test_radius_zero_shows_the_truth():
    truth = observations(5)
    for name in ("random", "fgsm", "pgd", "critic", "mad", "target"):
        np.testing.assert_array_equal(Attack(trained(), name, 0.0)(truth), truth)
    np.testing.assert_array_equal(MixedAttack(trained(), 0.0)(truth), truth)


def test_mixed_attack_draws_all_its_attackers_and_keeps_them():
    agent = trained()
    mixed = MixedAttack(agent, 0.2, stay=0.9)
    truth = np.zeros((400, 3), np.float32)
    shown = mixed(truth)
    kinds = {tuple(np.round(row, 5)) for row in shown}
    assert len(kinds) >= 3  # nothing, and at least two directions
    before = mixed.kind
    mixed(truth)
    assert (mixed.kind == before).all()  # however often it is asked in a step
    mixed.advance()
    kept = (mixed.kind == before).mean()
    assert 0.9 < kept < 0.97  # a redrawn attacker is the same one in a quarter... of five
    assert (np.bincount(before, minlength=5) > 50).all()


class Tabular:
    """Acts, but has nothing to differentiate."""

    observation_space, action_space, device, normalizer = OBSERVATIONS, ACTIONS, torch.device("cpu"), None

    def act(self, observation, *, deterministic=False):
        return np.zeros(len(observation), np.int64)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "critic", "mad", "target"])
def test_gradient_attacks_on_agents_without_gradients_are_refused(name):
    with pytest.raises(ValueError, match=r"Tabular has no (gradient|critic).*random"):
        Attack(Tabular(), name, 0.1)


def test_random_attack_needs_no_gradient():
    shown = Attack(Tabular(), "random", 0.1)(np.zeros((4, 3), np.float32))
    assert 0 < np.abs(shown).max() <= 0.1


def test_bad_input_is_refused():
    agent, rows = trained(), torch.zeros(2, 3)
    cases = {
        r"epsilon must be a finite number of at least 0, got -0\.1": lambda: perturbations.project(rows, -0.1),
        "epsilon must be .*, got nan": lambda: perturbations.fgsm(lambda x: x.sum(-1), rows, float("nan")),
        "steps must be a positive integer, got 0": lambda: perturbations.pgd(lambda x: x.sum(-1), rows, 0.1, 0),
        "step_size must be positive": lambda: perturbations.pgd(lambda x: x.sum(-1), rows, 0.1, 1, -1.0),
        "restarts must be 1 without": lambda: perturbations.pgd(lambda x: x.sum(-1), rows, 0.1, 1, restarts=2),
        "norm must be linf or l2, got l1": lambda: perturbations.project(rows, 0.1, "l1"),
        "no gradient": lambda: perturbations.fgsm(lambda x: torch.zeros(2), rows, 0.1),
        "no gradient with": lambda: perturbations.fgsm(lambda x: nn.Parameter(torch.zeros(2)), rows, 0.1),
        "attack must be one of random": lambda: Attack(agent, "learned", 0.1),
        "epsilon must be": lambda: Attack(agent, "random", -1.0),
        "target must lie in 0…2, got 3": lambda: Attack(agent, "target", 0.1, target=3),
        "stay must be": lambda: MixedAttack(agent, 0.1, stay=1.0),
        "epsilon must be positive": lambda: ObservationAdversary.against(agent, 0.0),
        "limit must be positive": lambda: DisturbanceAdversary.against(agent, 0.0),
        "forces must be": lambda: DisturbanceAdversary.against(agent, 1.0, 0),
        "epsilon must be a finite": lambda: AdversarialPPOConfig(epsilon=-0.05),
        "regulariser must be": lambda: AdversarialPPOConfig(regulariser=-1.0),
        "attack must be fgsm or pgd, got cw": lambda: AdversarialPPOConfig(attack="cw"),
        "ramp_updates must be": lambda: AdversarialPPOConfig(ramp_updates=0),
        "attack_steps must be": lambda: AdversarialPPOConfig(attack_steps=0),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_observations_without_a_ball_are_refused():
    agent = PPO(gym.spaces.Discrete(5), ACTIONS, PPOConfig(**SMALL))
    with pytest.raises(ValueError, match="no ball"):
        Attack(agent, "random", 0.1)


# The agent


@pytest.mark.parametrize("settings", [{"attack": "fgsm"}, {"attack": "pgd", "attack_steps": 2, "norm": "l2"}])
def test_agent_keeps_the_contract(settings):
    small = {"hidden_sizes": (8,), "epochs": 1, "minibatches": 1, "value_epochs": 1}
    check_agent(AdversarialPPO, AdversarialPPOConfig(**small, ramp_updates=1, regulariser=0.1, **settings))


@pytest.mark.parametrize("agent_class", [ObservationAdversary, DisturbanceAdversary])
@pytest.mark.verify
def test_adversaries_keep_the_contract(agent_class):
    small = {"hidden_sizes": (8,), "epochs": 1, "minibatches": 1, "value_epochs": 1}
    check_agent(agent_class, agent_class.config_class(**small))


@pytest.mark.parametrize("actions", [ACTIONS, REAL_ACTIONS], ids=["discrete", "continuous"])
def test_without_a_regulariser_it_is_ppo(actions):
    plain = PPO(OBSERVATIONS, actions, PPOConfig(**SMALL), seed=1)
    rollout = random_rollout(OBSERVATIONS, actions, 0)
    for _ in range(2):
        plain.update(rollout)
    for settings in ({"regulariser": 0.0, "ramp_updates": 1}, {"epsilon": 0.0}, {"ramp_delay": 5}):
        other = AdversarialPPO(OBSERVATIONS, actions, AdversarialPPOConfig(**SMALL, **settings), seed=1)
        for _ in range(2):
            other.update(rollout)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


def test_masked_actions_do_not_enter_the_regulariser():
    agent = trained(agent_class=AdversarialPPO)
    inputs = torch.randn(8, 3, generator=generator())
    mask = torch.tensor([True, True, False]).expand(8, 3)
    perturbed = adversarial_ppo.worst_divergence(agent.policy, inputs, 0.3, generator(), mask=mask)
    value = adversarial_ppo.robust_regulariser(agent.policy, inputs, perturbed, mask)
    value.backward()
    assert value.isfinite()
    assert value > 0
    assert all(parameter.grad.isfinite().all() for parameter in agent.policy.parameters())
    logits = agent.policy.network[-1]
    assert logits.weight.grad[2].abs().max() == 0


def test_adversary_takes_over_normalizer_and_bounds():
    agent = trained()
    adversary = ObservationAdversary.against(agent, 0.1)
    assert adversary.epsilon == pytest.approx(0.1)
    assert adversary.normalizer is not agent.normalizer
    torch.testing.assert_close(adversary.normalizer.mean, agent.normalizer.mean)
    action = adversary.act(np.zeros((64, 3), np.float32))
    assert np.abs(action).max() <= 0.1 + 1e-7
    assert DisturbanceAdversary.against(agent, 2.0).limit == 2.0
    unit = observation_unit(agent)
    shown = perturbed_observation(torch.zeros(1, 3), torch.tensor([[1.0, -1.0, 0.05]]), unit, 0.1)
    torch.testing.assert_close(shown, unit * torch.tensor([[0.1, -0.1, 0.05]]))


def test_masks_of_rollouts_reach_the_regulariser():
    agent = trained(agent_class=AdversarialPPO, ramp_updates=1)
    rollout = random_rollout(OBSERVATIONS, ACTIONS, 0, masked=True)
    agent.update(rollout)
    free = trained(agent_class=AdversarialPPO, ramp_updates=1)
    free.update(replace(rollout, action_mask=None))
    assert all(value.isfinite() for value in agent.update(rollout).values())
