"""Two constraints that every step has to satisfy, and a step that does not."""

from collections.abc import Callable

import numpy as np

from ca14lib.agents.safe.cpo import trust_region_dual


def faulty_step(ascent: np.ndarray, b: np.ndarray, c: float, delta: float) -> np.ndarray:
    q, r, s = ascent @ ascent, ascent @ b, b @ b
    dual = trust_region_dual(q, r, s, c, delta)
    return (ascent - dual.cost_multiplier * b) / dual.trust_multiplier


def mended_step(ascent: np.ndarray, b: np.ndarray, c: float, delta: float) -> np.ndarray:
    q, r, s = ascent @ ascent, -ascent @ b, b @ b
    dual = trust_region_dual(q, r, s, c, delta)
    return (ascent - dual.cost_multiplier * b) / dual.trust_multiplier


def failures(step: Callable[..., np.ndarray], problems: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """Shares of random problems in cases 1 and 2 in which the limit, and the trust region, is broken."""
    generator = np.random.default_rng(seed)
    broken = []
    while len(broken) < problems:
        ascent, b, c = generator.normal(size=5), generator.normal(size=5), float(generator.normal())
        if trust_region_dual(ascent @ ascent, -ascent @ b, b @ b, c, 0.1).case in (1, 2):
            x = step(ascent, b, c, 0.1)
            broken.append((b @ x + c > 1e-7, x @ x / 2 > 0.1 + 1e-7))
    limit, region = np.mean(broken, axis=0)
    return float(limit), float(region)


if __name__ == "__main__":
    print("faulty", failures(faulty_step))
    print("mended", failures(mended_step))
