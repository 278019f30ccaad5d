"""Multi-agent deep deterministic policy gradient (Lowe et al., 2017). Book: multi_agent/maddpg."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.dqn import td_target
from ca14lib.agents.multi_agent.base import Drawn, MultiAgent, TeamConfig
from ca14lib.agents.multi_agent.gumbel import allowed_logits, gumbel_softmax
from ca14lib.agents.multi_agent.policy_team import mean_where
from ca14lib.data import JointTransitions
from ca14lib.networks import frozen, polyak_update

ACTOR_ACTIONS = ("own", "all")


@dataclass(frozen=True)
class MADDPGConfig(TeamConfig):
    learning_rate: float = 1e-3
    target_rate: float = 0.01  # η, eq. polyak
    actor_actions: str = "own"  # whose actions are drawn anew for the actors' step: "own" or "all", eq. maddpg-actor
    temperature: float = 1.0  # τ, eq. gumbel-softmax
    logit_penalty: float = 1e-3  # ϖ, weight of the squared outputs of the actors, eq. maddpg-actor
    exploration: float = 0.1  # σ of the noise on continuous actions, whose range is [−1, 1]
    team_reward: bool = False  # every critic learns the mean reward of the team in place of its agent's own
    layer_norm: bool = True  # in the critics
    max_gradient_norm: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(self.actor_actions in ACTOR_ACTIONS, "actor_actions", self.actor_actions, " or ".join(ACTOR_ACTIONS))
        require(0 < self.temperature < float("inf"), "temperature", self.temperature, "positive and finite")
        require(0 <= self.logit_penalty < float("inf"), "logit_penalty", self.logit_penalty, "at least 0")
        require(0 <= self.exploration < float("inf"), "exploration", self.exploration, "at least 0")
        require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "positive")


def own_first(num_agents: int) -> Tensor:
    """In which order each agent's critic reads the agents, ``[n, n]``: i, i + 1, …, n − 1, 0, …, i − 1."""
    return (torch.arange(num_agents).unsqueeze(-1) + torch.arange(num_agents)) % num_agents


def joint_rows(observation: Tensor, others: Tensor, own: Tensor, order: Tensor) -> Tensor:
    """Inputs of the n critics: all observations and actions, every agent's own first.

    Args:
        observation: ``[B, n, F]``.
        others: ``[B, n, A]``, actions as each agent's critic sees them of the *other* agents.
        own: ``[B, n, A]``, actions as each agent's critic sees them of its own agent.
        order: ``[n, n]``, see :func:`own_first`.
    Returns:
        ``[B, n, n (F + A)]``. The gradient of row i reaches ``own[:, i]`` and ``others[:, j]`` for j ≠ i.
    """
    rest = torch.cat([observation, others], dim=-1)[:, order[:, 1:]].flatten(-2)
    return torch.cat([observation, own, rest], dim=-1)


