"""PPO with a robust policy regulariser: SA-PPO (Zhang et al., 2020). Book: robust/adversarial."""

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.on_policy import value_loss
from ca14lib.agents.ppo import PPO, PPOConfig, clipped_loss
from ca14lib.agents.robust.perturbations import fgsm, pgd, require_epsilon, require_norm
from ca14lib.networks import StochasticPolicy

ATTACKS = ("fgsm", "pgd")


@dataclass(frozen=True)
class AdversarialPPOConfig(PPOConfig):
    epsilon: float = 0.05  # ε_max, radius of the ball in units of normalised observations, eq. sa-ramp
    regulariser: float = 0.01  # κ, eq. sa-loss
    attack: str = "pgd"  # what looks for the inner maximum: "fgsm" (one step) or "pgd", eq. sa-regulariser
    attack_steps: int = 5  # gradient steps of pgd
    norm: str = "linf"  # of the ball: "linf" or "l2"
    ramp_delay: int = 0  # updates before ε leaves 0, eq. sa-ramp
    ramp_updates: int = 30  # updates over which ε then climbs to ε_max, eq. sa-ramp

    def __post_init__(self) -> None:
        super().__post_init__()
        require_epsilon(self.epsilon)
        require_norm(self.norm)
        require(0 <= self.regulariser < float("inf"), "regulariser", self.regulariser, "finite and at least 0")
        require(self.attack in ATTACKS, "attack", self.attack, " or ".join(ATTACKS))
        for name, least in (("attack_steps", 1), ("ramp_delay", 0), ("ramp_updates", 1)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            require(whole, name, value, f"an integer of at least {least}")


def ramped_epsilon(update: int, epsilon: float, delay: int, ramp: int) -> float:
    r"""The radius at an update, :math:`\epsilon_{\max}\min(1,[u-u_0]_+/U)` (book eq. sa-ramp).

    Args:
        update: :math:`u`, updates done before this one.
        epsilon: :math:`\epsilon_{\max}`.
        delay: :math:`u_0`, updates at radius 0.
        ramp: :math:`U`, updates of the climb.
    """
    return epsilon * min(1.0, max(0, update - delay) / ramp)


def worst_divergence(
    policy: StochasticPolicy,
    inputs: Tensor,
    epsilon: float,
    generator: torch.Generator,
    *,
    attack: str = "pgd",
    steps: int = 5,
    norm: str = "linf",
    mask: Tensor | None = None,
) -> Tensor:
    r"""Observations in the balls at which the policy differs most, :math:`\arg\max_\delta\operatorname{KL}`.

    Book eq. sa-regulariser. The search starts off-centre, because at the centre the divergence has no gradient (book
    eq. attack-zero-gradient), and its answer carries none: by Danskin's theorem the gradient of the maximum is that of
    the divergence at the maximiser.

    Args:
        policy: :math:`\pi_\phi`.
        inputs: ``[B, …]``, normalised observations.
        epsilon: Radius.
        generator: Draws the starts.
        attack: ``"fgsm"`` or ``"pgd"``.
        steps: Of pgd.
        norm: Of the ball.
        mask: ``[B, A]``, allowed actions, or None.
    Returns:
        ``[B, …]``.
    """
    with torch.no_grad():
        centre = policy(inputs, mask)

    def divergence(perturbed: Tensor) -> Tensor:
        return policy.kl(centre, policy(perturbed, mask))

    if attack == "fgsm":
        return fgsm(divergence, inputs, epsilon, generator, norm=norm)
    return pgd(divergence, inputs, epsilon, steps, None, generator, norm=norm, best=False)


def robust_regulariser(
    policy: StochasticPolicy, inputs: Tensor, perturbed: Tensor, mask: Tensor | None = None
) -> Tensor:
    r"""Mean divergence :math:`\operatorname{KL}(\pi_\phi(\cdot\mid s)\,\Vert\,\pi_\phi(\cdot\mid s+\delta^*))`.

    Book eq. sa-regulariser. The gradient runs through both policies, not through the perturbation.

    Args:
        policy: :math:`\pi_\phi`.
        inputs: ``[B, …]``, normalised observations.
        perturbed: ``[B, …]``, what :func:`worst_divergence` found.
        mask: ``[B, A]``, allowed actions, or None.
    Returns:
        Scalar.
    """
    return policy.kl(policy(inputs, mask), policy(perturbed.detach(), mask)).mean()


class AdversarialPPO(PPO):
    """PPO that also keeps its policy from changing within a ball around every observation.

    Observations that are numbers of states have no neighbours: with a ``Discrete`` space of them this is PPO.
    """

    config_class = AdversarialPPOConfig
    config: AdversarialPPOConfig

    def epsilon(self) -> float:
        """The radius in the next update (book eq. sa-ramp)."""
        config = self.config
        return ramped_epsilon(self.updates, config.epsilon, config.ramp_delay, config.ramp_updates)

    def _regulariser(self, inputs: Tensor, mask: Tensor | None, epsilon: float) -> Tensor:
        """The inner maximum, searched with the present policy, ``[]``; 0 at radius 0."""
        if epsilon == 0 or self.config.regulariser == 0 or isinstance(self.observation_space, gym.spaces.Discrete):
            return torch.zeros((), device=self.device)
        config = self.config
        perturbed = worst_divergence(
            self.policy, inputs, epsilon, self.generator, attack=config.attack, steps=config.attack_steps,
            norm=config.norm, mask=mask,
        )  # fmt: skip
        return robust_regulariser(self.policy, inputs, perturbed, mask)

    def _passes(self, rollout, advantage: Tensor, target: Tensor) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
        """PPO's gradient steps with the regulariser in the policy's loss (book eq. sa-loss)."""
        config, entropy_weight = self.config, self._entropy_weight() * self._entropy_scale()
        inputs, action = self._input(rollout.flat("observation")), self._unit(rollout.flat("action"))
        old, masks = rollout.flat("log_prob"), None if rollout.action_mask is None else rollout.flat("action_mask")
        epsilon = self.epsilon()
        totals, steps = torch.zeros(5, device=self.device), 0
        self._set_learning_rate()
        for index in self._batches(rollout.size, config.epochs):
            chosen, mask = inputs[index], None if masks is None else masks[index]
            self.value_optimizer.zero_grad()
            critic_loss = value_loss(self._values(chosen), target[index])
            critic_loss.backward()
            self.value_optimizer.step()

            regulariser = self._regulariser(chosen, mask, epsilon)
            parameters = self.policy(chosen, mask)
            log_prob = self.policy.log_prob(parameters, action[index])
            with torch.no_grad():
                difference = old[index] - log_prob
                kl = (difference.neg().exp() - 1 + difference).mean()
            entropy = self.policy.entropy(parameters).mean()
            surrogate = clipped_loss(log_prob, old[index], advantage[index], config.clip)
            loss = surrogate - entropy_weight * entropy + config.regulariser * regulariser
            self.policy_optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_gradient_norm)
            if config.max_kl is not None and bool(kl > config.max_kl):
                break
            self.policy_optimizer.step()
            totals += torch.stack([loss.detach(), critic_loss.detach(), entropy.detach(), kl, regulariser.detach()])
            steps += 1
        names = ("policy_loss", "value_loss", "entropy", "kl", "regulariser")
        return dict(zip(names, totals / max(steps, 1), strict=True)) | {
            "epsilon": torch.tensor(epsilon, device=self.device)
        }
