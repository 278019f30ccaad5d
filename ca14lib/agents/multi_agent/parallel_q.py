"""Value decomposition without replay or target network, from many copies of the game at once.

``ParallelVDN`` and ``ParallelQMIX`` join the mixers of VDN and QMIX with the training of PQN (Gallici et al., 2025):
λ-returns with greedy bootstraps on fresh rollouts, layer normalisation, a few passes over minibatches. They are not
the published VDN and QMIX, which are :class:`~ca14lib.agents.multi_agent.vdn.VDN` and
:class:`~ca14lib.agents.multi_agent.qmix.QMIX`. Book: multi_agent/value_decomposition.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.qmix import require_mixer
from ca14lib.agents.multi_agent.value_team import (
    ValueTeam,
    ValueTeamConfig,
    chosen,
    greedy_actions,
    half_mean_square,
    present_next,
)
from ca14lib.agents.multi_agent.vdn import joint_values
from ca14lib.data import JointTransitions
from ca14lib.networks import MonotonicMixer, SumMixer


@dataclass(frozen=True)
class ParallelVDNConfig(ValueTeamConfig):
    trace_decay: float = 0.65  # λ, eq. parallel-q-lambda: 0 looks one step ahead, 1 to the end of the rollout
    epochs: int = 2  # passes over the rollout
    minibatches: int = 4  # gradient steps per pass
    layer_norm: bool = True  # what keeps the values bounded in the place of a target network

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.trace_decay <= 1, "trace_decay", self.trace_decay, "in [0, 1]")
        for name in ("epochs", "minibatches"):
            number = getattr(self, name)
            require(isinstance(number, int) and number >= 1, name, number, "a positive integer")


@dataclass(frozen=True)
class ParallelQMIXConfig(ParallelVDNConfig):
    embed_dim: int = 32  # width of the mixer's hidden layer, eq. qmix-mixer
    hypernet_hidden: int = 64  # width inside the networks that make its weights

    def __post_init__(self) -> None:
        super().__post_init__()
        require_mixer(self.embed_dim, self.hypernet_hidden)


def greedy_lambda_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, last: Tensor, discount: float, trace_decay: float
) -> Tensor:
    r"""λ-returns that are completed by greedy values (book eq. parallel-q-lambda).

    :math:`G_t = r_t + \gamma (1 - \text{terminated}_t) [(1 - \lambda) V_{t+1} + \lambda G_{t+1}]`, and with
    :math:`V_{t+1}` alone where ``last`` says that the next row is not the successor.

    Args:
        reward: ``[T, B]``.
        next_value: ``[T, B]``, greedy value of what was seen after the step.
        terminated: ``[T, B]`` bool.
        last: ``[T, B]`` bool: ends of both kinds, and the last row.
        discount: :math:`\gamma` in (0, 1].
        trace_decay: :math:`\lambda` in [0, 1].
    Returns:
        ``[T, B]``.
    """
    returns = torch.empty_like(reward)
    following = next_value[-1]
    for step in reversed(range(len(reward))):
        value = next_value[step]
        rest = torch.where(last[step], value, value + trace_decay * (following - value))
        following = returns[step] = torch.where(terminated[step], reward[step], reward[step] + discount * rest)
    return returns


class ParallelVDN(ValueTeam):
    """A sum of utilities fitted to λ-returns of rollouts; no replay, no target network (not the published VDN).

    The targets are computed once per rollout, by the networks as they were when it began to be learnt from. The
    returns take the actions as they were drawn, explored ones included: with λ > 0 they are values of the policy that
    explores, and ε has to fall for them to become those of the greedy one.
    """

    config_class = ParallelVDNConfig
    config: ParallelVDNConfig
    experience: ClassVar[str] = "rollouts"
    mixer: nn.Module

    def _build(self) -> None:
        self.utilities = self._team_network(self.features, self.num_actions, layer_norm=self.config.layer_norm)
        self.mixer = self._make_mixer()
        self._optimizer("utilities", self.utilities, self.mixer)

    def _make_mixer(self) -> nn.Module:
        return SumMixer()

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        """A few passes over a rollout, towards targets that stay what they were before the first step."""
        self._check(batch)
        config, present = self.config, batch.counts()
        reward = config.reward_scale * batch.team_reward()
        next_value = self._greedy_values(batch, present_next(batch, present))
        target = greedy_lambda_returns(
            reward, next_value, batch.terminated, batch.last_of_path(), config.discount, config.trace_decay
        )
        starts = batch.starts()
        if not config.recurrent:  # without memory every step is an example of its own
            batch, starts = _as_one_row(batch), torch.zeros_like(starts).reshape(1, -1)
            present, target = present.flatten(0, 1).unsqueeze(0), target.reshape(1, -1)
        logs = []
        for index in self._minibatches(target.shape[1]):
            part, counts = batch.copies(index), present[:, index]
            q = self.utilities.unrolled(self._features(part.observation), part.memory, starts[:, index])
            total = self.mixer(chosen(q, part.action) * counts, part.state)
            loss = half_mean_square(total - target[:, index], counts.any(dim=-1))
            norm = self._learn(loss)
            logs.append(torch.stack([loss.detach(), total.detach().mean(), norm]))
        self.updates += 1
        return dict(zip(("loss", "q", "gradient_norm"), torch.stack(logs).mean(dim=0), strict=True))

    @torch.no_grad()
    def _greedy_values(self, batch: JointTransitions, present: Tensor) -> Tensor:
        """Values ``[T, B]`` of what was seen after each step: the best allowed utilities, mixed in the next state."""
        seen = self._features(batch.next_observation)
        if self.config.recurrent:
            q = self._next_utilities_with_memory(batch, seen)
        else:
            q, _ = self.utilities(seen)
        return self.mixer(chosen(q, greedy_actions(q, batch.next_action_mask)) * present, batch.next_state)

    def _next_utilities_with_memory(self, batch: JointTransitions, seen: Tensor) -> Tensor:
        """``[T, B, n, A]``: what was seen after a step is read with the memory of that step."""
        inputs, starts, memory, q = self._features(batch.observation), batch.starts(), batch.memory, []
        for step in range(len(inputs)):
            if memory is not None:
                memory = memory * ~starts[step].reshape(-1, 1, 1)
            _, memory = self.utilities(inputs[step], memory)
            q.append(self.utilities(seen[step], memory)[0])
        return torch.stack(q)

    def _minibatches(self, size: int) -> Iterator[Tensor]:
        """Indices of shuffled minibatches for every pass."""
        for _ in range(self.config.epochs):
            order = torch.randperm(size, generator=self.generator, device=self.device)
            yield from order.tensor_split(min(self.config.minibatches, size))

    def joint_values(self, observation: ArrayLike, state: ArrayLike) -> NDArray:
        """Learned values of all joint actions, ``[N, A, …, A]`` (:func:`joint_values`)."""
        return joint_values(self, self.mixer, observation, state)


class ParallelQMIX(ParallelVDN):
    """:class:`ParallelVDN` with the monotonic mixer of QMIX in the sum's place (not the published QMIX)."""

    config_class = ParallelQMIXConfig
    config: ParallelQMIXConfig

    def _make_mixer(self) -> nn.Module:
        config = self.config
        return MonotonicMixer(self.num_agents, self.state_size, config.embed_dim, config.hypernet_hidden)


def _as_one_row(batch: JointTransitions) -> JointTransitions:
    """Rollouts ``[T, B, …]`` as unrelated steps ``[1, T · B, …]``."""
    columns: dict[str, Any] = {}
    for item in fields(batch):
        value = getattr(batch, item.name)
        if value is not None and item.name != "memory":
            columns[item.name] = value.flatten(0, 1).unsqueeze(0)
    return JointTransitions(**columns)
