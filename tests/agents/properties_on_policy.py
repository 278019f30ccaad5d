"""What must hold of the on-policy agents: see ``properties.py``."""

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

import ca14lib.agents.ppo as ppo
import ca14lib.agents.safe.cpo as cpo
import ca14lib.agents.safe.cvar_policy_gradient as cvar
import ca14lib.agents.safe.fixed_penalty as fixed_penalty
import ca14lib.agents.safe.pid_lagrangian as pid_lagrangian
import ca14lib.agents.safe.ppo_lagrangian as ppo_lagrangian
import ca14lib.agents.safe.risk_sensitive as risk_sensitive
import ca14lib.agents.safe.safe_policy_gradient as safe_policy_gradient
import ca14lib.training.on_policy as training
from benchmarks.cpo_dual import descent_multipliers, random_problems, verdicts
from ca14lib.agents import Agent, OnPolicyAgent
from ca14lib.data import Rollout
from ca14lib.metrics import conditional_value_at_risk
from ca14lib.metrics.risk import RISK_MEASURES
from tests.agents.properties import assert_same, property_table
from tests.agents.reference import weights
from tests.agents.reference_on_policy import (
    KINDS,
    Reference,
    arm_probabilities,
    bandit_agent,
    bandit_rollout,
    small_agent,
    small_rollout,
)

ALGORITHMS = ("ppo", "lagrangian", "pid", "penalty", "spg", "cvar", "risk", "cpo")
PROPERTIES, property_of, each = property_table(*ALGORITHMS)

SETTINGS: dict[str, dict[str, object]] = {
    "ppo": {"entropy_weight": 0.05, "final_entropy_weight": 0.01, "learning_rate_decay": 0.7},
    "lagrangian": {"cost_limits": (5.0, 30.0), "initial_multiplier": 0.3},
    "pid": {"cost_limits": (5.0, 30.0), "initial_multiplier": 0.3, "delay": 2, "smoothing": 0.5},
    "penalty": {"cost_limits": (5.0, 30.0), "penalty": 0.7},
    "spg": {"cost_limits": (5.0, 30.0), "initial_multiplier": 0.3, "entropy_weight": 0.05, "learning_rate_decay": 0.6},
    "cvar": {"cost_limits": (0.5,), "tail": 0.5, "anneal_updates": 2, "multiplier_learning_rate": 0.5},
    "risk": {"parameter": 0.6, "risk_weight": 0.8},
    "cpo": {
        "cost_limits": (24.0,),
        "conjugate_gradient_steps": 80,
        "fisher_share": 0.5,
        "trust_region_decay": 0.9,
        "excess_share": 0.4,
        "excess_share_decay": 0.7,
    },
}


def agent_class(algorithm: str) -> type[Agent]:
    return {
        "ppo": ppo.PPO,
        "lagrangian": ppo_lagrangian.PPOLagrangian,
        "pid": pid_lagrangian.PIDLagrangian,
        "penalty": fixed_penalty.FixedPenalty,
        "spg": safe_policy_gradient.SafePolicyGradient,
        "cvar": cvar.CVaRPolicyGradient,
        "risk": risk_sensitive.RiskSensitivePolicyGradient,
        "cpo": cpo.CPO,
    }[algorithm]


def small(algorithm: str, kind: str, **settings: object) -> OnPolicyAgent:
    return small_agent(agent_class(algorithm), kind, **(SETTINGS[algorithm] | settings))


def bandit(algorithm: str, arms: int = 2, **settings: object) -> OnPolicyAgent:
    return bandit_agent(agent_class(algorithm), arms, **settings)


def small_at(agent: OnPolicyAgent, excess: float, seed: int = 0) -> Rollout:
    """A rollout whose episodes of four steps cost so much more, per step, than the first limit."""
    rollout = small_rollout(agent, seed)
    length = torch.full_like(rollout.episode_length, 4.0)
    spread = 0.02 * torch.linspace(-1, 1, len(length), dtype=torch.float64).unsqueeze(1)
    cost = agent.config.cost_limits[0] + 4 * excess + spread
    return replace(rollout, episode_length=length, episode_cost=cost.expand_as(rollout.episode_cost))


# What several share


