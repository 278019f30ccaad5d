"""What teams with policy gradients share: clipped updates for every agent, critics with normalised values.

Book: multi_agent/mappo. IPPO, MAPPO and the communicating teams differ in what the critic sees and in how the policy is
built, and in nothing else, so that a comparison of two of them isolates that difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.multi_agent.base import Drawn, MultiAgent, TeamConfig
from ca14lib.agents.on_policy import generalised_advantage, value_loss
from ca14lib.agents.ppo import clipped_loss
from ca14lib.data import JointTransitions
from ca14lib.networks import AgentLinear, CategoricalPolicy, DiagonalGaussianPolicy, TeamNetwork

CRITIC_INPUTS = ("observation", "state", "state+observation")
INITIAL_LOG_STD = -0.5
OUTPUT_SCALE = 0.01  # a policy starts near uniform: the last layer's weights are this share of their usual size


@dataclass(frozen=True)
class PolicyTeamConfig(TeamConfig):
    learning_rate: float = 5e-4  # of the policies
    value_learning_rate: float = 1e-3
    learning_rate_decay: float = 1.0  # ϑ_η, what is left of the policies' learning rate after an update, eq. rate-decay
    critic_hidden_sizes: tuple[int, ...] | None = None  # None: those of the policies
    gae_lambda: float = 0.95  # λ, eq. gae
    clip: float = 0.2  # ε, eq. ippo-loss
    epochs: int = 5  # passes over the rollout, policies and critic together
    minibatches: int = 4  # gradient steps per pass
    entropy_weight: float = 0.01  # α_H at the start, eq. entropy-annealing
    final_entropy_weight: float | None = None  # what it decays to; None keeps it
    annealing: float = 0.97  # share of the distance to the final weight that is left after an update
    max_gradient_norm: float = 0.5  # of all policies together
    standardise: bool = True  # give the advantages of every rollout mean 0 and deviation 1
    team_reward: bool = True  # learn from the mean of the agents' rewards; False: each from its own
    value_normalisation: bool = True  # the critic predicts standardised returns, eq. value-normalisation
    value_memory: float = 0.99  # β, weight of the past in their running mean and deviation
    preserve_values: bool = True  # rescale the critic's last layer so that new statistics change no prediction

    def __post_init__(self) -> None:
        super().__post_init__()
        infinity = float("inf")
        require(0 < self.value_learning_rate < 10, "value_learning_rate", self.value_learning_rate, "in (0, 10)")
        require(0 < self.learning_rate_decay <= 1, "learning_rate_decay", self.learning_rate_decay, "in (0, 1]")
        if self.critic_hidden_sizes is not None:
            object.__setattr__(self, "critic_hidden_sizes", tuple(self.critic_hidden_sizes))
            whole = all(isinstance(width, int) and width >= 1 for width in self.critic_hidden_sizes)
            valid = whole and len(self.critic_hidden_sizes) >= 1
            require(valid, "critic_hidden_sizes", self.critic_hidden_sizes, "positive integers, at least one, or None")
        require(0 <= self.gae_lambda <= 1, "gae_lambda", self.gae_lambda, "in [0, 1]")
        require(0 < self.clip < 1, "clip", self.clip, "in (0, 1)")
        for name in ("epochs", "minibatches"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, name, value, "a positive integer")
        start, final = self.entropy_weight, self.final_entropy_weight
        require(0 <= start < infinity, "entropy_weight", start, "finite and at least 0")
        require(final is None or 0 <= final < infinity, "final_entropy_weight", final, "finite and at least 0, or None")
        require(0 <= self.annealing <= 1, "annealing", self.annealing, "in [0, 1]")
        require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "positive")
        require(0 <= self.value_memory < 1, "value_memory", self.value_memory, "in [0, 1)")


def standardised_where(values: Tensor, counts: Tensor) -> Tensor:
    """Values with mean 0 and deviation 1 over the entries that count, and 0 elsewhere.

    Args:
        values: Any shape.
        counts: Bool, same shape.
    """
    number = counts.sum().clamp(min=1)
    centred = torch.where(counts, values - torch.where(counts, values, 0.0).sum() / number, 0.0)
    return centred / ((centred.square().sum() / number).sqrt() + 1e-8)


def team_clipped_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, counts: Tensor, clip: float) -> Tensor:
    r"""Minus the clipped surrogate, averaged over the steps of agents that count (book eq. ippo-loss).

    Each agent's ratio is of its own action alone, :math:`\rho^i=\pi_i(a^i|o^i)/\pi_{i,\text{old}}(a^i|o^i)`.

    Args:
        log_prob: ``[…, n]`` under the policies that learn.
        old_log_prob: ``[…, n]`` under the policies that acted.
        advantage: ``[…, n]``.
        counts: ``[…, n]`` bool; where it is false nothing has any influence, whatever the numbers are.
        clip: :math:`\epsilon` in (0, 1).
    Returns:
        Scalar; 0 if nothing counts.
    """
    new, old, gain = (torch.where(counts, values, 0.0) for values in (log_prob, old_log_prob, advantage))
    # entries that do not count add nothing to the sum: only the mean's denominator has to be put right
    return clipped_loss(new, old, gain, clip) * (counts.numel() / counts.sum().clamp(min=1))


def mean_where(values: Tensor, counts: Tensor) -> Tensor:
    """Mean over the entries that count; 0 if none does."""
    return torch.where(counts, values, 0.0).sum() / counts.sum().clamp(min=1)


def of_those_present(values: Tensor, counts: Tensor) -> Tensor:
    """Values of the team ``[…, n]``, where an agent has left the mean of those who are still there.

    Nobody learns what a team is worth from the view of an agent that has left, and yet the team's reward goes on: what
    its last steps are completed with are the values of the others, which estimate the same return.

    Args:
        values: ``[…, n]``.
        counts: ``[…, n]`` bool, agents that are there; where nobody is, the values stay as they are.
    """
    number = counts.sum(dim=-1, keepdim=True)
    mean = torch.where(counts, values, 0.0).sum(dim=-1, keepdim=True) / number.clamp(min=1)
    return torch.where(counts | (number == 0), values, mean)


class ValueScale(nn.Module):
    """Running mean and deviation of the critic's targets (book eq. value-normalisation).

    Means of the targets and of their squares decay exponentially, corrected for their start at 0. Before the first
    :meth:`absorb` the scale is 1 and the mean 0.

    Args:
        size: 1 for one scale, n for one per agent.
        memory: β, the weight of the past.
    """

    mean: Tensor
    square: Tensor
    weight: Tensor

    def __init__(self, size: int, memory: float) -> None:
        super().__init__()
        self.memory = memory
        for name in ("mean", "square", "weight"):
            self.register_buffer(name, torch.zeros(size))

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, ``[size]`` each."""
        known = self.weight > 0
        weight = self.weight.clamp(min=1e-8)
        mean = self.mean / weight
        deviation = (self.square / weight - mean.square()).clamp(min=1e-4).sqrt()
        return torch.where(known, mean, 0.0), torch.where(known, deviation, 1.0)

    def absorb(self, target: Tensor, counts: Tensor) -> None:
        """Take in targets ``[…, n]`` where ``counts`` ``[…, n]`` is true."""
        kept = torch.where(counts, target, 0.0)
        sums = [values.reshape(-1, values.shape[-1]).sum(dim=0) for values in (counts.float(), kept, kept.square())]
        if self.mean.numel() == 1:
            sums = [values.sum(dim=0, keepdim=True) for values in sums]
        number, total, squares = sums
        rate = torch.where(number > 0, 1.0 - self.memory, 0.0)  # an agent without targets keeps what it has
        for moments, new in ((self.mean, total), (self.square, squares), (self.weight, number)):
            moments += rate * (new / number.clamp(min=1) - moments)

    def normalised(self, values: Tensor) -> Tensor:
        """Returns ``[…, n]`` in the critic's unit."""
        mean, deviation = self.statistics()
        return (values - mean) / deviation

    def returns(self, values: Tensor) -> Tensor:
        """The critic's outputs ``[…, n]`` as returns: the inverse of :meth:`normalised`."""
        mean, deviation = self.statistics()
        return values * deviation + mean


