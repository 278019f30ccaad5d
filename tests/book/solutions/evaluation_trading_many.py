"""The best of many rules without skill: its Sharpe ratio in the years it was chosen on, and in those that follow."""

import numpy as np

YEARS = 14


def best_of(rules: int, seed: int = 0, trials: int = 60) -> tuple[float, float]:
    """Mean Sharpe ratio, per year, of the best rule in its own years and in as many later ones.

    Returns of all rules are independent standard normal: nobody can do anything.
    """
    rng = np.random.default_rng(seed)
    # the ratio of n days to a good approximation: a normal with deviation 1 / sqrt(years)
    chosen_on, later = rng.normal(scale=YEARS**-0.5, size=(2, trials, rules))
    best = chosen_on.argmax(axis=1)
    rows = np.arange(trials)
    return float(chosen_on[rows, best].mean()), float(later[rows, best].mean())


if __name__ == "__main__":
    for rules in (1, 10, 100, 1_000):
        print(rules, [round(value, 2) for value in best_of(rules)], round(np.sqrt(2 * np.log(rules) / YEARS), 2))
