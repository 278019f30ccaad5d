"""A learner that chooses between SafeGrid's two corners, with the cost advantage scaled in two ways."""

import math

import numpy as np

GAIN, EXTRA, LEAST = 14.1, 0.5, 0.1  # of going to the goal: return gained, cost added; the cost of not going


def train(limit: float, *, divide: bool, updates: int = 40_000, speed: float = 0.3, rate: float = 0.5,
          start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Share of episodes that go to the goal, and multiplier, after every update.

    The policy follows the exact gradient of the Lagrangian, divided by 1 + λ, in its logit.
    """
    logit, multiplier, history = start, 0.0, []
    for _ in range(updates):
        share = 1 / (1 + math.exp(-logit))
        multiplier = max(multiplier + rate * (LEAST + EXTRA * share - limit), 0.0)
        spread = EXTRA * math.sqrt(share * (1 - share))
        price = multiplier / max(spread, 1e-8) if divide else multiplier
        logit += speed * share * (1 - share) * (GAIN - price * EXTRA) / (1 + multiplier)
        logit = min(max(logit, -30.0), 30.0)
        history.append((share, multiplier))
    shares, multipliers = np.array(history).T
    return shares, multipliers


if __name__ == "__main__":
    for limit in (0.2, 0.3, 0.5):
        for divide in (False, True):
            shares, multipliers = train(limit, divide=divide)
            part, prices = shares[20_000:], multipliers[20_000:]
            print(f"limit {limit}, divided {divide}: optimal share {(limit - LEAST) / EXTRA:.1f}")
            print(f"  share {part.min():.2f} to {part.max():.2f}, mean {part.mean():.2f}")
            print(f"  price {prices.min():.1f} to {prices.max():.1f}")
