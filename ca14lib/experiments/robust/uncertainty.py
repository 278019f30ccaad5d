"""What ensembles and dropout know of a pendulum whose noise is known, here and elsewhere. Book: robust/uncertainty.

A model of the dynamics predicts the change of the angular velocity in one step from angle, angular velocity, torque and
length. The change is measured with noise of a known deviation, which grows with the speed, so that the aleatoric part
of the uncertainty has a true value.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ca14lib.environments.domains import PendulumDomainVector
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.calibration import (
    area_under_risk_coverage,
    coverage_curve,
    coverage_error,
    gaussian_negative_log_likelihood,
    interval_score,
)
from ca14lib.metrics.intervals import interval_table
from ca14lib.networks.uncertainty import DeepEnsemble, MCDropout, Prediction

Array = NDArray[np.float64]

EXAMPLES = (100, 300, 1_000, 3_000, 10_000)
TEST_EXAMPLES = 2_000
STEPS, BATCH_SIZE, LEARNING_RATE = 1_500, 128, 2e-3
MEMBERS, HIDDEN_SIZES, DROPOUT_RATE, PASSES = 5, (64, 64), 0.05, 50
LEAST_NOISE, NOISE_PER_SPEED = 0.05, 0.0125  # rad/s, and per rad/s: 0.05 at rest, 0.1 at 4 rad/s
UNIT = 0.5  # rad/s, of the targets
COVERED = (0.1, 0.3, 0.5, 0.7, 0.9)  # levels whose coverage is kept
SCORES = (
    "epistemic", "aleatoric", "noise", "mean_error", "calibration_error", "log_likelihood_loss", "abstaining",
    "abstaining_total",
    "covered_0.9",
)  # fmt: skip
METHODS = ("ensemble", "bootstrap", "dropout", "single")


class Situation(NamedTuple):
    """Where examples come from: uniform over these ranges, and over angles of at most ``ANGLE``."""

    speed: tuple[float, float] = (0.0, 4.0)  # size in rad/s
    length: tuple[float, float] = (0.8, 1.2)  # m, shown to the model
    mass: float = 1.0  # kg, never shown


TRAINING = Situation()
TESTS: dict[str, Situation] = {
    "held out": TRAINING,
    "faster": Situation(speed=(5.0, 7.0)),  # states that no example showed
    "longer": Situation(length=(1.5, 1.9)),  # a parameter that is observed
    "heavier": Situation(mass=2.0),  # one that is not: the inputs look the same
}
ANGLE = np.pi / 2  # rad, the largest, 0 is upright


class Examples(NamedTuple):
    """Inputs ``[B, 5]``, and per example in units of ``UNIT``: what was measured, what was true, and the noise."""

    inputs: Tensor
    target: Tensor
    truth: Array
    noise: Array


def examples(count: int, situation: Situation, seed: int) -> Examples:
    """Single steps of the pendulum from random states, with noisy measurements of the change of its velocity."""
    rng = np.random.default_rng(seed)
    speed = rng.uniform(*situation.speed, count) * rng.choice((-1.0, 1.0), count)
    state = np.stack([rng.uniform(-ANGLE, ANGLE, count), speed], axis=-1)
    length, action = rng.uniform(*situation.length, count), rng.uniform(-1.0, 1.0, (count, 1))
    pendulum = PendulumDomainVector(count)
    fixed = {"length": length, "mass": situation.mass}
    observation, _ = pendulum.reset(seed=seed, options={"state": state, "parameters": fixed})
    pendulum.step(action)
    truth = (pendulum.state[:, 1] - speed) / UNIT
    noise = (LEAST_NOISE + NOISE_PER_SPEED * abs(speed)) / UNIT
    inputs = np.column_stack([observation[:, :2], speed / 4, action, 5 * (length - 1)])
    target = truth + noise * rng.standard_normal(count)
    return Examples(
        torch.as_tensor(inputs, dtype=torch.float32),
        torch.as_tensor(target, dtype=torch.float32)[:, None],
        truth,
        noise,
    )


def fit(
    network: DeepEnsemble | MCDropout, data: Examples, seed: int, steps: int = STEPS, bootstrap: bool = False
) -> None:
    """Minimise the network's loss by Adam with a rate that falls to 0; every member draws its own batches.

    At a constant rate members would differ by the noise of their last steps, however many the data.

    Args:
        network: Changed in place.
        data: The examples.
        seed: Fixes batches and resamples.
        steps: Gradient steps.
        bootstrap: Give every member a resample of the examples, drawn with replacement and as many; otherwise all
            members have the same.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    members = (network.members,) if isinstance(network, DeepEnsemble) else ()
    count = len(data.target)
    known = torch.randint(count, (*members, count), generator=generator) if bootstrap else None
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        rows = torch.randint(count, (*members, min(BATCH_SIZE, count)), generator=generator)
        if known is not None:
            rows = known.gather(-1, rows)
        optimizer.zero_grad()
        network.loss(data.inputs[rows], data.target[rows]).backward()
        optimizer.step()


