"""The density of tanh of a Gaussian: its integral, and its correction in single precision."""

import math

import numpy as np
import torch
from scipy.integrate import quad

from ca14lib.networks import log_tanh_slope


def log_density(action: float, mean: float, deviation: float, corrected: bool = True) -> float:
    """Of a squashed Gaussian in one dimension."""
    x = math.atanh(action)
    gaussian = -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return gaussian - math.log(1 - action**2) * corrected


def integral(mean: float, deviation: float, corrected: bool = True) -> float:
    """Over all actions; one for a density."""
    return quad(lambda a: math.exp(log_density(a, mean, deviation, corrected)), -1 + 1e-12, 1 - 1e-12, limit=200)[0]


FORMS = {
    "plain": lambda x: torch.log(1 - x.tanh().square()),
    "with 1e-6": lambda x: torch.log(1 - x.tanh().square() + 1e-6),
    "stable": log_tanh_slope,
}


def value_and_slope(form: str, x: float) -> tuple[float, float]:
    """Of log(1 − tanh² x) in single precision."""
    number = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    value = FORMS[form](number)
    value.backward()
    return value.item(), number.grad.item()


if __name__ == "__main__":
    print(f"integral {integral(0.5, 1.0):.4f}, without the correction {integral(0.5, 1.0, corrected=False):.4f}")
    for x in (1.0, 5.0, 9.0, 10.0, 20.0):
        exact = -2 * (np.logaddexp(x, -x) - math.log(2))
        numbers = ", ".join(f"{form} {value_and_slope(form, x)[0]:8.3f}" for form in FORMS)
        print(f"x = {x:4.0f}: exact {exact:8.3f}, {numbers}")
    print({form: value_and_slope(form, 10.0)[1] for form in FORMS})
