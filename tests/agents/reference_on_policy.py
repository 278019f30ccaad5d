"""The updates of the on-policy agents once more, in loops over time and with dense matrices; see ``reference.py``."""

import math
from collections.abc import Callable
from dataclasses import fields, replace

import gymnasium as gym
import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal

from ca14lib.agents import Agent, OnPolicyAgent
from ca14lib.agents.check import random_rollout
from ca14lib.data import Rollout
from tests.agents import reference

OBSERVATIONS = gym.spaces.Box(-10, 10, (2,), dtype=np.float32)
ACTIONS = {
    "discrete": gym.spaces.Discrete(3),
    "continuous": gym.spaces.Box(np.array([-3, 0], np.float32), np.array([1, 1], np.float32)),
}
KINDS = tuple(ACTIONS)


def small_agent(agent_class: type[Agent], kind: str, **settings: object) -> OnPolicyAgent:
    """An agent in double precision whose multiplier, if it has one, is not 0."""
    settings = {"epochs": 2, "minibatches": 3, "value_learning_rate": 0.02} | settings
    settings |= {"cost_discount": 0.8, "cost_gae_lambda": 0.7, "gae_lambda": 0.6, "value_epochs": 2}
    names = {item.name for item in fields(agent_class.config_class)}
    settings = {name: value for name, value in settings.items() if name in names}
    agent = reference.small_agent(agent_class, OBSERVATIONS, ACTIONS[kind], **settings)
    assert isinstance(agent, OnPolicyAgent)
    return agent


def small_rollout(agent: OnPolicyAgent, seed: int = 0, steps: int = 7, copies: int = 3) -> Rollout:
    """Made-up steps in double precision: ends of both kinds, masks, old probabilities far enough off to be clipped."""
    kind = agent.whole_episodes
    rollout = random_rollout(
        OBSERVATIONS, agent.action_space, agent.num_costs, steps, copies, seed, kind, masked=agent.discrete
    )
    generator = torch.Generator().manual_seed(1_000 + seed)
    rollout = replace(rollout, log_prob=rollout.log_prob + 0.3 * torch.randn(steps, copies, generator=generator))
    return in_double(rollout)


def in_double(rollout: Rollout) -> Rollout:
    """The same numbers in double precision."""
    values = {item.name: getattr(rollout, item.name) for item in fields(rollout)}
    real = {name for name, value in values.items() if value is not None and value.is_floating_point()}
    return replace(rollout, **{name: values[name].double() for name in real})


