"""A guarantee from one answer of nature, beside the true one."""

from dataclasses import replace

from ca14lib.environments import river_swim_model
from ca14lib.solvers import value_iteration
from ca14lib.solvers.robust import robust_value_iteration, worst_case_l1

MODEL, DISCOUNT = river_swim_model(), 0.95


def colleagues_guarantee(radius: float) -> float:
    nominal = value_iteration(MODEL, DISCOUNT)
    kernel = worst_case_l1(MODEL.transition, nominal.value, radius)
    return value_iteration(replace(MODEL, transition=kernel), DISCOUNT).optimal_return


def guarantee(radius: float) -> float:
    return robust_value_iteration(MODEL, radius, discount=DISCOUNT).robust_return


if __name__ == "__main__":
    for radius in (0.2, 0.3, 0.4, 0.5):
        print(radius, round(colleagues_guarantee(radius), 3), round(guarantee(radius), 3))
