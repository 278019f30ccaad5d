"""Dual ascent on SafeGrid with the priced problem solved exactly."""

import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import lagrangian_optimum

MODEL = tabular_model("CA14/SafeGrid-v0")


def dual_ascent(limit: float, rate: float, updates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Price, cost and return of every iterate."""
    price, history = 0.0, []
    for _ in range(updates):
        answer = lagrangian_optimum(MODEL, price)
        history.append((price, answer.costs[0], answer.expected_return))
        price = max(price + rate * (answer.costs[0] - limit), 0.0)
    prices, costs, returns = np.array(history).T
    return prices, costs, returns


if __name__ == "__main__":
    for rate in (2.0, 20.0):
        prices, costs, returns = dual_ascent(0.5, rate, 400)
        print(f"rate {rate}: first policy of cost 0.1 at update {int((costs < 0.2).argmax())}")
        print(f"  all: cost {costs.mean():.3f}, return {returns.mean():.2f}")
        print(f"  second half: cost {costs[200:].mean():.3f}, return {returns[200:].mean():.2f}")
        print(f"  prices of the second half: {prices[200:].min():.1f} to {prices[200:].max():.1f}")