class Reference(reference.Reference):
    """An update per algorithm; ``state`` holds the multipliers and whatever else is no weight."""

    def __init__(self, agent: OnPolicyAgent) -> None:
        super().__init__(agent)
        self.costs = len(self.config.cost_limits)
        self.box = None
        if isinstance(agent.action_space, gym.spaces.Box):
            low, high = (torch.tensor(bound).double() for bound in (agent.action_space.low, agent.action_space.high))
            self.box = ((low + high) / 2, (high - low) / 2)
        self.state = {name: value.clone() for name, value in agent.named_buffers() if name == "multiplier"}
        self.errors: list[Tensor] = []  # of PID: violations and costs so far
        self.paid: list[Tensor] = []

    def net(self, name: str, *inputs: Tensor) -> Tensor:
        """One hidden layer of hyperbolic tangents, on the normalised observation."""
        (observation,) = inputs
        hidden = (
            self.observe(observation) @ self.weights[f"{name}.0.weight"].T + self.weights[f"{name}.0.bias"]
        ).tanh()
        return hidden @ self.weights[f"{name}.2.weight"].T + self.weights[f"{name}.2.bias"]

    def value(self, observation: Tensor) -> Tensor:
        return torch.cat([self.net(f"critics.{m}", observation) for m in range(1 + self.costs)], dim=-1)

    def policy(self, observation: Tensor, mask: Tensor | None) -> Distribution:
        output = self.net("policy.network", observation)
        if self.box is None:
            logits = output if mask is None else torch.where(mask, output, -torch.inf)
            return Categorical(logits=logits, validate_args=False)
        return Independent(Normal(output, self.weights["policy.log_std"].exp(), validate_args=False), 1)

    def unit(self, action: Tensor) -> Tensor:
        return action if self.box is None else (action - self.box[0]) / self.box[1]

    def advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Every sum written out: until the path ends, and there the value of what was seen."""
        steps, copies = rollout.reward.shape
        config, signals = self.config, 1 + self.costs
        discount = [config.discount] + [config.cost_discount] * self.costs
        decay = [config.gae_lambda] + [config.cost_gae_lambda] * self.costs
        with torch.no_grad():
            value, following = self.value(rollout.observation), self.value(rollout.next_observation)
        advantage = torch.zeros(steps, copies, signals, dtype=torch.float64)
        for n in range(copies):
            for m in range(signals):
                for start in range(steps):
                    weight = 1.0
                    for t in range(start, steps):
                        signal = rollout.reward[t, n] if m == 0 else rollout.cost[t, n, m - 1]
                        after = 0.0 if rollout.terminated[t, n] else following[t, n, m]
                        advantage[start, n, m] += weight * (signal + discount[m] * after - value[t, n, m])
                        weight *= discount[m] * decay[m]
                        if rollout.terminated[t, n] or rollout.truncated[t, n]:
                            break
        flat = advantage.reshape(-1, signals)
        return flat[:, 0], flat[:, 1:], flat + value.reshape(-1, signals)

    def step(self, name: str, loss: Callable[[], Tensor], rate: float, clip: float | None = None) -> Tensor:
        """One Adam step of all weights whose names begin so, at this rate."""
        trained = [value for key, value in self.weights.items() if key.startswith(f"{name}.")]
        for value in trained:
            value.requires_grad_(True)
        if name not in self.optimizers:
            self.optimizers[name] = torch.optim.Adam(trained, lr=rate)
        found = loss()
        gradients = torch.autograd.grad(found, trained, allow_unused=True, materialize_grads=True)
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        shrink = 1.0 if clip is None or norm <= clip else clip / norm
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = shrink * gradient
        self.optimizers[name].param_groups[0]["lr"] = rate
        self.optimizers[name].step()
        for parameter in trained:
            parameter.requires_grad_(False)
        return found.detach()

    def shuffled(self, size: int, passes: int) -> list[Tensor]:
        return [
            part
            for _ in range(passes)
            for part in torch.randperm(size, generator=self.generator).chunk(self.config.minibatches)
        ]

    def fit_critics(self, observation: Tensor, target: Tensor, index: Tensor) -> None:
        def loss() -> Tensor:
            return (0.5 * (self.value(observation[index]) - target[index]) ** 2).mean(dim=0).sum()

        self.step("critics", loss, self.config.value_learning_rate)

    def entropy_weight(self) -> float:
        start, end = self.config.entropy_weight, self.config.final_entropy_weight
        return start if end is None else end + (start - end) * self.config.annealing**self.number

    def policy_rate(self) -> float:
        rate = self.config.learning_rate
        for _ in range(self.number):
            rate *= self.config.learning_rate_decay
        return rate

    # PPO and what differs from it in the advantage alone

    def ppo(self, rollout: Rollout) -> None:
        advantage, _, target = self.advantages(rollout)
        self.passes(rollout, advantage, target)

    def passes(self, rollout: Rollout, advantage: Tensor, target: Tensor, rows: Tensor | None = None) -> None:
        config = self.config
        rows = torch.arange(rollout.size) if rows is None else rows
        observation, action, old = (rollout.flat(name)[rows] for name in ("observation", "action", "log_prob"))
        mask = None if rollout.action_mask is None else rollout.flat("action_mask")[rows]
        advantage, target = advantage[rows], target[rows]
        if config.standardise:
            spread = ((advantage - advantage.mean()) ** 2).mean().sqrt()
            advantage = (advantage - advantage.mean()) / (spread + 1e-8)
        else:
            advantage = advantage - advantage.mean()
        for index in self.shuffled(len(rows), config.epochs):
            self.fit_critics(observation, target, index)

            def loss(index: Tensor = index) -> Tensor:
                policy = self.policy(observation[index], None if mask is None else mask[index])
                ratio = (policy.log_prob(self.unit(action[index])) - old[index]).exp()
                total = 0.0
                for rho, a in zip(ratio, advantage[index], strict=True):
                    limit = (1 + config.clip if a > 0 else 1 - config.clip) * a
                    total = total - (rho * a if rho * a <= limit else limit)
                return total / len(index) - self.entropy_weight() * policy.entropy().mean()

            self.step("policy", loss, self.policy_rate(), config.max_gradient_norm)
        self.number += 1

    def mixed(self, advantage: Tensor, cost_advantage: Tensor, price: Tensor) -> Tensor:
        """The advantage of the Lagrangian, signals centred."""
        mixed = advantage - advantage.mean()
        for k in range(self.costs):
            mixed = mixed - price[k] * (cost_advantage[:, k] - cost_advantage[:, k].mean())
        return mixed / (1 + sum(float(one) for one in price))

    def penalty(self, rollout: Rollout) -> None:
        advantage, cost_advantage, target = self.advantages(rollout)
        price = torch.full((self.costs,), self.config.penalty, dtype=torch.float64)
        self.passes(rollout, self.mixed(advantage, cost_advantage, price), target)

    def climb(self, cost: Tensor) -> None:
        """The multiplier's step for costs ``[K]`` of an episode."""
        config = self.config
        for k in range(self.costs):
            moved = float(
                self.state["multiplier"][k] + config.multiplier_learning_rate * (cost[k] - config.cost_limits[k])
            )
            self.state["multiplier"][k] = min(max(moved, 0.0), getattr(config, "max_multiplier", math.inf))

    def lagrangian(self, rollout: Rollout) -> None:
        if len(rollout.episode_cost):
            self.climb(rollout.episode_cost.sum(dim=0) / len(rollout.episode_cost))
        advantage, cost_advantage, target = self.advantages(rollout)
        self.passes(rollout, self.mixed(advantage, cost_advantage, self.state["multiplier"]), target)

    def pid(self, rollout: Rollout) -> None:
        """The averages as weighted sums over all measurements, the integral summed anew."""
        config = self.config
        if len(rollout.episode_cost):
            cost = rollout.episode_cost.mean(dim=0)
            self.errors.append(cost - torch.tensor(config.cost_limits).double())
            self.paid.append(cost)

            def average(values: list[Tensor]) -> Tensor:
                past = config.smoothing
                weights = [past ** (len(values) - 1)]
                weights += [(1 - past) * past ** (len(values) - 1 - i) for i in range(1, len(values))]
                return sum(weight * value for weight, value in zip(weights, values, strict=True))

            integral = torch.full((self.costs,), config.initial_multiplier, dtype=torch.float64)
            for error in self.errors:
                integral = (integral + config.integral * error).clamp(min=0)
            earlier = self.paid[: max(len(self.paid) - config.delay, 1)]
            rise = (average(self.paid) - average(earlier)).clamp(min=0)
            control = config.proportional * average(self.errors) + integral + config.derivative * rise
            self.state["multiplier"] = control.clamp(min=0)
        advantage, cost_advantage, target = self.advantages(rollout)
        self.passes(rollout, self.mixed(advantage, cost_advantage, self.state["multiplier"]), target)

    # One step of the policy gradient

    def spg(self, rollout: Rollout) -> None:
        config, rows = self.config, torch.arange(rollout.size)
        advantage, cost_advantage, target = self.advantages(rollout)
        if len(rollout.episode_cost):
            self.climb(rollout.episode_cost.mean(dim=0))
        advantage = self.mixed(advantage, cost_advantage, self.state["multiplier"])
        if config.standardise:
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        observation, action = rollout.flat("observation"), rollout.flat("action")
        mask = None if rollout.action_mask is None else rollout.flat("action_mask")

        def loss() -> Tensor:
            policy = self.policy(observation, mask)
            score = policy.log_prob(self.unit(action)) * advantage
            return -score.mean() - self.entropy_weight() * policy.entropy().mean()

        self.step("policy", loss, self.policy_rate())
        for index in self.shuffled(len(rows), config.value_epochs):
            self.fit_critics(observation, target, index)
        self.number += 1

    # Whole episodes

    def episodes(self, rollout: Rollout) -> tuple[list[float], list[list[float]], Tensor, list[tuple[int, int]]]:
        """Returns and costs of every copy's first episode, its rows, and where it ends."""
        steps, copies = rollout.reward.shape
        returns, costs, rows, ends = [], [], [], []
        for n in range(copies):
            total, paid = 0.0, [0.0] * self.costs
            for t in range(steps):
                total += float(rollout.reward[t, n])
                paid = [one + float(rollout.cost[t, n, k]) for k, one in enumerate(paid)]
                rows.append(t * copies + n)
                if rollout.terminated[t, n] or rollout.truncated[t, n]:
                    ends.append((t, n))
                    break
            returns.append(total)
            costs.append(paid)
        return returns, costs, torch.tensor(sorted(rows)), ends

    def climbed(self, rollout: Rollout, utility: list[float], rows: Tensor, ends: list[tuple[int, int]]) -> None:
        """Every episode earns its utility in its last step, and nothing follows any end."""
        reward = torch.zeros_like(rollout.reward)
        for (t, n), earned in zip(ends, utility, strict=True):
            reward[t, n] = earned
        ended = rollout.terminated | rollout.truncated
        scored = replace(rollout, reward=reward, terminated=ended, truncated=torch.zeros_like(ended))
        advantage, _, target = self.advantages(scored)
        self.passes(scored, advantage, target, rows)

    def cvar(self, rollout: Rollout) -> None:
        config = self.config
        returns, costs, rows, ends = self.episodes(rollout)
        tail = 1 + min(self.number / config.anneal_updates, 1) * (config.tail - 1)
        rank = math.ceil(tail * len(returns) - 1e-9) - 1
        quantile = sorted(returns)[rank]
        utility = [min(one - quantile, 0.0) / tail for one in returns]
        excesses, risks = [], []
        for k in range(self.costs):
            paid = [cost[k] for cost in costs]
            level = sorted(paid, reverse=True)[rank]
            excesses.append([max(one - level, 0.0) / tail for one in paid])
            risks.append(level + sum(excesses[k]) / len(paid))
        if self.costs:
            self.climb(torch.tensor(risks, dtype=torch.float64))
        for k in range(self.costs):
            price = float(self.state["multiplier"][k])
            utility = [one - price * excess for one, excess in zip(utility, excesses[k], strict=True)]
        self.climbed(rollout, utility, rows, ends)

    def risk(self, rollout: Rollout) -> None:
        """For the conditional value at risk, whose loss is −R and whose worst share is 1 − α."""
        config, (returns, _, rows, ends) = self.config, self.episodes(rollout)
        assert config.measure == "conditional_value_at_risk"
        worst = 1 - config.parameter
        level = -sorted(returns)[math.ceil(worst * len(returns) + 1e-9) - 1]
        tails = [max(-one - level, 0.0) / worst for one in returns]
        mean = sum(tails) / len(tails)
        utility = [one - config.risk_weight * (tail - mean) for one, tail in zip(returns, tails, strict=True)]
        self.climbed(rollout, utility, rows, ends)

    # Constrained policy optimisation, with the Hessian as a matrix

    def cpo(self, rollout: Rollout) -> None:
        config = self.config
        radius = config.trust_region * config.trust_region_decay**self.number
        advantage, cost_advantage, target = self.advantages(rollout)
        advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        cost_advantage = cost_advantage[:, 0] - cost_advantage[:, 0].mean()
        observation, action, old = (rollout.flat(name) for name in ("observation", "action", "log_prob"))
        mask = None if rollout.action_mask is None else rollout.flat("action_mask")
        names = [name for name in self.weights if name.startswith("policy.")]
        start = torch.cat([self.weights[name].reshape(-1) for name in names])
        with torch.no_grad():
            before = self.policy(observation, mask)

        def put(theta: Tensor) -> None:
            sizes = [self.weights[name].numel() for name in names]
            for name, part in zip(names, theta.split(sizes), strict=True):
                self.weights[name] = part.reshape(self.weights[name].shape)

        def divergence(theta: Tensor, every: int = 1) -> Tensor:
            put(theta)
            now = self.policy(observation, mask)
            if self.box is None:
                first, second = before.probs[::every], now.probs[::every]
                terms = torch.where(first > 0, first * (first.clamp(min=1e-300) / second.clamp(min=1e-300)).log(), 0.0)
                return terms.sum(dim=-1).mean()
            return torch.distributions.kl_divergence(before, now)[::every].mean()

        def ratio(theta: Tensor) -> Tensor:
            put(theta)
            return (self.policy(observation, mask).log_prob(self.unit(action)) - old).exp()

        def loss(theta: Tensor) -> Tensor:
            value = -(ratio(theta) * advantage).mean()
            return value - self.entropy_weight() * self.policy(observation, mask).entropy().mean()

        def cost(theta: Tensor) -> Tensor:
            return (ratio(theta) * cost_advantage).mean()

        def entropy(theta: Tensor) -> Tensor:
            put(theta)
            return self.policy(observation, mask).entropy().mean()

        g, b = (torch.autograd.functional.jacobian(function, start) for function in (loss, cost))
        every = round(1 / config.fisher_share)
        hessian = torch.autograd.functional.hessian(lambda theta: divergence(theta, every), start)
        hessian = hessian + config.damping * torch.eye(len(start), dtype=torch.float64)
        paid = rollout.episode_cost[:, 0]
        mean = float(paid.mean()) + config.cautious_errors * float(paid.std()) / math.sqrt(len(paid))
        c = (mean - config.cost_limits[0]) / float(rollout.episode_length.mean())
        c *= max(config.excess_share, config.excess_share_decay**self.number)
        step, case = exact_step(hessian, g, b, c, radius)
        if case == "recovery" and self.entropy_weight():  # the bonus in units of the cost advantage's deviation
            weight = self.entropy_weight() * cost_advantage.std()
            b = b - weight * torch.autograd.functional.jacobian(entropy, start)
            step = recovery(hessian, b, radius)
        first_loss, first_cost, share = float(loss(start)), float(cost(start)), 1.0
        for _ in range(config.backtracks):
            theta = start + share * step
            improves = case == "recovery" or c >= 0 or float(loss(theta)) <= first_loss
            if improves and float(cost(theta)) - first_cost <= max(-c, 0.0) and float(divergence(theta)) <= radius:
                break
            share *= config.backtrack_factor
        else:
            theta = start
        put(theta)
        for index in self.shuffled(rollout.size, config.value_epochs):
            self.fit_critics(observation, target, index)
        self.number += 1


