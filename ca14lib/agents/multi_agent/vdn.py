"""Value decomposition networks (Sunehag et al., 2018). Book: multi_agent/value_decomposition."""

import copy
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.dqn import td_target
from ca14lib.agents.multi_agent.value_team import (
    ReplayTeam,
    ReplayTeamConfig,
    ValueTeam,
    half_mean_square,
    on_rows,
    present_next,
)
from ca14lib.data import JointTransitions
from ca14lib.networks import SumMixer, joint_actions


@dataclass(frozen=True)
class VDNConfig(ReplayTeamConfig):
    pass


def joint_values(team: ValueTeam, mixer: nn.Module, observation: ArrayLike, state: ArrayLike) -> NDArray:
    """Values of all joint actions ``[N, A, …, A]``: every combination of utilities, mixed.

    Args:
        team: The team, without memory.
        mixer: Its mixer.
        observation: ``[N, n, …]``.
        state: ``[N, d]``.
    Raises:
        ValueError: If the team has memory, or there are more than a million joint actions.
    """
    if team.memory_size:
        raise ValueError(f"{type(team).__name__} has memory: the value depends on more than this observation")
    with torch.no_grad():
        q, _ = team.utilities(team._features(team._observation_tensor(observation)))
        actions = joint_actions(team.num_agents, team.num_actions, team.device)
        every = q.unsqueeze(1).expand(-1, len(actions), -1, -1)
        index = actions.unsqueeze(-1).expand(len(q), -1, -1, -1)
        seen = torch.as_tensor(state, dtype=torch.float32, device=team.device)
        mixed = mixer(every.gather(-1, index).squeeze(-1), seen.unsqueeze(1).expand(-1, len(actions), -1))
    return mixed.reshape(len(q), *[team.num_actions] * team.num_agents).cpu().numpy()


class VDN(ReplayTeam):
    """The value of the team is the sum of utilities; only their sum is fitted, to the team's reward.

    Double estimators, target networks and a replay of whole episodes. Subclasses put another mixer in the sum's place.
    An agent that has left the game adds nothing.
    """

    config_class = VDNConfig
    config: VDNConfig
    mixer: nn.Module

    def _build(self) -> None:
        super()._build()
        self.mixer = self._make_mixer()
        self.target_mixer = copy.deepcopy(self.mixer).requires_grad_(False)
        self._optimizer("utilities", self.utilities, self.mixer)

    def _make_mixer(self) -> nn.Module:
        return SumMixer()

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        """One step down the squared error of the team's value (book eqs. vdn-loss and qmix-loss)."""
        self._check(batch)
        present = batch.counts()
        counts = present.any(dim=-1)
        q, next_q = self._evaluated(batch)
        total = on_rows(self.mixer, self._sparse(batch), q * present, batch.state)
        target = self._target(batch, next_q * present_next(batch, present))
        loss = half_mean_square(total - target, counts)
        norm = self._learn(loss)
        self._finish()
        mean_q = torch.where(counts, total.detach(), 0.0).sum() / counts.sum().clamp(min=1)
        return {"loss": loss.detach(), "q": mean_q, "gradient_norm": norm}

    @torch.no_grad()
    def _target(self, batch: JointTransitions, next_q: Tensor) -> Tensor:
        """Targets ``[T, B]``: the next utilities, mixed by the target mixer in the next state."""
        following = on_rows(self.target_mixer, self._sparse(batch), next_q, batch.next_state)
        reward = self.config.reward_scale * batch.team_reward()
        return td_target(reward, batch.terminated, following, self.config.discount)

    def _targets(self) -> list[tuple[nn.Module, nn.Module]]:
        learns = any(True for _ in self.mixer.parameters())  # a sum does not
        return super()._targets() + [(self.target_mixer, self.mixer)] * learns

    def joint_values(self, observation: ArrayLike, state: ArrayLike) -> NDArray:
        """Learned values of all joint actions, ``[N, A, …, A]`` (:func:`joint_values`)."""
        return joint_values(self, self.mixer, observation, state)
