"""What is lost while a trained agent goes on learning. Book: evaluation/fine_tuning."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def lost_area(steps: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    r"""Mean gap to the optimum, :math:`\frac1U\int_0^U1-x_u\,du`, trapezoids (book eq. fine-tuning-lost).

    0 is an agent that is optimal from the first step on, 1 one that is as good as the uniform policy all the time.

    Args:
        steps: ``[E]``, increasing, from 0.
        shares: :math:`x_u`, ``[…, E]``, exact shares of the optimum.
    Returns:
        ``[…]``.
    Raises:
        ValueError: If shapes do not fit, steps do not increase from 0, or a share is not finite.
    """
    time, values = _checked(steps, shares)
    return np.trapezoid(1 - values, time, axis=-1) / time[-1]


def dip_area(steps: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    r"""Unlearning: what lies under the start, :math:`\frac1U\int_0^U[x_0-x_u]_+\,du` (book eq. fine-tuning-dip).

    Args and errors: as :func:`lost_area`.
    """
    time, values = _checked(steps, shares)
    return np.trapezoid(np.maximum(values[..., :1] - values, 0.0), time, axis=-1) / time[-1]


def _checked(steps: ArrayLike, shares: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    time, values = np.asarray(steps, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if time.ndim != 1 or len(time) < 2 or values.shape[-1:] != time.shape:
        raise ValueError(
            f"steps must be [E] with E at least 2, one per share, got shapes {time.shape} and {values.shape}"
        )
    if time[0] != 0 or (np.diff(time) <= 0).any():
        raise ValueError(f"steps must increase from 0, got {time}")
    if not np.isfinite(values).all():
        raise ValueError(f"shares must be finite, got {values[~np.isfinite(values)][0]}")
    return time, values
