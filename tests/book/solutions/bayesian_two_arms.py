"""Thompson sampling between two arms with independent normal beliefs."""

import math

from scipy.stats import norm


def probability_of_second(means: tuple[float, float], deviations: tuple[float, float]) -> float:
    """Probability that a draw of the second arm's value exceeds one of the first's."""
    return float(norm.cdf((means[1] - means[0]) / math.hypot(*deviations)))


if __name__ == "__main__":
    print(probability_of_second((0.5, 0.4), (0.1, 0.3)))
    print(probability_of_second((0.5, 0.4), (0.1, 0.03)))