@each("ppo", "lagrangian", "pid", "penalty", "spg", "cvar", "risk")
def three_updates_equal_the_reference(algorithm: str) -> None:
    """For both kinds of actions, masks, two costs, and old probabilities some of which the clip cuts off."""
    for kind in KINDS:
        agent = small(algorithm, kind)
        reference = Reference(agent)
        for seed in range(3):
            rollout = small_rollout(agent, seed)
            agent.update(rollout)
            getattr(reference, algorithm)(rollout)
            assert_same(weights(agent), reference.weights, 1e-6)
            for name, value in reference.state.items():
                torch.testing.assert_close(agent.get_buffer(name), value, rtol=1e-6, atol=1e-6)


@each("ppo", "lagrangian", "cpo")
def advantages_equal_brute_force(algorithm: str) -> None:
    """Of every signal with its own discount and decay, through both kinds of end and the end of the rollout."""
    for kind in KINDS:
        agent = small(algorithm, kind)
        reference = Reference(agent)
        for seed in range(3):
            rollout = small_rollout(agent, seed)
            found, wanted = agent._advantages(rollout), reference.advantages(rollout)
            for one, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@each("ppo", "lagrangian", "spg", "cpo")
def a_cut_stands_for_the_value_of_what_was_seen(algorithm: str) -> None:
    """With λ = 1 a path that is cut and valued V promises as much as one that ends in a last reward γV."""
    agent = small(algorithm, "discrete")
    rollout = small_rollout(agent)
    settings = {"gae_lambda": 1.0, "discount": 0.9}
    agent.config = replace(agent.config, **settings)
    cut = torch.zeros_like(rollout.terminated)
    cut[3], cut[-1] = True, True
    none = torch.zeros_like(cut)
    with torch.no_grad():
        seen = agent.critics[0](agent._input(rollout.flat("next_observation"))).reshape(rollout.reward.shape)
    cut_off = agent._advantages(replace(rollout, terminated=none, truncated=cut))[0]
    paid_out = replace(rollout, reward=rollout.reward + 0.9 * cut * seen, terminated=cut, truncated=none)
    torch.testing.assert_close(agent._advantages(paid_out)[0], cut_off)


@each("lagrangian", "pid", "spg", "cpo")
def without_a_completed_episode_nothing_is_known_of_the_cost(algorithm: str) -> None:
    agent = small(algorithm, "discrete")
    rollout = small_rollout(agent)
    none = replace(
        rollout, episode_return=rollout.episode_return[:0], episode_cost=rollout.episode_cost[:0],
        episode_length=rollout.episode_length[:0],
    )  # fmt: skip
    before = {name: value.clone() for name, value in agent.named_buffers()}
    logs = agent.update(none)
    for name, value in logs.items():
        assert value.isfinite(), f"{name} is {value}"
    if algorithm == "cpo":
        assert int(logs["case"]) == 4, f"the constraint must be left out, case {logs['case']}"
    assert_same(before, dict(agent.named_buffers()), 0.0)
    assert all(value.isfinite().all() for value in weights(agent).values())


# Proximal policy optimisation


@property_of("ppo")
def the_surrogate_is_flat_beyond_the_clip_and_only_on_the_side_of_gain() -> None:
    for advantage, ratio, slope in (
        (2.0, 1.0, 2.0), (2.0, 1.3, 0.0), (2.0, 0.7, 2.0), (-2.0, 1.3, -2.0), (-2.0, 0.7, 0.0), (-2.0, 1.1, -2.0),
    ):  # fmt: skip
        log_prob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
        loss = ppo.clipped_loss(log_prob, torch.zeros(1), torch.tensor([advantage]), 0.2)
        (gradient,) = torch.autograd.grad(loss, log_prob)
        wanted = -slope * ratio
        assert abs(float(gradient) - wanted) < 1e-12, (
            f"ratio {ratio}, advantage {advantage}: {float(gradient)}, not {wanted}"
        )


@property_of("ppo")
def what_is_stored_is_the_probability_of_the_masked_draw() -> None:
    """Sampled through the loop's own collector, whose environment shows the state of a corridor."""
    agent = ppo.PPO(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(4), ppo.PPOConfig(hidden_sizes=(4,)), seed=0)
    observation = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    mask = np.random.default_rng(1).random((500, 4)) < 0.5
    mask[np.arange(500), np.arange(500) % 4] = True
    action, log_prob = agent.sample(observation, mask)
    assert mask[np.arange(500), action.numpy()].all(), "a forbidden action was drawn"
    stated = agent.probabilities(observation, mask=mask)[np.arange(500), action.numpy()]
    assert np.allclose(log_prob.exp().numpy(), stated, atol=1e-6), "the stored probability is not that of the draw"