def keep_predictions(head: AgentLinear, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> None:
    """Rescale a last layer so that its outputs mean the same returns under new statistics (van Hasselt et al., 2016).

    Args:
        head: The critic's last layer, with one output.
        before: Mean and deviation ``[size]`` until now.
        after: The new ones.
    """
    (old_mean, old_deviation), (mean, deviation) = before, after
    ratio = old_deviation / deviation
    with torch.no_grad():
        head.weight.mul_(ratio if head.shared else ratio.reshape(-1, 1, 1))  # [1, H], or [n, H, 1]
        head.bias.mul_(ratio.unsqueeze(-1)).add_(((old_mean - mean) / deviation).unsqueeze(-1))


class PolicyTeam(MultiAgent):
    """A team of stochastic policies that learns from its own rollouts with clipped surrogates and a critic.

    A subclass names the critic's input, and may replace the policies' network: :meth:`_build_policy`, :meth:`_step`
    and :meth:`_replayed`.
    """

    config_class = PolicyTeamConfig
    config: PolicyTeamConfig
    experience = "rollouts"
    discrete_only = False
    critic_input: str = "observation"  # one of CRITIC_INPUTS

    def _build(self) -> None:
        config = self.config
        self.policy = self._build_policy(self.action_size)
        learnt: list[nn.Module | nn.Parameter] = [self.policy]
        if not self.discrete:  # one deviation per dimension, of each agent if the agents are separate
            size = (1 if config.shared else self.num_agents, self.action_size)
            self.log_std = nn.Parameter(torch.full(size, INITIAL_LOG_STD))
            learnt.append(self.log_std)
        sizes = {"observation": self.features, "state": self.state_size}
        features = sum(sizes[part] for part in self.critic_input.split("+"))
        # the team's value of a state is one number: no need to compute it for each agent
        self._one_value = self.critic_input == "state" and config.team_reward
        hidden = config.critic_hidden_sizes or config.hidden_sizes
        agents = 1 if self._one_value else self.num_agents
        self.critic = TeamNetwork(features, 1, agents, hidden, shared=config.shared, activation=nn.Tanh)
        scales = 1 if config.shared or self._one_value else self.num_agents
        self.value_scale = ValueScale(scales, config.value_memory)
        self.policy_optimizer = self._optimizer("policy", *learnt)
        self.value_optimizer = self._optimizer("value", self.critic, learning_rate=config.value_learning_rate)

    def _build_policy(self, outputs: int) -> nn.Module:
        """The policies' network: logits of the actions, or means."""
        return self._team_network(self.features, outputs, activation=nn.Tanh, output_scale=OUTPUT_SCALE)

    @property
    def memory_size(self) -> int:
        return int(self.policy.memory_size)  # type: ignore[arg-type]

    # Acting

    def _step(self, inputs: Tensor, memory: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Outputs ``[N, n, A or D]`` of the policies and the next memory."""
        return self.policy(inputs, memory)

    def _replayed(
        self, inputs: Tensor, memory: Tensor | None, starts: Tensor | None, noise: Tensor | None, counts: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs for steps as they were taken, with gradients, and a loss beside the policies' (None for none).

        Args:
            inputs: ``[T, B, n, F]``; ``[B, n, F]``, unrelated steps, of teams without memory.
            memory: ``[B, n, M]`` before the first row.
            starts: ``[T, B]``, rows that begin an episode.
            noise: ``[T, B, n, …]`` or ``[B, n, …]``, what was drawn beside the actions.
            counts: ``[T, B, n]`` or ``[B, n]`` bool, steps of agents to learn from.
        """
        if not self.memory_size:
            return self.policy(inputs)[0], None
        return self.policy.unrolled(inputs, memory, starts), None  # type: ignore[operator]

    def _noise(self, inputs: Tensor) -> Tensor | None:
        """What acting draws beside the actions, ``[N, n, …]``."""
        return None

    def _distribution(self, outputs: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """The distributions of the actions: log-probabilities ``[…, A]``, or means and log deviations ``[…, D]``."""
        if not self.discrete:
            return outputs, self.log_std.expand_as(outputs)
        if mask is not None:
            outputs = outputs.masked_fill(~mask, -torch.inf)
        return (outputs.log_softmax(dim=-1),)

    @property
    def _family(self) -> type[CategoricalPolicy] | type[DiagonalGaussianPolicy]:
        return CategoricalPolicy if self.discrete else DiagonalGaussianPolicy

    def _draw(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> Drawn:
        noise = self._noise(inputs)
        outputs, memory = self._step(inputs, memory, noise)
        parameters, family = self._distribution(outputs, mask), self._family
        rows = tuple(values.flatten(0, 1) for values in parameters)
        action = family.draw(rows, self.generator).reshape(outputs.shape[: 2 if self.discrete else 3])
        return Drawn(self._environment(action), family.log_prob(parameters, action), memory, noise)

    def _best(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        outputs, memory = self._step(inputs, memory, None)
        return self._environment(self._family.best(self._distribution(outputs, mask))), memory

    @torch.no_grad()
    def probabilities(
        self, observation: ArrayLike, memory: Tensor | None = None, mask: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Probabilities of every agent's actions, ``[N, n, A]``.

        Args:
            observation: ``[N, n, …]``.
            memory: ``[N, n, M]`` of teams with memory.
            mask: ``[N, n, A]``, true where an action is allowed, or None.
        Raises:
            ValueError: If the actions are continuous.
        """
        if not self.discrete:
            raise ValueError(f"only discrete actions have probabilities, the action space is {self.action_space}")
        inputs, memory, allowed = self._checked(observation, memory, mask)
        (log_prob,) = self._distribution(self._step(inputs, memory, None)[0], allowed)
        return log_prob.double().exp().cpu().numpy()

    # Learning

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        self._check(batch)
        if self.memory_size and batch.memory is None:
            raise ValueError(f"{type(self).__name__} has memory: the batch has none from before its first row")
        counts = batch.counts()
        advantage, target = self._advantages(batch)
        if self.config.standardise:
            advantage = standardised_where(advantage, counts)
        else:
            advantage = torch.where(counts, advantage - mean_where(advantage, counts), 0.0)
        target = self._normalised_target(target, counts)
        logs = self._passes(batch, advantage, target, counts)
        self.updates += 1
        return logs

    def _reward(self, batch: JointTransitions) -> Tensor:
        """What each agent learns from, ``[T, B, n]``: its own reward or the mean of the team's."""
        reward = batch.reward * self.config.reward_scale
        return reward.mean(dim=-1, keepdim=True).expand_as(reward) if self.config.team_reward else reward

    def _critic_inputs(self, observation: Tensor, state: Tensor) -> Tensor:
        """What the critic sees (book eq. mappo-critic): ``[…, n, features]``, or ``[…, 1, d]`` for one value."""
        if self.critic_input == "observation":
            return self._features(observation)
        if self._one_value:
            return state.unsqueeze(-2)
        state = state.unsqueeze(-2).expand(*state.shape[:-1], self.num_agents, -1)
        return state if self.critic_input == "state" else torch.cat([state, self._features(observation)], dim=-1)

    def _predictions(self, critic_inputs: Tensor) -> Tensor:
        """The critic's outputs ``[…, n]``, in the unit of normalised values."""
        outputs = self.critic(critic_inputs)[0].squeeze(-1)
        return outputs.expand(*outputs.shape[:-1], self.num_agents)

    def _values(self, critic_inputs: Tensor) -> Tensor:
        """Expected returns ``[…, n]``."""
        values = self._predictions(critic_inputs)
        return self.value_scale.returns(values) if self.config.value_normalisation else values

    @torch.no_grad()
    def _advantages(self, batch: JointTransitions) -> tuple[Tensor, Tensor]:
        """Advantages and the critic's targets, in the unit of returns, ``[T, B, n]`` each."""
        steps, copies, agents = batch.reward.shape
        counts, common = batch.counts(), self.config.team_reward and batch.learns is not None
        value = self._values(self._critic_inputs(batch.observation, batch.state))
        if common:
            value = of_those_present(value, counts)
        last = batch.last_of_path()
        next_value = torch.zeros_like(value)
        next_value[:-1] = value[1:]
        cut = last & ~batch.terminated  # bootstrapped from what was seen after the step, not from the next row
        if cut.any():
            after = self._values(self._critic_inputs(batch.next_observation[cut], batch.next_state[cut]))
            next_value[cut] = of_those_present(after, counts[cut]) if common else after
        gone = self._own_ends(batch, last)
        terminated, last = batch.terminated.unsqueeze(-1) | gone, last.unsqueeze(-1) | gone
        # every agent of every copy is a path of its own
        paths = (copies * agents,)
        constants = [value.new_tensor([number]) for number in (self.config.discount, self.config.gae_lambda)]
        advantage = generalised_advantage(
            self._reward(batch).reshape(steps, *paths, 1), value.reshape(steps, *paths, 1),
            next_value.reshape(steps, *paths, 1), terminated.reshape(steps, *paths), last.reshape(steps, *paths),
            *constants,
        ).reshape(value.shape)  # fmt: skip
        return advantage, advantage + value

    def _own_ends(self, batch: JointTransitions, last: Tensor) -> Tensor:
        """``[T, B, n]`` bool: the last steps of agents that leave before the others.

        For who learns from its own reward nothing follows; the team's reward goes on without it.
        """
        gone = torch.zeros_like(batch.reward, dtype=torch.bool)
        if batch.learns is not None and not self.config.team_reward:
            gone[:-1] = batch.learns[:-1] & ~batch.learns[1:] & ~last[:-1].unsqueeze(-1)
        return gone

    def _normalised_target(self, target: Tensor, counts: Tensor) -> Tensor:
        """Targets in the unit that the critic predicts, after its statistics have taken them in."""
        if not self.config.value_normalisation:
            return target
        before = self.value_scale.statistics()
        self.value_scale.absorb(target, counts)
        if self.config.preserve_values:
            keep_predictions(self.critic.head, before, self.value_scale.statistics())
        return self.value_scale.normalised(target)

    def _entropy_weight(self) -> float:
        """The weight of the entropy in this update (book eq. entropy-annealing)."""
        start, end = self.config.entropy_weight, self.config.final_entropy_weight
        return start if end is None else end + (start - end) * self.config.annealing**self.updates

    def _set_learning_rate(self) -> None:
        """The policies' step size in this update (book eq. rate-decay)."""
        for group in self.policy_optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.config.learning_rate_decay**self.updates

    def _minibatches(self, columns: dict[str, Tensor], size: int) -> list[Callable[[Tensor], Tensor]]:
        """For each gradient step a function that picks its part of a column.

        Without memory single steps of all copies are mixed; with memory whole copies, so that a step's past is there.
        """
        number = min(self.config.minibatches, size)
        parts = [
            part
            for _ in range(self.config.epochs)
            for part in torch.randperm(size, generator=self.generator, device=self.device).chunk(number)
        ]
        if self.memory_size:
            return [lambda column, index=part: column[:, index] for part in parts]  # type: ignore[misc]
        return [lambda column, index=part: column[index] for part in parts]  # type: ignore[misc]

    def _passes(self, batch: JointTransitions, advantage: Tensor, target: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Gradient steps on shuffled minibatches for policies and critic."""
        assert batch.log_prob is not None
        columns: dict[str, Tensor] = {
            "inputs": self._features(batch.observation), "seen": self._critic_inputs(batch.observation, batch.state),
            "action": self._unit(batch.action), "old": batch.log_prob, "advantage": advantage, "target": target,
            "counts": counts,
        }  # fmt: skip
        if batch.action_mask is not None:  # rows that do not count may allow nothing, which has no distribution
            columns["mask"] = batch.action_mask | ~counts.unsqueeze(-1)
        if batch.noise is not None:
            columns["noise"] = batch.noise
        size = batch.reward.shape[1]
        if self.memory_size:
            columns["starts"] = batch.starts()
        else:
            columns = {name: column.flatten(0, 1) for name, column in columns.items()}
            size = batch.size
        self._set_learning_rate()
        entropy_weight = self._entropy_weight()
        totals: dict[str, Tensor] = {}
        steps = self._minibatches(columns, size)
        for chosen in steps:
            part = {name: chosen(column) for name, column in columns.items()}
            if self.memory_size:
                assert batch.memory is not None
                part["memory"] = chosen(batch.memory.unsqueeze(0)).squeeze(0)
            for name, value in self._gradient_steps(part, entropy_weight).items():
                totals[name] = totals[name] + value if name in totals else value
        return {name: total / len(steps) for name, total in totals.items()}

    def _gradient_steps(self, part: dict[str, Tensor], entropy_weight: float) -> dict[str, Tensor]:
        """One step of the critic and one of the policies."""
        counts = part["counts"]
        critic_loss = self._critic_loss(part["seen"], part["target"], counts)
        gradient_step(self.value_optimizer, critic_loss)

        loss, logs = self._policy_loss(part, entropy_weight)
        self.policy_optimizer.zero_grad()
        loss.backward()
        for group in self.policy_optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], self.config.max_gradient_norm)
        self.policy_optimizer.step()
        return {"policy_loss": loss.detach(), "value_loss": critic_loss.detach()} | logs

    def _critic_loss(self, seen: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Half the squared error, averaged over what counts (book eq. value-loss-lambda)."""
        error = torch.where(counts, self._predictions(seen) - target, 0.0)
        loss = value_loss(error.reshape(-1, 1), torch.zeros_like(error).reshape(-1, 1))
        return loss * (counts.numel() / counts.sum().clamp(min=1))

    def _policy_loss(self, part: dict[str, Tensor], entropy_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of all policies (book eq. ippo-loss) and what there is to log."""
        counts = part["counts"]
        past = (part.get("memory"), part.get("starts"), part.get("noise"))
        outputs, beside = self._replayed(part["inputs"], *past, counts)
        parameters = self._distribution(outputs, part.get("mask"))
        log_prob = self._family.log_prob(parameters, part["action"])
        entropy = mean_where(self._family.entropy(parameters), counts)
        loss = team_clipped_loss(log_prob, part["old"], part["advantage"], counts, self.config.clip)
        loss = loss - entropy_weight * entropy
        with torch.no_grad():
            difference = torch.where(counts, part["old"] - log_prob, 0.0)
            kl = mean_where(difference.neg().exp() - 1 + difference, counts)  # unbiased and never negative
        logs: dict[str, Any] = {"entropy": entropy.detach(), "kl": kl}
        if beside is not None:
            loss = loss + beside
            logs["communication_loss"] = beside.detach()
        return loss, logs
