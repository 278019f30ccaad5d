"""Exact evaluation of agents on finite problems: no sampling, so no evaluation noise. Book: yardsticks."""

from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from ca14lib.agents.base import Agent, DiscreteAgent, ValueAgent
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.environments import TabularModel, uniform_policy
from ca14lib.metrics import share_of_range
from ca14lib.solvers import policy_evaluation, policy_return, value_iteration


@dataclass(frozen=True)
class ExactEvaluation:
    """A callable for ``train_offline(evaluate=…)``: the agent's exact return and its share of the optimum.

    Attributes:
        model: The finite problem.
        reference: Return that counts as share 0: the uniform policy's (share of the optimum) unless given.
        discount: Discount of the evaluation, usually 1 even if the agent learns with less.
        horizon: Steps of an episode in the evaluation; None takes the model's. Give an artificial time limit here
            when a policy may never end its episode and its undiscounted return would be −∞.
        optimum: Optimal return, computed when left out.
        deterministic: Evaluate the greedy policy.
    """

    model: TabularModel
    reference: float | None = None
    discount: float = 1.0
    horizon: int | None = None
    optimum: float | None = None
    deterministic: bool = True

    def __post_init__(self) -> None:
        zero, one = self.reference, self.optimum
        if zero is None:
            zero = policy_return(self.model, uniform_policy(self.model), self.discount, self.horizon)
        if one is None:
            one = value_iteration(self.model, self.discount, self.horizon).optimal_return
        object.__setattr__(self, "reference", zero)
        object.__setattr__(self, "optimum", one)

    def __call__(self, agent: Agent) -> dict[str, float]:
        """``return``, ``share`` and, for agents with values, ``max_q`` over non-terminal states."""
        if not isinstance(agent, DiscreteAgent | OnPolicyAgent) or not isinstance(agent.action_space, Discrete):
            raise ValueError(f"exact evaluation needs an agent with discrete actions, got {type(agent).__name__}")
        result = self.of_policy(agent.policy_table(self.model, deterministic=self.deterministic))
        if isinstance(agent, ValueAgent):
            decisions = np.broadcast_to(~self.model.terminal[:, None], (self.model.num_states, self.model.num_actions))
            if self.model.action_mask is not None:
                decisions = decisions & self.model.action_mask
            result["max_q"] = float(agent.q_table(self.model)[decisions].max())
        return result

    def of_policy(self, policy: NDArray[np.float64]) -> dict[str, float]:
        """``return`` and ``share`` of a policy table."""
        value = policy_return(self.model, policy, self.discount, self.horizon)
        assert self.reference is not None  # both are set after construction
        assert self.optimum is not None
        return {"return": value, "share": share_of_range(value, self.reference, self.optimum)}


def value_error(agent: ValueAgent, model: TabularModel, discount: float) -> NDArray[np.float64]:
    """How far the agent's Q lies above the true Q of its own greedy policy, shape ``[S, A]`` (book eq. overestimation).

    Args:
        agent: An agent that learns values of all actions.
        model: The finite problem.
        discount: The discount that the agent learned with; below 1, or every greedy path must end.
    """
    if model.horizon is not None:
        raise ValueError(
            f"value_error compares with values that do not depend on time; the model's horizon is {model.horizon}"
        )
    truth = policy_evaluation(model, agent.policy_table(model), discount)
    return agent.q_table(model) - truth.q
