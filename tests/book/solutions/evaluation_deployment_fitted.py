"""False alarms of a detector that is calibrated on what it was fitted on, and of one that is not."""

import numpy as np

from ca14lib.deployment import Mahalanobis, conformal_threshold

NUMBERS, FITTED, RATE = 20, 60, 0.1


def false_alarms(same: bool, repetitions: int = 200) -> float:
    found = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        fitted, other, new = (rng.normal(size=(count, NUMBERS)) for count in (FITTED, FITTED, 500))
        detector = Mahalanobis.fit(fitted)
        threshold = conformal_threshold(detector.score(fitted if same else other), RATE)
        found.append((detector.score(new) > threshold).mean())
    return float(np.mean(found))


if __name__ == "__main__":
    print(round(false_alarms(True), 2), round(false_alarms(False), 2))
