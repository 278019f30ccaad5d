"""TargetGrid: a team collects targets without getting into its own way. Book: multi_agent/environments."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.grid import TILE, grid_picture, successor_table
from ca14lib.environments.multi_agent import MultiAgentEnvironment

MOVE_NAMES = ("stay", "up", "down", "left", "right")
TARGET_REWARD, TEAM_BONUS, COLLISION_PENALTY, STEP_PENALTY = 10.0, 2.0, 0.5, 0.1

TARGET, GONE = (0, 158, 115), (222, 238, 230)
AGENT_COLOURS = (
    (0, 114, 178), (213, 94, 0), (240, 228, 66), (204, 121, 167), (86, 180, 233), (0, 0, 0), (230, 159, 0),
)  # fmt: skip


class TargetGrid(MultiAgentEnvironment):
    r"""``"TargetGrid"``, batched: n agents collect k targets on a grid, together as fast as they can.

    **Moves.** An action is 0 stay, 1 up (y + 1), 2 down, 3 left, 4 right; a move off the grid is a stay. All agents
    move at once. Those who want the same cell, or the cell of one who stays, collide: nobody involved moves, each pays
    0.5, once a step. Whoever wants the cell of an agent that was thus held back collides with it in turn, and so on, so
    that agents always stand on different cells; the agent that was held back pays no second time. Two agents may swap
    places, and longer rings may turn: there all new cells differ.

    **Rewards.** The collector of a target gets 10; for every target collected the team gets 2, in equal shares; every
    agent pays 0.1 a step. Over a whole episode in which all k targets are collected in T steps without collision the
    agents' returns add up to :math:`12k-0.1\,nT`; see :func:`ca14lib.solvers.target_grid_bound`. The step that
    collects the last target terminates the episode. The time limit is an artefact, it truncates.

    **Observation** of agent i, float32, of size 2 + 2(n − 1) + 2k: its own cell, the others' cells relative to it (in
    the order of their index, itself left out), the targets' cells relative to it, all divided by ``size``. A collected
    target shows (0, 0), where no open one can be: agents do not start on targets, and who enters one collects it.
    With a view radius (n − 1) + k flags follow, 1 for each other agent and open target within the radius, and what is
    not seen shows (0, 0). With a message channel (n − 1) m numbers follow: the symbols that the others sent in the last
    step, one-hot, zeros before the first step. Messages are heard at any distance.

    **State**, float32, of size 2n + 3k: all agents' cells and all targets' cells, divided by ``size``, then 1 for each
    target that has been collected; with a message channel the n m numbers of all symbols follow.

    ``info`` counts, as int64, ``"collisions"`` ``[N]``, the agents that collided in this step; ``"collected"``
    ``[N]``, the targets collected in this step; ``"collected_by"`` ``[N, n]``, the same for each agent; and
    ``"remaining"`` ``[N]``, the targets that are open now.

    Starts are uniform over all placements on different cells. ``reset(options={"agents": …, "targets": …})`` puts
    agents ``[n, 2]`` and targets ``[k, 2]`` (or ``[N, n, 2]`` and ``[N, k, 2]``) on given cells (x, y); other options
    are ignored, as PettingZoo's tests demand.

    Args:
        num_envs: Number of copies.
        size: Cells along a side, at least 2.
        num_agents: n, at least 1.
        num_targets: k, at least 1; agents and targets together need a cell each.
        view_radius: Distance, as the larger of the two coordinates', at which others and targets are still seen, at
            least 1; None for no limit.
        message_channel: Number m of symbols that an agent may send, at least 2; 0 for no channel. With one, the action
            is ``move + 5 * symbol``.
        team_weight: Share w in [0, 1] of the team in an agent's reward, :math:`(1-w)\,r_i + w\,\bar r` with the mean
            :math:`\bar r` over agents: their sum is the same for every w.
        competitive: Take from each agent's reward the mean of what the *others* got for collecting, 10 each. This part
            of the rewards then sums to zero; penalties and the team's bonus do not.
        time_limit: Steps after which an episode is truncated, or None.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If an argument is out of range, or there are more agents and targets than cells.
    """

    least_agents = 1

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 8,
        num_agents: int = 4,
        num_targets: int = 3,
        view_radius: int | None = None,
        message_channel: int = 0,
        team_weight: float = 0.0,
        competitive: bool = False,
        time_limit: int | None = 100,
        render_mode: str | None = None,
    ) -> None:
        require_integer("size", size, 2)
        require_integer("num_agents", num_agents, self.least_agents)
        require_integer("num_targets", num_targets, 1)
        require_integer("message_channel (0 for none)", message_channel, 0)
        if view_radius is not None:
            require_integer("view_radius (None for no limit)", view_radius, 1)
        if message_channel == 1:
            raise ValueError("message_channel must be 0 for none or at least 2 symbols, got 1: it could say nothing")
        if num_agents + num_targets > size**2:
            raise ValueError(
                f"num_agents and num_targets need a cell each, got {num_agents} and {num_targets} on {size**2} cells"
            )
        if isinstance(team_weight, bool) or not 0.0 <= team_weight <= 1.0:
            raise ValueError(f"team_weight must lie in [0, 1], got {team_weight!r}")
        if competitive and num_agents < 2:
            raise ValueError(f"a competitive game needs num_agents of at least 2, got {num_agents}")
        self.size, self.num_targets, self.view_radius = size, num_targets, view_radius
        self.message_channel, self.team_weight, self.competitive = message_channel, float(team_weight), competitive
        n, k, m = num_agents, num_targets, message_channel
        # columns of an observation: offsets, then flags, then symbols
        self._flags_from = 2 * (n + k)
        self._symbols_from = self._flags_from + (n - 1 + k if view_radius is not None else 0)
        width = self._symbols_from + (n - 1) * m
        low = np.full(width, -1.0, dtype=np.float32)
        low[:2] = low[self._flags_from :] = 0.0
        super().__init__(
            num_envs,
            num_agents,
            gym.spaces.Box(low, np.ones(width, dtype=np.float32), dtype=np.float32),
            gym.spaces.Discrete(len(MOVE_NAMES) * max(m, 1)),
            gym.spaces.Box(0.0, 1.0, (2 * n + 3 * k + n * m,), np.float32),
            time_limit=time_limit,
            render_mode=render_mode,
        )
        cells = np.arange(size**2)
        self._successor = np.concatenate([cells[None], successor_table(size, size)]).reshape(-1)
        x, y = np.divmod(cells, size)
        # a cell as one item x + iy: half as many passes as over two coordinates, and the pair lies together in memory
        self._point = (x + 1j * y).astype(np.complex64)
        self._others = np.array([[j for j in range(n) if j != i] for i in range(n)], dtype=np.intp).reshape(n, n - 1)
        self._one_hot = np.eye(m + 1, m, dtype=np.float32)  # the last row, of index −1, is silence
        # agents first, copies last: what is done for all copies runs over neighbours in memory
        self._cell = np.zeros((n, num_envs), dtype=np.intp)
        self._target = np.zeros((k, num_envs), dtype=np.intp)
        self._taken = np.zeros((k, num_envs), dtype=np.bool_)
        self._symbol = np.full((n, num_envs), -1, dtype=np.intp)
        self._collided = np.zeros((n, num_envs), dtype=np.bool_)
        self._gained = np.zeros((n, num_envs), dtype=np.bool_)  # an agent enters one cell: at most one target a step

    def spawn(self, num_envs: int) -> "TargetGrid":
        return type(self)(
            num_envs,
            size=self.size,
            num_agents=self.num_agents,
            num_targets=self.num_targets,
            view_radius=self.view_radius,
            message_channel=self.message_channel,
            team_weight=self.team_weight,
            competitive=self.competitive,
            time_limit=self.time_limit,
        )

    @property
    def agent_cells(self) -> NDArray[np.intp]:
        """Cells (x, y) of the agents now, ``[N, n, 2]``."""
        return np.stack(np.divmod(self._cell.T, self.size), axis=-1)

    @property
    def target_cells(self) -> NDArray[np.intp]:
        """Cells (x, y) of the targets, collected or not, ``[N, k, 2]``."""
        return np.stack(np.divmod(self._target.T, self.size), axis=-1)

    @property
    def collected(self) -> NDArray[np.bool_]:
        """Which targets have been collected in this episode, ``[N, k]``."""
        return self._taken.T.copy()

    def _restart(self, count: int, options: dict[str, Any] | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if options and {"agents", "targets"} & set(options):
            return self._given_starts(count, options)
        return self._random_starts(count)

    def _random_starts(self, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Agents ``[n, count]`` and targets ``[k, count]`` on different cells, every placement equally likely."""
        things, cells = self.num_agents + self.num_targets, self.size**2
        drawn = self.np_random.integers(0, (cells - np.arange(things))[:, None], size=(things, count))
        for index in range(1, things):
            # a rank among the cells that are left becomes a cell by stepping over the cells that are taken
            for taken in np.sort(drawn[:index], axis=0):
                drawn[index] += drawn[index] >= taken
        return drawn[: self.num_agents], drawn[self.num_agents :]

    def _given_starts(self, count: int, options: dict[str, Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if not {"agents", "targets"} <= set(options):
            raise ValueError(f"options must hold 'agents' and 'targets', got {sorted(options)}")
        agents = self._cells_of("agents", options["agents"], self.num_agents, count)
        targets = self._cells_of("targets", options["targets"], self.num_targets, count)
        everything = np.sort(np.concatenate([agents, targets]), axis=0)
        if (everything[1:] == everything[:-1]).any():
            raise ValueError("agents and targets must stand on different cells, got two on one")
        return agents, targets

    def _cells_of(self, name: str, value: ArrayLike, things: int, count: int) -> NDArray[np.intp]:
        cells = np.asarray(value)
        if cells.dtype.kind not in "iu" or cells.shape not in ((things, 2), (count, things, 2)):
            raise ValueError(
                f"{name} must be integers of shape {(things, 2)} or {(count, things, 2)}, "
                f"got {cells.dtype} of shape {cells.shape}"
            )
        if cells.min() < 0 or cells.max() >= self.size:
            raise ValueError(f"{name} must lie on the {self.size} × {self.size} grid, got {cells.tolist()}")
        index = cells[..., 0].astype(np.intp) * self.size + cells[..., 1]
        return np.broadcast_to(index, (count, things)).T

    def _place(self, where: NDArray[np.intp] | slice, states: tuple[NDArray[np.intp], NDArray[np.intp]]) -> None:
        self._cell[:, where], self._target[:, where] = states
        self._taken[:, where] = self._collided[:, where] = self._gained[:, where] = False
        self._symbol[:, where] = -1

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        move: NDArray = action.T
        if self.message_channel:
            self._symbol, move = np.divmod(move, len(MOVE_NAMES))
        wanted = self._successor.take(move * self.size**2 + self._cell)
        self._cell, self._collided = self._settled(wanted)
        self._gained = np.zeros_like(self._collided)
        for target, taken in zip(self._target, self._taken, strict=True):
            enters = self._cell == target
            enters &= ~taken
            self._gained |= enters
            taken |= enters.any(axis=0)
        own = self._own_rewards(self._gained, self._collided)
        if self.competitive:
            got = TARGET_REWARD * self._gained
            own -= (got.sum(axis=0) - got) / (self.num_agents - 1)
        if self.team_weight:
            own = (1.0 - self.team_weight) * own + self.team_weight * own.mean(axis=0)
        return np.ascontiguousarray(own.T), np.logical_and.reduce(self._taken, axis=0)

    def _settled(self, wanted: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Cells ``[n, N]`` after moves to the wanted ones, and who collided ``[n, N]``."""
        collided = _sharing(wanted)
        copies = np.flatnonzero(collided.any(axis=0))
        if copies.size == 0:
            return wanted, collided
        before, after, held = self._cell[:, copies], wanted[:, copies], collided[:, copies]
        while True:
            cells = np.where(held, before, after)
            pushed = _sharing(cells) & ~held
            if not pushed.any():
                break
            held |= pushed
        wanted[:, copies], collided[:, copies] = cells, held
        return wanted, collided

    def _own_rewards(self, gained: NDArray[np.bool_], collided: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each agent gets of its own and of the team's bonus, ``[n, N]``."""
        bonus = TEAM_BONUS / self.num_agents * gained.sum(axis=0, dtype=np.int16) - STEP_PENALTY
        return TARGET_REWARD * gained - COLLISION_PENALTY * collided + bonus

    def _observe(self) -> NDArray[np.float32]:
        n, end = self.num_agents, self._flags_from
        where, target = self._point.take(self._cell), self._point.take(self._target)
        is_open = (~self._taken).astype(np.float32)
        observation = np.empty((self.num_envs, n, self.agent_observation_space.shape[0]), dtype=np.float32)
        columns = observation[..., :end].view(np.complex64).transpose(1, 2, 0)  # [n, n + k, N], agent's own cell first
        columns[:, 0] = where
        for index, others in enumerate(self._others):
            np.subtract(where[others], where[index], out=columns[index, 1:n])
            np.multiply(target - where[index], is_open, out=columns[index, n:])
        if self.view_radius is not None:
            offset = columns[:, 1:]
            seen = np.maximum(abs(offset.real), abs(offset.imag)) <= self.view_radius
            seen[:, n - 1 :] &= ~self._taken
            offset[~seen] = 0.0
            observation[..., end : self._symbols_from] = seen.transpose(2, 0, 1)
        observation[..., :end] /= self.size
        if self.message_channel:
            heard = self._one_hot[self._symbol]
            for index, others in enumerate(self._others):
                said = heard[others].transpose(1, 0, 2).reshape(self.num_envs, -1)
                observation[:, index, self._symbols_from :] = said
        return observation

    def _state(self) -> NDArray[np.float32]:
        n, k = self.num_agents, self.num_targets
        state = np.empty((self.num_envs, self.state_space.shape[0]), dtype=np.float32)
        cells = state[:, : 2 * (n + k)].view(np.complex64).T
        cells[:n], cells[n:] = self._point.take(self._cell), self._point.take(self._target)
        state[:, : 2 * (n + k)] /= self.size
        state[:, 2 * (n + k) : 2 * n + 3 * k] = self._taken.T
        if self.message_channel:
            state[:, 2 * n + 3 * k :] = self._one_hot[self._symbol].transpose(1, 0, 2).reshape(self.num_envs, -1)
        return state

    def _report(self) -> dict[str, Any]:
        return {
            "collisions": self._collided.sum(axis=0, dtype=np.int64),
            "collected": self._gained.sum(axis=0, dtype=np.int64),
            "collected_by": self._gained.T.astype(np.int64),
            "remaining": self.num_targets - self._taken.sum(axis=0, dtype=np.int64),
        }

    def _frame(self, index: int) -> NDArray[np.uint8]:
        fills = {
            (int(x), int(y)): GONE if taken else TARGET
            for (x, y), taken in zip(self.target_cells[index], self._taken[:, index], strict=True)
        }
        picture = grid_picture(self.size, self.size, fills)
        offset = np.arange(TILE) - (TILE - 1) / 2
        distance = np.hypot(offset[:, None], offset)
        for number, (x, y) in enumerate(self.agent_cells[index]):
            top, left = (self.size - 1 - int(y)) * TILE, int(x) * TILE
            tile = picture[top : top + TILE, left : left + TILE]
            tile[distance <= 0.36 * TILE] = 255  # a rim that sets agents off from targets
            tile[distance <= 0.31 * TILE] = AGENT_COLOURS[number % len(AGENT_COLOURS)]
            lap = number // len(AGENT_COLOURS)  # colours come again with a ring of growing width inside
            tile[distance <= 0.12 * TILE * lap] = 255
        return picture


def _sharing(cells: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which agents ``[n, N]`` want a cell that another one wants too."""
    shares = np.zeros(cells.shape, dtype=np.bool_)
    for index in range(1, len(cells)):
        same = cells[:-index] == cells[index:]
        shares[:-index] |= same
        shares[index:] |= same
    return shares
