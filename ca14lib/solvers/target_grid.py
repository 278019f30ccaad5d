"""TargetGrid: the shortest time to collect all targets, a bound on the return, and a policy that comes close to it.

Book: multi_agent/environments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.grid import DISPLACEMENT
from ca14lib.environments.target_grid import STEP_PENALTY, TARGET_REWARD, TEAM_BONUS, TargetGrid

MOST_TARGETS = 8  # the search visits 3^k pairs of a set of targets and a part of it
MOVES = np.concatenate([np.zeros((1, 2), dtype=DISPLACEMENT.dtype), DISPLACEMENT])  # of (x, y), by action


@dataclass(frozen=True, eq=False)
class TargetGridPlan:
    """Who collects which target in which order, so that the last one is reached as early as possible.

    Attributes:
        makespan: ``[N]``, steps until then, if nobody is ever in another's way.
        routes: ``[N, n, k]``, each agent's targets in the order of its visits, then −1.
        lengths: ``[N, n]``, steps that each agent's route takes; the makespan is the largest.
    """

    makespan: NDArray[np.int64]
    routes: NDArray[np.int64]
    lengths: NDArray[np.int64]


def target_grid_plan(agents: ArrayLike, targets: ArrayLike, *, collected: ArrayLike | None = None) -> TargetGridPlan:
    r"""Routes of least makespan when agents walk through one another, found by dynamic programming over sets.

    Let :math:`d` be the Manhattan distance, and :math:`h(S,t)` the length of a shortest walk that starts in target
    :math:`t\in S` and visits all of :math:`S`: :math:`h(\{t\},t)=0` and
    :math:`h(S,t)=\min_{u\in S\setminus t} d(t,u)+h(S\setminus t,u)`. Agent i needs
    :math:`v_i(S)=\min_{t\in S} d(x_i,t)+h(S,t)` steps for :math:`S`, and the first i agents together
    :math:`T_i(S)=\min_{R\subseteq S}\max\{T_{i-1}(S\setminus R),\,v_i(R)\}`. The makespan is :math:`T_n` of the targets
    that are open.

    Args:
        agents: ``[N, n, 2]``, cells (x, y), integers.
        targets: ``[N, k, 2]``, cells of the targets, k at most 8.
        collected: ``[N, k]`` bool, targets that need no visit, or None for none.
    Raises:
        ValueError: If shapes disagree, or there are too many targets.
    """
    return _Search(agents, targets, collected).plan()


def target_grid_bound(
    agents: ArrayLike, targets: ArrayLike, *, collected: ArrayLike | None = None, time_limit: int | None = 100
) -> NDArray[np.float64]:
    r"""Upper bound on the team's undiscounted return from each placement, collisions or not.

    With the makespan :math:`T` of :func:`target_grid_plan` it is :math:`12k-0.1\,nT` if :math:`T` is within the time
    limit :math:`L`, else :math:`12c-0.1\,nL`, where c is the largest number of targets with makespan at most L.

    It is a bound. In an episode of :math:`\tau` steps in which c targets are collected, the rewards add up to
    :math:`12c-0.1\,n\tau` minus what collisions cost, and that is at least nothing. Every target is collected by one
    agent, on whose cell it lies at that time; so the agent that collects a set R, in some order and within
    :math:`\tau` steps, has walked from its start through all of R, one cell a step at most, and
    :math:`v_i(R)\le\tau`. The agents' sets are a partition of what was collected, hence the makespan of the collected
    set is at most :math:`\tau`. (a) If all k were collected, :math:`\tau\ge T`, so the return is at most
    :math:`12k-0.1\,nT`, and :math:`T\le L`. (b) If not, the episode lasted :math:`\tau=L` steps, and c targets have a
    makespan of at most L: the return is at most :math:`12c-0.1\,nL`, which is the bound's second case if
    :math:`T>L`, and less than its first if :math:`T\le L`, as then :math:`c<k` and :math:`L\ge T`. Without a limit an
    episode that never ends pays without end.

    It need not be reached: of two agents who need the same cell at the same time one must wait or go round.

    Args:
        agents: ``[N, n, 2]``, cells (x, y), integers.
        targets: ``[N, k, 2]``, cells of the targets, k at most 8.
        collected: ``[N, k]`` bool, targets collected before, or None for none: the bound is on what is still to come.
        time_limit: Steps until the episode is truncated, or None.
    Returns:
        ``[N]``. It holds for every weight of the team in the rewards, but not for the competitive game, whose rewards
        have another sum.
    Raises:
        ValueError: If shapes disagree, there are too many targets, or the limit is not positive.
    """
    if time_limit is not None:
        require_integer("time_limit (None for no limit)", time_limit, 1)
    search = _Search(agents, targets, collected)
    makespan = search.makespans()[-1]
    within = makespan <= (np.inf if time_limit is None else time_limit)
    within &= (np.arange(search.sets) & ~search.open[:, None]) == 0
    size = np.bitwise_count(np.arange(search.sets)).astype(np.int64)
    most = np.where(within, size, 0).max(axis=1)
    rows = np.arange(len(makespan))
    finishes = within[rows, search.open]
    duration = np.where(finishes, makespan[rows, search.open], time_limit or 0)
    return (TARGET_REWARD + TEAM_BONUS) * most - STEP_PENALTY * search.num_agents * duration


class AssignedPolicy:
    """A scripted team with full information: it plans anew in every step and keeps out of its own way.

    Agents choose one after another, the one with the longest way first: a move that brings them nearest to the next
    target on their route, among the cells that nobody before them has chosen. Who has nothing left to collect stays,
    and steps aside for the others. Its mean return is a lower reference beside :func:`target_grid_bound`: the best
    team lies between the two.

    Args:
        game: The game, for its numbers; it is not touched.
    """

    def __init__(self, game: TargetGrid) -> None:
        self.size, self.num_agents, self.num_targets = game.size, game.num_agents, game.num_targets

    def __call__(self, observation: NDArray, info: dict[str, Any]) -> NDArray[np.int64]:
        """Actions ``[N, n]`` from ``info["state"]``; the symbol, where there is a channel, is 0."""
        n, k = self.num_agents, self.num_targets
        state = np.asarray(info["state"])
        cells = np.rint(state[:, : 2 * (n + k)] * self.size).astype(np.int64).reshape(len(state), n + k, 2)
        agents, targets = cells[:, :n], cells[:, n:]
        return self.actions(agents, targets, state[:, 2 * (n + k) : 2 * n + 3 * k] > 0.5)

    def actions(
        self, agents: NDArray[np.int64], targets: NDArray[np.int64], collected: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Moves ``[N, n]`` for agents ``[N, n, 2]``, targets ``[N, k, 2]`` and which are collected ``[N, k]``."""
        plan = target_grid_plan(agents, targets, collected=collected)
        rows, following = np.arange(len(agents)), plan.routes[:, :, 0]
        nearest = np.take_along_axis(targets, np.maximum(following, 0)[..., None], axis=1)
        goal = np.where((following >= 0)[..., None], nearest, agents)
        chosen = np.zeros(agents.shape[:2], dtype=np.int64)
        claimed = np.full(agents.shape, -1)
        for place, agent in enumerate(np.argsort(-plan.lengths, axis=1, kind="stable").T):
            here, there = agents[rows, agent], goal[rows, agent]
            cells = np.clip(here[:, None] + MOVES, 0, self.size - 1)  # [N, 5, 2]
            offset = np.abs(there[:, None] - cells)
            # of two moves that bring it equally near, the one along the longer side: it keeps the choice open
            preference = offset.sum(axis=-1) + 0.01 * offset.max(axis=-1)
            taken = (cells[:, :, None] == claimed[:, None, :place]).all(axis=-1).any(axis=-1)
            action = np.where(taken, np.inf, preference).argmin(axis=1)
            chosen[rows, agent], claimed[:, place] = action, cells[rows, action]
        return chosen