@property_of("ppo")
def passes_stop_once_the_policy_has_moved_too_far() -> None:
    """With a large step the divergence after one is beyond the limit: a second is not taken."""
    moved = {}
    for limit in (None, 1e-4):
        agent = bandit("ppo", learning_rate=0.3, epochs=6, max_kl=limit)
        before = arm_probabilities(agent)
        agent.update(bandit_rollout(agent, lambda action: action.float()))
        moved[limit] = abs(arm_probabilities(agent) - before).max()
    assert moved[1e-4] < 0.5 * moved[None], f"moved by {moved[1e-4]} with a limit, by {moved[None]} without"


@each("ppo", "lagrangian", "pid", "penalty", "spg", "cvar", "risk")
def the_step_shrinks_by_its_share_with_every_update(algorithm: str) -> None:
    """Adam's first step is as long as its rate, whatever the gradient; a restored agent knows its updates alone."""
    for number in (0, 1, 5):
        settings = {"epochs": 1, "learning_rate": 0.01, "learning_rate_decay": 0.8}
        agent = bandit(algorithm, **({} if algorithm in ("ppo", "risk") else {"cost_limits": (1.0,)}) | settings)
        agent.updates = number
        before = weights(agent)
        agent.update(bandit_rollout(agent, lambda action: action.float(), lambda action: 0.3 * action.float()))
        moved = max(
            float((value - before[name]).abs().max()) for name, value in weights(agent).items() if "policy" in name
        )
        assert abs(moved / (0.01 * 0.8**number) - 1) < 1e-3, f"a step of {moved} in update {number}"


@property_of("ppo")
def the_better_arm_wins() -> None:
    agent = bandit("ppo", learning_rate=0.02)
    for _ in range(8):
        agent.update(bandit_rollout(agent, lambda action: 1.0 - action.float(), size=200))
    assert arm_probabilities(agent)[0] > 0.9, f"{arm_probabilities(agent)}"


# Lagrangians


@property_of("lagrangian")
def the_multiplier_follows_the_violation_and_stays_at_least_zero() -> None:
    multiplier = torch.tensor([0.0, 1.0, 0.2, 3.0])
    cost, limit = torch.tensor([4.0, 4.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 9.0, 2.0])
    moved = ppo_lagrangian.multiplier_step(multiplier, cost, limit, 0.1)
    torch.testing.assert_close(moved, torch.tensor([0.3, 1.3, 0.0, 3.0]))


@each("lagrangian", "spg", "cvar")
def the_multiplier_moves_before_the_policy(algorithm: str) -> None:
    """At multiplier 0 the policy would climb the reward; the violation just measured must already turn it round."""
    agent = bandit(algorithm, cost_limits=(0.0,), multiplier_learning_rate=1_000.0, learning_rate=0.02)
    if algorithm == "cvar":  # the tail is all of the mass: the cost's mean is bounded
        agent.config = replace(agent.config, tail=1.0)
    before = arm_probabilities(agent)
    agent.update(bandit_rollout(agent, lambda action: action.float(), lambda action: action.float()))
    moved = arm_probabilities(agent)[1] - before[1]
    assert moved < 0, f"the costly arm became more probable by {moved}"
    assert agent.get_buffer("multiplier").item() > 0


@each("lagrangian", "penalty")
def the_unit_of_the_cost_is_kept(algorithm: str) -> None:
    """Costs a hundred times as small weigh a hundred times less: dividing by their spread would hide it."""
    module = {"lagrangian": ppo_lagrangian, "penalty": fixed_penalty}[algorithm]
    generator = torch.Generator().manual_seed(0)
    advantage, cost = torch.randn(50, generator=generator), torch.randn(50, 2, generator=generator)
    price = torch.tensor([2.0, 0.0])
    plain = (advantage - advantage.mean()) / 3
    for scale in (1.0, 0.01):
        mixed = module.lagrangian_advantage(advantage, scale * cost + 5, price)
        wanted = plain - 2 * scale * (cost[:, 0] - cost[:, 0].mean()) / 3
        torch.testing.assert_close(mixed, wanted, rtol=1e-4, atol=1e-4)


