"""Four tasks taken for one: the plan on their mean."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.experiments.evaluation import continual as experiment
from ca14lib.solvers import value_iteration


def shares(discount: float = 0.95) -> np.ndarray:
    """Share on every goal of the best policy of the mean model."""
    models = experiment.goal_models(False)
    mean = TabularModel(
        np.mean([model.transition for model in models], axis=0),
        np.mean([model.expected_reward for model in models], axis=0),
        terminal=models[0].terminal, initial=models[0].initial,
    )  # fmt: skip
    return experiment.goal_shares([value_iteration(mean, discount).policy] * len(models))


if __name__ == "__main__":
    print(shares().round(2), "mean", shares().mean().round(3))