def assigned_policy(game: TargetGrid) -> Callable[[NDArray, dict[str, Any]], NDArray[np.int64]]:
    """:class:`AssignedPolicy` of a game: a function of observation and ``info`` to actions ``[N, n]``."""
    return AssignedPolicy(game)


class _Search:
    """The quantities of the docstring of :func:`target_grid_plan`; sets of targets are bit masks."""

    def __init__(self, agents: ArrayLike, targets: ArrayLike, collected: ArrayLike | None) -> None:
        where, what = np.asarray(agents), np.asarray(targets)
        for name, value in (("agents", where), ("targets", what)):
            if value.ndim != 3 or value.shape[2] != 2 or not value.shape[1] or value.dtype.kind not in "iu":
                raise ValueError(
                    f"{name} must be integers of shape [N, number, 2], got {value.dtype} of shape {value.shape}"
                )
        if len(where) != len(what):
            raise ValueError(f"agents and targets must have equally many rows, got {len(where)} and {len(what)}")
        self.num_agents, self.num_targets = where.shape[1], what.shape[1]
        if self.num_targets > MOST_TARGETS:
            raise ValueError(f"the search is for at most {MOST_TARGETS} targets, got {self.num_targets}")
        done = np.zeros(what.shape[:2], dtype=bool) if collected is None else np.asarray(collected)
        if done.shape != what.shape[:2] or done.dtype != bool:
            raise ValueError(f"collected must be bool of shape {what.shape[:2]}, got {done.dtype} of {done.shape}")
        self.sets, bits = 2**self.num_targets, 2 ** np.arange(self.num_targets)
        self.members = [[t for t in range(self.num_targets) if held >> t & 1] for held in range(self.sets)]
        self.open: NDArray[np.int64] = (~done) @ bits  # [N]
        where, what = where.astype(np.int64), what.astype(np.int64)
        self.reach = np.abs(where[:, :, None] - what[:, None]).sum(axis=-1)  # [N, n, k]
        self.between = np.abs(what[:, :, None] - what[:, None]).sum(axis=-1)  # [N, k, k]
        self.onward = self._onward()
        self.visit = self._visit()

    def _onward(self) -> NDArray[np.int64]:
        """h, ``[N, 2^k, k]``; meaningless where the target is not in the set."""
        onward = np.zeros((len(self.open), self.sets, self.num_targets), dtype=np.int64)
        for held, members in enumerate(self.members):
            for target in members:
                rest = [other for other in members if other != target]
                if rest:
                    ways = self.between[:, target, rest] + onward[:, held ^ 1 << target, rest]
                    onward[:, held, target] = ways.min(axis=1)
        return onward

    def _visit(self) -> NDArray[np.int64]:
        """v, ``[N, n, 2^k]``."""
        visit = np.zeros((*self.reach.shape[:2], self.sets), dtype=np.int64)
        for held, members in enumerate(self.members):
            if members:
                visit[:, :, held] = (self.reach[:, :, members] + self.onward[:, None, held, members]).min(axis=-1)
        return visit

    def makespans(self) -> list[NDArray[np.int64]]:
        """:math:`T_1, …, T_n`, ``[N, 2^k]`` each."""
        spans = [self.visit[:, 0]]
        for agent in range(1, self.num_agents):
            least = spans[-1].copy()  # the agent takes none
            for held in range(1, self.sets):
                for part in _parts(held):
                    duration = np.maximum(spans[-1][:, held ^ part], self.visit[:, agent, part])
                    np.minimum(least[:, held], duration, out=least[:, held])
            spans.append(least)
        return spans

    def plan(self) -> TargetGridPlan:
        spans, rows = self.makespans(), np.arange(len(self.open))
        routes = np.full(self.reach.shape, -1, dtype=np.int64)
        lengths = np.zeros(self.reach.shape[:2], dtype=np.int64)
        left = self.open.copy()
        for agent in reversed(range(self.num_agents)):
            part = left if agent == 0 else self._part_taken(spans, agent, left)
            lengths[:, agent] = self.visit[rows, agent, part]
            routes[:, agent] = self._route(agent, part)
            left = left ^ part
        return TargetGridPlan(spans[-1][rows, self.open], routes, lengths)

    def _part_taken(self, spans: list[NDArray[np.int64]], agent: int, left: NDArray[np.int64]) -> NDArray[np.int64]:
        """The part of the sets ``[N]`` that the agent takes in a plan of least makespan, none where that is one."""
        rows, taken = np.arange(len(left)), np.zeros_like(left)
        best = spans[agent - 1][rows, left]
        for part in range(1, self.sets):
            possible = (part & ~left) == 0
            duration = np.maximum(spans[agent - 1][rows, left & ~part], self.visit[:, agent, part])
            better = possible & (duration < best)
            best, taken = np.where(better, duration, best), np.where(better, part, taken)
        return taken

    def _route(self, agent: int, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets of the sets ``[N]`` in the order of a shortest walk, ``[N, k]``, then −1."""
        rows, targets = np.arange(len(part)), np.arange(self.num_targets)
        route = np.full((len(part), self.num_targets), -1, dtype=np.int64)
        distance = self.reach[:, agent]
        for place in targets:
            member = (part[:, None] >> targets & 1) == 1
            walk = np.where(member, distance + self.onward[rows, part], np.iinfo(np.int64).max)
            target = walk.argmin(axis=1)
            some = part > 0
            route[some, place] = target[some]
            part = np.where(some, part & ~(1 << target), 0)
            distance = self.between[rows, target]
        return route


def _parts(held: int) -> list[int]:
    """All parts of a set but the empty one."""
    part, found = held, []
    while part:
        found.append(part)
        part = (part - 1) & held
    return found