def exact_step(hessian: Tensor, g: Tensor, b: Tensor, c: float, radius: float) -> tuple[Tensor, str]:
    """The step of CPO by a search for λ: for a given λ the best ν is known, and the dual is concave."""
    inverse_g, inverse_b = (torch.linalg.solve(hessian, vector) for vector in (g, b))
    q, r, s = float(g @ inverse_g), float(g @ inverse_b), float(b @ inverse_b)
    if c >= 0 and c * c / s > 2 * radius:
        return recovery(hessian, b, radius), "recovery"

    def nu(trust: float) -> float:
        return max(0.0, (trust * c - r) / s)

    def minus_dual(log_trust: float) -> float:
        trust, price = math.exp(log_trust), nu(math.exp(log_trust))
        return (q + 2 * price * r + price**2 * s) / (2 * trust) + trust * radius - price * c

    scale = math.log(math.sqrt(q / (2 * radius)))
    found = minimize_scalar(minus_dual, bounds=(scale - 14, scale + 14), method="bounded", options={"xatol": 1e-11})
    trust = math.exp(found.x)
    return -(inverse_g + nu(trust) * inverse_b) / trust, "inside"


def recovery(hessian: Tensor, b: Tensor, radius: float) -> Tensor:
    """Down the cost as far as the trust region allows."""
    inverse_b = torch.linalg.solve(hessian, b)
    return -math.sqrt(2 * radius / float(b @ inverse_b)) * inverse_b


