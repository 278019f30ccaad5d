"""Counterfactual multi-agent policy gradients (Foerster et al., 2018). Book: multi_agent/credit."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.base import Drawn, MultiAgent, TeamConfig
from ca14lib.agents.multi_agent.gumbel import allowed_logits
from ca14lib.agents.multi_agent.maac import counterfactual_advantage, log_policy
from ca14lib.agents.multi_agent.maddpg import own_first
from ca14lib.agents.multi_agent.policy_team import mean_where, of_those_present, standardised_where
from ca14lib.data import JointTransitions
from ca14lib.networks import TeamNetwork, polyak_update


@dataclass(frozen=True)
class COMAConfig(TeamConfig):
    learning_rate: float = 1e-3  # of the policies
    value_learning_rate: float = 1e-3
    target_rate: float = 0.02  # η, eq. polyak, after every step of the critic
    trace: float = 0.8  # λ, eq. coma-critic
    epochs: int = 2  # passes of the critic over a rollout; the policies take one step
    minibatches: int = 4
    entropy_weight: float = 0.01  # α_H
    standardise: bool = True  # give the advantages of every rollout mean 0 and deviation 1
    layer_norm: bool = True  # in the critic
    central: bool = True  # False: each critic sees what its agent sees, an independent actor-critic
    max_gradient_norm: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.value_learning_rate
        require(0 < rate < float("inf"), "value_learning_rate", rate, "positive and finite")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(0 <= self.trace <= 1, "trace", self.trace, "in [0, 1]")
        for name in ("epochs", "minibatches"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, name, value, "a positive integer")
        require(0 <= self.entropy_weight < float("inf"), "entropy_weight", self.entropy_weight, "at least 0")
        require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "positive")


def lambda_targets(
    reward: Tensor, next_value: Tensor, terminated: Tensor, last: Tensor, discount: float, trace: float
) -> Tensor:
    r"""Targets of TD(λ), computed backwards (book eq. coma-critic).

    :math:`y_t = r_t + \gamma (1 - \text{terminated}_t) ((1 - \lambda_t)\, \bar Q_{t+1} + \lambda_t\, y_{t+1})`, with
    :math:`\lambda_t = 0` where the next row is not the successor.

    Args:
        reward: ``[T, B, n]``.
        next_value: ``[T, B, n]``, target network's value of what followed each step, before any reset.
        terminated: ``[T, B]`` bool: nothing follows.
        last: ``[T, B]`` bool: the next row is not the successor, as in ``JointTransitions.last_of_path``.
        discount: γ.
        trace: λ.
    Returns:
        ``[T, B, n]``.
    """
    target = torch.empty_like(reward)
    following = torch.zeros_like(reward[0])
    for step in reversed(range(len(reward))):
        mixed = next_value[step] + trace * (following - next_value[step])
        value = torch.where(last[step].unsqueeze(-1), next_value[step], mixed)
        following = torch.where(terminated[step].unsqueeze(-1), reward[step], reward[step] + discount * value)
        target[step] = following
    return target


class COMA(MultiAgent):
    """On-policy actor-critic with one reward for the team and a counterfactual baseline for each agent.

    The critic of agent i sees the state, i's observation and the others' actions, and gives the value of every own
    action; its difference to the policy's mean is what the agent's action itself has contributed.
    """

    config_class = COMAConfig
    config: COMAConfig
    experience = "rollouts"
    order: Tensor

    def _build(self) -> None:
        config, n = self.config, self.num_agents
        self.policy = self._team_network(self.features, self.num_actions, output_scale=0.01)
        inputs = self.features + (self.state_size + (n - 1) * self.num_actions) * config.central
        self.critic = TeamNetwork(
            inputs, self.num_actions, n, config.hidden_sizes, shared=config.shared, layer_norm=config.layer_norm
        )
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("order", own_first(n), persistent=False)
        self.policy_optimizer = self._optimizer("policy", self.policy)
        self.value_optimizer = self._optimizer("value", self.critic, learning_rate=config.value_learning_rate)

    @property
    def memory_size(self) -> int:
        return self.policy.memory_size

    # Acting

    def _draw(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> Drawn:
        logits, memory = self.policy(inputs, memory)
        log_prob = log_policy(logits, mask)
        action = self._drawn(log_prob)
        return Drawn(action, log_prob.gather(-1, action.unsqueeze(-1)).squeeze(-1), memory)

    def _best(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        logits, memory = self.policy(inputs, memory)
        return allowed_logits(logits, mask).argmax(dim=-1), memory

    def _drawn(self, log_prob: Tensor) -> Tensor:
        """Actions ``[…]`` of policies ``[…, A]``."""
        rows = log_prob.exp().flatten(0, -2)
        return torch.multinomial(rows, 1, generator=self.generator).reshape(log_prob.shape[:-1])

    @torch.no_grad()
    def log_policies(
        self, observation: ArrayLike, memory: Tensor | None = None, mask: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Log-probabilities ``[N, n, A]`` of all actions, for observations ``[N, n, …]``."""
        inputs, memory, allowed = self._checked(observation, memory, mask)
        return log_policy(self.policy(inputs, memory)[0], allowed).double().cpu().numpy()

    # Learning

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        self._check(batch)
        if self.memory_size and batch.memory is None:
            raise ValueError(f"{type(self).__name__} has memory: the batch has none from before its first row")
        counts = batch.counts()
        seen = self._critic_rows(batch.state, self._features(batch.observation), batch.action)
        critic_loss = self._fit_critic(seen, batch.action, self._targets(batch, seen), counts)
        logs = self._fit_policies(batch, seen, counts)
        self.updates += 1
        return {"critic_loss": critic_loss} | logs

    def _critic_rows(self, state: Tensor, features: Tensor, action: Tensor) -> Tensor:
        """What each agent's critic sees ``[…, n, d + F + (n − 1) A]``: not its own action. ``F`` if not central."""
        if not self.config.central:
            return features
        taken = torch.nn.functional.one_hot(action, self.num_actions).float()
        others = taken[..., self.order[:, 1:], :].flatten(-2)
        return torch.cat([state.unsqueeze(-2).expand(*features.shape[:-1], -1), features, others], dim=-1)

    @torch.no_grad()
    def _targets(self, batch: JointTransitions, seen: Tensor) -> Tensor:
        """What the values of the taken actions are fitted to, ``[T, B, n]`` (eq. coma-critic)."""
        counts = batch.counts()
        value = of_those_present(_of_taken(self.target_critic(seen)[0], batch.action), counts)
        last = batch.last_of_path()
        next_value = torch.zeros_like(value)
        next_value[:-1] = value[1:]
        # after a cut the next row does not show what would have been done: draw it
        following = self._features(batch.next_observation)
        action = self._drawn(log_policy(self._next_logits(batch, following), batch.next_action_mask))
        rows = self._critic_rows(batch.next_state, following, action)
        after = of_those_present(_of_taken(self.target_critic(rows)[0], action), counts)
        next_value = torch.where(last.unsqueeze(-1), after, next_value)
        reward = (batch.team_reward() * self.config.reward_scale).unsqueeze(-1).expand_as(batch.reward)
        return lambda_targets(reward, next_value, batch.terminated, last, self.config.discount, self.config.trace)

    def _next_logits(self, batch: JointTransitions, following: Tensor) -> Tensor:
        """The policies at the observations that followed each step ``[T, B, n, A]``, with the memory of then."""
        if not self.memory_size:
            return self.policy(following)[0]
        inputs, memory, starts, logits = self._features(batch.observation), batch.memory, batch.starts(), []
        for step in range(len(inputs)):
            assert memory is not None
            memory = memory * ~starts[step].unsqueeze(-1).unsqueeze(-1)
            memory = self.policy(inputs[step], memory)[1]
            logits.append(self.policy(following[step], memory)[0])
        return torch.stack(logits)

    def _fit_critic(self, seen: Tensor, action: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Passes over the shuffled steps; the mean loss."""
        seen, action, target, counts = (values.flatten(0, 1) for values in (seen, action, target, counts))
        total, steps, size = torch.zeros((), device=self.device), 0, len(seen)
        for _ in range(self.config.epochs):
            order = torch.randperm(size, generator=self.generator, device=self.device)
            for index in order.chunk(min(self.config.minibatches, size)):
                error = _of_taken(self.critic(seen[index])[0], action[index]) - target[index]
                loss = 0.5 * mean_where(error.square(), counts[index])
                self._step(self.value_optimizer, loss)
                polyak_update(self.target_critic, self.critic, self.config.target_rate)
                total, steps = total + loss.detach(), steps + 1
        return total / steps

    def _fit_policies(self, batch: JointTransitions, seen: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """One step of all policies up their counterfactual advantages (eq. coma-advantage)."""
        logits = self.policy.unrolled(self._features(batch.observation), batch.memory, batch.starts())
        log_prob = log_policy(logits, batch.action_mask)
        policy = log_prob.detach().exp()
        with torch.no_grad():
            advantage = _of_taken(counterfactual_advantage(self.critic(seen)[0], policy), batch.action)
            if self.config.standardise:
                advantage = standardised_where(advantage, counts)
        loss = -mean_where(_of_taken(log_prob, batch.action) * advantage, counts)
        entropy = -mean_where((log_prob.exp() * log_prob).sum(dim=-1), counts)
        self._step(self.policy_optimizer, loss - self.config.entropy_weight * entropy)
        return {"policy_loss": loss.detach(), "entropy": entropy.detach()}

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
        optimizer.step()


def _of_taken(values: Tensor, action: Tensor) -> Tensor:
    """Values ``[…, A]`` of the actions ``[…]``."""
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
