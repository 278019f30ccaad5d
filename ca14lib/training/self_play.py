"""Self-play: a team against its past selves, and what its strategies are on average. Book: multi_agent/competition."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ca14lib.agents.base import restored_generator
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.agents.multi_agent.base import Drawn, MultiAgent
from ca14lib.data import JointTransitions
from ca14lib.environments import MultiAgentEnvironment, multi_agent_environment
from ca14lib.solvers.games import nash_conv
from ca14lib.training.history import History
from ca14lib.training.multi_agent import TeamCollector

SELECTIONS = ("uniform", "prioritised")


class OpponentPool:
    r"""Past selves of a team to play against, and how well the team does against each.

    A member is what the team's networks were at some time. When the pool is full, a member drawn uniformly gives way to
    the new one: to let the oldest go would forget the past, and with it what had been beaten only once.

    ``"uniform"`` draws members alike, which makes the opponent the average past self. ``"prioritised"`` draws a member
    with probability proportional to :math:`(1-w)^2` for the share :math:`w` of episodes won against it, a draw counting
    half (Vinyals et al., 2019): what is beaten already is played seldom.

    Args:
        capacity: Members kept, at least 1.
        selection: ``"uniform"`` or ``"prioritised"``.
        memory: Weight of the past in the running share of wins, in [0, 1).
        seed: Fixes who is drawn and who gives way.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, capacity: int = 32, *, selection: str = "uniform", memory: float = 0.9, seed: int = 0) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int | np.integer) or capacity < 1:
            raise ValueError(f"capacity must be a positive integer, got {capacity!r}")
        if selection not in SELECTIONS:
            raise ValueError(f"selection must be one of {SELECTIONS}, got {selection!r}")
        if not 0.0 <= memory < 1.0:
            raise ValueError(f"memory must lie in [0, 1), got {memory}")
        self.capacity, self.selection, self.memory = int(capacity), selection, float(memory)
        self.members: list[dict[str, Tensor]] = []
        self.ages: list[int] = []  # which snapshot each member is, in the order in which they were taken
        self.won: list[float] = []
        self.taken = 0
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.members)

    def add(self, agent: MultiAgent) -> None:
        """Keep a copy of what the team is now."""
        snapshot = {name: value.detach().clone() for name, value in agent.state_dict().items()}
        if len(self) == self.capacity:
            leaves = int(torch.randint(len(self), (1,), generator=self.generator))
            for kept in (self.members, self.ages, self.won):
                del kept[leaves]
        self.members.append(snapshot)
        self.ages.append(self.taken)
        self.won.append(0.5)
        self.taken += 1

    def probabilities(self) -> NDArray[np.float64]:
        """How likely each member is drawn.

        Raises:
            ValueError: If the pool is empty.
        """
        if not self.members:
            raise ValueError("the pool is empty: add a member before drawing")
        weights = np.ones(len(self)) if self.selection == "uniform" else (1.0 - np.array(self.won)) ** 2 + 1e-6
        return weights / weights.sum()

    def draw(self, count: int) -> list[int]:
        """Indices of members, with repetition."""
        chances = torch.as_tensor(self.probabilities())
        return torch.multinomial(chances, count, replacement=True, generator=self.generator).tolist()

    def record(self, member: int, won: float) -> None:
        """Take in the share of episodes won against a member, in [0, 1].

        Raises:
            ValueError: If the share lies outside [0, 1].
        """
        if not 0.0 <= won <= 1.0:
            raise ValueError(f"won must lie in [0, 1], got {won}")
        self.won[member] = self.memory * self.won[member] + (1.0 - self.memory) * won

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-able metadata to go on from."""
        tensors = {f"pool.{index}.{name}": value for index, member in enumerate(self.members)
                   for name, value in member.items()}  # fmt: skip
        tensors["pool.generator"] = self.generator.get_state()
        return tensors, {"ages": self.ages, "won": self.won, "taken": self.taken}

    def restore(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Take over a state."""
        members: list[dict[str, Tensor]] = [{} for _ in metadata["ages"]]
        for key, value in tensors.items():
            if key.startswith("pool.") and key != "pool.generator":
                index, name = key.removeprefix("pool.").split(".", 1)
                members[int(index)][name] = value
        self.members, self.ages = members, [int(age) for age in metadata["ages"]]
        self.won, self.taken = [float(won) for won in metadata["won"]], int(metadata["taken"])
        self.generator.set_state(restored_generator(tensors.get("pool.generator"), self.generator.device).get_state())


