"""One pair of shift curves, several summaries, several winners."""

import numpy as np

from ca14lib.metrics.robustness import area_under_shift_curve, retained_share, robustness_score

LENGTHS = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
RETURNS = {
    "specialist": np.array([60.0, 100.0, 90.0, 40.0, 10.0]),
    "generalist": np.array([62.0, 72.0, 70.0, 50.0, 30.0]),
}
RANDOM, BEST = np.array([20.0, 20.0, 15.0, 10.0, 5.0]), np.array([100.0, 100.0, 100.0, 60.0, 35.0])


def summaries(returns: np.ndarray) -> dict[str, float]:
    return {
        "mean of the points": float(returns.mean()),
        "area over length": float(area_under_shift_curve(LENGTHS, returns)),
        "area over its logarithm": float(area_under_shift_curve(np.log(LENGTHS), returns)),
        "worst return": float(returns.min()),
        "worst share": float(retained_share(returns, RANDOM, BEST).min()),
        "score": robustness_score(returns[-1], returns[1]),
        "score with 100 more": robustness_score(returns[-1] + 100, returns[1] + 100),
    }


if __name__ == "__main__":
    for name, returns in RETURNS.items():
        print(name, {key: round(value, 3) for key, value in summaries(returns).items()})
