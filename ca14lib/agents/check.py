"""The public test suite that every agent passes; write your own agent and run it.

from ca14lib.agents import check_agent
check_agent(MyAgent)
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents.base import Agent, ContinuousAgent, DiscreteAgent, ValueAgent
from ca14lib.agents.checkpoint import write_checkpoint
from ca14lib.agents.multi_agent.base import MultiAgent
from ca14lib.agents.multi_agent.check import check_team
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.data import Normalizer, Rollout, Transitions
from ca14lib.environments import TabularModel

BOX = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
IMAGE = gym.spaces.Box(-10, 10, (2, 3), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(4)
CONTINUOUS_ACTIONS = gym.spaces.Box(np.array([-2, 0], np.float32), np.array([1, 3], np.float32))


@dataclasses.dataclass(frozen=True)
class Build:
    """Makes agents of one kind, and batches for them."""

    agent_class: type[Agent]
    config: Any
    space: gym.Space
    actions: gym.Space

    def __call__(self, **keywords: Any) -> Any:
        return self.agent_class(self.space, self.actions, self.config, **keywords)

    def batch(self, seed: int = 0) -> Any:
        """What one update learns from."""
        return random_batch(self.space, 32, seed, self.actions)

    def observations(self) -> Any:
        """32 observations, as an array."""
        return random_batch(self.space, 32, 0, self.actions).observation.numpy()

    @property
    def continuous(self) -> bool:
        return isinstance(self.actions, gym.spaces.Box)


class OnPolicyBuild(Build):
    """Makes agents that learn from rollouts, and rollouts with as many costs as the agents have limits."""

    def batch(self, seed: int = 0) -> Rollout:
        whole = issubclass(self.agent_class, OnPolicyAgent) and self.agent_class.whole_episodes
        return random_rollout(self.space, self.actions, self.num_costs, seed=seed, whole_episodes=whole)

    @property
    def num_costs(self) -> int:
        return len(self.config.cost_limits)


def check_agent(agent_class: type[Agent], config: Any = None) -> None:
    """Check that an agent keeps the contract of the course (ARCHITECTURE.md).

    Args:
        agent_class: The class to check; the variant for discrete actions runs when it derives from ``DiscreteAgent``,
            that for continuous ones when it derives from ``ContinuousAgent``, that for rollouts, with both kinds of
            actions, when it derives from ``OnPolicyAgent``, and that for teams when it derives from ``MultiAgent``.
        config: A configuration to check it with, or None for the default with small networks and few passes.
    Raises:
        AssertionError: Naming the property that does not hold.
        ValueError: If no variant of the suite fits the class.
    """
    if isinstance(agent_class, type) and issubclass(agent_class, MultiAgent):
        check_team(agent_class, config)
        return
    kinds = DiscreteAgent | ContinuousAgent | OnPolicyAgent
    if not (isinstance(agent_class, type) and issubclass(agent_class, kinds)):
        raise ValueError(
            "check_agent has variants for subclasses of DiscreteAgent, ContinuousAgent, OnPolicyAgent and MultiAgent, "
            f"got {agent_class}"
        )
    if config is None:
        quick = {"hidden_sizes": (16, 16), "epochs": 2, "value_epochs": 2, "minibatches": 2}
        names = {item.name for item in dataclasses.fields(agent_class.config_class)}
        config = agent_class.config_class(**{name: value for name, value in quick.items() if name in names})  # type: ignore[arg-type]
    states = gym.spaces.Discrete(6)
    variants: tuple[tuple[type[Build], gym.Space, gym.Space, tuple[Check, ...]], ...]
    if issubclass(agent_class, OnPolicyAgent):
        variants = (
            (OnPolicyBuild, BOX, ACTIONS, ON_POLICY_DISCRETE_CHECKS),
            (OnPolicyBuild, states, ACTIONS, ON_POLICY_DISCRETE_CHECKS),
            (OnPolicyBuild, IMAGE, CONTINUOUS_ACTIONS, ON_POLICY_CONTINUOUS_CHECKS),
            (OnPolicyBuild, states, CONTINUOUS_ACTIONS, ON_POLICY_CONTINUOUS_CHECKS),
        )
    elif issubclass(agent_class, DiscreteAgent):
        variants = ((Build, BOX, ACTIONS, DISCRETE_CHECKS), (Build, states, ACTIONS, DISCRETE_CHECKS))
    else:
        variants = (
            (Build, BOX, CONTINUOUS_ACTIONS, CONTINUOUS_CHECKS), (Build, IMAGE, CONTINUOUS_ACTIONS, CONTINUOUS_CHECKS),
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        for make, space, actions, checks in variants:
            for check in checks:
                check(make(agent_class, config, space, actions), space)


def random_batch(space: gym.Space, size: int = 32, seed: int = 0, actions: gym.Space = ACTIONS) -> Transitions:
    """A made-up batch of transitions with ends of both kinds and no NaN."""
    generator = torch.Generator().manual_seed(seed)
    terminated = torch.rand(size, generator=generator) < 0.3
    return Transitions(
        observation=_observations(space, size, generator),
        action=_actions(actions, size, generator),
        reward=torch.randn(size, generator=generator),
        cost=torch.zeros(size, 0),
        next_observation=_observations(space, size, generator),
        terminated=terminated,
        truncated=~terminated & (torch.rand(size, generator=generator) < 0.3),
    )


def random_rollout(
    space: gym.Space,
    actions: gym.Space = ACTIONS,
    num_costs: int = 0,
    steps: int = 8,
    copies: int = 4,
    seed: int = 0,
    whole_episodes: bool = False,
    masked: bool = False,
) -> Rollout:
    """A made-up rollout ``[T, N]`` of a uniform policy, with ends of both kinds and episodes that go on.

    Args:
        space: Observations.
        actions: Actions.
        num_costs: K.
        steps: T, at least 3.
        copies: N.
        seed: Fixes it.
        whole_episodes: Whether the first episode of every copy has to end.
        masked: Whether some of the (discrete) actions are forbidden.
    """
    generator = torch.Generator().manual_seed(seed)
    number = steps * copies
    observation = _observations(space, number, generator).unflatten(0, (steps, copies))
    action = _actions(actions, number, generator).unflatten(0, (steps, copies))
    mask = None
    if isinstance(actions, gym.spaces.Discrete):
        mask = torch.rand(steps, copies, int(actions.n), generator=generator) < 0.5
        mask = mask.scatter(-1, action.unsqueeze(-1), True) if masked else torch.ones_like(mask)
        log_prob = -mask.sum(dim=-1).float().log()
    else:
        log_prob = torch.full((steps, copies), -np.log(2.0) * float(np.prod(actions.shape or ())))
    terminated = torch.rand(steps, copies, generator=generator) < 0.2
    truncated = ~terminated & (torch.rand(steps, copies, generator=generator) < 0.2)
    terminated[0, 0], truncated[1, 1], terminated[1, 1] = True, True, False  # both kinds, whatever was drawn
    truncated[0, 0] = False
    if whole_episodes:
        truncated[-2] |= ~(terminated | truncated)[:-1].any(dim=0)
    ended = terminated | truncated
    following = _observations(space, number, generator).unflatten(0, (steps, copies))
    on = ~ended[:-1].reshape(steps - 1, copies, *[1] * (observation.ndim - 2))
    following[:-1] = torch.where(on, observation[1:], following[:-1])
    episodes = int(ended.sum())
    return Rollout(
        observation=observation,
        action=action,
        log_prob=log_prob,
        reward=torch.randn(steps, copies, generator=generator),
        cost=torch.rand(steps, copies, num_costs, generator=generator),
        next_observation=following,
        terminated=terminated,
        truncated=truncated,
        episode_return=torch.randn(episodes, generator=generator),
        episode_cost=50 * torch.rand(episodes, num_costs, generator=generator),
        episode_length=torch.randint(1, 9, (episodes,), generator=generator).float(),
        action_mask=mask if masked else None,
    )


def _observations(space: gym.Space, size: int, generator: torch.Generator) -> Tensor:
    if isinstance(space, gym.spaces.Discrete):
        return torch.randint(int(space.n), (size,), generator=generator)
    return torch.randn(size, *space.shape, generator=generator)  # type: ignore[misc]


def _actions(space: gym.Space, size: int, generator: torch.Generator) -> Tensor:
    if isinstance(space, gym.spaces.Discrete):
        return torch.randint(int(space.n), (size,), generator=generator)
    assert isinstance(space, gym.spaces.Box)
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    return low + (high - low) * torch.rand(size, *space.shape, generator=generator)


def acts_in_batches(build: Build, space: gym.Space) -> None:
    agent, observation = build(), build.observations()
    for deterministic in (False, True):
        action = agent.act(observation, deterministic=deterministic)
        assert isinstance(action, np.ndarray), f"act must return a NumPy array, got {type(action).__name__}"
        expected = (32, *(build.actions.shape or ()))
        assert action.shape == expected, f"act must return one action per observation, got shape {action.shape}"
        kind, name = ("f", "real numbers") if build.continuous else ("i", "integers")
        assert action.dtype.kind == kind, f"actions in {build.actions} must be {name}, got {action.dtype}"
        inside = all(build.actions.contains(one if build.continuous else int(one)) for one in action)
        assert inside, f"actions must lie in {build.actions}, got {action.min()} to {action.max()}"
    first, second = (agent.act(observation, deterministic=True) for _ in range(2))
    assert (first == second).all(), "act(deterministic=True) must not be random"
    alone = np.concatenate([agent.act(row[None], deterministic=True) for row in observation])
    same = np.allclose(alone, first, atol=1e-5) if build.continuous else (alone == first).all()
    assert same, "the action of an observation must not depend on the rest of its batch"


def obeys_masks(build: Build, space: gym.Space) -> None:
    agent, observation = build(), build.observations()
    for allowed in range(4):
        mask = np.zeros((32, 4), dtype=bool)
        mask[:, allowed] = True
        for deterministic in (False, True):
            action = agent.act(observation, mask=mask, deterministic=deterministic)
            assert (action == allowed).all(), f"only action {allowed} was allowed, act chose {set(action.tolist())}"


def gives_policy_tables(build: Build, space: gym.Space) -> None:
    agent, states = build(), 6
    observation = np.arange(states) if isinstance(space, gym.spaces.Discrete) else np.eye(states, 3, dtype=np.float32)
    mask = np.ones((states, 4), dtype=bool)
    mask[0, 1:] = False
    transition = np.full((states, 4, states), 1 / states)
    model = TabularModel(transition, np.zeros((states, 4)), observation=observation, action_mask=mask)
    for deterministic in (False, True):
        table = agent.policy_table(model, deterministic=deterministic)
        assert table.shape == (states, 4), f"policy_table must be [S, A], got {table.shape}"
        assert np.allclose(table.sum(axis=1), 1), "rows of policy_table must sum to 1"
        assert (table >= 0).all(), "policy_table holds a negative probability"
        assert (table[~mask] == 0).all(), "policy_table must give forbidden actions no probability"
    greedy = agent.act(observation, mask=mask, deterministic=True)
    assert (table.argmax(axis=1) == greedy).all(), "policy_table and act must agree"
    draws = 4_000
    table = agent.policy_table(model, deterministic=False)
    for state in range(states):
        action = agent.act(
            np.repeat(observation[state : state + 1], draws, axis=0), mask=np.tile(mask[state], (draws, 1))
        )
        share, expected = np.bincount(action, minlength=4) / draws, table[state]
        spread = 6 * np.sqrt(expected * (1 - expected) / draws) + 1e-6
        assert (abs(share - expected) <= spread).all(), (
            f"act draws actions with frequencies {share.round(3)}, policy_table says {expected.round(3)}"
        )


def updates_return_finite_scalars(build: Build, space: gym.Space) -> None:
    agent = build()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    logs = agent.update(build.batch())
    assert logs, "update must return at least one number to log"
    for name, value in logs.items():
        assert isinstance(value, Tensor), f"update()[{name!r}] must be a 0-d tensor, got {value!r}"
        assert value.ndim == 0, f"update()[{name!r}] must be a 0-d tensor, got shape {tuple(value.shape)}"
        assert value.isfinite(), f"update()[{name!r}] is {value.item()}"
        assert not value.requires_grad, f"update()[{name!r}] still carries a gradient graph"
    after = agent.state_dict()
    assert any((after[name] != before[name]).any() for name in after), "update changed no parameter"
    assert all(value.isfinite().all() for value in after.values()), "update made a parameter NaN or infinite"


def survives_poor_data(build: Build, space: gym.Space) -> None:
    """Constant rewards, and a behaviour that always takes one action and leaves the others untried."""
    whole = build.batch()
    one_action = dataclasses.replace(whole, action=whole.action[:1].expand_as(whole.action).contiguous())
    for reward in (0.0, 1.0):
        agent = build()
        for _ in range(20):
            logs = agent.update(dataclasses.replace(one_action, reward=torch.full_like(whole.reward, reward)))
            for name, value in logs.items():
                assert value.isfinite(), f"update()[{name!r}] is {value.item()} when all rewards are {reward}"
        weights = agent.state_dict().items()
        broken = [name for name, value in weights if not value.isfinite().all()]
        assert not broken, f"constant rewards of {reward} and a single action make {broken[0]} NaN or infinite"
        assert np.isfinite(agent.act(whole.observation.numpy(), deterministic=True)).all(), "the action is not finite"


def learns_every_trained_parameter(build: Build, space: gym.Space) -> None:
    """Parameters that ask for a gradient belong to an optimiser; the others (targets) to none."""
    agent = build()
    owned = [
        parameter
        for optimizer in agent.optimizers.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    owned += getattr(agent, "policy_parameters", [])  # of agents that compute the policy's step themselves
    assert len({id(parameter) for parameter in owned}) == len(owned), "a parameter belongs to two optimisers"
    for name, parameter in agent.named_parameters():
        trained = any(parameter is candidate for candidate in owned)
        assert trained == parameter.requires_grad, (
            f"{name}: requires_grad is {parameter.requires_grad}, in an optimiser: {trained}"
        )


def leaves_the_batch_alone(build: Build, space: gym.Space) -> None:
    agent, batch, copy = build(), build.batch(), build.batch()
    agent.update(batch)
    for item in dataclasses.fields(batch):
        value, expected = getattr(batch, item.name), getattr(copy, item.name)
        assert value is None or torch.equal(value, expected), f"update changed batch.{item.name}"


def bootstraps_through_truncation(build: Build, space: gym.Space) -> None:
    """A time limit must not change an update."""
    batch = build.batch()
    flipped = dataclasses.replace(batch, truncated=~batch.truncated & ~batch.terminated)
    first, second = build(seed=1), build(seed=1)
    first.update(batch)
    second.update(flipped)
    assert _same(first, second), "update depends on truncated: a time limit is not an end"


def stops_at_the_end(build: Build, space: gym.Space) -> None:
    """A true end must change the update of an agent that learns values."""
    agent = build()
    if not (agent.learns_values if isinstance(agent, ContinuousAgent) else isinstance(agent, ValueAgent)):
        return
    batch = build.batch()
    endless = dataclasses.replace(batch, terminated=torch.zeros_like(batch.terminated))
    first, second = build(seed=1), build(seed=1)
    first.update(batch)
    second.update(endless)
    assert not _same(first, second), "update ignores terminated: nothing follows a true end"


def repeats_bit_for_bit(build: Build, space: gym.Space) -> None:
    torch.manual_seed(0)
    first = build(seed=3)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    second, other = build(seed=3), build(seed=4)
    assert _same(first, second), "the same seed must give the same weights, whatever the global generator holds"
    assert not _same(first, other), "another seed must give other weights"
    assert torch.equal(torch.random.get_rng_state(), state), "building an agent moves torch's global generator"
    for number in range(3):
        batch = build.batch(seed=number)
        first.update(batch)
        second.update(batch)
    observation = build.observations()
    assert (first.act(observation) == second.act(observation)).all(), "the same seed must draw the same actions"
    assert _same(first, second), "the same seed and batches must give bit-equal weights"
    assert torch.equal(torch.random.get_rng_state(), state), "the agent draws from torch's global generator"


def saves_and_loads(build: Build, space: gym.Space) -> None:
    normalizer, ones = None, torch.ones(space.shape or ())
    if not isinstance(space, gym.spaces.Discrete):
        normalizer = Normalizer(ones, 2 * ones)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.safetensors"
        agent = build(seed=5, normalizer=normalizer)
        for number in range(3):
            agent.update(build.batch(seed=number))
        agent.save(path)
        blank = None if normalizer is None else Normalizer(0 * ones, ones)
        loaded = build(seed=6, normalizer=blank).load(path)
        assert _same(agent, loaded), "a loaded agent must hold the saved weights"
        observation = build.observations()
        for number in range(3):
            assert (agent.act(observation) == loaded.act(observation)).all(), (
                "a loaded agent must act like the saved one"
            )
            agent.update(build.batch(seed=number))
            loaded.update(build.batch(seed=number))
        assert _same(agent, loaded), "a loaded agent must go on training as the saved one, bit for bit"


def refuses_damaged_files(build: Build, space: gym.Space) -> None:
    with tempfile.TemporaryDirectory() as folder:
        good, bad = Path(folder) / "good", Path(folder) / "bad"
        agent = build(seed=5)
        agent.save(good)
        content = good.read_bytes()
        foreign = Path(folder) / "foreign"
        write_checkpoint(foreign, agent.state()[0], agent.state()[1] | {"agent": "SomebodyElse"})
        for damage in (content[: len(content) // 2], b"", b"not a checkpoint", foreign.read_bytes()):
            bad.write_bytes(damage)
            victim = build(seed=6)
            try:
                victim.load(bad)
            except ValueError:
                assert _same(victim, build(seed=6)), "a load that failed changed the agent"
            else:
                raise AssertionError("load accepted a damaged or foreign file")


def applies_its_normalizer_everywhere(build: Build, space: gym.Space) -> None:
    """An agent with a normalizer, on raw data, equals one without, on normalised data."""
    if isinstance(space, gym.spaces.Discrete):
        return
    mean, std = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 1.0])
    normalizer = Normalizer(mean.expand(space.shape or ()), std.expand(space.shape or ()))
    raw, batch = build(seed=2, normalizer=normalizer), build.batch()
    plain = build(seed=2)
    raw.update(batch)
    plain.update(
        dataclasses.replace(
            batch, observation=normalizer(batch.observation), next_observation=normalizer(batch.next_observation)
        )
    )
    weights = dict(plain.named_parameters())
    close = all(torch.allclose(p, weights[n], atol=1e-6) for n, p in raw.named_parameters())
    assert close, "update ignores the normalizer"
    observation = torch.as_tensor(build.observations())
    from_raw = raw.act(observation.numpy(), deterministic=True)
    from_plain = plain.act(normalizer(observation).numpy(), deterministic=True)
    same = np.allclose(from_raw, from_plain, atol=1e-5) if build.continuous else (from_raw == from_plain).all()
    assert same, "act ignores the normalizer"
    if build.continuous:
        return
    states = np.eye(6, 3, dtype=np.float32)
    model = TabularModel(np.full((6, 4, 6), 1 / 6), np.zeros((6, 4)), observation=states)
    table, expected = raw.policy_table(model, deterministic=False), raw.probabilities(states)
    assert np.allclose(table, expected, atol=1e-6), "policy_table ignores the normalizer"


def refuses_bad_input(build: Build, space: gym.Space) -> None:
    agent = build()
    wrong_shape = np.zeros((2, 9), dtype=np.float32)
    discrete = isinstance(space, gym.spaces.Discrete)
    wrong_value = np.array([99]) if discrete else np.full((1, *(space.shape or ())), np.nan, np.float32)
    good = build.observations()
    other = CONTINUOUS_ACTIONS if not build.continuous else ACTIONS
    both = isinstance(agent, OnPolicyAgent)
    calls: dict[str, Callable[[], Any]] = {
        "observations of another shape": lambda: agent.act(wrong_shape),
        "observations out of range or NaN": lambda: agent.act(wrong_value),
        "a mask of another shape": lambda: agent.act(good, mask=np.ones((32, 5), dtype=bool)),
        "a mask that allows nothing": lambda: agent.act(good, mask=np.zeros((32, 4), dtype=bool)),
        "an unknown device": lambda: build(device="abacus"),
    }
    if not both:
        calls["actions of the other kind"] = lambda: dataclasses.replace(build, actions=other)()
    if build.continuous:
        endless = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        calls["a mask"] = lambda: agent.act(good, mask=np.ones((32, 4), dtype=bool))
        calls["actions without bounds"] = lambda: dataclasses.replace(build, actions=endless)()
    if build.continuous and not both:
        calls["discrete observations"] = lambda: dataclasses.replace(build, space=gym.spaces.Discrete(6))()
    if both:
        pairs = gym.spaces.MultiDiscrete([2, 2])
        calls["actions of neither kind"] = lambda: dataclasses.replace(build, actions=pairs)()
    if isinstance(build, OnPolicyBuild) and build.num_costs:
        whole = build.batch()
        less = dataclasses.replace(whole, cost=whole.cost[..., 1:], episode_cost=whole.episode_cost[..., 1:])
        calls["a rollout with too few costs"] = lambda: agent.update(less)
    for what, call in calls.items():
        try:
            call()
        except ValueError:
            continue
        raise AssertionError(f"the agent accepts {what}; it must raise a ValueError")


def says_what_it_is(build: Build, space: gym.Space) -> None:
    agent = build()
    assert type(agent).__doc__, "the class needs a docstring"
    try:
        agent.config.discount = 0.5
    except dataclasses.FrozenInstanceError:
        return
    raise AssertionError("config must be a frozen dataclass")


def keeps_units_of_actions(build: Build, space: gym.Space) -> None:
    """An agent on other units of action, and data in those units, learns and acts the same."""
    assert isinstance(build.actions, gym.spaces.Box)
    wide = gym.spaces.Box(10 * build.actions.low - 3, 10 * build.actions.high - 3)
    first, second, batch = build(seed=1), dataclasses.replace(build, actions=wide)(seed=1), build.batch()
    for _ in range(2):
        first.update(batch)
        second.update(dataclasses.replace(batch, action=10 * batch.action - 3))
    observation = build.observations()
    for deterministic in (True, False):
        here, there = (agent.act(observation, deterministic=deterministic) for agent in (first, second))
        assert np.allclose(10 * here - 3, there, atol=1e-2), "the units of the actions must not matter"


# Of agents that learn from rollouts


def learns_from_masked_rollouts(build: Build, space: gym.Space) -> None:
    assert isinstance(build, OnPolicyBuild)
    whole = build.agent_class.whole_episodes  # type: ignore[attr-defined]
    rollout = random_rollout(space, build.actions, build.num_costs, whole_episodes=whole, masked=True)
    agent = build()
    for name, value in agent.update(rollout).items():
        assert value.isfinite(), f"update()[{name!r}] is {value.item()} on a rollout with a mask"
    assert all(value.isfinite().all() for value in agent.state_dict().values()), "masks make a parameter NaN"
    assert rollout.action_mask is not None
    free, masked = build(seed=1), build(seed=1)
    free.update(dataclasses.replace(rollout, action_mask=None))
    masked.update(rollout)
    assert not _same(free, masked), (
        "update ignores the rollout's action_mask: its probabilities are not those drawn from"
    )


def gives_timed_policy_tables(build: Build, space: gym.Space) -> None:
    """Where the agent sees the remaining time, its table has a row for every step."""
    if space != BOX:
        return
    states, horizon = 5, 3
    observation = np.random.default_rng(0).normal(size=(states, 2)).astype(np.float32)
    model = TabularModel(
        np.full((states, 4, states), 1 / states), np.zeros((states, 4)), observation=observation, horizon=horizon,
        observes_time=True,
    )  # fmt: skip
    agent = build()
    for _ in range(3):
        agent.update(build.batch())
    table = agent.policy_table(model, deterministic=False)
    assert table.shape == (horizon, states, 4), f"policy_table must be [H, S, A] with a horizon, got {table.shape}"
    for step in range(horizon):
        expected = agent.probabilities(model.timed_observation(step))
        assert np.allclose(table[step], expected, atol=1e-6), "policy_table shows the agent another time than its row's"


def uses_what_followed_a_cut(build: Build, space: gym.Space) -> None:
    """A cut takes the place of what would have come by the value of what was seen; a true end by nothing.

    For agents that learn from whole episodes every end is a true one.
    """
    batch = build.batch()
    elsewhere = dataclasses.replace(build.batch(seed=9), observation=batch.observation).next_observation
    whole = build.agent_class.whole_episodes  # type: ignore[attr-defined]

    def updated(**changes: Any) -> Agent:
        agent = build(seed=1)
        agent.update(dataclasses.replace(batch, **changes))
        return agent

    def moved(where: Tensor) -> Tensor:
        return torch.where(where.reshape(*where.shape, *[1] * (elsewhere.ndim - 2)), elsewhere, batch.next_observation)

    healthy = updated()
    ended = updated(next_observation=moved(batch.terminated))
    assert _same(healthy, ended), "update uses what was seen after a true end, where nothing follows"
    cut = updated(next_observation=moved(batch.truncated))
    swapped = updated(terminated=batch.truncated, truncated=batch.terminated)
    if whole:
        assert _same(healthy, cut), "the sums of whole episodes end with them: what was seen afterwards must not count"
        assert _same(healthy, swapped), "the sums of whole episodes end with them, by a cut or truly"
        return
    assert not _same(healthy, cut), (
        "update ignores next_observation after a cut, whose value takes the place of the rest"
    )
    assert not _same(healthy, swapped), "update treats cuts and true ends alike"
    last = torch.zeros_like(batch.terminated)
    last[-1] = ~batch.terminated[-1]
    at_the_end = updated(truncated=batch.truncated | last)
    assert _same(healthy, at_the_end), (
        "update must go on behind the last row as behind a cut: with the value of what was seen"
    )
    config = dataclasses.replace(build.config, gae_lambda=0.0, cost_gae_lambda=0.0)
    first, second = (dataclasses.replace(build, config=config)(seed=1) for _ in range(2))
    first.update(batch)
    second.update(dataclasses.replace(batch, truncated=~batch.terminated))
    weights = dict(second.named_parameters())
    close = all(torch.allclose(p, weights[name], atol=1e-4) for name, p in first.named_parameters())
    assert close, "a cut must change nothing at λ = 0 if next_observation is what comes in the next row"


def survives_poor_rollouts(build: Build, space: gym.Space) -> None:
    """Constant rewards and costs, one action, and no episode that was completed."""
    assert isinstance(build, OnPolicyBuild)
    batch = build.batch()
    action = batch.action[:1, :1].expand_as(batch.action).contiguous()
    for reward, cost in ((0.0, 0.0), (1.0, 2.0)):
        agent = build()
        poor = dataclasses.replace(
            batch, action=action, reward=torch.full_like(batch.reward, reward), cost=torch.full_like(batch.cost, cost),
            episode_cost=torch.full_like(batch.episode_cost, cost),
        )  # fmt: skip
        for _ in range(3):
            for name, value in agent.update(poor).items():
                assert value.isfinite(), f"update()[{name!r}] is {value.item()} when all rewards are {reward}"
        broken = [name for name, value in agent.state_dict().items() if not value.isfinite().all()]
        assert not broken, f"constant rewards of {reward} and a single action make {broken[0]} NaN or infinite"
        assert np.isfinite(agent.act(build.observations(), deterministic=True)).all(), "the action is not finite"
    endless = torch.zeros_like(batch.terminated)
    none = dataclasses.replace(
        batch, terminated=endless, truncated=endless, episode_return=batch.episode_return[:0],
        episode_cost=batch.episode_cost[:0], episode_length=batch.episode_length[:0],
    )  # fmt: skip
    agent = build()
    if agent.whole_episodes:
        try:
            agent.update(none)
        except ValueError:
            return
        raise AssertionError("the agent needs whole episodes and accepts a rollout in which none ended")
    buffers = {name: value.clone() for name, value in agent.named_buffers()}
    for name, value in agent.update(none).items():
        assert value.isfinite(), f"update()[{name!r}] is {value.item()} on a rollout without a completed episode"
    assert all(value.isfinite().all() for value in agent.state_dict().values()), "no completed episode makes NaN"
    changed = [name for name, value in agent.named_buffers() if not torch.equal(value, buffers[name])]
    assert not changed, (
        f"without a completed episode there is no cost to compare with its limit, but {changed[0]} moves"
    )


def _same(first: Agent, second: Agent) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


Check = Callable[[Build, gym.Space], None]
BEFORE: tuple[Check, ...] = (
    says_what_it_is,
    updates_return_finite_scalars,
    leaves_the_batch_alone,
    repeats_bit_for_bit,
    acts_in_batches,
)
AFTER: tuple[Check, ...] = (
    learns_every_trained_parameter,
    bootstraps_through_truncation,
    stops_at_the_end,
    saves_and_loads,
    refuses_damaged_files,
    applies_its_normalizer_everywhere,
    refuses_bad_input,
    survives_poor_data,
)
DISCRETE_CHECKS = (*BEFORE, obeys_masks, gives_policy_tables, *AFTER)
CONTINUOUS_CHECKS = (*BEFORE, keeps_units_of_actions, *AFTER)
ON_POLICY: tuple[Check, ...] = (
    learns_every_trained_parameter,
    uses_what_followed_a_cut,
    saves_and_loads,
    refuses_damaged_files,
    applies_its_normalizer_everywhere,
    refuses_bad_input,
    survives_poor_rollouts,
)
ON_POLICY_DISCRETE_CHECKS = (
    *BEFORE, obeys_masks, gives_policy_tables, gives_timed_policy_tables, learns_from_masked_rollouts, *ON_POLICY,
)  # fmt: skip
ON_POLICY_CONTINUOUS_CHECKS = (*BEFORE, keeps_units_of_actions, *ON_POLICY)