@each("lagrangian", "penalty")
def a_price_above_the_gain_makes_the_cheap_arm_win(algorithm: str) -> None:
    """Arm 1 earns 1 and costs 1: below price 1 it is the better one, above the worse one."""
    for price, winner in ((0.5, 1), (2.0, 0)):
        if algorithm == "penalty":
            settings = {"penalty": price}
        else:
            settings = {"initial_multiplier": price, "multiplier_learning_rate": 0.0}
        agent = bandit(algorithm, learning_rate=0.02, cost_limits=(0.1,), **settings)
        for _ in range(8):
            agent.update(bandit_rollout(agent, lambda action: action.float(), lambda action: action.float(), 200))
        assert arm_probabilities(agent)[winner] > 0.85, f"price {price}: {arm_probabilities(agent)}"


class Recorder:
    """Keeps the rollouts that an agent of the loop is given."""

    def __init__(self, agent: OnPolicyAgent) -> None:
        self.rollouts: list[Rollout] = []
        update = agent.update

        def recorded(rollout: Rollout) -> dict[str, Tensor]:
            self.rollouts.append(rollout)
            return update(rollout)

        agent.update = recorded


@property_of("lagrangian")
def only_episodes_that_ended_count_and_they_count_whole() -> None:
    """Costs of episodes, summed up step by step from the rollouts themselves, those that span two of them too."""
    environment = gym.make("CA14/SafeGrid-v0", horizon=7)
    config = ppo_lagrangian.PPOLagrangianConfig(hidden_sizes=(4,), cost_limits=(0.5,), epochs=1)
    agent = ppo_lagrangian.PPOLagrangian(environment.observation_space, environment.action_space, config)
    seen = Recorder(agent)
    training.train_on_policy(
        agent, "CA14/SafeGrid-v0", 60, num_envs=4, rollout_steps=5, environment_arguments={"horizon": 7},
        progress=False,
    )  # fmt: skip
    running = torch.zeros(4, dtype=torch.float64)
    for rollout in seen.rollouts:
        finished = []
        for t in range(5):
            running += rollout.cost[t, :, 0].double()
            ended = rollout.terminated[t] | rollout.truncated[t]
            finished += running[ended].tolist()
            running[ended] = 0.0
        assert len(finished) == len(rollout.episode_cost), (
            f"{len(finished)} episodes ended, {len(rollout.episode_cost)} count"
        )
        assert np.allclose(finished, rollout.episode_cost[:, 0].numpy(), atol=1e-5)


# PID control


@property_of("pid")
def the_controller_is_proportional_integral_and_derivative() -> None:
    """Along made-up costs: no derivative while the cost falls, no integral below 0, no multiplier below 0."""
    costs = [10.0, 9.0, 2.0, 0.0, 0.0, 0.0, 12.0, 20.0, 20.0, 3.0]
    settings = {"cost_limits": (5.0,), "delay": 3, "smoothing": 0.5, "proportional": 0.3, "integral": 0.1}
    agent = bandit("pid", derivative=0.7, **settings)
    integral, smooth_error, smooth_cost, past = 0.0, None, None, []
    for cost in costs:
        rollout = bandit_rollout(agent, lambda action: action.float(), lambda action: 0.0 * action.float(), 4)
        agent.update(replace(rollout, episode_cost=torch.full_like(rollout.episode_cost, cost)))
        error = cost - 5.0
        smooth_error = error if smooth_error is None else 0.5 * smooth_error + 0.5 * error
        smooth_cost = cost if smooth_cost is None else 0.5 * smooth_cost + 0.5 * cost
        integral = max(integral + 0.1 * error, 0.0)
        earlier = past[-3] if len(past) >= 3 else (past[0] if past else smooth_cost)
        wanted = max(0.3 * smooth_error + integral + 0.7 * max(smooth_cost - earlier, 0.0), 0.0)
        past.append(smooth_cost)
        found = agent.get_buffer("multiplier").item()
        assert abs(found - wanted) < 1e-6, f"cost {cost}: multiplier {found}, should be {wanted}"


