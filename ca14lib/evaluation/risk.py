"""Exact evaluation of the whole distribution of an agent's return, its lower tail above all. Book: safe/risk."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent
from ca14lib.environments import TabularModel
from ca14lib.environments.safe_cliff import BUDGET_UNIT
from ca14lib.metrics.risk import conditional_value_at_risk
from ca14lib.solvers import cvar_optimum, policy_return_distribution
from ca14lib.solvers.cvar import TotalPolicy


@dataclass(frozen=True)
class RiskEvaluation:
    """A callable for ``train_on_policy(evaluate=…)``: exact mean and lower-tail CVaR of the agent's return.

    An agent that observes its remaining budget decides by it, so its return is followed together with the state; the
    budget is the last value of the observation, as ``CA14/SafeCliff-v0`` shows it (book eq. budget-state).

    Attributes:
        model: The finite problem with a horizon; its rewards lie on a grid.
        tail: Mass of the lower tail in (0, 1].
        budget: Budget at the start, if the agent observes what remains of it; else None.
        deterministic: Evaluate the most probable actions instead of the stochastic policy.
        optimum: The largest CVaR among all policies (book eq. cvar-budget-dp), computed when left out.

    Raises:
        ValueError: If the tail is out of range or the model has no horizon.
    """

    model: TabularModel
    tail: float = 0.1
    budget: float | None = None
    deterministic: bool = True
    optimum: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.tail <= 1.0:
            raise ValueError(f"tail must lie in (0, 1], got {self.tail}")
        if self.optimum is None:
            object.__setattr__(self, "optimum", cvar_optimum(self.model, self.tail).value)

    def __call__(self, agent: Agent) -> dict[str, float]:
        """``exact_return``, ``exact_cvar`` and ``cvar_share``, the CVaR over the optimum's."""
        return self.of_distribution(*self.distribution(agent))

    def of_distribution(self, values: NDArray[np.float64], probabilities: NDArray[np.float64]) -> dict[str, float]:
        """The same of a distribution: returns ``[N]`` and their probabilities ``[N]``."""
        cvar = -conditional_value_at_risk(-values, 1.0 - self.tail, probabilities)
        assert self.optimum is not None  # set after construction
        return {"exact_return": float(values @ probabilities), "exact_cvar": cvar, "cvar_share": cvar / self.optimum}

    def distribution(self, agent: Agent) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The returns that the agent can have, ascending ``[N]``, and their probabilities ``[N]``."""
        return policy_return_distribution(self.model, self.policy(agent))

    def policy(self, agent: Agent) -> TotalPolicy:
        """The agent as a function of step, states ``[N]`` and rewards so far ``[N]`` to probabilities ``[N, A]``.

        Raises:
            ValueError: If the agent has no probabilities of discrete actions.
        """
        probabilities = getattr(agent, "probabilities", None)
        if probabilities is None:
            raise ValueError(f"exact evaluation needs an agent with discrete actions, got {type(agent).__name__}")

        def chances(step: int, states: NDArray[np.intp], collected: NDArray[np.float64]) -> NDArray[np.float64]:
            model = self.model
            seen = (model.timed_observation(step) if model.observes_time else model.observation)[states]
            if self.budget is not None:
                left = ((self.budget - collected) / BUDGET_UNIT).astype(np.float32)
                seen = np.column_stack([seen, left])
            mask = None if model.action_mask is None else model.action_mask[states]
            given = probabilities(seen, mask=mask, deterministic=self.deterministic)
            return given / given.sum(axis=1, keepdims=True)

        return chances
