"""Constrained policy optimisation (Achiam et al., 2017): a trust-region step inside a half-space. Book: safe/cpo.

The objective is written as descent throughout: g is the gradient of a loss, the step minimises gᵀx. Popular
implementations pair an ascent gradient with the multiplier of the descent problem and violate the constraint.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.on_policy import OnPolicyAgent, OnPolicyConfig, standardised
from ca14lib.data import Rollout

EDGE = 1e-8  # relative size below which a quantity of the dual counts as 0
LEAST_RADIUS = 1e-12  # of a trust region that shrinks
FLOOR = 1e-4  # least λ, as a share of that of the plain step: under it single precision has only rounding to divide


@dataclass(frozen=True)
class CPOConfig(OnPolicyConfig):
    cost_limits: tuple[float, ...] = (25.0,)  # d; the dual is that of one constraint
    trust_region: float = 0.01  # δ, eq. cpo-linearised
    trust_region_decay: float = 1.0  # δ shrinks by this factor with every update: smaller steps average noise away
    damping: float = 0.1  # added to the Fisher matrix, eq. fisher-vector-product
    conjugate_gradient_steps: int = 10
    fisher_share: float = 0.2  # share of the rollout on which the Fisher matrix is estimated
    backtracks: int = 10  # line search steps, eq. cpo-line-search
    backtrack_factor: float = 0.8
    cautious_errors: float = 0.0  # standard errors of the mean episode cost that are added to it
    excess_share: float = 1.0  # κ in the end, eq. cpo-excess-share: the share of the excess that one update answers
    excess_share_decay: float = 0.93  # κ starts at 1 and shrinks by this factor with every update

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.cost_limits) == 1, "cost_limits", self.cost_limits, "exactly one limit")
        require(0 < self.trust_region < 10, "trust_region", self.trust_region, "in (0, 10)")
        require(0 < self.trust_region_decay <= 1, "trust_region_decay", self.trust_region_decay, "in (0, 1]")
        require(0 <= self.damping < math.inf, "damping", self.damping, "finite and at least 0")
        require(0 < self.fisher_share <= 1, "fisher_share", self.fisher_share, "in (0, 1]")
        require(0 < self.backtrack_factor < 1, "backtrack_factor", self.backtrack_factor, "in (0, 1)")
        require(0 <= self.cautious_errors < 10, "cautious_errors", self.cautious_errors, "in [0, 10)")
        require(0 < self.excess_share <= 1, "excess_share", self.excess_share, "in (0, 1]")
        require(0 < self.excess_share_decay <= 1, "excess_share_decay", self.excess_share_decay, "in (0, 1]")
        for name in ("conjugate_gradient_steps", "backtracks"):
            whole = isinstance(getattr(self, name), int) and getattr(self, name) >= 1
            require(whole, name, getattr(self, name), "a positive integer")


class Dual(NamedTuple):
    """Solution of the dual of CPO's step: the case 0…4, λ of the trust region and ν of the constraint."""

    case: int
    trust_multiplier: float
    cost_multiplier: float


