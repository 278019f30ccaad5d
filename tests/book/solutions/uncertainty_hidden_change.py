"""A change that the inputs do not show: the same stated uncertainty, another error."""

import numpy as np

from ca14lib.experiments.robust.uncertainty import TESTS, examples, fitted
from ca14lib.metrics.calibration import coverage_curve


def judged(seed: int = 100, steps: int = 300) -> dict[str, tuple[float, float]]:
    """Mean stated deviation and coverage of the 90% interval, held out and with another mass."""
    predict = fitted(1_000, seed, steps)["ensemble"]
    found = {}
    for name in ("held out", "heavier"):
        test = examples(1_000, TESTS[name], 10_000_000 + seed)
        prediction = predict(test.inputs)
        mean, std, target = (
            part.squeeze(-1).double().numpy() for part in (prediction.mean, prediction.std, test.target)
        )
        found[name] = (float(np.mean(std)), float(coverage_curve(mean, std, target, [0.9]).observed[0]))
    return found


if __name__ == "__main__":
    print(judged())
