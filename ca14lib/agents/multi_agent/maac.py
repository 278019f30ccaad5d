"""Multi-actor-attention-critic (Iqbal and Sha, 2019). Book: multi_agent/maac."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.dqn import td_target
from ca14lib.agents.multi_agent.base import Drawn, MultiAgent, TeamConfig
from ca14lib.agents.multi_agent.gumbel import allowed_logits
from ca14lib.agents.multi_agent.policy_team import mean_where
from ca14lib.data import JointTransitions
from ca14lib.networks import polyak_update
from ca14lib.networks.attention import AttentionCritic

OWN_ACTIONS = ("drawn", "summed")


@dataclass(frozen=True)
class MAACConfig(TeamConfig):
    learning_rate: float = 1e-3
    target_rate: float = 0.005  # η, eq. polyak
    entropy_weight: float = 0.01  # α_H, eqs. maac-critic and maac-baseline, in units of the scaled reward
    heads: int = 4
    own_actions: str = "drawn"  # own action in targets and gradient: "drawn" as published, or "summed" over all
    team_reward: bool = False  # every agent's critic learns the mean reward of the team in place of its own
    layer_norm: bool = True  # in the critic
    logit_penalty: float = 1e-3  # ϖ, weight of the squared outputs of the actors
    attention_penalty: float = 1e-3  # ϖ_a, weight of the squared logits of the attention
    max_gradient_norm: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(isinstance(self.heads, int) and self.heads >= 1, "heads", self.heads, "a positive integer")
        divides = self.hidden_sizes[-1] % self.heads == 0
        require(divides, "hidden_sizes", self.hidden_sizes, f"with a last width that {self.heads} heads divide")
        require(self.own_actions in OWN_ACTIONS, "own_actions", self.own_actions, " or ".join(OWN_ACTIONS))
        for name in ("entropy_weight", "logit_penalty", "attention_penalty"):
            require(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "at least 0")
        require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "positive")


def log_policy(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Log-probabilities ``[…, A]``; of forbidden actions a finite number that stands for −∞."""
    return allowed_logits(logits, mask).log_softmax(dim=-1).clamp_min(-1e9)


def counterfactual_advantage(q: Tensor, policy: Tensor) -> Tensor:
    r"""How much better each own action is than the policy's mean, the others' actions held fixed.

    Book eq. maac-baseline:
    :math:`\boldsymbol Q^i(\boldsymbol a) - \sum_b \pi^i(b|o^i)\, \boldsymbol Q^i(b, \boldsymbol a^{-i})`.

    Args:
        q: ``[…, A]``, values of all own actions.
        policy: ``[…, A]``, probabilities of them.
    Returns:
        ``[…, A]``, with mean 0 under the policy.
    """
    return q - (policy * q).sum(dim=-1, keepdim=True)