class MADDPG(MultiAgent):
    """Actors that see their own observation, trained on critics that see all observations and all actions.

    Discrete actions pass through a straight-through Gumbel-softmax, whose noise is the exploration; continuous ones
    are the tanh of the actors' outputs, explored with normal noise.
    """

    config_class = MADDPGConfig
    config: MADDPGConfig
    experience = "transitions"
    discrete_only: ClassVar[bool] = False
    order: Tensor

    def _build(self) -> None:
        recurrent = self.config.recurrent
        require(not recurrent, "recurrent", recurrent, "False: replayed single steps have no memory")
        size, config = self.action_size, self.config
        self.actor = self._team_network(self.features, size)
        rows = self.num_agents * (self.features + size)
        self.critic = self._team_network(rows, 1, layer_norm=config.layer_norm)
        self.target_actor, self.target_critic = (
            copy.deepcopy(network).requires_grad_(False) for network in (self.actor, self.critic)
        )
        self.register_buffer("order", own_first(self.num_agents), persistent=False)
        self.actor_optimizer = self._optimizer("actor", self.actor)
        self.critic_optimizer = self._optimizer("critic", self.critic)

    # Acting

    def _draw(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> Drawn:
        outputs, _ = self.actor(inputs)
        if self.discrete:
            drawn = gumbel_softmax(allowed_logits(outputs, mask), self.config.temperature, self.generator)
            return Drawn(drawn.argmax(dim=-1))
        noise = torch.empty_like(outputs).normal_(generator=self.generator)
        return Drawn(self._environment((outputs.tanh() + self.config.exploration * noise).clamp(-1, 1)))

    def _best(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        outputs, _ = self.actor(inputs)
        if self.discrete:
            return allowed_logits(outputs, mask).argmax(dim=-1), None
        return self._environment(outputs.tanh()), None

    # Learning

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        self._check(batch)
        observation = self._features(batch.flat("observation"))
        action, counts = self._encoded(batch.flat("action")), batch.counts().flatten(0, 1)
        critic_loss, q = self._fit_critics(batch, observation, action, counts)
        mask = None if batch.action_mask is None else batch.flat("action_mask")
        actor_loss = self._fit_actors(observation, action, mask, counts)
        for target, network in ((self.target_critic, self.critic), (self.target_actor, self.actor)):
            polyak_update(target, network, self.config.target_rate)
        self.updates += 1
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": q}

    def _fit_critics(
        self, batch: JointTransitions, observation: Tensor, action: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Every critic towards its agent's target (eq. maddpg-critic)."""
        target = self._targets(batch)
        q = self._values(self.critic, observation, action, action)
        loss = 0.5 * mean_where((q - target).square(), counts)
        self._step(self.critic_optimizer, loss)
        return loss.detach(), mean_where(q.detach(), counts)

    @torch.no_grad()
    def _targets(self, batch: JointTransitions) -> Tensor:
        """What the critics are fitted to ``[B, n]``: actions of the target actors, values of the target critics."""
        following = self._features(batch.flat("next_observation"))
        mask = None if batch.next_action_mask is None else batch.flat("next_action_mask")
        action, _ = self._actions(self.target_actor, following, mask)
        next_value = self._values(self.target_critic, following, action, action)
        return td_target(self._rewards(batch), batch.flat("terminated").unsqueeze(-1), next_value, self.config.discount)

    def _rewards(self, batch: JointTransitions) -> Tensor:
        """``[B, n]``: every agent's own reward, or the team's mean."""
        reward = batch.flat("reward")
        if self.config.team_reward:
            reward = reward.mean(dim=-1, keepdim=True).expand_as(reward)
        return reward * self.config.reward_scale

    def _fit_actors(self, observation: Tensor, action: Tensor, mask: Tensor | None, counts: Tensor) -> Tensor:
        """Every actor up its own critic, by its own action alone (eq. maddpg-actor)."""
        own, outputs = self._actions(self.actor, observation, mask)
        others = action if self.config.actor_actions == "own" else own.detach()
        with frozen(self.critic):
            value = self._values(self.critic, observation, others, own)
            loss = -mean_where(value, counts)
            penalty = mean_where(outputs.square().mean(dim=-1), counts)
            self._step(self.actor_optimizer, loss + self.config.logit_penalty * penalty)
        return loss.detach()

    def _actions(self, actor: torch.nn.Module, observation: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions ``[B, n, A]`` that gradients flow through, drawn or continuous, and the outputs they come from."""
        outputs, _ = actor(observation)
        if self.discrete:
            return gumbel_softmax(allowed_logits(outputs, mask), self.config.temperature, self.generator), outputs
        return outputs.tanh(), outputs

    def _values(self, critic: torch.nn.Module, observation: Tensor, others: Tensor, own: Tensor) -> Tensor:
        """Value ``[B, n]`` of each agent's critic."""
        return critic(joint_rows(observation, others, own, self.order))[0].squeeze(-1)

    def _encoded(self, action: Tensor) -> Tensor:
        """Actions of a batch ``[B, n, …]`` as the critics see them, ``[B, n, A]``."""
        if self.discrete:
            return torch.nn.functional.one_hot(action, self.num_actions).float()
        return self._unit(action)

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
        optimizer.step()
