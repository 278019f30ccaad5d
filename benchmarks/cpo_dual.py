"""The step of constrained policy optimisation against an exact convex solver, on random problems.

    python -m benchmarks.cpo_dual [--problems 20000] [--seed 0]

A problem is min gᵀx subject to bᵀx + c ≤ 0 and ½ xᵀHx ≤ δ. Two formulas for its multipliers are asked for their step:
``descent`` is the course's, where g is the gradient of a loss; ``mixed`` is the closed form with the gradient of the
return, −g, put in for g, whose multiplier is then used in a step of descent, as popular implementations do. A step is
correct if it keeps both constraints and reaches the optimum, each up to ``TOLERANCE`` of the largest change that the
trust region allows; where no step keeps the constraint, it must lower the cost as far as the trust region allows.

The optimum lies in the span of H⁻¹g and H⁻¹b, so the solver (Clarabel, through CVXPY) sees problems in the plane.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

import cvxpy as cp
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.safe.cpo import Dual, trust_region_dual
from ca14lib.experiments import write_results

TOLERANCE = 1e-4
CHUNK = 500  # problems solved in one call

Array = NDArray[np.float64]
Formula = Callable[[float, float, float, float, float], Dual]


class Problem(NamedTuple):
    """min gᵀx subject to bᵀx + c ≤ 0 and ½ xᵀHx ≤ δ."""

    hessian: Array  # [n, n], positive definite
    objective: Array  # g, [n]
    cost: Array  # b, [n]
    excess: float  # c
    radius: float  # δ

    def forms(self) -> tuple[float, float, float]:
        """q, r and s."""
        solved = np.linalg.solve(self.hessian, np.stack([self.objective, self.cost], axis=1))
        g, b = self.objective, self.cost
        return float(g @ solved[:, 0]), float(g @ solved[:, 1]), float(b @ solved[:, 1])


def random_problems(count: int, seed: int) -> list[Problem]:
    """Problems of 2 to 12 dimensions and many scales; every fourth lies at an edge of the dual's cases."""
    rng = np.random.default_rng(seed)
    problems = []
    for number in range(count):
        size = int(rng.integers(2, 13))
        root = rng.standard_normal((size, size))
        hessian = root @ root.T / size + 0.1 * np.eye(size)
        g, b = rng.standard_normal(size), rng.standard_normal(size)
        g, b = g * 10 ** rng.uniform(-3, 1), b * 10 ** rng.uniform(-3, 1)
        radius = 10 ** rng.uniform(-3, 0)
        edge = number // 4 % 6 if number % 4 == 0 else None
        if edge in (0, 1):  # objective and cost agree, or oppose each other, but for rounding
            along = math.copysign(float(np.linalg.norm(b) / np.linalg.norm(g)), 0.5 - edge) * g
            b = along * (1 + 1e-12 * rng.standard_normal(size))
        if edge == 2:  # the cost does not depend on the step
            b = 1e-14 * b if rng.random() < 0.5 else 0.0 * b
        reach = math.sqrt(2 * radius * max(float(b @ np.linalg.solve(hessian, b)), 1e-6 if edge == 2 else 0.0))
        c = reach * float(rng.uniform(-1.5, 1.5))
        if edge == 3:  # the present policy lies on the limit
            c = 0.0
        if edge == 4:  # the limit touches the trust region
            c = math.copysign(reach, c) * (1 + 1e-12 * float(rng.standard_normal()))
        if edge == 5:  # there is nothing to gain
            g = 0.0 * g
        problems.append(Problem(hessian, g, b, c, float(radius)))
    return problems


def descent_multipliers(q: float, r: float, s: float, c: float, delta: float) -> Dual:
    """The course's: looked up when called, so that a planted fault is what runs."""
    return trust_region_dual(q, r, s, c, delta)


def mixed_multipliers(q: float, r: float, s: float, c: float, delta: float) -> Dual:
    """The closed form as OmniSafe, SafePO and others evaluate it: r is that of the return's gradient, of sign −."""
    tiny, ascent = 1e-8, -r
    cut, slack = q - ascent**2 / (s + tiny), 2 * delta - c**2 / (s + tiny)
    plain = math.sqrt(q / (2 * delta))
    if c < 0 and (s <= 1e-6 or slack < 0):
        return Dual(3, plain, 0.0)
    if c >= 0 and slack < 0:
        return Dual(0, math.sqrt((s + tiny) / (2 * delta)), 1.0)
    border = ascent / (c + tiny)
    low, high = (0.0, border), (border, math.inf)
    first, second = (low, high) if c < 0 else (high, low)
    binding = min(max(math.sqrt(max(cut, 0.0) / max(slack, tiny)), first[0]), first[1])
    free = min(max(plain, second[0]), second[1])
    value_binding = -0.5 * (cut / (binding + tiny) + slack * binding) - ascent * c / (s + tiny)
    value_free = -0.5 * (q / (free + tiny) + 2 * delta * free)
    trust = binding if value_binding >= value_free else free
    return Dual(2 if c < 0 else 1, trust, max(0.0, trust * c - ascent) / (s + tiny))


FORMULAS: dict[str, Formula] = {"descent": descent_multipliers, "mixed": mixed_multipliers}