def fitted(count: int, seed: int, steps: int = STEPS) -> dict[str, Callable[[Tensor], Prediction]]:
    """Two ensembles and a dropout network for the same examples, as functions of inputs ``[B, 5]``.

    ``bootstrap`` is an ensemble whose members have resamples. ``single`` is the ensemble's first member, which an
    ordinary training would give: it sees no epistemic part.
    """
    data = examples(count, TRAINING, seed)
    ensemble = DeepEnsemble(5, 1, MEMBERS, HIDDEN_SIZES, seed=seed)
    bootstrap = DeepEnsemble(5, 1, MEMBERS, HIDDEN_SIZES, seed=seed)
    dropout = MCDropout(5, 1, DROPOUT_RATE, HIDDEN_SIZES, seed=seed)
    fit(ensemble, data, seed, steps)
    fit(bootstrap, data, seed, steps, bootstrap=True)
    fit(dropout, data, seed, steps)

    def single(inputs: Tensor) -> Prediction:
        with torch.no_grad():
            mean, variance = ensemble(inputs)
        return Prediction(mean[0], variance[0], torch.zeros_like(mean[0]))

    return {
        "ensemble": ensemble.predict,
        "bootstrap": bootstrap.predict,
        "dropout": lambda inputs: dropout.predict(inputs, PASSES),
        "single": single,
    }


def uncertainty_run(examples_seen: int, seed: int, *, steps: int = STEPS) -> list[dict[str, Any]]:
    """Fit the models and judge them on every test.

    Args:
        examples_seen: Training examples.
        seed: Seeds examples, weights, batches and masks.
        steps: Gradient steps.
    Returns:
        A row for each method and test. In rad/s, as roots of mean squares: ``epistemic``, ``aleatoric``, ``noise``
        (what the aleatoric part should be) and ``mean_error`` (distance of the mean from the noiseless truth, what the
        epistemic part should be). ``calibration_error``, ``covered_L`` (share inside the central interval of level L),
        ``log_likelihood_loss``, ``interval_score`` (level 0.9, rad/s), and ``abstaining``: area under the risk-coverage
        curve of squared errors on an even mixture with held-out examples, in the order of the epistemic part, 0 for the
        perfect order and 1 for none; ``abstaining_total`` in the order of the whole variance.
    """
    models = fitted(examples_seen, seed, steps)
    tests = {name: examples(TEST_EXAMPLES, where, 10_000_000 + seed) for name, where in TESTS.items()}
    rows = []
    for method, predict in models.items():
        known = predict(tests["held out"].inputs)
        for name, test in tests.items():
            found = known if name == "held out" else predict(test.inputs)
            rows.append({"method": method, "test": name} | judged(found, test, known, tests["held out"]))
    return rows


def judged(found: Prediction, test: Examples, known: Prediction, held_out: Examples) -> dict[str, float]:
    """The numbers of one row; see :func:`uncertainty_run`."""
    mean, std, target = (_array(part) for part in (found.mean, found.std, test.target))

    def root(squares: Any) -> float:
        return UNIT * float(np.sqrt(np.mean(squares)))

    row = {
        "epistemic": root(_array(found.epistemic)),
        "aleatoric": root(_array(found.aleatoric)),
        "noise": root(test.noise**2),
        "mean_error": root((mean - test.truth) ** 2),
        "calibration_error": coverage_error(mean, std, target),
        "log_likelihood_loss": gaussian_negative_log_likelihood(mean, std, target),
        "interval_score": UNIT * interval_score(mean - 1.6449 * std, mean + 1.6449 * std, target, 0.9),
    }
    for level, share in zip(COVERED, coverage_curve(mean, std, target, COVERED).observed):
        row[f"covered_{level:g}"] = float(share)
    loss = np.concatenate([(_array(known.mean) - held_out.truth) ** 2, (mean - test.truth) ** 2])
    best = area_under_risk_coverage(loss, loss)
    orders = {"abstaining": (known.epistemic, found.epistemic), "abstaining_total": (known.variance, found.variance)}
    for name, (first, second) in orders.items():
        doubt = np.concatenate([_array(first), _array(second)])
        row[name] = (area_under_risk_coverage(doubt, loss) - best) / (loss.mean() - best)
    return row


def uncertainty_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``uncertainty`` and ``uncertainty_runs``: five amounts of data, four methods, four tests."""
    grid: dict[str, list[Any]] = {"examples_seen": list(EXAMPLES)}
    if quick:
        grid = {"examples_seen": [100, 1_000], "steps": [200]}
    runs = finished(sweeps(uncertainty_run, grid)).drop(columns="seconds")
    return {"uncertainty": interval_table(runs, ["method", "test", "examples_seen"], SCORES), "uncertainty_runs": runs}


def _array(values: Tensor) -> Array:
    return values.squeeze(-1).double().numpy()
