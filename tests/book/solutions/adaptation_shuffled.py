"""A posterior that is given the rows of an episode in another order."""

import numpy as np

from ca14lib.agents.robust.domain_posterior import DomainPosterior, predictions
from ca14lib.environments.domains import CartPoleDomainVector

TARGET = {"gain": 1.5, "delay": 2}
RANGES = {"gain": (0.3, 2.5), "delay": (0, 4)}
NOISE = 0.05


def target_episode(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random pushes until the pole falls; what follows a step is measured with noise."""
    rng = np.random.default_rng(seed)
    environment = CartPoleDomainVector(1, ranges=TARGET)
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


def fitted(shuffled: bool, episodes: int = 5) -> DomainPosterior:
    """The posterior after some episodes."""
    rng = np.random.default_rng(0)
    posterior = DomainPosterior(CartPoleDomainVector, RANGES, NOISE, 500)
    for seed in range(episodes):
        columns = target_episode(seed)
        rows = rng.permutation(len(columns[1])) if shuffled else slice(None)
        posterior.observe(*(column[rows] for column in columns))
    posterior.refine()
    return posterior


def belief(posterior: DomainPosterior) -> tuple[float, float]:
    """Mean and deviation of the gain."""
    return posterior.mean()["gain"], posterior.deviations()["gain"]


def residuals(posterior: DomainPosterior) -> np.ndarray:
    """Root mean squares of what the most probable candidate leaves unexplained: m, m/s, rad, rad/s."""
    best = posterior.models.most_probable()
    candidate = {name: values[best : best + 1] for name, values in posterior.parameters.items()}
    errors = [
        predictions(CartPoleDomainVector, candidate, episode)[0] - episode.next_observation
        for episode in posterior.episodes
    ]
    return np.sqrt(np.square(np.concatenate(errors)).mean(axis=0))


if __name__ == "__main__":
    for shuffled in (False, True):
        posterior = fitted(shuffled)
        print(shuffled, belief(posterior), residuals(posterior))