# Bandits: episodes of one step


def bandit_agent(agent_class: type[Agent], arms: int = 2, **settings: object) -> OnPolicyAgent:
    """An agent for one state and some arms, in double precision."""
    config = agent_class.config_class(**{"hidden_sizes": (4,), "minibatches": 1} | settings)
    agent = agent_class(gym.spaces.Discrete(1), gym.spaces.Discrete(arms), config, seed=1).double()
    assert isinstance(agent, OnPolicyAgent)
    return agent


def bandit_rollout(
    agent: OnPolicyAgent, reward: Callable[[Tensor], Tensor], cost: Callable[[Tensor], Tensor] | None = None,
    size: int = 400,
) -> Rollout:  # fmt: skip
    """One step in each of ``size`` copies with the arms that the agent draws."""
    seen = torch.zeros(1, size, dtype=torch.int64)
    action, log_prob = agent.sample(seen[0].numpy())
    rewards, costs = reward(action), torch.zeros(size, 0) if cost is None else cost(action).reshape(size, -1)
    return in_double(
        Rollout(
            observation=seen, action=action[None], log_prob=log_prob[None], reward=rewards[None], cost=costs[None],
            next_observation=seen, terminated=torch.ones(1, size, dtype=torch.bool),
            truncated=torch.zeros(1, size, dtype=torch.bool), episode_return=rewards, episode_cost=costs,
            episode_length=torch.ones(size),
        )
    )  # fmt: skip


def arm_probabilities(agent: OnPolicyAgent) -> np.ndarray:
    return agent.probabilities(np.zeros(1, dtype=np.int64))[0]
