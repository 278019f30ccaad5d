"""What a learner keeps of earlier tasks, and what it takes from them to later ones. Book: evaluation/continual.

Every function reads one matrix of shares: row e is what the policy is worth on every task after stage e.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def average_share(shares: ArrayLike) -> float:
    r"""Mean over tasks after the last stage, :math:`\frac1M\sum_jx_{E,j}` (book eq. continual-average).

    Args:
        shares: :math:`x_{e,j}`, ``[E, M]``: after stage e, on task j.
    Raises:
        ValueError: If it is no matrix of finite numbers.
    """
    return float(_matrix(shares)[-1].mean())


def forgetting(shares: ArrayLike, order: Sequence[int]) -> float:
    r"""Mean loss since a task was known best, over the tasks that are not trained last (book eq. continual-forgetting).

    Chaudhry et al. (2018); with one pass through the tasks it is their definition.

    Args:
        shares: :math:`x_{e,j}`, ``[E, M]``, E at least 2.
        order: Task of every stage, ``[E]``.
    Raises:
        ValueError: If shapes do not fit, or there is only one task in the order.
    """
    matrix, tasks, first = _checked(shares, order)
    earlier = [task for task in first if task != tasks[-1]]
    if not earlier:
        raise ValueError(f"forgetting needs at least two tasks in the order, got {list(order)}")
    return float(np.mean([matrix[first[task] : -1, task].max() - matrix[-1, task] for task in earlier]))


def backward_transfer(shares: ArrayLike, order: Sequence[int]) -> float:
    r"""Mean change since a task was first learned (book eq. continual-backward; Lopez-Paz and Ranzato, 2017).

    Args and errors: as :func:`forgetting`. Negative values are losses.
    """
    matrix, tasks, first = _checked(shares, order)
    earlier = [task for task in first if task != tasks[-1]]
    if not earlier:
        raise ValueError(f"backward transfer needs at least two tasks in the order, got {list(order)}")
    return float(np.mean([matrix[-1, task] - matrix[first[task], task] for task in earlier]))


def forward_transfer(shares: ArrayLike, order: Sequence[int], start: ArrayLike) -> float:
    r"""Mean head start on a task just before it is first trained (book eq. continual-forward; same paper).

    Args:
        shares: :math:`x_{e,j}`, ``[E, M]``.
        order: Task of every stage, ``[E]``.
        start: :math:`b_j`, ``[M]``, shares of the untrained learner.
    Raises:
        ValueError: If shapes do not fit, or no task begins after the first stage.
    """
    matrix, _, first = _checked(shares, order)
    base = np.asarray(start, dtype=np.float64)
    if base.shape != matrix.shape[1:] or not np.isfinite(base).all():
        raise ValueError(f"start must hold {matrix.shape[1]} finite shares, got {base}")
    later = {task: stage for task, stage in first.items() if stage > 0}
    if not later:
        raise ValueError(f"forward transfer needs a task that begins after the first stage, got {list(order)}")
    return float(np.mean([matrix[stage - 1, task] - base[task] for task, stage in later.items()]))


def unavoidable_forgetting(best_single: float, tasks: int) -> float:
    r"""Least forgetting of whoever masters every task in its turn, :math:`\frac{M(1-x^*)}{M-1}`.

    Book eq. continual-unavoidable; for one pass without a task cue.

    Args:
        best_single: :math:`x^*`, the best average share that one policy can have, at most 1.
        tasks: :math:`M`, at least 2.
    """
    if tasks < 2:
        raise ValueError(f"tasks must be at least 2, got {tasks}")
    if not best_single <= 1:
        raise ValueError(f"best_single must be at most 1, got {best_single}")
    return tasks * (1 - best_single) / (tasks - 1)


def _matrix(shares: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(shares, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"shares must have shape [stages, tasks] and not be empty, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"shares must be finite, got {matrix[~np.isfinite(matrix)][0]}")
    return matrix


def _checked(
    shares: ArrayLike, order: Sequence[int]
) -> tuple[NDArray[np.float64], list[int], dict[int, int]]:  # fmt: skip
    """The matrix, the order, and the first stage of every task."""
    matrix, tasks = _matrix(shares), [int(task) for task in order]
    if len(tasks) != len(matrix) or not all(0 <= task < matrix.shape[1] for task in tasks):
        raise ValueError(
            f"order must name one of {matrix.shape[1]} tasks for each of {len(matrix)} stages, got {tasks}"
        )
    return matrix, tasks, {task: tasks.index(task) for task in dict.fromkeys(tasks)}
