"""The lower CVaR of minus an exponential return, from quantiles at midpoints and from a projected support."""

import numpy as np
import torch

from ca14lib.agents.robust.c51 import categorical_projection
from ca14lib.agents.robust.risk_choice import lower_tail_mean
from ca14lib.networks.quantiles import midpoint_fractions

TAIL = 0.1
EXACT = float(np.log(TAIL) - 1)


def by_quantiles(count: int) -> float:
    """CVaR of the quantiles log τ at the midpoints."""
    return float(lower_tail_mean(midpoint_fractions(count).double().log(), TAIL))


def by_support(atoms: int = 51, least: float = -5.0) -> float:
    """CVaR of the distribution on an even support; 100,000 equally likely returns stand for the exact one."""
    returns = midpoint_fractions(100_000).double().log()
    support = torch.linspace(least, 0, atoms, dtype=torch.float64)
    weights = torch.full_like(returns, 1 / len(returns))
    projected = categorical_projection(returns[None], weights[None], support)[0]
    return float(lower_tail_mean(support, TAIL, projected))


if __name__ == "__main__":
    print("exact", EXACT)
    print("errors of quantiles", {count: round(by_quantiles(count) - EXACT, 3) for count in (10, 20, 50, 200)})
    print("error of the support", by_support() - EXACT)
