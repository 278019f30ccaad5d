"""What teams that learn values share: exploration, greedy actions, and targets from whole episodes.

Book: multi_agent/value_decomposition.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.base import Drawn, MultiAgent, TeamConfig
from ca14lib.data import JointTransitions
from ca14lib.networks import TeamNetwork, polyak_update


@dataclass(frozen=True)
class ValueTeamConfig(TeamConfig):
    learning_rate: float = 5e-4
    epsilon_start: float = 1.0  # ε before the first update: share of uniform actions, drawn for every agent alone
    epsilon_end: float = 0.05  # and from the update epsilon_updates on
    epsilon_updates: int = 1_000  # updates over which ε falls in equal steps; 0 for the end value from the start
    max_gradient_norm: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epsilon_start", "epsilon_end"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        whole = isinstance(self.epsilon_updates, int) and self.epsilon_updates >= 0
        require(whole, "epsilon_updates", self.epsilon_updates, "an integer of at least 0")
        require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "positive")


@dataclass(frozen=True)
class ReplayTeamConfig(ValueTeamConfig):
    double: bool = True  # the online network picks the action, the target network rates it, eq. double-target
    target_every: int = 200  # updates between two steps of the target networks
    target_rate: float = 1.0  # η, eq. polyak: 1 copies; for Polyak averaging a small one with target_every=1

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.target_every, int) and self.target_every >= 1
        require(whole, "target_every", self.target_every, "a positive integer")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")


def epsilon_now(config: ValueTeamConfig, updates: int) -> float:
    """ε after a number of updates: it falls in equal steps, then stays."""
    done = 1.0 if config.epsilon_updates == 0 else min(updates / config.epsilon_updates, 1.0)
    return (1 - done) * config.epsilon_start + done * config.epsilon_end


def greedy_actions(q: Tensor, mask: Tensor | None) -> Tensor:
    """Every agent's best allowed action ``[…, n]``, from utilities ``[…, n, A]`` and a mask of the same shape."""
    return (q if mask is None else q.masked_fill(~mask, -torch.inf)).argmax(dim=-1)


def chosen(q: Tensor, action: Tensor) -> Tensor:
    """Utilities ``[…, n]`` of the actions ``[…, n]``, from those of all actions ``[…, n, A]``."""
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def next_utilities(online_q: Tensor, target_q: Tensor, mask: Tensor | None, double: bool = True) -> Tensor:
    r"""The target network's utilities of the next actions, picked by the online network (book eq. double-target).

    Args:
        online_q: ``[…, n, A]`` at the next observation.
        target_q: ``[…, n, A]`` at the next observation.
        mask: ``[…, n, A]`` bool, actions allowed there, or None.
        double: False lets the target network pick, too.
    Returns:
        ``[…, n]``.
    """
    return chosen(target_q, greedy_actions(online_q if double else target_q, mask))


def half_mean_square(error: Tensor, counts: Tensor) -> Tensor:
    """Half the mean square of the errors that count; 0 if none does. Both of one shape, ``counts`` bool."""
    kept = torch.where(counts, error, 0.0)
    return 0.5 * kept.square().sum() / counts.sum().clamp(min=1)


def on_rows(function: Callable[..., Tensor], rows: Tensor | None, *inputs: Tensor) -> Tensor:
    """A function of single steps, computed where it is needed: most rows of a batch of short episodes are padding.

    Args:
        function: From ``[R, …]`` to ``[R, …]``, every row by itself.
        rows: ``[T, B]`` bool, what is needed; None for everything.
        inputs: ``[T, B, …]`` each.
    Returns:
        ``[T, B, …]``, zeros in rows that are not needed.
    """
    if rows is None:
        return function(*inputs)
    values = function(*(column[rows] for column in inputs))
    return values.new_zeros(*rows.shape, *values.shape[1:]).index_put((rows,), values)


def present_next(batch: JointTransitions, counts: Tensor) -> Tensor:
    """``[T, B, n]`` bool: agents that are still in the game after the step; where no row follows, as before it."""
    following = torch.cat([counts[1:], counts[-1:]])
    return torch.where(batch.last_of_path().unsqueeze(-1), counts, following)


