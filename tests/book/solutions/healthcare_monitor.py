import numpy as np

from ca14lib.evaluation.improvement import alarm_wealth

PROMISED, HARM, LEVEL = 0.78, 0.75, 0.05


def growth(rate: float) -> float:
    """Mean growth of the logarithm of the capital in one stay."""
    return rate * np.log(HARM / PROMISED) + (1 - rate) * np.log((1 - HARM) / (1 - PROMISED))


def standstill() -> float:
    """The rate at which the capital neither grows nor shrinks."""
    success, failure = np.log(HARM / PROMISED), np.log((1 - HARM) / (1 - PROMISED))
    return failure / (failure - success)


def stays_until_alarm(rate: float, watched: int = 2_000, patients: int = 6_000) -> np.ndarray:
    """Simulated numbers of stays; infinite where no alarm came."""
    outcomes = np.random.default_rng(0).random((watched, patients)) < rate
    rung = alarm_wealth(outcomes, PROMISED, HARM) >= 1 / LEVEL
    return np.where(rung.any(axis=1), rung.argmax(axis=1) + 1.0, np.inf)
