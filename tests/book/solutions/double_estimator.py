"""How much of the maximisation bias is left when another, correlated estimate rates the chosen action."""

import numpy as np


def remaining_bias(correlation: float, k: int, repetitions: int = 200_000, seed: int = 0) -> float:
    """Mean of Q_B(argmax Q_A), where all k true values are 0 and errors are standard normal."""
    generator = np.random.default_rng(seed)
    chooser, noise = generator.standard_normal((2, repetitions, k))
    rater = correlation * chooser + np.sqrt(1 - correlation**2) * noise
    return float(np.take_along_axis(rater, chooser.argmax(axis=1)[:, None], axis=1).mean())


if __name__ == "__main__":
    single = remaining_bias(1.0, k=4)
    for correlation in (0.0, 0.5, 0.9, 1.0):
        bias = remaining_bias(correlation, k=4)
        print(f"correlation {correlation:.1f}: bias {bias:.3f}, predicted {correlation * single:.3f}")