class Match:
    """Who plays which seat in which copy of a game; it draws the actions of all, as a collector asks for them.

    The first copies, a share ``latest`` of all, are played by the team alone, and every seat learns. In each of the
    others the team has one seat, the seats in turn, and a past self the rest.

    Args:
        agent: The team that learns.
        num_envs: N.
        latest: Share of copies without past selves, in [0, 1].
        opponents: Different past selves at a time.
    """

    def __init__(self, agent: MultiAgent, num_envs: int, latest: float, opponents: int) -> None:
        self.agent = agent
        alone = round(latest * num_envs)
        seats = np.arange(num_envs) % agent.num_agents
        self.mine = np.arange(agent.num_agents) == seats[:, None]  # [N, n]
        self.mine[:alone] = True
        self.seats = seats
        others = np.arange(alone, num_envs)
        # the seats of a game come in turn within the copies of each opponent, so that no seat meets only one of them
        slots = (others - alone) // agent.num_agents % opponents
        self.copies = [others[slots == slot] for slot in range(opponents)]
        self.played = [copy.deepcopy(agent) for _ in range(opponents)] if len(others) else []
        self.members: list[int] = []

    def assign(self, pool: OpponentPool, members: Sequence[int], seed: Sequence[int]) -> None:
        """Put members of the pool behind the opponents; the seed fixes what these draw."""
        self.members = list(members)
        for slot, (opponent, member) in enumerate(zip(self.played, members, strict=True)):
            opponent.load_state_dict(pool.members[member])
            entropy = np.random.SeedSequence([*seed, slot]).generate_state(1)
            opponent.generator.manual_seed(int(entropy[0]))

    def sample(self, observation: ArrayLike, memory: Tensor | None = None, mask: ArrayLike | None = None) -> Drawn:
        """Actions of all seats; log-probabilities are those of the team."""
        drawn = self.agent.sample(observation, memory, mask)
        action = drawn.action.clone()
        carried = None if drawn.memory is None else drawn.memory.clone()
        seen, allowed = np.asarray(observation), None if mask is None else np.asarray(mask)
        for opponent, copies in zip(self.played, self.copies, strict=False):
            if not len(copies):
                continue
            theirs = opponent.sample(
                seen[copies], None if memory is None else memory[copies], None if allowed is None else allowed[copies]
            )
            rows = torch.as_tensor(copies, device=action.device)
            other = ~torch.as_tensor(self.mine[copies], device=action.device)
            action[rows] = _where(other, theirs.action, action[rows])
            if carried is not None and theirs.memory is not None:
                # whoever plays a seat has that seat's memory: opponents remember with their own networks
                carried[rows] = _where(other, theirs.memory, carried[rows])
        return drawn._replace(action=action, memory=carried)


