"""Independent PPO (de Witt et al., 2020): every agent a PPO of its own, whose critic sees what the agent sees.

Book: multi_agent/mappo. The update is that of :class:`~ca14lib.agents.multi_agent.policy_team.PolicyTeam`.
"""

from dataclasses import dataclass

from ca14lib.agents.multi_agent.policy_team import PolicyTeam, PolicyTeamConfig


@dataclass(frozen=True)
class IPPOConfig(PolicyTeamConfig):
    """Fields of :class:`~ca14lib.agents.multi_agent.policy_team.PolicyTeamConfig`, all of them."""


class IPPO(PolicyTeam):
    """Clipped policy gradients (book eq. ippo-loss) with a critic of the agent's own observation."""

    config_class = IPPOConfig
    config: IPPOConfig
    critic_input = "observation"
