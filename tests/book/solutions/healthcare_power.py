from scipy.stats import norm


def stays_needed(gain: float, deviation: float, comparisons: int, power: float = 0.8, level: float = 0.05) -> float:
    """Judging stays with which a gain passes the gate with the given probability."""
    errors = norm.isf(level / comparisons) + norm.ppf(power)
    return (errors * deviation / gain) ** 2


for deviation in (0.4, (0.4**2 + 0.41**2) ** 0.5):
    print([round(stays_needed(0.01, deviation, comparisons), -2) for comparisons in (1, 8)])
