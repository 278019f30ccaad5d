"""log ∫ exp Q(s, a) da from 3n sampled actions, with and without their densities."""

import numpy as np
from scipy.integrate import quad
from scipy.stats import truncnorm


def q(action):
    return -8.0 * (action - 0.5) ** 2


def policy(deviation: float):
    """A normal density around 0.5, cut to [−1, 1]."""
    return truncnorm((-1 - 0.5) / deviation, (1 - 0.5) / deviation, loc=0.5, scale=deviation)


def exact() -> float:
    return float(np.log(quad(lambda a: np.exp(q(a)), -1, 1)[0]))


def estimates(n: int, deviation: float, densities: bool, repetitions: int = 2_000, seed: int = 0) -> np.ndarray:
    """n uniform actions and 2n of the policy, in every repetition."""
    generator = np.random.default_rng(seed)
    uniform = generator.uniform(-1, 1, (repetitions, n))
    drawn = policy(deviation).rvs((repetitions, 2 * n), random_state=generator)
    log_density = np.concatenate([np.full_like(uniform, -np.log(2)), policy(deviation).logpdf(drawn)], axis=1)
    terms = q(np.concatenate([uniform, drawn], axis=1)) - densities * log_density
    return np.log(np.exp(terms).mean(axis=1))


def limit_without_densities(deviation: float) -> float:
    """What the estimate tends to as n grows: a mixture of means, not an integral."""
    under_policy = quad(lambda a: policy(deviation).pdf(a) * np.exp(q(a)), -1, 1, points=[0.5], limit=200)[0]
    return float(np.log(np.exp(exact()) / 6 + 2 / 3 * under_policy))


if __name__ == "__main__":
    print(f"exact {exact():.3f}")
    for deviation in (0.3, 0.1, 0.03):
        right, wrong = (estimates(10, deviation, densities).mean() for densities in (True, False))
        print(f"deviation {deviation:4.2f}: with densities {right:6.3f}, without {wrong:6.3f}, "
              f"which tends to {limit_without_densities(deviation):6.3f}")  # fmt: skip