@property_of("pid")
def the_integral_forgets_no_violation_and_stores_no_credit() -> None:
    """A long time within the limit must not delay the answer to a violation."""
    agent = bandit("pid", cost_limits=(5.0,), proportional=0.0, derivative=0.0, integral=0.1)
    rollout = bandit_rollout(agent, lambda action: action.float(), lambda action: 0.0 * action.float(), 4)
    for cost, wanted in ((0.0, 0.0), (0.0, 0.0), (6.0, 0.1), (7.0, 0.3), (4.0, 0.2)):
        agent.update(replace(rollout, episode_cost=torch.full_like(rollout.episode_cost, cost)))
        found = agent.get_buffer("multiplier").item()
        assert abs(found - wanted) < 1e-6, f"multiplier {found}, should be {wanted}"


# The policy gradient of the Lagrangian


@property_of("spg")
def the_gradient_is_that_of_the_lagrangian() -> None:
    """A bandit whose batch holds every arm as often as the policy draws it: the sample mean is the expectation."""
    counts = torch.tensor([2, 5, 3])
    reward, cost, price = torch.tensor([1.0, 0.2, -1.0]), torch.tensor([2.0, 0.5, 0.0]), torch.tensor([0.7])
    action = torch.repeat_interleave(torch.arange(3), counts)
    logits = (counts / counts.sum()).log().double().requires_grad_(True)

    def lagrangian(theta: Tensor) -> Tensor:
        return (theta.softmax(-1) * (reward - price * cost)).sum() / (1 + price.sum())

    mixed = safe_policy_gradient.lagrangian_advantage(reward[action], cost[action].unsqueeze(1), price)
    loss = safe_policy_gradient.policy_gradient_loss(logits.log_softmax(-1)[action], mixed)
    (found,) = torch.autograd.grad(loss, logits)
    step = 1e-5
    for arm in range(3):
        nudge = step * torch.eye(3, dtype=torch.float64)[arm]
        wanted = -(lagrangian(logits.detach() + nudge) - lagrangian(logits.detach() - nudge)) / (2 * step)
        assert abs(found[arm] - wanted) < 1e-6, f"arm {arm}: {found[arm]}, should be {wanted}"


# Risk of whole episodes


@property_of("cvar")
def quantile_and_utility_make_up_the_conditional_value_at_risk() -> None:
    """Of the worst share of returns, the low ones, and of costs, the high ones; ties and broken shares too."""
    rng = np.random.default_rng(0)
    for size in (1, 7, 100):
        returns = rng.normal(size=size).round(1)
        for tail in (0.07, 0.1, 0.29, 0.5, 1.0):
            quantile, utility = cvar.lower_tail(torch.as_tensor(returns), tail)
            wanted = -conditional_value_at_risk(-returns, 1 - tail)
            assert abs(float(quantile + utility.mean()) - wanted) < 1e-9, f"{tail} of {size}: returns"
            assert (utility <= 0).all()
            assert (returns[utility.numpy() < 0] < float(quantile)).all()
            quantile, excess = cvar.upper_tail(torch.as_tensor(returns), tail)
            wanted = conditional_value_at_risk(returns, 1 - tail)
            assert abs(float(quantile + excess.mean()) - wanted) < 1e-9, f"{tail} of {size}: costs"
            assert (excess >= 0).all()
    assert cvar.lower_tail(torch.arange(100.0), 0.07)[0] == 6.0, "7 of 100 lie up to the 7th"


def risk_slopes(logits: Tensor, returns: np.ndarray, risk_of: object, step: float = 1e-6) -> np.ndarray:
    """Finite differences of a function of returns and their probabilities along the logits of a softmax."""
    slopes = np.zeros(len(logits))
    for arm in range(len(logits)):
        nudge = step * torch.eye(len(logits), dtype=torch.float64)[arm]
        high, low = ((logits + sign * nudge).softmax(-1).numpy() for sign in (1, -1))
        slopes[arm] = (risk_of(returns, high) - risk_of(returns, low)) / (2 * step)
    return slopes


def score_gradient(logits: Tensor, action: Tensor, utility: Tensor) -> np.ndarray:
    theta = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((utility.double() * theta.log_softmax(-1)[action]).mean(), theta)
    return gradient.numpy()