class MAAC(MultiAgent):
    """Soft actor-critic for teams: each critic attends to the others' observations and actions."""

    config_class = MAACConfig
    config: MAACConfig
    experience = "transitions"

    def _build(self) -> None:
        recurrent = self.config.recurrent
        require(not recurrent, "recurrent", recurrent, "False: replayed single steps have no memory")
        config = self.config
        self.actor = self._team_network(self.features, self.num_actions)
        self.critic = AttentionCritic(
            self.features, self.num_actions, self.num_agents, config.hidden_sizes[-1], config.heads,
            shared=config.shared, layer_norm=config.layer_norm,
        )  # fmt: skip
        self.target_actor, self.target_critic = (
            copy.deepcopy(network).requires_grad_(False) for network in (self.actor, self.critic)
        )
        self.actor_optimizer = self._optimizer("actor", self.actor)
        self.critic_optimizer = self._optimizer("critic", self.critic)

    # Acting

    def _draw(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> Drawn:
        log_prob = log_policy(self.actor(inputs)[0], mask)
        action = self._drawn(log_prob)
        return Drawn(action, log_prob.gather(-1, action.unsqueeze(-1)).squeeze(-1))

    def _best(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return allowed_logits(self.actor(inputs)[0], mask).argmax(dim=-1), None

    def _drawn(self, log_prob: Tensor) -> Tensor:
        """Actions ``[B, n]`` of the policies ``[B, n, A]``."""
        rows = log_prob.exp().flatten(0, 1)
        return torch.multinomial(rows, 1, generator=self.generator).reshape(log_prob.shape[:-1])

    # Learning

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        self._check(batch)
        observation, counts = self._features(batch.flat("observation")), batch.counts().flatten(0, 1)
        critic_loss, q = self._fit_critic(batch, observation, counts)
        mask = None if batch.action_mask is None else batch.flat("action_mask")
        actor_loss, entropy = self._fit_actors(observation, mask, counts)
        for target, network in ((self.target_critic, self.critic), (self.target_actor, self.actor)):
            polyak_update(target, network, self.config.target_rate)
        self.updates += 1
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": q, "entropy": entropy}

    def _fit_critic(self, batch: JointTransitions, observation: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Every agent's value towards its soft target (eq. maac-critic)."""
        target, action = self._targets(batch), batch.flat("action")
        q, attention = self.critic(observation, self._one_hot(action))
        taken = q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        loss = 0.5 * mean_where((taken - target).square(), counts)
        penalty = self.config.attention_penalty * self._attention_size(attention, counts)
        self.critic_optimizer.zero_grad()
        ((loss + penalty) * self.num_agents).backward()  # the sum over agents
        self._scale_shared_gradients()
        self._step(self.critic_optimizer)
        return loss.detach(), mean_where(taken.detach(), counts)

    def _scale_shared_gradients(self) -> None:
        """The attention is pulled by every agent's loss: it gets the mean of their gradients, not the sum."""
        for parameter in self.critic.attention.parameters():
            if parameter.grad is not None:  # an agent alone attends to nobody
                parameter.grad /= self.num_agents

    @torch.no_grad()
    def _targets(self, batch: JointTransitions) -> Tensor:
        """What the values of the taken actions are fitted to ``[B, n]``; all of it from the target networks."""
        following = self._features(batch.flat("next_observation"))
        mask = None if batch.next_action_mask is None else batch.flat("next_action_mask")
        log_prob = log_policy(self.target_actor(following)[0], mask)
        action = self._drawn(log_prob)
        q, _ = self.target_critic(following, self._one_hot(action))
        next_value = self._over_own(q - self.config.entropy_weight * log_prob, log_prob.exp(), action)
        return td_target(self._rewards(batch), batch.flat("terminated").unsqueeze(-1), next_value, self.config.discount)

    def _rewards(self, batch: JointTransitions) -> Tensor:
        """``[B, n]``: every agent's own reward, or the team's mean."""
        reward = batch.flat("reward")
        if self.config.team_reward:
            reward = reward.mean(dim=-1, keepdim=True).expand_as(reward)
        return reward * self.config.reward_scale

    def _fit_actors(self, observation: Tensor, mask: Tensor | None, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Every policy up its counterfactual advantage and its entropy (eq. maac-baseline)."""
        config = self.config
        logits, _ = self.actor(observation)
        log_prob = log_policy(logits, mask)
        policy = log_prob.detach().exp()
        action = self._drawn(log_prob.detach())  # of all agents anew, from the policies of now
        with torch.no_grad():
            q, _ = self.critic(observation, self._one_hot(action))
            advantage = counterfactual_advantage(q, policy) - config.entropy_weight * log_prob.detach()
        loss = -mean_where(self._over_own(log_prob * advantage, policy, action), counts)
        penalty = mean_where(logits.square().mean(dim=-1), counts)
        self.actor_optimizer.zero_grad()
        (loss + config.logit_penalty * penalty).backward()
        self._step(self.actor_optimizer)
        return loss.detach(), -mean_where((policy * log_prob.detach()).sum(dim=-1), counts)

    def _over_own(self, values: Tensor, policy: Tensor, action: Tensor) -> Tensor:
        """Values ``[B, n, A]`` at the drawn own actions, or their mean under the policies, ``[B, n]``."""
        if self.config.own_actions == "summed":
            return (policy * values).sum(dim=-1)
        return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def _one_hot(self, action: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(action, self.num_actions).float()

    @staticmethod
    def _attention_size(logits: Tensor, counts: Tensor) -> Tensor:
        """Mean square of the attention's logits ``[B, n, n, heads]`` between different agents, 0 for a single one."""
        agents, heads = logits.shape[2:]
        size = logits.masked_fill(logits == -torch.inf, 0.0).square().sum(dim=(2, 3))
        return mean_where(size / (heads * max(agents - 1, 1)), counts)

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
        optimizer.step()
