"""Cost per episode from steps: the mean over episodes that ended in a window, and the ratio of sums."""

import numpy as np

SHORT, LONG, COST = 2, 20, 1.0  # steps of the two kinds of episodes; a long one costs 1, a short one nothing


def estimates(window: int, copies: int, seed: int = 0, windows: int = 200) -> tuple[float, float]:
    """Mean cost of the episodes that end in a window which begins with a reset, and that of windows without resets."""
    draws = np.random.default_rng(seed)
    fresh, ratio = [], []
    left, is_long = np.zeros(copies, int), np.zeros(copies, bool)
    for _ in range(windows):
        total, ended, costs = 0.0, 0, []
        clock = np.zeros(copies, int)
        for copy in range(copies):  # with a reset: whole episodes from the start of the window on
            while True:
                kind = draws.random() < 0.5
                clock[copy] += LONG if kind else SHORT
                if clock[copy] > window:
                    break
                costs.append(COST * kind)
        fresh.append(np.mean(costs) if costs else np.nan)
        for _ in range(window):  # without: every step pays its share, and ends are counted
            start = left == 0
            is_long[start] = draws.random(start.sum()) < 0.5
            left[start] = np.where(is_long[start], LONG, SHORT)
            total += (COST / LONG) * is_long.sum()
            left -= 1
            ended += int((left == 0).sum())
        ratio.append((total, ended))
    sums = np.array(ratio).sum(axis=0)
    return float(np.nanmean(fresh)), float(sums[0] / sums[1])


if __name__ == "__main__":
    for window in (10, 25, 100):
        print(window, estimates(window, 8))
