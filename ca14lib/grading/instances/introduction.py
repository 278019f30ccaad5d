"""Personal instances of the introduction: a belief, a chain, a decision process and a record of rewards."""

from typing import Any

import numpy as np


def draw(generator: np.random.Generator) -> dict[str, Any]:
    """Numbers of a student's own for the first four tasks.

    Keys: ``belief`` (prior ``[K]``, likelihood ``[K, O]``, value ``[K]``, observed ``[n]``), ``chain`` (transition
    ``[S, S]`` of period 2, reward ``[S]``), ``process`` (transition ``[S, A, S]``, reward ``[S, A, S]``, discount
    ``[S, A, S]``, policy ``[S, A]``) and ``record`` (reward, ended and value, ``[T, N]``, discount, steps).
    """
    return {
        "belief": _belief(generator),
        "chain": _chain(generator),
        "process": _process(generator),
        "record": _record(generator),
    }


def _belief(generator: np.random.Generator) -> dict[str, Any]:
    """Three sources of signals; the true one is drawn from the prior."""
    prior, likelihood = generator.dirichlet(np.full(3, 4.0)), generator.dirichlet(np.full(4, 2.0), 3)
    observed = generator.choice(4, size=12, p=likelihood[generator.choice(3, p=prior)])
    return {
        "prior": prior.tolist(),
        "likelihood": likelihood.tolist(),
        "value": generator.integers(-9, 10, size=3).astype(float).tolist(),
        "observed": observed.tolist(),
    }


def _chain(generator: np.random.Generator) -> dict[str, Any]:
    """Two groups of states that take turns, so that powers of the matrix do not settle."""
    first, second = (int(size) for size in generator.integers(2, 5, size=2))
    transition = np.zeros((first + second, first + second))
    transition[:first, first:] = generator.dirichlet(np.ones(second), first)
    transition[first:, :first] = generator.dirichlet(np.ones(first), second)
    return {"transition": transition.tolist(), "reward": generator.normal(0, 2, first + second).round(2).tolist()}


def _process(generator: np.random.Generator) -> dict[str, Any]:
    """Six states, three actions; a transition ends the process, goes on, or takes its time and discounts more."""
    transition = generator.dirichlet(np.full(6, 0.5), (6, 3))
    return {
        "transition": transition.tolist(),
        "reward": generator.normal(0, 1, transition.shape).round(2).tolist(),
        "discount": generator.choice([0.0, 0.8, 0.95], transition.shape, p=[0.1, 0.4, 0.5]).tolist(),
        "policy": generator.dirichlet(np.ones(3), 6).tolist(),
    }


def _record(generator: np.random.Generator) -> dict[str, Any]:
    """Three environments side by side for eight steps."""
    shape = (8, 3)
    return {
        "reward": generator.normal(0, 1, shape).round(2).tolist(),
        "ended": (generator.random(shape) < 0.2).tolist(),
        "value": generator.normal(0, 2, shape).round(2).tolist(),
        "discount": float(generator.choice([0.8, 0.9, 0.95])),
        "steps": int(generator.integers(2, 5)),
    }