def trust_region_dual(q: float, r: float, s: float, c: float, delta: float) -> Dual:
    r"""Solve the dual of :math:`\min_x g^T x` subject to :math:`b^T x + c \le 0`, :math:`\tfrac12 x^T H x \le \delta`.

    Book eq. cpo-dual. With :math:`A = q - r^2/s` and :math:`B = 2\delta - c^2/s`:

    =====  ==================  ====================================================================
    case   when                what the step is
    =====  ==================  ====================================================================
    4      b ≈ 0               the constraint does not depend on the step: a plain trust-region step
    3      c < 0, B < 0        all of the trust region is feasible: a plain trust-region step
    2      c < 0, B ≥ 0        the constraint cuts the trust region, the present policy is feasible
    1      c ≥ 0, B > 0        the present policy is infeasible, part of the trust region is feasible
    0      c ≥ 0, B ≤ 0        no step inside the trust region is feasible but perhaps one: recovery
    =====  ==================  ====================================================================

    Args:
        q: :math:`g^T H^{-1} g \ge 0`, g the gradient of the loss (descent).
        r: :math:`g^T H^{-1} b`.
        s: :math:`b^T H^{-1} b \ge 0`, b the gradient of the cost.
        c: Cost minus limit, in the unit of b.
        delta: :math:`\delta > 0`.
    Returns:
        The case, λ and ν; the step is :math:`-H^{-1}(g + \nu b)/\lambda` (book eq. cpo-step), in case 0 the recovery
        step :math:`-\sqrt{2\delta/s}\,H^{-1} b` (book eq. cpo-recovery), where λ and ν are those of that step for the
        objective 0.
    Raises:
        ValueError: If a number is not finite, δ is not positive, or q or s is negative.
    """
    if not all(math.isfinite(number) for number in (q, r, s, c, delta)):
        raise ValueError(f"q, r, s, c and delta must be finite, got {(q, r, s, c, delta)}")
    if delta <= 0 or q < 0 or s < 0:
        raise ValueError(f"delta must be positive, q and s not negative, got delta={delta}, q={q}, s={s}")
    plain = math.sqrt(q / (2 * delta))
    # the farthest that a step can move the cost is sqrt(2 δ s); b counts as 0 when that is nothing beside c, of either
    # sign: a violation that no step reduces is no reason to give up the objective
    if s == 0.0 or math.sqrt(2 * delta * s) <= EDGE * abs(c):
        return Dual(4, plain, 0.0)
    slack = 2 * delta - c * c / s  # B
    if c < 0 and slack < 0:
        return Dual(3, plain, 0.0)
    if c >= 0 and slack <= EDGE * 2 * delta:
        return Dual(0, math.sqrt(s / (2 * delta)), 1.0)
    case = 2 if c < 0 else 1
    residual = max(q - r * r / s, 0.0)  # A; Cauchy–Schwarz makes it at least 0, rounding may not
    # where the constraint binds, ν = (λc − r)/s > 0; where it does not, ν = 0
    infinity = math.inf
    # where A is 0 every λ gives the same step, and where q is 0 too any other scale would do as well
    least = FLOOR * plain if plain > 0 else 1.0
    if c < 0:
        binding, free = (0.0, max(r / c, 0.0)), (max(r / c, 0.0), infinity)
    elif c > 0:
        binding, free = (max(r / c, 0.0), infinity), (0.0, max(r / c, 0.0))
    else:
        binding, free = ((0.0, infinity), (0.0, 0.0)) if r < 0 else ((0.0, 0.0), (0.0, infinity))
    candidates = []
    if binding[1] > 0.0:
        wanted = math.sqrt(residual / slack) if slack > 0 else binding[1]
        trust = max(_clip(wanted, binding), least)
        value = -0.5 * (residual / trust + trust * slack) - r * c / s
        candidates.append((value, trust, max(0.0, trust * c - r) / s))
    if free[1] > 0.0:
        trust = max(_clip(plain, free), least)
        candidates.append((-0.5 * (q / trust + 2 * delta * trust), trust, 0.0))
    _, trust, cost = max(candidates)
    return Dual(case, trust, cost)


def _clip(value: float, interval: tuple[float, float]) -> float:
    return min(max(value, interval[0]), interval[1])


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, steps: int, tolerance: float = 1e-10
) -> Tensor:
    """Approximate solution of H x = target for a positive definite H (book eq. conjugate-gradient).

    Args:
        product: The map v ↦ Hv.
        target: ``[P]``.
        steps: Iterations at most.
        tolerance: Stop when the squared residual is under this share of the target's.
    Returns:
        ``[P]``; 0 for a target of 0. Directions in which H has no curvature are left out.
    """
    solution, residual = torch.zeros_like(target), target.clone()
    direction, size = residual.clone(), residual @ residual
    enough = tolerance * size
    for _ in range(steps):
        if size <= enough:
            break
        image = product(direction)
        curvature = direction @ image
        if curvature <= 0 or not curvature.isfinite():
            break
        solution = solution + (size / curvature) * direction
        residual = residual - (size / curvature) * image
        smaller = residual @ residual
        direction, size = residual + (smaller / size) * direction, smaller
    return solution


