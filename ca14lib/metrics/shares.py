"""Returns as shares of an exact optimum."""

from typing import overload

import numpy as np
from numpy.typing import NDArray


@overload
def share_of_range(value: float, zero: float, one: float) -> float: ...
@overload
def share_of_range(value: NDArray[np.float64], zero: float, one: float) -> NDArray[np.float64]: ...
def share_of_range(value: float | NDArray[np.float64], zero: float, one: float) -> float | NDArray[np.float64]:
    """Where a return lies between a reference (share 0) and the optimum (share 1).

    With the uniform random policy as reference it is the share of the optimum (book eq. share-of-optimum), with the
    behaviour it is the gap closed (book eq. gap-closed). Below the reference it is negative.

    Raises:
        ValueError: If the optimum does not exceed the reference.
    """
    if not one > zero:
        raise ValueError(f"the optimum must exceed the reference, got {one} and {zero}")
    return (value - zero) / (one - zero)


def normalized_score(value: float, random: float, expert: float) -> float:
    """Normalised score of continuous control: 0 is the random policy, 100 the expert (book eq. normalised-score).

    Raises:
        ValueError: If the expert does not exceed the random policy.
    """
    if not expert > random:
        raise ValueError(f"the expert's return must exceed the random policy's, got {expert} and {random}")
    return 100 * (value - random) / (expert - random)