class ValueTeam(MultiAgent):
    """Base class of teams whose agents take the action of the largest utility, and explore by uniform draws.

    A subclass builds ``utilities``, a :class:`~ca14lib.networks.TeamNetwork` with an output for every action.
    """

    config_class = ValueTeamConfig
    config: ValueTeamConfig
    utilities: TeamNetwork

    @property
    def memory_size(self) -> int:
        """M, as wide as the last hidden layer of recurrent agents."""
        return self.config.hidden_sizes[-1] if self.config.recurrent else 0

    @property
    def epsilon(self) -> float:
        """ε now."""
        return epsilon_now(self.config, self.updates)

    def _draw(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> Drawn:
        q, memory = self.utilities(inputs, memory)
        allowed = torch.ones_like(q) if mask is None else mask.to(q.dtype)
        uniform = torch.multinomial(allowed.flatten(0, 1), 1, generator=self.generator).reshape(q.shape[:-1])
        explores = torch.rand(q.shape[:-1], generator=self.generator, device=self.device) < self.epsilon
        greedy = greedy_actions(q, mask)
        action = torch.where(explores, uniform, greedy)
        share = self.epsilon / allowed.sum(dim=-1)
        return Drawn(action, (share + (1 - self.epsilon) * (action == greedy)).log(), memory)

    def _best(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        q, memory = self.utilities(inputs, memory)
        return greedy_actions(q, mask), memory

    def _learn(self, loss: Tensor) -> Tensor:
        """One step down a loss; the norm of the gradient before it was cut."""
        optimizer = self.optimizers["utilities"]
        optimizer.zero_grad()
        loss.backward()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
        optimizer.step()
        return norm


class ReplayTeam(ValueTeam):
    """Base class of value teams that replay whole episodes and have target networks.

    Published QMIX steps with RMSprop; this course's agents all step with Adam.
    """

    config_class = ReplayTeamConfig
    config: ReplayTeamConfig
    experience: ClassVar[str] = "episodes"

    def _build(self) -> None:
        self.utilities = self._team_network(self.features, self.num_actions)
        self.target_utilities = copy.deepcopy(self.utilities).requires_grad_(False)
        self._optimizer("utilities", self.utilities)

    def _check(self, batch: JointTransitions) -> None:
        super()._check(batch)
        filled = torch.ones_like(batch.terminated) if batch.filled is None else batch.filled
        if (filled[1:] & (batch.terminated | batch.truncated | ~filled)[:-1]).any():
            raise ValueError(
                f"{type(self).__name__} learns from whole episodes, one in each column of the batch and padded at its "
                "end; here a step follows the end of an episode"
            )

    def _evaluated(self, batch: JointTransitions) -> tuple[Tensor, Tensor]:
        """Utilities ``[T, B, n]`` of the actions taken, and without gradient those of the next, greedy ones.

        What an agent saw after a step is what it sees before the next one, so that T + 1 observations serve both.
        Steps that only pad an episode get zeros.
        """
        seen = torch.cat([batch.observation[:1], batch.next_observation])
        filled = self._sparse(batch)
        q = self._unrolled(self.utilities, seen, None if filled is None else torch.cat([filled[:1], filled]))
        with torch.no_grad():
            # only agents with memory have to be led through the first observation
            first = 0 if self.config.recurrent else 1
            target_q = self._unrolled(self.target_utilities, seen[first:], filled)[1 - first :]
            following = next_utilities(q[1:].detach(), target_q, batch.next_action_mask, self.config.double)
        return chosen(q[:-1], batch.action), following

    def _sparse(self, batch: JointTransitions) -> Tensor | None:
        """``filled`` if that saves work, otherwise None: a memory has to be led through every row of its column."""
        return None if self.config.recurrent or batch.filled is None or batch.filled.all() else batch.filled

    def _unrolled(self, network: TeamNetwork, seen: Tensor, rows: Tensor | None) -> Tensor:
        """Outputs ``[T, B, n, A]`` for what was seen, in the rows that are needed."""
        if rows is None:
            return network.unrolled(self._features(seen))
        return on_rows(lambda observation: network(self._features(observation))[0], rows, seen)

    def _finish(self) -> None:
        """Count an update, and move the target networks when it is their turn (book eq. polyak)."""
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            for target, source in self._targets():
                polyak_update(target, source, self.config.target_rate)

    def _targets(self) -> list[tuple[nn.Module, nn.Module]]:
        """Every target network with the one that it follows."""
        return [(self.target_utilities, self.utilities)]
