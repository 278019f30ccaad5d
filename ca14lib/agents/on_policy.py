"""What all on-policy agents share: a stochastic policy, critics of reward and costs, advantages. Book: safe/ppo.

Policy gradients are the same for discrete and continuous actions, so each algorithm is one class for both.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ca14lib.agents.base import Agent, AgentConfig, ContinuousAgent, DiscreteAgent, gradient_step, require
from ca14lib.data import Rollout
from ca14lib.environments import TabularModel
from ca14lib.networks import CategoricalPolicy, DiagonalGaussianPolicy, mlp


@dataclass(frozen=True)
class OnPolicyConfig(AgentConfig):
    hidden_sizes: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4  # of the policy
    value_learning_rate: float = 1e-3
    gae_lambda: float = 0.95  # λ, eq. gae
    cost_limits: tuple[float, ...] = ()  # d_k, on the undiscounted cost of an episode; their number is K
    cost_discount: float = 0.99  # γ_c, eq. cost-gae
    cost_gae_lambda: float = 0.95  # λ_c, eq. cost-gae
    value_epochs: int = 5  # passes over the rollout for the critics
    minibatches: int = 4  # gradient steps per pass
    entropy_weight: float = 0.0  # α_H, weight of the policy's entropy at the start, eq. entropy-annealing
    final_entropy_weight: float | None = None  # what it decays to; None keeps it
    initial_cost_discount: float | None = None  # γ_c at the start, which goes to cost_discount; None keeps it
    annealing: float = 0.97  # share of the distance to the final values that is left after an update

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = isinstance(self.cost_limits, tuple | list | np.ndarray)
        require(listed, "cost_limits", self.cost_limits, "a tuple with one number for each constraint")
        object.__setattr__(self, "cost_limits", tuple(float(limit) for limit in self.cost_limits))
        require(0 < self.value_learning_rate < 10, "value_learning_rate", self.value_learning_rate, "in (0, 10)")
        for name in ("gae_lambda", "cost_gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        require(0 < self.cost_discount <= 1, "cost_discount", self.cost_discount, "in (0, 1]")
        valid = all(0 <= limit < float("inf") for limit in self.cost_limits)
        require(valid, "cost_limits", self.cost_limits, "finite numbers of at least 0")
        start, final, infinity = self.entropy_weight, self.final_entropy_weight, float("inf")
        require(0 <= start < infinity, "entropy_weight", start, "finite and at least 0")
        require(final is None or 0 <= final < infinity, "final_entropy_weight", final, "finite and at least 0, or None")
        require(0 <= self.annealing <= 1, "annealing", self.annealing, "in [0, 1]")
        initial = self.initial_cost_discount
        require(initial is None or 0 < initial <= 1, "initial_cost_discount", initial, "in (0, 1] or None")
        for name in ("value_epochs", "minibatches"):
            whole = isinstance(getattr(self, name), int) and getattr(self, name) >= 1
            require(whole, name, getattr(self, name), "a positive integer")


def generalised_advantage(
    signal: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, last: Tensor, discount: Tensor, decay: Tensor
) -> Tensor:
    r"""Generalised advantage estimates :math:`\hat A_t = \sum_l (\gamma\lambda)^l \delta_{t+l}` (book eq. gae).

    :math:`\delta_t = x_t + \gamma (1 - \text{terminated}_t) v(s_{t+1}) - v(s_t)`. M signals (a reward and K costs) are
    treated side by side, each with its own discount and decay.

    Args:
        signal: ``[T, N, M]``, rewards or costs.
        value: ``[T, N, M]``, values of the observations.
        next_value: ``[T, N, M]``, values of what followed each step, before any reset.
        terminated: ``[T, N]`` bool: nothing follows.
        last: ``[T, N]`` bool: the next row is not the successor (an end of either kind, or the end of the rollout);
            the sum stops here, and unless terminated it is completed by the value.
        discount: ``[M]``, :math:`\gamma` of each signal.
        decay: ``[M]``, :math:`\lambda` of each signal.
    Returns:
        ``[T, N, M]``. Added to ``value`` it is the λ-return, the target of the critics.
    """
    error = signal + discount * next_value * ~terminated.unsqueeze(-1) - value
    keep = (discount * decay) * ~last.unsqueeze(-1)
    advantage = torch.empty_like(error)
    running = torch.zeros_like(error[0])
    for step in reversed(range(len(error))):
        running = error[step] + keep[step] * running
        advantage[step] = running
    return advantage


def standardised(advantage: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 (0 stays 0 where they do not vary)."""
    centred = advantage - advantage.mean()
    return centred / (centred.square().mean().sqrt() + 1e-8)