class Scores:
    """Returns of every seat of every copy, and who won, as episodes end."""

    def __init__(self, num_envs: int, num_agents: int) -> None:
        self.running = np.zeros((num_envs, num_agents))

    def absorb(self, batch: JointTransitions) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Copies whose episodes ended, in order, and the returns of all seats of those episodes ``[episodes, n]``."""
        reward = batch.reward.cpu().numpy()
        ended = (batch.terminated | batch.truncated).cpu().numpy()
        copies, returns = [], []
        for row, over in zip(reward, ended, strict=True):
            self.running += row
            where = np.flatnonzero(over)
            copies.append(where)
            returns.append(self.running[where])
            self.running[where] = 0.0
        return np.concatenate(copies), np.concatenate(returns)


def train_self_play(
    agent: MultiAgent,
    environment: str,
    steps: int,
    *,
    environment_arguments: Mapping[str, Any] | None = None,
    num_envs: int = 64,
    rollout_steps: int = 16,
    pool: OpponentPool | None = None,
    snapshot_every: int = 10,
    latest: float = 0.5,
    opponents: int = 4,
    seed: int = 0,
    evaluate: Any = None,
    evaluate_every: int = 1,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train a team in a game of opposed interests, against itself and its past selves.

    An iteration is ``rollout_steps`` steps in each copy and one update on the steps of the seats that the team itself
    played; what past selves did is not learnt from. Every ``snapshot_every`` iterations the team joins the pool, new
    opponents are drawn, and all games start anew: no episode sees its opponent change. They also start anew at every
    checkpoint, so that a resumed run is bit-equal.

    Args:
        agent: The team, changed in place. It has to learn from rollouts and from each seat's own reward.
        environment: Name of a game (:func:`ca14lib.environments.multi_agent_environment`).
        steps: Steps of all copies together; rounded up to whole iterations.
        environment_arguments: Keyword arguments of the game.
        num_envs: Copies stepped together.
        rollout_steps: Steps of each copy between two updates.
        pool: Past selves, changed in place; None to play only against the present self in all copies.
        snapshot_every: Iterations between snapshots. The pool gets the untrained team first.
        latest: Share of the copies in which the team plays all seats itself.
        opponents: Different past selves at a time.
        seed: Fixes games and opponents' actions.
        evaluate: Function of the team to a dict of numbers, for example :class:`StrategyAverage`. If it has ``state()``
            and ``restore(state)``, these are kept in the checkpoint.
        evaluate_every: Iterations between evaluations; the first is before training.
        checkpoint: File to write on schedule and at the end, and to resume from.
        checkpoint_every: Iterations between checkpoints; None for the end only.
        progress: Show a progress bar.
    Returns:
        By step: what ``update`` returned; ``won``, the share of episodes won against past selves, a tie counting half;
        what ``evaluate`` gave.
    Raises:
        ValueError: If a number is out of range, team and game do not fit, or the checkpoint is of another run.
    """
    numbers = {
        "steps": steps, "num_envs": num_envs, "rollout_steps": rollout_steps, "snapshot_every": snapshot_every,
        "opponents": opponents, "evaluate_every": evaluate_every,
    }  # fmt: skip
    if checkpoint_every is not None:
        numbers["checkpoint_every"] = checkpoint_every
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    if not 0.0 <= latest <= 1.0:
        raise ValueError(f"latest must lie in [0, 1], got {latest}")
    _check_learner(agent)
    game = multi_agent_environment(environment, int(num_envs), **(environment_arguments or {}))
    _check_game(agent, game, environment)
    iteration_steps = int(num_envs) * int(rollout_steps)
    iterations = -(-int(steps) // iteration_steps)
    run = {
        "environment": environment, "environment_arguments": repr(sorted((environment_arguments or {}).items())),
        "seed": int(seed), "latest": float(latest),
        "pool": None if pool is None else [pool.capacity, pool.selection, pool.memory],
        **{name: int(value) for name, value in numbers.items() if name != "steps"},
    }  # fmt: skip
    match = Match(agent, int(num_envs), 1.0 if pool is None else latest, int(opponents))
    collector = TeamCollector(agent, game, int(seed), draw=match.sample, learns=match.mine)
    history, start, resets = History(), 0, 0
    if checkpoint is not None and Path(checkpoint).exists():
        history, start, resets, match.members = _resume(Path(checkpoint), agent, pool, evaluate, run, iterations)
    elif evaluate is not None:
        history.add(0, evaluate(agent))
    scores = Scores(int(num_envs), agent.num_agents)

    def restart(resets: int, redraw: bool) -> None:
        if pool is not None:
            if redraw:
                pool.add(agent)
            members = pool.draw(len(match.played)) if redraw else match.members
            match.assign(pool, members, (int(seed), resets))
        collector.restart(resets)
        scores.running[:] = 0.0

    restart(resets, redraw=start == 0)
    bar = tqdm(total=iterations * iteration_steps, initial=start * iteration_steps, disable=not progress, unit="step",
               desc=f"{type(agent).__name__} self-play", leave=False, mininterval=0.5)  # fmt: skip
    for iteration in range(start + 1, iterations + 1):
        batch = collector.collect(int(rollout_steps))
        logs = {name: float(value) for name, value in agent.update(batch).items()}
        logs |= _record(match, pool, *scores.absorb(batch))
        history.add(iteration * iteration_steps, logs)
        last = iteration == iterations
        if evaluate is not None and (last or iteration % evaluate_every == 0):
            history.add(iteration * iteration_steps, evaluate(agent))
        bar.update(iteration_steps)
        saves = last or (checkpoint_every is not None and iteration % checkpoint_every == 0)
        redraws = pool is not None and iteration % snapshot_every == 0
        if saves or redraws:
            resets += 1
            restart(resets, redraws)
        if saves and checkpoint is not None:
            loop = {
                "kind": "self-play", "iteration": iteration, "resets": resets, "run": run, "history": history.rows,
                "members": match.members, "evaluate": evaluate.state() if hasattr(evaluate, "state") else None,
            }  # fmt: skip
            _save(Path(checkpoint), agent, pool, loop)
    bar.close()
    game.close()
    return history


def _record(
    match: Match, pool: OpponentPool | None, copies: NDArray[np.intp], returns: NDArray[np.float64]
) -> dict[str, float]:
    """Tell the pool who won; the share won against all past selves, empty without such an episode."""
    if pool is None or not len(copies):
        return {}
    seats = match.seats[copies]
    own = returns[np.arange(len(copies)), seats]
    others = (returns.sum(axis=1) - own) / (returns.shape[1] - 1)
    won = (own > others) + 0.5 * (own == others)
    against = np.zeros(len(copies), dtype=bool)
    for member, theirs in zip(match.members, match.copies, strict=True):
        met = np.isin(copies, theirs)
        against |= met
        if met.any():
            pool.record(member, float(won[met].mean()))
    return {"won": float(won[against].mean())} if against.any() else {}


def _check_learner(agent: Any) -> None:
    if not isinstance(agent, MultiAgent):
        raise ValueError(f"train_self_play needs a team, got {type(agent).__name__}")
    if agent.experience != "rollouts":
        raise ValueError(f"self-play needs a team that learns from rollouts, {type(agent).__name__} learns from replay")
    if agent.num_agents < 2:
        raise ValueError(f"self-play needs at least two seats, got {agent.num_agents}")
    if getattr(agent.config, "team_reward", False):
        raise ValueError("seats with opposed interests need team_reward=False: the team's reward is nobody's own")


def _check_game(agent: MultiAgent, game: MultiAgentEnvironment, environment: str) -> None:
    for name, own, other in (
        ("observation_space", agent.observation_space, game.single_observation_space),
        ("action_space", agent.action_space, game.single_action_space),
        ("state_space", agent.state_space, game.state_space),
    ):
        if own != other:
            raise ValueError(f"the team's {name} is {own}, {environment}'s {other}")


def _where(chosen: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Entries of the first where ``[N, n]`` is true, whatever axes follow."""
    return torch.where(chosen.reshape(*chosen.shape, *[1] * (first.ndim - 2)), first, second)


def _save(path: Path, agent: MultiAgent, pool: OpponentPool | None, loop: dict[str, Any]) -> None:
    tensors, metadata = agent.state()
    if pool is not None:
        members, loop["pool"] = pool.state()
        tensors |= members
    write_checkpoint(path, tensors, metadata | {"loop": loop})


def _resume(
    path: Path, agent: MultiAgent, pool: OpponentPool | None, evaluate: Any, run: dict[str, Any], iterations: int
) -> tuple[History, int, int, list[int]]:
    tensors, metadata = read_checkpoint(path)
    loop = metadata.get("loop", {})
    if loop.get("kind") != "self-play":
        raise ValueError(f"{path} holds no self-play run to resume; load its team with agent.load")
    for name, value in run.items():
        if loop["run"].get(name) != value:
            raise ValueError(f"{path} is of another run: its {name} is {loop['run'].get(name)}, expected {value}")
    if loop["iteration"] > iterations:
        raise ValueError(
            f"{path} has seen {loop['iteration']} iterations already, more than the {iterations} asked for"
        )
    agent.restore({name: value for name, value in tensors.items() if not name.startswith("pool.")}, metadata)
    if pool is not None:
        pool.restore(tensors, loop["pool"])
    if hasattr(evaluate, "restore"):
        evaluate.restore(loop["evaluate"])
    return History(loop["history"]), loop["iteration"], loop["resets"], loop["members"]


def policy_strategies(agent: Any, game: MultiAgentEnvironment) -> list[NDArray[np.float64]]:
    """The mixed strategies that a team's policies are at the start of a game, one distribution ``[A]`` per seat.

    In a matrix game of one round that is all there is to know of them.

    Args:
        agent: A team with ``probabilities``.
        game: The game, one copy; it is reset.
    Raises:
        ValueError: If the game has more than one copy.
    """
    if game.num_envs != 1:
        raise ValueError(f"strategies are read off one copy of a game, got num_envs={game.num_envs}")
    observation, info = game.reset(seed=0)
    chances = agent.probabilities(observation, agent.initial_memory(1), info.get("action_mask"))
    return list(np.asarray(chances[0], dtype=np.float64))


class StrategyAverage:
    """The strategies of a team in a matrix game of one round over its training, and how far they can be exploited.

    Called with the team it returns ``nash_conv`` of its strategies now, ``nash_conv_average`` of the mean over all
    calls until now, and ``agent_i_action_a``, the probabilities themselves. The mean takes each player's strategies
    apart: in zero-sum games that is what no-regret learning brings to an equilibrium, whatever the last strategies do.

    Args:
        game: A :class:`~ca14lib.environments.matrix_games.MatrixGame` with one round and one copy.
        probabilities: Log the strategies too.

    Raises:
        ValueError: If the game has more than one round or no payoffs.
    """

    def __init__(self, game: Any, *, probabilities: bool = True) -> None:
        if not hasattr(game, "payoffs"):
            raise ValueError(f"strategies are judged in a matrix game, got {type(game).__name__}")
        if game.horizon != 1:
            raise ValueError(f"the strategies of one round do not say how {game.horizon} rounds are played")
        self.game, self.probabilities = game, probabilities
        self.observation = game.reset(seed=0)[0]  # the same at every start
        self.calls = 0
        self.total = np.zeros((game.num_agents, game.num_actions))
        self.last = self.total.copy()

    @property
    def average(self) -> NDArray[np.float64]:
        """Mean strategies, ``[n, A]``."""
        return self.total / max(self.calls, 1)

    def __call__(self, agent: Any) -> dict[str, float]:
        strategies = np.asarray(agent.probabilities(self.observation, agent.initial_memory(1))[0], dtype=np.float64)
        # rounding to single precision leaves sums that differ from 1 by a little
        self.last = strategies / strategies.sum(axis=1, keepdims=True)
        self.total += self.last
        self.calls += 1
        payoffs = self.game.payoffs
        values = {
            "nash_conv": nash_conv(payoffs, list(self.last)),
            "nash_conv_average": nash_conv(payoffs, list(self.average)),
        }
        if self.probabilities:
            for seat, action in np.ndindex(*self.last.shape):
                values[f"agent_{seat}_action_{action}"] = float(self.last[seat, action])
        return values

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"calls": self.calls, "total": self.total.tolist(), "last": self.last.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.calls = int(state["calls"])
        self.total, self.last = np.array(state["total"]), np.array(state["last"])
