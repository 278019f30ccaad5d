r"""Perturbations within a ball: projections, FGSM (Goodfellow et al., 2015) and PGD (Madry et al., 2018).

Book: robust/adversarial. Everything here is in the units that networks see, those of normalised observations, and a
*loss* is what the attacker raises: a function of perturbed observations ``[B, …]`` to one number for each, ``[B]``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ca14lib.agents.base import require

Loss = Callable[[Tensor], Tensor]
NORMS = ("linf", "l2")


def require_epsilon(epsilon: float) -> None:
    """Raise a ValueError unless ε is a finite number of at least 0."""
    real = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    require(real and 0 <= epsilon < math.inf, "epsilon", epsilon, "a finite number of at least 0")


def require_norm(norm: str) -> None:
    """Raise a ValueError unless the norm is known."""
    require(norm in NORMS, "norm", norm, " or ".join(NORMS))


def project(perturbation: Tensor, epsilon: float, norm: str = "linf") -> Tensor:
    r"""The nearest point of the ball :math:`\{\delta:\lVert\delta\rVert\le\epsilon\}` (book eq. attack-projection).

    Args:
        perturbation: :math:`\delta`, ``[B, …]``; the norm is that of each row.
        epsilon: :math:`\epsilon \ge 0`.
        norm: ``"linf"``, which cuts every number at ±ε, or ``"l2"``, which shortens the row.
    Returns:
        ``[B, …]``.
    """
    require_epsilon(epsilon)
    require_norm(norm)
    if norm == "linf":
        return perturbation.clamp(-epsilon, epsilon)
    length = _length(perturbation)
    return perturbation * torch.where(length > epsilon, epsilon / length.clamp(min=1e-30), torch.ones_like(length))


def steepest(gradient: Tensor, norm: str = "linf") -> Tensor:
    r"""The perturbation of size 1 along which a linear function grows most (book eq. attack-fgsm).

    Args:
        gradient: ``[B, …]``.
        norm: ``"linf"``: the sign; ``"l2"``: the gradient over its length. Where the gradient is 0 so is the answer.
    Returns:
        ``[B, …]``, without a gradient.
    """
    require_norm(norm)
    gradient = gradient.detach()
    return gradient.sign() if norm == "linf" else gradient / _length(gradient).clamp(min=1e-30)


def random_perturbation(like: Tensor, epsilon: float, generator: torch.Generator, norm: str = "linf") -> Tensor:
    """Perturbations drawn uniformly from the ball, with the shape ``[B, …]`` of ``like``."""
    require_epsilon(epsilon)
    require_norm(norm)
    if norm == "linf":
        uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return epsilon * (2 * uniform - 1)
    direction = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    shape = (len(like), *[1] * (like.ndim - 1))
    radius = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype) ** (1 / like[0].numel())
    return epsilon * radius * direction / _length(direction).clamp(min=1e-30)


def loss_gradient(loss: Loss, observation: Tensor) -> tuple[Tensor, Tensor]:
    """The loss ``[B]`` of every observation and its gradient ``[B, …]`` there; no parameter's gradient is touched.

    Raises:
        ValueError: If the loss has no gradient with respect to the observation.
    """
    with torch.enable_grad():
        point = observation.detach().clone().requires_grad_()
        value = loss(point)
        if not value.requires_grad:
            raise ValueError(
                "the loss has no gradient with respect to the observation: it needs a differentiable agent"
            )
        (gradient,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
    if gradient is None:
        raise ValueError("the loss has no gradient with respect to the observation: it needs a differentiable agent")
    return value.detach(), gradient


def fgsm(
    loss: Loss, observation: Tensor, epsilon: float, generator: torch.Generator | None = None, *, norm: str = "linf"
) -> Tensor:
    r"""One step of size ε, then the ball, :math:`s + \Pi_\epsilon(\delta_0 + \epsilon\operatorname{sign}\nabla L)`.

    Book eq. attack-fgsm. The fast gradient sign method: exact where the loss is linear.

    Args:
        loss: What to raise.
        observation: ``[B, …]``, the centres of the balls.
        epsilon: :math:`\epsilon \ge 0`.
        generator: Draws the start :math:`\delta_0` from the ball; None starts at the centre, where a divergence from
            the policy at the centre has no gradient (book eq. attack-zero-gradient).
        norm: ``"linf"`` or ``"l2"``.
    Returns:
        Perturbed observations ``[B, …]``, without a gradient.
    """
    require_epsilon(epsilon)
    centre = observation.detach()
    start = torch.zeros_like(centre)
    if generator is not None:
        start = random_perturbation(centre, epsilon, generator, norm)
    _, gradient = loss_gradient(loss, centre + start)
    return centre + project(start + epsilon * steepest(gradient, norm), epsilon, norm)


def pgd(
    loss: Loss,
    observation: Tensor,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
    *,
    norm: str = "linf",
    restarts: int = 1,
    best: bool = True,
) -> Tensor:
    r"""Projected gradient ascent, :math:`\delta\leftarrow\Pi_\epsilon(\delta+\eta\operatorname{sign}\nabla L)`.

    Book eq. attack-pgd; the gradient is that at :math:`s+\delta`.

    Args:
        loss: What to raise.
        observation: ``[B, …]``, the centres of the balls.
        epsilon: :math:`\epsilon \ge 0`.
        steps: Gradient steps, at least 1.
        step_size: :math:`\eta`; None for 2.5 ε over the number of steps, with which the border is within reach.
        generator: Draws the start from the ball; None starts at the centre (see :func:`fgsm`).
        norm: ``"linf"`` or ``"l2"``.
        restarts: Ascents, each from a start of its own; of every row the best is kept.
        best: Return the best point that an ascent has visited; False returns its last, and saves one evaluation.
    Returns:
        Perturbed observations ``[B, …]``, without a gradient.
    """
    require_epsilon(epsilon)
    for name, value in (("steps", steps), ("restarts", restarts)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        require(whole, name, value, "a positive integer")
    require(step_size is None or 0 < step_size < math.inf, "step_size", step_size, "positive and finite, or None")
    require(restarts == 1 or generator is not None, "restarts", restarts, "1 without a generator: all starts are equal")
    centre, size = observation.detach(), 2.5 * epsilon / steps if step_size is None else step_size
    highest = torch.full((len(centre),), -torch.inf, dtype=centre.dtype, device=centre.device)
    answer = centre.clone()

    def keep(value: Tensor, point: Tensor) -> None:
        nonlocal highest, answer
        better = value > highest
        answer = torch.where(better.reshape(-1, *[1] * (centre.ndim - 1)), point, answer)
        highest = torch.where(better, value, highest)

    for _ in range(restarts):
        perturbation = torch.zeros_like(centre)
        if generator is not None:
            perturbation = random_perturbation(centre, epsilon, generator, norm)
        for _ in range(steps):
            reached, gradient = loss_gradient(loss, centre + perturbation)
            if best or restarts > 1:
                keep(reached, centre + perturbation)
            perturbation = project(perturbation + size * steepest(gradient, norm), epsilon, norm)
        if not best and restarts == 1:
            return centre + perturbation
        with torch.no_grad():
            keep(loss(centre + perturbation), centre + perturbation)
    return answer


# What attackers raise


def margin_loss(log_prob: Tensor, action: Tensor) -> Tensor:
    r"""Lead of the best other action over the given one, :math:`\max_{b\ne a}\log\pi(b)-\log\pi(a)`.

    Book eq. attack-margin. Positive exactly where another action has become the most probable; differences of
    log-probabilities are those of the logits, so nothing saturates where the policy is sure.

    Args:
        log_prob: ``[B, A]`` of the perturbed observations (or scores: Q-values, logits); A at least 2.
        action: ``[B]``, the action taken without a perturbation.
    Returns:
        ``[B]``.
    """
    own = log_prob.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    others = log_prob.scatter(-1, action.unsqueeze(-1), -torch.inf)
    return others.max(dim=-1).values - own


def expected_value_loss(log_prob: Tensor, action_value: Tensor) -> Tensor:
    r"""Minus the value, under the true state, of what the perturbed policy does (book eq. attack-critic).

    :math:`-\sum_a\pi(a\mid s+\delta)\,Q(s,a)`; the gradient runs through the policy alone.

    Args:
        log_prob: ``[B, A]`` of the perturbed observations.
        action_value: ``[B, A]``, :math:`Q(s,\cdot)` of the observations without a perturbation.
    Returns:
        ``[B]``.
    """
    return -(log_prob.exp() * action_value.detach()).sum(dim=-1)


def _length(rows: Tensor) -> Tensor:
    """Euclidean length of every row, shaped to divide it."""
    return rows.flatten(1).norm(dim=1).reshape(-1, *[1] * (rows.ndim - 1))