class OnPolicyAgent(Agent):
    """Base class: acts with a stochastic policy and learns from rollouts of that very policy.

    A subclass implements :meth:`update` with the pieces here: :meth:`_advantages` and :meth:`_fit_critics`.

    Args:
        observation_space: ``Box`` or ``Discrete``.
        action_space: ``Discrete`` from 0, or a bounded one-dimensional ``Box``.
        config: The algorithm's configuration; the number of its ``cost_limits`` is the number K of constraints.

    The other arguments and errors are those of :class:`ca14lib.agents.Agent`.
    """

    config_class = OnPolicyConfig
    config: OnPolicyConfig
    cost_limits: Tensor
    whole_episodes: ClassVar[bool] = False  # True if every rollout has to begin with new episodes

    def __init__(self, observation_space, action_space, *args, **keywords) -> None:  # type: ignore[no-untyped-def]
        name = type(self).__name__
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        if self.discrete:
            if action_space.start != 0:
                raise ValueError(f"{name} needs a Discrete action space from 0, got {action_space}")
        else:
            real = isinstance(action_space, gym.spaces.Box) and np.issubdtype(action_space.dtype, np.floating)
            bounded = real and action_space.is_bounded("both") and (action_space.high > action_space.low).all()
            if not bounded or len(action_space.shape) != 1:
                raise ValueError(f"{name} needs Discrete or bounded one-dimensional Box actions, got {action_space}")
        super().__init__(observation_space, action_space, *args, **keywords)

    @property
    def num_costs(self) -> int:
        """K, the number of constraints."""
        return len(self.config.cost_limits)

    @property
    def num_actions(self) -> int:
        """A, for discrete actions."""
        assert isinstance(self.action_space, gym.spaces.Discrete)
        return int(self.action_space.n)

    def _build(self) -> None:
        space, hidden = self.observation_space, self.config.hidden_sizes
        self.policy: CategoricalPolicy | DiagonalGaussianPolicy
        if self.discrete:
            self.policy = CategoricalPolicy(space, self.num_actions, hidden)
        else:
            self.policy = DiagonalGaussianPolicy(space, self.action_space.shape[0], hidden)  # type: ignore[index]
        # one network per signal: reward first, then every cost
        self.critics = torch.nn.ModuleList(
            mlp(space, 1, hidden, activation=torch.nn.Tanh) for _ in range(1 + self.num_costs)
        )
        self.value_optimizer = self._optimizer("value", self.critics, learning_rate=self.config.value_learning_rate)
        limits = torch.tensor(self.config.cost_limits, dtype=torch.float32, device=self.device)
        self.register_buffer("cost_limits", limits, persistent=False)
        self._build_policy_update()

    def _build_policy_update(self) -> None:
        """Register what the policy is improved with."""
        self.policy_optimizer = self._optimizer("policy", self.policy)

    # Acting

    @cached_property
    def _action_range(self) -> tuple[Tensor, Tensor]:
        return ContinuousAgent._action_range.func(self)  # type: ignore[attr-defined]

    @cached_property
    def _float_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return ContinuousAgent._float_bounds.func(self)  # type: ignore[attr-defined]

    def _distribution(self, observation: ArrayLike, mask: ArrayLike | None) -> tuple[Tensor, ...]:
        inputs = self._input(self._observation_tensor(observation))
        if mask is None:
            return self.policy(inputs)
        if not self.discrete:
            raise ValueError(f"{type(self).__name__} has continuous actions here and takes no mask")
        shape = torch.Size((len(inputs), self.num_actions))
        return self.policy(inputs, DiscreteAgent._allowed(self, mask, shape))  # type: ignore[arg-type]

    @torch.no_grad()
    def act(self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False) -> NDArray:
        parameters = self._distribution(observation, mask)
        action = self.policy.best(parameters) if deterministic else self.policy.draw(parameters, self.generator)
        return self.executed(self._environment(action))

    @torch.no_grad()
    def sample(self, observation: ArrayLike, mask: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """Actions as drawn and their log-probabilities, as a :class:`Rollout` stores them.

        Args:
            observation: ``[N, …]``.
            mask: ``[N, A]``, true where an action is allowed, or None.
        Returns:
            ``[N]`` int64 or ``[N, D]`` in environment units, not clipped; and ``[N]``.
        """
        parameters = self._distribution(observation, mask)
        action = self.policy.draw(parameters, self.generator)
        return self._environment(action), self.policy.log_prob(parameters, action)

    def executed(self, action: Tensor) -> NDArray:
        """Drawn actions as the environment takes them: continuous ones clipped to their bounds."""
        return action.cpu().numpy() if self.discrete else np.clip(action.cpu().numpy(), *self._float_bounds)

    def _environment(self, action: Tensor) -> Tensor:
        if self.discrete:
            return action
        center, scale = self._action_range
        return center + scale * action

    def _unit(self, action: Tensor) -> Tensor:
        if self.discrete:
            return action
        center, scale = self._action_range
        return (action - center) / scale

    @torch.no_grad()
    def action_log_prob(self, observation: ArrayLike, action: ArrayLike) -> NDArray:
        """Log-probabilities (densities in environment units) ``[N]`` of actions; clipping is not accounted for."""
        parameters = self._distribution(observation, None)
        kind = torch.int64 if self.discrete else torch.float32
        unit = self._unit(torch.as_tensor(np.asarray(action), dtype=kind, device=self.device))
        log_prob = self.policy.log_prob(parameters, unit)
        return (log_prob if self.discrete else log_prob - self._action_range[1].log().sum()).cpu().numpy()

    @torch.no_grad()
    def probabilities(
        self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False
    ) -> NDArray[np.float64]:
        """Probabilities of all actions, ``[N, A]``; one-hot of the best action if deterministic.

        Raises:
            ValueError: If the actions are continuous.
        """
        if not self.discrete:
            raise ValueError(f"only discrete actions have probabilities, the action space is {self.action_space}")
        (log_prob,) = self._distribution(observation, mask)
        if deterministic:
            return torch.nn.functional.one_hot(log_prob.argmax(dim=-1), self.num_actions).double().cpu().numpy()
        return log_prob.double().exp().cpu().numpy()

    def policy_table(self, model: TabularModel, deterministic: bool = True) -> NDArray[np.float64]:
        """The policy on every state of a finite problem: ``[S, A]``, or ``[H, S, A]`` if the agent sees the time."""
        if not model.observes_time:
            states = model.observation.reshape(-1, *(self.observation_space.shape or ()))
            table = self.probabilities(states, mask=model.action_mask, deterministic=deterministic)
            return table / table.sum(axis=-1, keepdims=True)
        assert model.horizon is not None
        seen = np.concatenate([model.timed_observation(step) for step in range(model.horizon)])
        mask = None if model.action_mask is None else np.tile(model.action_mask, (model.horizon, 1))
        table = self.probabilities(seen, mask=mask, deterministic=deterministic)
        table /= table.sum(axis=-1, keepdims=True)
        return table.reshape(model.horizon, model.num_states, -1)

    # Learning

    def _check(self, rollout: Rollout) -> None:
        if not isinstance(rollout, Rollout):
            raise ValueError(f"{type(self).__name__} learns from a Rollout, got {type(rollout).__name__}")
        if rollout.num_costs < self.num_costs:
            raise ValueError(
                f"{type(self).__name__} has {self.num_costs} cost limits, the rollout has {rollout.num_costs} costs"
            )
        for name in ("reward", "cost", "episode_cost"):
            if not getattr(rollout, name).isfinite().all():
                raise ValueError(f"{type(self).__name__} needs a finite {name}, the rollout's has NaN or infinity")

    def _values(self, inputs: Tensor) -> Tensor:
        """Values of reward and costs, ``[B, 1 + K]``."""
        return torch.cat([critic(inputs) for critic in self.critics], dim=-1)

    @torch.no_grad()
    def _advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Advantages of reward ``[B]`` and costs ``[B, K]``, and the critics' targets ``[B, 1 + K]``; B = T · N."""
        self._check(rollout)
        value = self._values(self._input(rollout.flat("observation"))).reshape(*rollout.reward.shape, -1)
        last = rollout.last_of_path()
        next_value = torch.zeros_like(value)
        next_value[:-1] = value[1:]
        cut = last & ~rollout.terminated  # bootstrapped from what was seen after the step, not from the next row
        if cut.any():
            next_value[cut] = self._values(self._input(rollout.next_observation[cut]))
        config = self.config
        discount = value.new_tensor([config.discount] + [self._cost_discount()] * self.num_costs)
        decay = value.new_tensor([config.gae_lambda] + [config.cost_gae_lambda] * self.num_costs)
        signal = torch.cat([rollout.reward.unsqueeze(-1), rollout.cost[..., : self.num_costs]], dim=-1)
        advantage = generalised_advantage(signal, value, next_value, rollout.terminated, last, discount, decay)
        target = (advantage + value).flatten(0, 1)
        advantage = advantage.flatten(0, 1)
        return advantage[:, 0], advantage[:, 1:], target

    def _entropy_weight(self) -> float:
        """The weight of the entropy in this update (book eq. entropy-annealing)."""
        return self._annealed(self.config.entropy_weight, self.config.final_entropy_weight)

    def _cost_discount(self) -> float:
        """γ_c of this update (book eq. entropy-annealing)."""
        end, start = self.config.cost_discount, self.config.initial_cost_discount
        return end if start is None else self._annealed(start, end)

    def _annealed(self, start: float, end: float | None) -> float:
        return start if end is None else end + (start - end) * self.config.annealing**self.updates

    def _batches(self, size: int, passes: int) -> list[Tensor]:
        """Indices of all minibatches of some passes over a rollout, freshly shuffled for each."""
        count = min(self.config.minibatches, size)
        return [
            part
            for _ in range(passes)
            for part in torch.randperm(size, generator=self.generator, device=self.device).chunk(count)
        ]

    def _fit_critics(self, rollout: Rollout, target: Tensor) -> Tensor:
        """Regress the critics on λ-returns (book eq. value-loss-lambda); the mean loss."""
        inputs, total = self._input(rollout.flat("observation")), torch.zeros((), device=self.device)
        batches = self._batches(rollout.size, self.config.value_epochs)
        for index in batches:
            loss = value_loss(self._values(inputs[index]), target[index])
            gradient_step(self.value_optimizer, loss)
            total += loss.detach()
        return total / len(batches)


def value_loss(value: Tensor, target: Tensor) -> Tensor:
    """Half the squared error, averaged over the batch and summed over signals (book eq. value-loss-lambda).

    Args:
        value: ``[B, M]``.
        target: ``[B, M]``, λ-returns that carry no gradient.
    Returns:
        Scalar.
    """
    return 0.5 * (value - target).square().mean(dim=0).sum()
