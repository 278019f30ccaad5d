"""Variances of a worker's gradient in the lifting game, as functions of the probability p of lifting."""

import numpy as np

from ca14lib.experiments.multi_agent.credit import constant_policies, lifting_table
from ca14lib.metrics.credit import counterfactual_signal, difference_signal, gradient_moments


def variances(p: float, agents: int) -> dict[str, float]:
    team, policies = lifting_table(agents), constant_policies(agents, p)
    default = difference_signal(team, 0)
    signals = {
        "difference": default,
        "counterfactual": counterfactual_signal(team, policies),
        "best": np.stack([
            # (1 - p) r(lift) + p r(rest) is subtracted: r(rest) cancels, and (1 - p) times the contribution remains
            default[agent] - (1 - p) * np.expand_dims(default[agent].take(1, axis=agent), agent)
            for agent in range(agents)
        ]),
    }  # fmt: skip
    return {name: gradient_moments(signal, policies).variance[0] / 2 for name, signal in signals.items()}


if __name__ == "__main__":
    for p in (0.2, 0.5, 0.8):
        print(p, variances(p, 8))
