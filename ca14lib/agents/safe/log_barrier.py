"""The logarithmic barrier of a cost limit, continued beyond it. Book: safe/mechanisms.

Interior-point policy optimisation (Liu, Ding and Liu, 2020) adds the barrier to the policy's objective. In a policy
gradient that is a weight on the cost advantage, so the barrier composes with any agent that has one.
"""

import math

import torch
from torch import Tensor


def log_barrier(cost: Tensor, limit: Tensor | float, margin: float = 1e-3) -> Tensor:
    r"""The barrier :math:`B(C)=-\log(d-C)`, and its second-order expansion beyond :math:`d-m`.

    Book eq. log-barrier. The continuation is finite everywhere, increasing, convex and twice continuously
    differentiable, so a gradient step still leads back when the limit is exceeded.

    Args:
        cost: :math:`C`, any shape.
        limit: :math:`d`, broadcast against it.
        margin: :math:`m > 0`, in the units of the cost: the barrier is the logarithm up to this distance.
    Returns:
        Elementwise, differentiable.
    Raises:
        ValueError: If the margin is not positive or a number is not finite.
    """
    room = _room(cost, limit, margin)
    excess = (margin - room) / margin  # positive beyond the margin
    beyond = -math.log(margin) + excess + 0.5 * excess.square()
    return torch.where(room >= margin, -room.clamp_min(margin).log(), beyond)


def log_barrier_weight(
    mean_cost: Tensor, limit: Tensor | float, temperature: float = 20.0, margin: float = 1e-3
) -> Tensor:
    r"""Weight of the cost advantages in a policy gradient, :math:`B'(J_C)/t` (book eq. log-barrier).

    That is :math:`1/(t\,(d-J_C))` inside, and grows linearly from :math:`1/(tm)` beyond the margin. Maximising
    :math:`J-\tfrac1tB(J_C)` by a policy gradient uses the advantage :math:`A-w\,A_C` with this weight.

    Args:
        mean_cost: Mean undiscounted cost of the completed episodes :math:`J_C`, ``[K]``.
        limit: ``[K]`` or a number.
        temperature: :math:`t > 0`: the larger, the nearer to a hard constraint; at the optimum the return given up is
            at most :math:`K/t` (book eq. log-barrier-gap).
        margin: :math:`m > 0`. The optimum keeps the limit only if :math:`1/(tm)` is at least the multiplier of the
            constraint (book eq. log-barrier-margin).
    Returns:
        ``[K]``, positive, without gradient.
    Raises:
        ValueError: If an argument is out of range.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    room = _room(mean_cost, limit, margin).detach()
    excess = ((margin - room) / margin).clamp_min(0.0)
    return torch.where(room >= margin, 1 / room.clamp_min(margin), (1 + excess) / margin) / temperature


def _room(cost: Tensor, limit: Tensor | float, margin: float) -> Tensor:
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"margin must be positive and finite, got {margin}")
    room = torch.as_tensor(limit, dtype=cost.dtype, device=cost.device) - cost
    if not bool(room.isfinite().all()):
        raise ValueError("cost and limit must be finite, got NaN or infinity")
    return room
