"""What tests are written with: comparisons that cannot be passed by an empty array, and that say what is wrong."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ca14lib.environments import TabularModel

NUMERIC_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}  # kind of the expected array -> kinds that are accepted
KIND_NAMES = {"b": "truth values", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}


class CheckError(AssertionError):
    """A failed check.

    Attributes:
        hint: What may be told even where the message may not: where the book explains it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if hint == message else f"{message} {hint}".strip())
        self.hint = hint

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message, without the inside of this file before it."""
        return [f"CheckError: {self}"]


def check_close(
    actual: Any, expected: Any, *, rtol: float = 1e-6, atol: float = 1e-8, name: str = "result", hint: str = ""
) -> None:
    """Hold a result against what it should be: shape, kind of numbers, finite, then the values.

    A value is close where ``|actual − expected| ≤ atol + rtol |expected|``.

    Args:
        actual: Number, array, tensor or nested list of numbers, any shape.
        expected: The same; an infinite entry has to be met exactly.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        name: What the result is called in the message.
        hint: Where the book explains it; the only thing that is said about a hidden test.
    Raises:
        CheckError: Saying what is wrong: shape, kind, or the first entry that differs, with both values.
        ValueError: If ``expected`` itself is not numeric or has entries that are not a number.
    """
    right = _numbers(expected)
    if right is None or right.dtype.kind not in NUMERIC_KINDS or np.isnan(right).any():
        raise ValueError(f"expected must consist of numbers, got {type(expected).__name__}")
    found = _numbers(actual)
    if found is None:
        raise CheckError(f"{name}: expected {KIND_NAMES[right.dtype.kind]}, got {_described(actual)}.", hint)
    if found.shape != right.shape:
        raise CheckError(f"{name}: expected shape {right.shape}, got {found.shape}.", hint)
    if found.dtype.kind not in NUMERIC_KINDS[right.dtype.kind]:
        raise CheckError(f"{name}: expected {KIND_NAMES[right.dtype.kind]}, got an array of {found.dtype}.", hint)
    found, right = (array.astype(np.float64) if array.dtype.kind == "f" else array for array in (found, right))
    bad = ~np.isfinite(found) & (found != right)
    if bad.any():
        raise CheckError(f"{name}{_place(bad)} is {_entry(found, bad)}, which is not finite.", hint)
    if right.dtype.kind != "f":
        wrong = found != right
    else:
        with np.errstate(invalid="ignore"):  # ∞ − ∞, where both are equal
            wrong = (found != right) & ~(abs(found - right) <= atol + rtol * abs(right))
        wrong |= np.isinf(right) & (found != right)
    if wrong.any():
        raise CheckError(
            f"{name}{_place(wrong)} is {_entry(found, wrong)}, expected {_entry(right, wrong)}"
            + (f" ({int(wrong.sum())} of {wrong.size} differ)." if wrong.size > 1 else "."),
            hint,
        )


def check_true(condition: Any, message: str) -> None:
    """Hold that a condition is true: a bool or an array of one; no other object can claim to be true.

    Raises:
        CheckError: With the message.
    """
    found = _numbers(condition)
    if found is None or found.dtype.kind != "b" or found.size != 1 or not found.item():
        raise CheckError(message, message)


def check_policy(
    act: Callable[[NDArray], Any],
    model: "TabularModel",
    at_least: float,
    *,
    episodes: int | None = None,
    discount: float = 1.0,
    horizon: int | None = None,
    name: str = "policy",
    hint: str = "",
) -> float:
    """Hold a policy's exact return on a finite problem against a mark between the uniform policy and the optimum.

    Args:
        act: From the observations of all states ``[S, …]`` to actions ``[S]`` or probabilities ``[S, A]``. Where the
            agent sees the remaining time it is asked once for every step.
        model: The finite problem.
        at_least: The mark: 0 is the uniform policy, 1 the optimum.
        episodes: Estimate the return by that many simulated episodes (seed 0) instead, for an ``act`` that draws.
        discount: Of the evaluation.
        horizon: Steps of an episode where the problem itself has no limit and a policy may never end one.
        name: What the policy is called in the message.
        hint: Where the book explains it.
    Returns:
        The share.
    Raises:
        CheckError: If what ``act`` returns is not a policy, or its share is below the mark.
        ImportError: In the student's sandbox, which does not hold the solvers.
    """
    from ca14lib.evaluation.exact import ExactEvaluation

    judge = ExactEvaluation(model, discount=discount, horizon=horizon)
    if episodes is not None:
        value = _simulated_return(act, model, episodes, discount, horizon, name, hint)
    elif model.observes_time:
        assert model.horizon is not None
        tables = [_policy_rows(act, model.timed_observation(t), model, name, hint) for t in range(model.horizon)]
        value = judge.of_policy(np.stack(tables))["return"]
    else:
        value = judge.of_policy(_policy_rows(act, model.observation, model, name, hint))["return"]
    assert judge.reference is not None
    assert judge.optimum is not None
    share = float((value - judge.reference) / (judge.optimum - judge.reference))
    if not share >= at_least:
        raise CheckError(
            f"{name}: reaches {share:.3f} of the way from the uniform policy ({judge.reference:.4g}) to the optimum "
            f"({judge.optimum:.4g}); passing means at least {at_least:.3f}.",
            hint,
        )
    return share


def _policy_rows(
    act: Callable[[NDArray], Any], observation: NDArray, model: "TabularModel", name: str, hint: str
) -> NDArray[np.float64]:
    """What ``act`` says for the observations ``[n, …]``, as probabilities ``[n, A]``."""
    count, actions = len(observation), model.num_actions
    answer = _numbers(act(observation.copy()))
    if answer is None or answer.shape not in ((count,), (count, actions)) or answer.dtype.kind not in "iuf":
        shape = "no array of numbers" if answer is None else f"shape {answer.shape} of {answer.dtype}"
        raise CheckError(
            f"{name}: expected actions ({count},) or probabilities ({count}, {actions}), got {shape}.", hint
        )
    if answer.ndim == 1:
        if answer.dtype.kind == "f" or (answer < 0).any() or (answer >= actions).any():
            raise CheckError(f"{name}: actions must be whole numbers in 0…{actions - 1}.", hint)
        return np.eye(actions)[answer.astype(np.intp)]
    rows = answer.astype(np.float64)
    if not np.isfinite(rows).all() or (rows < 0).any() or (abs(rows.sum(axis=1) - 1) > 1e-4).any():
        raise CheckError(f"{name}: each row of probabilities must be at least 0 and sum to 1.", hint)
    return rows / rows.sum(axis=1, keepdims=True)


def _simulated_return(
    act: Callable[[NDArray], Any],
    model: "TabularModel",
    episodes: int,
    discount: float,
    horizon: int | None,
    name: str,
    hint: str,
) -> float:
    """Mean return of ``episodes`` copies that are stepped together, each until its first end."""
    from ca14lib.environments.tabular import TabularEnvironment

    if model.horizon is None and horizon is None:
        raise ValueError("simulated episodes need a horizon: the model has none")
    environment = TabularEnvironment(model, episodes, time_limit=None if model.horizon is not None else horizon)
    generator = np.random.default_rng(0)
    observation, _ = environment.reset(seed=0)
    total, alive = np.zeros(episodes), np.ones(episodes, dtype=bool)
    for step in range(model.horizon or horizon or 0):
        cumulative = _policy_rows(act, np.asarray(observation), model, name, hint).cumsum(axis=1)
        action = (generator.random((episodes, 1)) * cumulative[:, -1:] >= cumulative).sum(axis=1)
        observation, reward, terminated, truncated, _ = environment.step(np.minimum(action, model.num_actions - 1))
        total += discount**step * np.where(alive, reward, 0.0)
        alive &= ~(terminated | truncated)
        if not alive.any():
            break
    return float(total.mean())


def _numbers(value: Any) -> NDArray | None:
    """A number, array, tensor or nested list as a plain array; None if it is none of these. Asks no foreign method."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return np.array(value, subok=False)
    if not isinstance(value, bool | int | float | np.generic | list | tuple):
        return None
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):  # ragged lists, or entries that are no numbers
        return None
    return array if array.dtype.kind in NUMERIC_KINDS else None


def _described(value: Any) -> str:
    """What a wrong result is, in words."""
    if value is None:
        return "None (does the function return anything?)"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} that is not a regular array of numbers"
    return f"{type(value).__name__}"


def _place(where: NDArray[np.bool_]) -> str:
    """Index of the first marked entry, as it is written behind a name: ``[1, 2]``, or nothing for a single number."""
    return f"[{', '.join(str(i) for i in np.argwhere(where)[0])}]" if where.ndim else ""


def _entry(array: NDArray, where: NDArray[np.bool_]) -> str:
    value = array[where][0]
    return f"{value:.8g}" if array.dtype.kind == "f" else str(value)