class CPO(OnPolicyAgent):
    """Constrained policy optimisation with one constraint; the policy has no optimiser, each step is computed whole."""

    config_class = CPOConfig
    config: CPOConfig

    def _build_policy_update(self) -> None:
        self.policy_parameters = list(self.policy.parameters())

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        advantage, cost_advantage, target = self._advantages(rollout)
        logs = self._policy_step(rollout, standardised(advantage), cost_advantage[:, 0])
        # the objective was standardised, which scales ν and not the step: back to units of reward over cost
        logs["multiplier_0"] = logs["multiplier_0"] * advantage.std(correction=0)
        self.updates += 1
        return {"value_loss": self._fit_critics(rollout, target)} | logs

    def _policy_step(self, rollout: Rollout, advantage: Tensor, cost_advantage: Tensor) -> dict[str, Tensor]:
        """One step of the policy: gradients, dual, line search."""
        config, radius = self.config, self.trust_region()
        loss_of, cost_of, kl_of, entropy_of, fisher = self._surrogates(
            rollout, advantage, cost_advantage - cost_advantage.mean()
        )
        excess = self._excess(rollout)
        loss, cost = loss_of(), cost_of()
        g = self._gradient(loss)
        b = self._gradient(cost) if excess is not None else torch.zeros_like(g)
        g_solved, b_solved = (conjugate_gradient(fisher, vector, config.conjugate_gradient_steps) for vector in (g, b))
        # H⁻¹ is applied approximately: these forms, symmetrised, belong to the steps that will be taken
        q, s = float(g @ g_solved), float(b @ b_solved)
        r, c = 0.5 * float(g @ b_solved + b @ g_solved), -1.0 if excess is None else excess
        dual = trust_region_dual(max(q, 0.0), r, max(s, 0.0), c, radius)
        step = torch.zeros_like(g)
        if dual.case == 0:
            step = self._recovery(b, b_solved, s, radius, fisher, entropy_of, cost_advantage.std())
        elif dual.trust_multiplier > 0:
            step = -(g_solved + dual.cost_multiplier * b_solved) / dual.trust_multiplier
        shrink = self._line_search(step, dual.case, c, loss_of, cost_of, kl_of)
        with torch.no_grad():
            kl = kl_of()
        numbers = {
            "policy_loss": float(loss.detach()), "kl": float(kl), "case": dual.case, "step_share": shrink,
            "trust_multiplier": dual.trust_multiplier, "multiplier_0": dual.cost_multiplier,
            "infeasible_recovery": float(dual.case == 0),
        }  # fmt: skip
        return {name: torch.tensor(float(value)) for name, value in numbers.items()}

    def _recovery(
        self, b: Tensor, b_solved: Tensor, s: float, radius: float, fisher: Callable[[Tensor], Tensor],
        entropy_of: Callable[[], Tensor], scale: Tensor,
    ) -> Tensor:  # fmt: skip
        """The step down the cost alone (book eq. cpo-recovery), with the entropy bonus if there is one.

        The bonus is in units of the cost advantage's deviation here, as it is in those of the reward's elsewhere:
        without it a long recovery would end in a deterministic policy that can no longer learn from its reward.
        """
        weight = self._entropy_weight() * float(scale)
        if weight > 0.0:
            b = b - weight * self._gradient(entropy_of())
            b_solved = conjugate_gradient(fisher, b, self.config.conjugate_gradient_steps)
            s = max(float(b @ b_solved), 1e-30)
        return -math.sqrt(2 * radius / s) * b_solved

    def trust_region(self) -> float:
        """δ of this update."""
        return max(self.config.trust_region * self.config.trust_region_decay**self.updates, LEAST_RADIUS)

    def excess_share(self) -> float:
        """κ of this update (book eq. cpo-excess-share)."""
        return max(self.config.excess_share, self.config.excess_share_decay**self.updates)

    def _excess(self, rollout: Rollout) -> float | None:
        """κ (cost − limit) per step of an episode, so that it has the unit of the surrogate; None without episodes."""
        cost = rollout.episode_cost[:, 0]
        if not len(cost):
            return None
        mean = float(cost.mean())
        if self.config.cautious_errors and len(cost) > 1:
            mean += self.config.cautious_errors * float(cost.std()) / math.sqrt(len(cost))
        excess = (mean - self.config.cost_limits[0]) / float(rollout.episode_length.float().mean())
        return self.excess_share() * excess

    def _surrogates(
        self, rollout: Rollout, advantage: Tensor, cost_advantage: Tensor
    ) -> tuple[
        Callable[[], Tensor],
        Callable[[], Tensor],
        Callable[[], Tensor],
        Callable[[], Tensor],
        Callable[[Tensor], Tensor],
    ]:
        """Loss, cost surrogate, KL and entropy of the present parameters, and the product with the Fisher matrix."""
        inputs, action = self._input(rollout.flat("observation")), self._unit(rollout.flat("action"))
        old, mask = rollout.flat("log_prob"), None if rollout.action_mask is None else rollout.flat("action_mask")
        with torch.no_grad():
            before = self.policy(inputs, mask)
        every = max(round(1 / self.config.fisher_share), 1)
        part = inputs[::every]
        part_mask = None if mask is None else mask[::every]
        part_before = tuple(parameter[::every] for parameter in before)

        entropy_weight = self._entropy_weight()

        def ratio(parameters: tuple[Tensor, ...]) -> Tensor:
            return (self.policy.log_prob(parameters, action) - old).exp()

        def loss() -> Tensor:
            parameters = self.policy(inputs, mask)
            return -(ratio(parameters) * advantage).mean() - entropy_weight * self.policy.entropy(parameters).mean()

        def cost() -> Tensor:
            return (ratio(self.policy(inputs, mask)) * cost_advantage).mean()

        def kl() -> Tensor:
            return self.policy.kl(before, self.policy(inputs, mask)).mean()

        def entropy() -> Tensor:
            return self.policy.entropy(self.policy(inputs, mask)).mean()

        divergence = self.policy.kl(part_before, self.policy(part, part_mask)).mean()
        gradient = _flat(torch.autograd.grad(divergence, self.policy_parameters, create_graph=True))

        def fisher(vector: Tensor) -> Tensor:
            product = torch.autograd.grad(gradient @ vector, self.policy_parameters, retain_graph=True)
            return _flat(product) + self.config.damping * vector

        return loss, cost, kl, entropy, fisher

    def _gradient(self, value: Tensor) -> Tensor:
        # a Gaussian's entropy depends on its deviation alone: the gradient in the other parameters is 0
        gradients = torch.autograd.grad(value, self.policy_parameters, allow_unused=True, materialize_grads=True)
        return _flat(gradients)

    @torch.no_grad()
    def _line_search(
        self, step: Tensor, case: int, c: float, loss_of: Callable[[], Tensor], cost_of: Callable[[], Tensor],
        kl_of: Callable[[], Tensor],
    ) -> float:  # fmt: skip
        """Shorten the step until what was approximated holds (book eq. cpo-line-search); 0 if it never does."""
        start = torch.nn.utils.parameters_to_vector(self.policy_parameters)
        loss, cost, share = float(loss_of()), float(cost_of()), 1.0
        for _ in range(self.config.backtracks):
            torch.nn.utils.vector_to_parameters(start + share * step, self.policy_parameters)
            improves = case <= 1 or float(loss_of()) <= loss
            affordable = case == 4 or float(cost_of()) - cost <= max(-c, 0.0)
            if improves and affordable and float(kl_of()) <= self.trust_region():
                return share
            share *= self.config.backtrack_factor
        torch.nn.utils.vector_to_parameters(start, self.policy_parameters)
        return 0.0


def _flat(tensors: Iterator[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
