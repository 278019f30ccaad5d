"""Attacks on what one agent observes: functions of observations to what the agent is shown in their place.

Book: robust/adversarial. Every attack moves an observation within a ball, in units of the agent's own normalised
observations, by the gradient of what it raises.
"""

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ca14lib.agents.base import Agent, ContinuousAgent, DiscreteAgent, ValueAgent, require
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.robust.atla import observation_unit, perturbed_observation
from ca14lib.agents.robust.perturbations import (
    Loss,
    expected_value_loss,
    fgsm,
    margin_loss,
    pgd,
    random_perturbation,
    require_epsilon,
)
from ca14lib.networks import CategoricalPolicy, DiagonalGaussianPolicy
from ca14lib.networks.stochastic import Parameters

ATTACKS = ("random", "fgsm", "pgd", "critic", "mad", "target")


class Victim:
    """An agent as an attacker sees it: policy and values as differentiable functions of raw observations.

    Args:
        agent: On-policy agents, agents with scores of discrete actions, and deterministic continuous ones have
            gradients; any other agent can still be attacked at random and by a learned adversary.
    Raises:
        ValueError: If the observations are no ``Box`` of real numbers.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.unit = observation_unit(agent)

    def policy(self, observation: Tensor) -> Parameters:
        """Log-probabilities ``([B, A],)`` or means and log standard deviations of raw observations ``[B, …]``.

        Where an agent ranks actions by values, these take the place of logits; a deterministic continuous policy
        stands as a Gaussian of deviation 1 in [−1, 1] units.

        Raises:
            ValueError: If the agent has no policy with a gradient.
        """
        agent = self.agent
        if isinstance(agent, OnPolicyAgent):
            return agent.policy(agent._input(observation))
        if isinstance(agent, DiscreteAgent):
            return (agent._scores(observation).log_softmax(dim=-1),)
        if isinstance(agent, ContinuousAgent):
            mean = agent._unit_action(observation, True)
            return mean, torch.zeros_like(mean)
        raise self._without("gradient")

    @property
    def discrete(self) -> bool:
        """Whether the actions are discrete."""
        return isinstance(self.agent.action_space, gym.spaces.Discrete)

    @property
    def num_targets(self) -> int:
        """Number of fixed actions, or of ends of dimensions, that a targeted attack can push towards."""
        space = self.agent.action_space
        return int(space.n) if isinstance(space, gym.spaces.Discrete) else 2 * int(np.prod(space.shape or (1,)))

    def divergence(self, old: Parameters, new: Parameters) -> Tensor:
        """KL(old ‖ new), ``[B]``."""
        return (CategoricalPolicy if self.discrete else DiagonalGaussianPolicy).kl(old, new)

    def value_loss(self, observation: Tensor) -> Loss:
        """What the critic attack raises at observations ``[B, …]`` (book eq. attack-critic).

        Of agents with Q-values minus the value, under the true state, of what the perturbed policy does; of on-policy
        agents, whose critic knows no actions, minus the critic's value of what is shown.

        Raises:
            ValueError: If the agent has no critic.
        """
        agent = self.agent
        if isinstance(agent, ValueAgent):
            with torch.no_grad():
                action_value = agent._q_values(observation)
            return lambda shown: expected_value_loss(self.policy(shown)[0], action_value)
        if isinstance(agent, OnPolicyAgent):
            return lambda shown: -agent.critics[0](agent._input(shown)).squeeze(-1)
        raise self._without("critic")

    def _without(self, what: str) -> ValueError:
        return ValueError(
            f"{type(self.agent).__name__} has no {what} that this attack could follow: the attacks 'random' and "
            "'learned' need none, and solvers.optimal_observation_attack is exact on finite problems"
        )


class Attack:
    """An attack on one agent: a function of observations ``[N, …]`` to what the agent is shown in their place.

    * ``"random"``: uniform in the ball.
    * ``"fgsm"``: one gradient step that raises the lead of another action over the best one (book eq. attack-margin);
      of continuous policies the divergence, from a random start.
    * ``"pgd"``: the same by projected gradient ascent with random starts.
    * ``"critic"``: lowers the critic's value (book eq. attack-critic).
    * ``"mad"``: maximal action difference, raises the divergence of the policy from that at the true observation (book
      eq. attack-mad).
    * ``"target"``: one gradient step towards one and the same action in every state (book eq. attack-target); of
      continuous policies towards one end of one dimension. Perturbations that alternate cancel; these add up.

    Args:
        agent: The agent, not changed.
        name: One of these.
        epsilon: Radius of the ball in the largest norm, in units of the agent's normalised observations.
        target: For ``"target"``: the action, or for D continuous actions a number under 2 D: dimension k is lowered
            by 2 k and raised by 2 k + 1.
        steps: Gradient steps of pgd, critic and mad.
        restarts: Random starts of those.
        seed: Fixes its draws.
    Raises:
        ValueError: If the attack is unknown, ε negative, or the agent has not what the attack needs.
    """

    def __init__(
        self, agent: Agent, name: str, epsilon: float, *, target: int = 0, steps: int = 10, restarts: int = 1,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if name not in ATTACKS:
            raise ValueError(f"attack must be one of {', '.join(ATTACKS)}, got {name!r}")
        require_epsilon(epsilon)
        self.victim, self.name, self.epsilon, self.steps, self.restarts = Victim(agent), name, epsilon, steps, restarts
        if not 0 <= target < self.victim.num_targets:
            raise ValueError(f"target must lie in 0…{self.victim.num_targets - 1}, got {target}")
        self.target = target
        self.generator = torch.Generator(agent.device).manual_seed(seed)
        if name != "random":
            # an agent that cannot be attacked so is refused here, not in the first episode
            self._perturbation(torch.zeros((1, *self.victim.unit.shape), device=agent.device))

    def __call__(self, observation: NDArray) -> NDArray:
        truth = torch.as_tensor(np.asarray(observation, dtype=np.float32), device=self.victim.agent.device)
        if self.epsilon == 0:
            return truth.cpu().numpy()
        shown = perturbed_observation(truth, self._perturbation(truth), self.victim.unit, self.epsilon)
        return shown.detach().cpu().numpy()

    def advance(self) -> None:
        """Nothing: the attack is the same in every step."""

    def _perturbation(self, truth: Tensor) -> Tensor:
        """δ in units of normalised observations, ``[N, …]``."""
        centre = torch.zeros_like(truth)
        if self.name == "random":
            return random_perturbation(centre, self.epsilon, self.generator)
        loss = self._loss(truth)

        def moved(perturbation: Tensor) -> Tensor:
            return loss(truth + self.victim.unit * perturbation)

        if self.name in ("fgsm", "target"):
            # a divergence has no gradient at the centre; the others have
            centred = self.name == "target" or self.victim.discrete
            return fgsm(moved, centre, self.epsilon, None if centred else self.generator)
        return pgd(moved, centre, self.epsilon, self.steps, None, self.generator, restarts=self.restarts)

    def _loss(self, truth: Tensor) -> Loss:
        victim = self.victim
        if self.name == "critic":
            return victim.value_loss(truth)
        if self.name == "target":
            return lambda shown: target_loss(victim.policy(shown), self.target, victim.discrete)
        with torch.no_grad():
            clean = victim.policy(truth)
        if self.name in ("fgsm", "pgd") and victim.discrete:
            best = clean[0].argmax(dim=-1)
            return lambda shown: margin_loss(victim.policy(shown)[0], best)
        return lambda shown: victim.divergence(clean, victim.policy(shown))


class MixedAttack:
    """What an agent trains against: every copy of the environment has an attacker of its own, drawn anew now and then.

    An attacker does nothing, raises the lead of another action (``"fgsm"``), or pushes towards one fixed action
    (``"target"``); all of them equally often (book eq. attack-mixture).

    Args:
        agent: The agent; its attackers follow it while it learns.
        epsilon: Radius of the ball; may be changed at any time through the attribute.
        stay: Probability that a copy keeps its attacker at :meth:`advance`, which is called once a step; in [0, 1).
        seed: Fixes the draws.
    Raises:
        ValueError: If a number is out of range or the agent has no gradient.
    """

    def __init__(self, agent: Agent, epsilon: float, *, stay: float = 0.995, seed: int = 0) -> None:
        require_epsilon(epsilon)
        require(0 <= stay < 1, "stay", stay, "in [0, 1)")
        targets = Victim(agent).num_targets
        self.attacks = [Attack(agent, "fgsm", epsilon, seed=seed)]
        self.attacks += [Attack(agent, "target", epsilon, target=target) for target in range(targets)]
        self.epsilon, self.stay = epsilon, stay
        self.random = np.random.default_rng(seed)
        self.kind = np.zeros(0, dtype=np.int64)

    def __call__(self, observation: NDArray) -> NDArray:
        shown = np.array(observation, dtype=np.float32)
        if self.epsilon == 0:
            return shown
        if len(self.kind) != len(observation):
            self.kind = self._drawn(len(observation))
        for index, attack in enumerate(self.attacks):
            rows = self.kind == index
            if rows.any():
                attack.epsilon = self.epsilon
                shown[rows] = attack(shown[rows])
        return shown

    def advance(self) -> None:
        """Draw anew the attackers of some copies."""
        kept = self.random.random(len(self.kind)) < self.stay
        self.kind = np.where(kept, self.kind, self._drawn(len(self.kind)))

    def _drawn(self, count: int) -> NDArray[np.int64]:
        return self.random.integers(len(self.attacks) + 1, size=count)


def target_loss(parameters: Parameters, target: int, discrete: bool) -> Tensor:
    r"""Lead of one action over the best other, :math:`\log\pi(b)-\max_{a\ne b}\log\pi(a)` (book eq. attack-target).

    Args:
        parameters: Of the policy at the perturbed observations: log-probabilities ``[B, A]``, or means ``[B, D]`` and
            log standard deviations.
        target: The action; with continuous ones 2 k lowers the mean of dimension k and 2 k + 1 raises it.
        discrete: Which of the two.
    Returns:
        ``[B]``.
    """
    first = parameters[0]
    if discrete:
        return -margin_loss(first, torch.full((len(first),), target, dtype=torch.int64, device=first.device))
    return (2 * (target % 2) - 1) * first[:, target // 2]
