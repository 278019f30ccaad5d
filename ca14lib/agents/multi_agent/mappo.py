"""Multi-agent PPO (Yu et al., 2022): independent policies, and a critic that sees the state. Book: multi_agent/mappo.

The update is that of :class:`~ca14lib.agents.multi_agent.policy_team.PolicyTeam`; no critic is needed to act.
"""

from dataclasses import dataclass

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.policy_team import CRITIC_INPUTS, PolicyTeam, PolicyTeamConfig


@dataclass(frozen=True)
class MAPPOConfig(PolicyTeamConfig):
    critic_input: str = "state+observation"  # "state", or joined with the agent's own observation, eq. mappo-critic

    def __post_init__(self) -> None:
        super().__post_init__()
        central = self.critic_input in CRITIC_INPUTS[1:]
        require(central, "critic_input", repr(self.critic_input), "'state' or 'state+observation'")


class MAPPO(PolicyTeam):
    """Clipped policy gradients (book eq. ippo-loss) with a central critic (book eq. mappo-critic)."""

    config_class = MAPPOConfig
    config: MAPPOConfig

    @property
    def critic_input(self) -> str:  # type: ignore[override]
        return self.config.critic_input