def step_of(problem: Problem, formula: Formula) -> Array:
    """The step ``[n]`` that a formula's multipliers stand for (book eqs. cpo-step and cpo-recovery)."""
    q, r, s = problem.forms()
    dual = formula(q, r, s, problem.excess, problem.radius)
    if dual.case == 0:
        towards = dual.cost_multiplier / dual.trust_multiplier * problem.cost
    elif dual.trust_multiplier == 0.0:
        towards = np.zeros_like(problem.cost)
    else:
        towards = (problem.objective + dual.cost_multiplier * problem.cost) / dual.trust_multiplier
    return -np.linalg.solve(problem.hessian, towards)


class PlaneSolver:
    """Solves up to ``size`` problems min aᵀz, z₁ ≤ level, |z| ≤ 1 in the plane, as one convex programme."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.point, self.objective, self.level = cp.Variable((2, size)), cp.Parameter((2, size)), cp.Parameter(size)
        constraints = [cp.norm(self.point, axis=0) <= 1, self.point[0] <= self.level]
        self.programme = cp.Problem(cp.Minimize(cp.sum(cp.multiply(self.objective, self.point))), constraints)

    def __call__(self, objective: Array, level: Array) -> Array:
        """The least values ``[m]`` for objectives ``[2, m]`` and levels ``[m]`` of at least −1."""
        count = len(level)
        self.objective.value, self.level.value = np.zeros((2, self.size)), np.ones(self.size)
        self.objective.value[:, :count], self.level.value[:count] = objective, level
        self.programme.solve(solver=cp.CLARABEL)
        if self.programme.status != "optimal":
            raise RuntimeError(f"the reference solver ended with status {self.programme.status}")
        return (self.objective.value * self.point.value).sum(axis=0)[:count]


def verdicts(problems: Sequence[Problem], formulas: Sequence[Formula]) -> Iterator[tuple[list[bool], list[bool]]]:
    """For every problem which formulas' steps are correct, and which break the constraint though some step keeps it."""
    solve = PlaneSolver(CHUNK)
    for start in range(0, len(problems), CHUNK):
        chunk = problems[start : start + CHUNK]
        forms = np.array([problem.forms() for problem in chunk]).T
        # in units of the largest changes: the objective's direction in the plane, the limit along its first axis
        gain, reach = (np.sqrt(2 * form * [p.radius for p in chunk]) for form in (forms[0], forms[2]))
        excess = np.array([problem.excess for problem in chunk])
        product = np.sqrt(forms[0] * forms[2])
        along = np.divide(forms[1], product, out=np.zeros_like(product), where=product > 0).clip(-1, 1)
        direction = np.where(gain > 0, [along, np.sqrt(1 - along**2)], 0.0)
        flat = reach <= 1e-8 * np.abs(excess)  # the step does not reach the limit: the constraint is left out
        level = np.where(flat, 1.0, np.divide(-excess, reach, out=np.ones_like(reach), where=~flat))
        least_cost = solve(np.stack([np.ones_like(level), np.zeros_like(level)]), np.ones_like(level))
        feasible = level >= least_cost
        # a sliver of the disc that is thinner than this has no inside for the solver to move in
        best = solve(direction, np.where(feasible, level, 1.0).clip(1e-9 - 1, 1.0))
        for index, problem in enumerate(chunk):
            right, broken = [], []
            for formula in formulas:
                step = step_of(problem, formula)
                size = 0.5 * step @ problem.hessian @ step / problem.radius
                cost = 0.0 if flat[index] else float(problem.cost @ step) / reach[index]
                value = 0.0 if gain[index] == 0 else float(problem.objective @ step) / gain[index]
                kept = cost <= level[index] + TOLERANCE
                reached = value <= best[index] + TOLERANCE if feasible[index] else cost <= least_cost[index] + TOLERANCE
                right.append(bool(size <= 1 + TOLERANCE and (kept or not feasible[index]) and reached))
                broken.append(bool(feasible[index] and not kept))
            yield right, broken


def count_dual_matches(problems: int, seed: int) -> pd.DataFrame:
    """How often each formula finds the exact step.

    Args:
        problems: Number of random problems.
        seed: Fixes them.
    Returns:
        Columns ``formula``, ``problems``, ``correct`` and ``violated``: shares of the problems whose step is right, and
        whose step breaks a constraint that could have been kept.
    """
    found = np.array(list(verdicts(random_problems(problems, seed), list(FORMULAS.values()))))  # [P, 2, formulas]
    correct, violated = found.mean(axis=0)
    return pd.DataFrame({"formula": list(FORMULAS), "problems": problems, "correct": correct, "violated": violated})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = count_dual_matches(options.problems, options.seed)
    print(table.to_string(index=False))
    command = "python -m benchmarks.cpo_dual"
    if (options.problems, options.seed) != (20_000, 0):
        command += f" --problems {options.problems} --seed {options.seed}"
    solver = {package: version(package) for package in ("cvxpy", "clarabel")}
    write_results(
        "safe_cpo_dual", table, command=command, modules=["ca14lib.agents.safe.cpo"], seeds=[options.seed],
        tolerance=TOLERANCE, solver=solver,
    )  # fmt: skip


if __name__ == "__main__":
    main()