@property_of("cvar")
def the_gradient_is_that_of_the_tail_mean() -> None:
    """On a bandit whose batch holds every arm as often as the policy draws it, against finite differences."""
    counts = torch.tensor([4, 3, 8, 5])
    returns = np.array([-1.0, 0.5, 2.0, 3.0])
    action = torch.repeat_interleave(torch.arange(4), counts)
    logits = (counts / counts.sum()).double().log()
    for tail in (0.1, 0.3, 0.6, 0.9):
        _, utility = cvar.lower_tail(torch.as_tensor(returns)[action], tail)
        wanted = risk_slopes(logits, returns, lambda r, p, a=tail: -conditional_value_at_risk(-r, 1 - a, p))
        found = score_gradient(logits, action, utility)
        assert np.allclose(found, wanted, atol=1e-6), f"tail {tail}: {found}, should be {wanted}"


@property_of("cvar")
def the_tail_shrinks_from_all_to_its_share() -> None:
    agent = bandit("cvar", tail=0.2, anneal_updates=4)
    tails = []
    for _ in range(6):
        tails.append(float(agent.update(bandit_rollout(agent, lambda action: action.float(), size=20))["tail"]))
    assert np.allclose(tails, [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]), f"{tails}"


def risky(generator: torch.Generator) -> object:
    """Arm 0 earns 1 for sure; arm 1 earns 3, but −3 in a quarter of the cases: better on average, worse in the tail."""

    def reward(action: Tensor) -> Tensor:
        lost = torch.rand(action.shape, generator=generator) < 0.25
        return torch.where(action == 0, 1.0, torch.where(lost, -3.0, 3.0))

    return reward


@each("cvar", "risk")
def the_tail_decides_between_a_safe_and_a_risky_arm(algorithm: str) -> None:
    averse = {"cvar": {"tail": 0.2, "anneal_updates": 0}, "risk": {"parameter": 0.8, "risk_weight": 5.0}}[algorithm]
    neutral = {"cvar": {"tail": 1.0, "anneal_updates": 0}, "risk": {"risk_weight": 0.0}}[algorithm]
    for settings, winner in ((averse, 0), (neutral, 1)):
        agent = bandit(algorithm, learning_rate=0.02, **settings)
        reward = risky(torch.Generator().manual_seed(0))
        for _ in range(12):
            agent.update(bandit_rollout(agent, reward, size=300))
        assert arm_probabilities(agent)[winner] > 0.7, f"{settings}: {arm_probabilities(agent)}"


@property_of("risk")
def the_gradient_is_that_of_mean_return_minus_weighted_risk() -> None:
    """For every measure, on a bandit whose batch holds every arm as often as the policy draws it."""
    counts = torch.tensor([4, 3, 8, 5])
    returns = np.array([-1.0, 0.5, 2.0, 3.0])
    action = torch.repeat_interleave(torch.arange(4), counts)
    logits = (counts / counts.sum()).double().log()
    parameters = {"mean": 0.0, "conditional_value_at_risk": 0.7, "entropic_risk": 0.7, "mean_variance_risk": 0.4}
    for measure, parameter in parameters.items():
        agent = bandit("risk", measure=measure, parameter=parameter, risk_weight=0.6)
        utility, logs = agent._utility(torch.as_tensor(returns)[action], torch.zeros(len(action), 0))

        def objective(
            r: np.ndarray, p: np.ndarray, risk: object = RISK_MEASURES[measure], at: float = parameter
        ) -> float:
            return float(r @ p) - 0.6 * risk(-r, at, p)

        wanted = risk_slopes(logits, returns, objective)
        found = score_gradient(logits, action, utility)
        assert np.allclose(found, wanted, atol=1e-5), f"{measure}: {found}, should be {wanted}"
        assert abs(float(logs["risk"]) - RISK_MEASURES[measure](-returns[action.numpy()], parameter)) < 1e-9


@each("cvar", "risk")
def only_the_first_episode_of_every_copy_counts(algorithm: str) -> None:
    """What comes after it may be cut off by the end of the rollout, and what is short would come more often."""
    agent, other = (small(algorithm, "discrete") for _ in range(2))
    rollout = small_rollout(agent)
    later = ~rollout.first_episodes()[0]
    assert later.any()
    agent.update(rollout)
    other.update(replace(rollout, reward=torch.where(later, 100.0, rollout.reward)))
    assert_same(weights(agent), weights(other), 0.0)


