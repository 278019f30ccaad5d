"""Parameters that only act together: the posterior of a cart-pole's masses and gain."""

import numpy as np

from ca14lib.agents.robust.domain_posterior import DomainPosterior
from ca14lib.environments.domains import CartPoleDomainVector

RANGES = {"cart_mass": (0.5, 2.0), "pole_mass": (0.05, 0.2), "gain": (0.5, 2.0)}
NOISE = 0.05


def nominal_episode(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random pushes until the nominal pole falls; what follows a step is measured with noise."""
    rng = np.random.default_rng(seed)
    environment = CartPoleDomainVector(1)
    observation, _ = environment.reset(seed=seed)
    rows, fallen = [], False
    while not fallen:
        action = rng.integers(2, size=1)
        following, _, terminated, _, info = environment.step(action)
        fallen = bool(terminated[0])
        rows.append((observation[0], action[0], info["final_obs"][0] if fallen else following[0]))
        observation = following
    before, chosen, after = (np.array(column) for column in zip(*rows))
    return before, chosen, after + NOISE * rng.standard_normal(after.shape)


def belief(episodes: int) -> dict[str, float]:
    """Deviations of the three parameters and of gain per kilogram of cart, and how far the box lets that go."""
    posterior = DomainPosterior(CartPoleDomainVector, RANGES, NOISE)
    for seed in range(episodes):
        posterior.observe(*nominal_episode(seed))
    posterior.refine()
    quotient = posterior.parameters["gain"] / posterior.parameters["cart_mass"]
    centre = posterior.probability @ quotient
    box = posterior.credible_ranges(0.9)
    return posterior.deviations() | {
        "quotient": float(np.sqrt(posterior.probability @ (quotient - centre) ** 2)),
        "lowest in box": box["gain"][0] / box["cart_mass"][1],
        "highest in box": box["gain"][1] / box["cart_mass"][0],
    }


if __name__ == "__main__":
    for episodes in (1, 5, 20):
        print(episodes, belief(episodes))
