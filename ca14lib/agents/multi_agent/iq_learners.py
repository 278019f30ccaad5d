"""Independent Q-learning (Tan, 1993). Book: multi_agent/value_decomposition."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.dqn import td_target
from ca14lib.agents.multi_agent.value_team import ReplayTeam, ReplayTeamConfig, half_mean_square, present_next
from ca14lib.data import JointTransitions


@dataclass(frozen=True)
class IQLearnersConfig(ReplayTeamConfig):
    pass


class IQLearners(ReplayTeam):
    """Every agent learns the value of its own actions from its own reward, as if the others were part of the game.

    Double estimators, target networks and a replay of whole episodes, shared parameters unless separate ones are asked
    for. To an agent that leaves the game early, leaving is the end.
    """

    config_class = IQLearnersConfig
    config: IQLearnersConfig

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        """One step down the squared error of every agent (book eq. iql-independent)."""
        self._check(batch)
        counts = batch.counts()
        q, next_q = self._evaluated(batch)
        reward = self.config.reward_scale * batch.reward
        next_q = next_q * present_next(batch, counts)
        target = td_target(reward, batch.terminated.unsqueeze(-1), next_q, self.config.discount)
        loss = half_mean_square(q - target, counts)
        norm = self._learn(loss)
        self._finish()
        mean_q = torch.where(counts, q.detach(), 0.0).sum() / counts.sum().clamp(min=1)
        return {"loss": loss.detach(), "q": mean_q, "gradient_norm": norm}