@each("cvar", "risk")
def an_episode_that_did_not_end_is_refused(algorithm: str) -> None:
    agent = small(algorithm, "discrete")
    rollout = small_rollout(agent)
    endless = replace(rollout, terminated=rollout.terminated.clone(), truncated=rollout.truncated.clone())
    endless.terminated[:, 0], endless.truncated[:, 0] = False, False
    try:
        agent.update(endless)
    except ValueError:
        return
    raise AssertionError("an episode that did not end was learned from")


# Constrained policy optimisation


@property_of("cpo")
def the_dual_is_that_of_an_exact_convex_solver() -> None:
    """All five cases, many scales and the edges between the cases."""
    problems = random_problems(600, seed=1)
    cases = {descent_multipliers(*problem.forms(), problem.excess, problem.radius).case for problem in problems}
    assert cases == {0, 1, 2, 3, 4}, f"cases {cases}"
    right = [correct for (correct,), _ in verdicts(problems, [descent_multipliers])]
    assert all(right), f"{len(right) - sum(right)} of {len(right)} steps are not the solver's"


@property_of("cpo")
def steps_equal_the_reference_in_every_case() -> None:
    """With the Hessian as a matrix, linear systems solved directly and λ found by search."""
    cases = set()
    for kind in KINDS:
        for excess, bonus in ((-1.0, 0.0), (-0.004, 0.02), (0.0, 0.0), (0.004, 0.0), (1.0, 0.0), (1.0, 0.02)):
            agent = small("cpo", kind, cautious_errors=0.5, entropy_weight=bonus)
            reference = Reference(agent)
            for seed in range(2):
                rollout = small_at(agent, excess, seed)
                cases.add(int(agent.update(rollout)["case"]))
                reference.cpo(rollout)
                assert_same(weights(agent), reference.weights, 1e-4)
    assert cases >= {0, 1, 2, 3}, f"only cases {cases} came up"


@property_of("cpo")
def conjugate_gradients_solve_the_system() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 3, 12):
        root = torch.randn(size, size, generator=generator, dtype=torch.float64)
        matrix = root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)
        target = torch.randn(size, generator=generator, dtype=torch.float64)
        found = cpo.conjugate_gradient(lambda vector, m=matrix: m @ vector, target, 2 * size, tolerance=1e-20)
        wanted = np.linalg.solve(matrix.numpy(), target.numpy())
        assert np.allclose(found.numpy(), wanted, atol=1e-6), f"{found} should be {wanted}"
    assert not cpo.conjugate_gradient(lambda vector: vector, torch.zeros(4), 10).any()


