"""The worst row of three balls around one move."""

import numpy as np

from ca14lib.solvers.robust import worst_case_kl, worst_case_l1, worst_case_linf

NOMINAL, VALUES = np.array([0.5, 0.3, 0.2]), np.array([10.0, 0.0, 4.0])


def worst_rows() -> dict[str, np.ndarray]:
    return {
        "L1": worst_case_l1(NOMINAL, VALUES, 0.4),
        "L∞": worst_case_linf(NOMINAL, VALUES, 0.2),
        "KL inside": worst_case_kl(NOMINAL, VALUES, 0.4**2 / 2),
    }


def divergence(row: np.ndarray) -> float:
    return float(row @ np.log(row / NOMINAL))


def kl_value(radius: float) -> float:
    return float(worst_case_kl(NOMINAL, VALUES, radius) @ VALUES)


if __name__ == "__main__":
    for name, row in worst_rows().items():
        print(name, row.round(3), round(row @ VALUES, 2))
    own = divergence(worst_rows()["L1"])
    print("divergence", round(own, 3), "worst value of its ball", round(kl_value(own), 2))