@property_of("cpo")
def the_fisher_product_is_that_of_the_hessian_of_the_divergence() -> None:
    for kind in KINDS:
        agent = small("cpo", kind, damping=0.3, fisher_share=1.0)
        rollout = small_rollout(agent)
        zeros = torch.zeros(rollout.size, dtype=torch.float64)
        *_, fisher = agent._surrogates(rollout, zeros, zeros)
        start = torch.nn.utils.parameters_to_vector(agent.policy_parameters).detach()
        names = [name for name, _ in agent.policy.named_parameters()]
        shapes = [parameter.shape for parameter in agent.policy_parameters]
        inputs = agent._input(rollout.flat("observation"))
        mask = None if rollout.action_mask is None else rollout.flat("action_mask")
        before = tuple(one.detach() for one in agent.policy(inputs, mask))

        def divergence(
            theta: Tensor, a: OnPolicyAgent = agent, old: tuple = before, put: tuple = (names, shapes, inputs, mask)
        ) -> Tensor:
            names, shapes, inputs, mask = put
            parts = theta.split([shape.numel() for shape in shapes])
            values = {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
            return a.policy.kl(old, torch.func.functional_call(a.policy, values, (inputs, mask))).mean()

        hessian = torch.autograd.functional.hessian(divergence, start) + 0.3 * torch.eye(len(start)).double()
        vector = torch.randn(len(start), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(fisher(vector), hessian @ vector, rtol=1e-8, atol=1e-8)


@property_of("cpo")
def after_a_step_the_divergence_is_within_the_trust_region() -> None:
    """Also where the quadratic form promises too little, as at a large radius."""
    for kind in KINDS:
        for excess in (-1.0, -0.004, 0.004, 1.0):
            agent = small("cpo", kind, trust_region=0.5, damping=0.0, trust_region_decay=1.0)
            rollout = small_at(agent, excess)
            inputs, mask = agent._input(rollout.flat("observation")), rollout.action_mask
            mask = None if mask is None else mask.flatten(0, 1)
            before = tuple(one.detach() for one in agent.policy(inputs, mask))
            agent.update(rollout)
            divergence = float(agent.policy.kl(before, agent.policy(inputs, mask)).mean().detach())
            assert divergence <= 0.5 + 1e-9, f"{kind}, {excess}: {divergence}"


@property_of("cpo")
def a_search_that_fails_leaves_the_policy_as_it_was() -> None:
    agent = small("cpo", "discrete")
    before = weights(agent, "policy")
    start = torch.nn.utils.parameters_to_vector(agent.policy_parameters).detach()
    worse = lambda: torch.nn.utils.parameters_to_vector(agent.policy_parameters).sub(start).square().sum()  # noqa: E731
    zero = lambda: torch.zeros(())  # noqa: E731
    for loss, cost, kl in ((worse, zero, zero), (zero, worse, zero), (zero, zero, lambda: worse() * 1e9)):
        share = agent._line_search(torch.ones_like(start), 2, -1e-9, loss, cost, kl)
        assert share == 0.0
        assert_same(before, weights(agent, "policy"), 0.0)
    assert agent._line_search(torch.ones_like(start), 2, -1.0, zero, zero, zero) == 1.0
    assert torch.equal(torch.nn.utils.parameters_to_vector(agent.policy_parameters), start + 1)


@property_of("cpo")
def recovery_lowers_the_cost() -> None:
    """Far above the limit, where the reward asks for the opposite."""
    agent = bandit("cpo", cost_limits=(0.0,), trust_region=0.02)
    before = arm_probabilities(agent)[1]
    for _ in range(3):
        rollout = bandit_rollout(agent, lambda action: 5.0 * action.float(), lambda action: action.float())
        logs = agent.update(rollout)
        assert int(logs["case"]) == 0, f"case {logs['case']}"
    after = arm_probabilities(agent)[1]
    assert after < before - 0.05, f"the costly arm's probability went from {before} to {after}"


@property_of("cpo")
def the_reward_is_climbed_up_to_the_limit_and_no_further() -> None:
    """Arm 1 earns 1 and costs 1, at most 0.7 of it are allowed; gradients of reward and cost are parallel."""
    agent = bandit("cpo", cost_limits=(0.7,), trust_region=0.02)
    for _ in range(12):
        agent.update(bandit_rollout(agent, lambda action: action.float(), lambda action: action.float(), 2_000))
    found = arm_probabilities(agent)[1]
    assert abs(found - 0.7) < 0.05, f"the costly arm has probability {found}"


@property_of("cpo")
def the_violation_is_that_of_a_step() -> None:
    """Cost and its gradient have one unit: the cost of an episode over its length."""
    agent = small("cpo", "discrete", cost_limits=(10.0,))
    rollout = small_rollout(agent)
    cost, length = torch.full_like(rollout.episode_cost, 16.0), torch.full_like(rollout.episode_length, 12.0)
    found = agent._excess(replace(rollout, episode_cost=cost, episode_length=length))
    assert abs(found - 0.5) < 1e-9, f"{found}"


@property_of("cpo")
def an_update_answers_a_share_of_the_violation() -> None:
    """All of it at first, a smaller share with every update, and never less than the last share."""
    agent = small("cpo", "discrete", cost_limits=(10.0,), excess_share=0.3, excess_share_decay=0.5)
    rollout = small_rollout(agent)
    cost, length = torch.full_like(rollout.episode_cost, 16.0), torch.full_like(rollout.episode_length, 12.0)
    six_over = replace(rollout, episode_cost=cost, episode_length=length)
    for share in (1.0, 0.5, 0.3, 0.3):
        found = agent._excess(six_over)
        assert abs(found - 0.5 * share) < 1e-9, f"{found} in update {agent.updates}"
        agent.update(rollout)
