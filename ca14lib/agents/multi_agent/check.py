"""The variant of the public test suite for teams; :func:`ca14lib.agents.check_agent` runs it for every MultiAgent."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents.checkpoint import write_checkpoint
from ca14lib.agents.multi_agent.base import MultiAgent, team_normalizer
from ca14lib.data import JointTransitions
from ca14lib.environments import joint_spaces

AGENTS, FEATURES, STATES, STEPS, COPIES = 3, 4, 5, 6, 8
OF_ONE = gym.spaces.Box(-10, 10, (FEATURES,), dtype=np.float32)
STATE = gym.spaces.Box(-10, 10, (STATES,), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(4)
CONTINUOUS_ACTIONS = gym.spaces.Box(np.array([-2, 0], np.float32), np.array([1, 3], np.float32))


@dataclasses.dataclass(frozen=True)
class TeamBuild:
    """Makes teams of one kind, and experience for them."""

    agent_class: type[MultiAgent]
    config: Any
    actions: gym.Space

    def __call__(self, **keywords: Any) -> Any:
        return self.agent_class(*joint_spaces(OF_ONE, self.actions, AGENTS), self.config, state_space=STATE, **keywords)

    @property
    def continuous(self) -> bool:
        return isinstance(self.actions, gym.spaces.Box)

    def observations(self, copies: int = COPIES, seed: int = 0) -> Any:
        """``[copies, n, features]``."""
        return np.random.default_rng(seed).normal(size=(copies, AGENTS, FEATURES)).astype(np.float32)

    def batch(self, seed: int = 0, masked: bool = False) -> JointTransitions:
        """What one update learns from: made-up observations and rewards, actions that a team drew."""
        return random_joint(self(), seed, masked)


def check_team(agent_class: type[MultiAgent], config: Any = None) -> None:
    """Check that a team keeps the contract of the course (ARCHITECTURE.md, "Several agents").

    Runs with shared and separate parameters, with memory where the team can have one, and with both kinds of actions
    where it knows both.

    Args:
        agent_class: The class to check.
        config: A configuration to check it with, or None for the default with small networks and few passes.
    Raises:
        AssertionError: Naming the property that does not hold.
    """
    if config is None:
        quick = {"hidden_sizes": (16, 16), "epochs": 2, "minibatches": 2, "message_size": 4, "heads": 2}
        names = {item.name for item in dataclasses.fields(agent_class.config_class)}
        config = agent_class.config_class(**{name: value for name, value in quick.items() if name in names})  # type: ignore[arg-type]
    kinds: list[gym.Space] = [ACTIONS] if agent_class.discrete_only else [ACTIONS, CONTINUOUS_ACTIONS]
    with torch.random.fork_rng(devices=[]):
        for actions in kinds:
            build = TeamBuild(agent_class, config, actions)
            for check in CHECKS:
                check(build)
        first = TeamBuild(agent_class, config, kinds[0])
        separate = dataclasses.replace(first, config=dataclasses.replace(config, shared=not config.shared))
        if accepts(separate):
            for check in FEW_CHECKS:
                check(separate)
        memory = dataclasses.replace(first, config=dataclasses.replace(config, recurrent=True))
        if accepts(memory):
            for check in FEW_CHECKS:
                check(memory)


def accepts(build: TeamBuild) -> bool:
    """Whether a team can be built so; one that cannot has to say it with a ValueError."""
    try:
        build()
    except ValueError:
        return False
    return True


def random_joint(agent: MultiAgent, seed: int = 0, masked: bool = False) -> JointTransitions:
    """Experience of the kind that a team learns from, with ends of both kinds.

    Args:
        agent: Draws the actions.
        seed: Fixes observations, rewards and ends.
        masked: Forbid some actions.
    Returns:
        Rollouts ``[6, 8, 3, …]``, single transitions ``[1, 48, 3, …]`` or padded episodes ``[6, 8, 3, …]``.
    """
    generator = torch.Generator().manual_seed(seed)
    steps, copies = (1, STEPS * COPIES) if agent.experience == "transitions" else (STEPS, COPIES)
    lead = (steps, copies)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*lead, *shape, generator=generator)

    ends = torch.rand(lead, generator=generator)
    terminated, truncated = ends < 0.2, (ends >= 0.2) & (ends < 0.4)
    filled = None
    if agent.experience == "episodes":
        lengths = torch.randint(2, steps + 1, (copies,), generator=generator)
        last = torch.arange(steps).unsqueeze(-1) == lengths - 1
        filled = torch.arange(steps).unsqueeze(-1) < lengths
        truly = torch.arange(copies) % 2 == 0
        terminated, truncated = last & truly, last & ~truly
    observation, following = normal(AGENTS, FEATURES), normal(AGENTS, FEATURES)
    state, next_state = normal(STATES), normal(STATES)
    goes_on = ~(terminated | truncated)[:-1]
    following[:-1] = torch.where(goes_on[..., None, None], observation[1:], following[:-1])
    next_state[:-1] = torch.where(goes_on[..., None], state[1:], next_state[:-1])
    mask = next_mask = None
    if masked:
        mask, next_mask = (torch.rand(*lead, AGENTS, 4, generator=generator) < 0.5 for _ in range(2))
        mask[..., 1], next_mask[..., 2] = True, True
        next_mask[:-1] = torch.where(goes_on[..., None, None], mask[1:], next_mask[:-1])
    memory = agent.initial_memory(copies)
    rows: list[Any] = []
    for step in range(steps):
        rows.append(agent.sample(observation[step].numpy(), memory, None if mask is None else mask[step].numpy()))
        memory = rows[-1].memory
        if memory is not None:
            memory = memory * goes_on[step].reshape(-1, 1, 1) if step < steps - 1 else memory

    def column(name: str) -> Tensor | None:
        values = [getattr(row, name) for row in rows]
        return None if values[0] is None else torch.stack(values)

    return JointTransitions(
        observation=observation, state=state, action=column("action"), reward=normal(AGENTS),  # type: ignore[arg-type]
        next_observation=following, next_state=next_state, terminated=terminated, truncated=truncated,
        log_prob=column("log_prob"), noise=column("noise"), action_mask=mask, next_action_mask=next_mask,
        memory=agent.initial_memory(copies) if agent.experience == "rollouts" else None, filled=filled,
    )  # fmt: skip


def acted(agent: MultiAgent, observation: Any, **keywords: Any) -> Any:
    """Actions of a team at the start of an episode, with memory or without."""
    memory = agent.initial_memory(len(observation))
    if memory is None:
        return agent.act(observation, **keywords)
    action, following = agent.act(observation, memory, **keywords)
    assert following.shape == memory.shape, f"memory must keep its shape {tuple(memory.shape)}"
    return action


def trained(build: TeamBuild, batches: int = 3, **keywords: Any) -> Any:
    """A team after some updates."""
    agent = build(**keywords)
    for number in range(batches):
        agent.update(build.batch(number))
    return agent


def same(first: MultiAgent, second: MultiAgent) -> bool:
    """Whether two teams hold bit-equal numbers."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def says_what_it_is(build: TeamBuild) -> None:
    agent = build()
    assert type(agent).__doc__, "the class needs a docstring"
    assert agent.experience in ("rollouts", "transitions", "episodes"), f"unknown experience {agent.experience!r}"
    try:
        agent.config.discount = 0.5
    except dataclasses.FrozenInstanceError:
        return
    raise AssertionError("config must be a frozen dataclass")


def acts_in_batches(build: TeamBuild) -> None:
    agent, observation = trained(build), build.observations()
    for deterministic in (True, False):
        action = acted(agent, observation, deterministic=deterministic)
        shape = (COPIES, AGENTS, *(build.actions.shape or ()))
        assert action.shape == shape, f"act must return actions of shape {shape}, got {action.shape}"
        one = agent.action_space
        assert all(one.contains(row.astype(one.dtype)) for row in action), "act leaves the action space"
    best = acted(agent, observation, deterministic=True)
    assert (best == acted(agent, observation, deterministic=True)).all(), "deterministic actions must repeat"
    alone = np.concatenate([acted(agent, observation[i : i + 1], deterministic=True) for i in range(COPIES)])
    assert np.allclose(best, alone, atol=1e-5), "copies of the game must not influence one another's actions"


def obeys_masks(build: TeamBuild) -> None:
    if build.continuous:
        return
    agent, observation = trained(build), build.observations(64)
    mask = np.random.default_rng(1).random((64, AGENTS, 4)) < 0.4
    mask[..., 3] |= ~mask.any(axis=-1)
    for deterministic in (True, False):
        action = acted(agent, observation, mask=mask, deterministic=deterministic)
        taken = np.take_along_axis(mask, action[..., None], axis=-1)
        assert taken.all(), "act takes an action that the mask forbids"
    for name, value in build().update(build.batch(masked=True)).items():
        assert value.isfinite(), f"update()[{name!r}] is {value.item()} on experience with masks"


def updates_return_finite_scalars(build: TeamBuild) -> None:
    agent = build()
    for number in range(3):
        for name, value in agent.update(build.batch(number)).items():
            scalar = isinstance(value, Tensor) and value.ndim == 0
            assert scalar, f"update()[{name!r}] must be a 0-d tensor"
            assert not value.requires_grad, f"update()[{name!r}] must be detached"
            assert value.isfinite(), f"update()[{name!r}] is {value.item()}"
    assert all(value.isfinite().all() for value in agent.state_dict().values()), "a parameter became NaN or infinite"


def leaves_the_batch_alone(build: TeamBuild) -> None:
    batch, copy = build.batch(), build.batch()
    build().update(batch)
    for item in dataclasses.fields(batch):
        before, after = getattr(copy, item.name), getattr(batch, item.name)
        assert before is None or torch.equal(before, after), f"update changes the batch's {item.name}"


def repeats_bit_for_bit(build: TeamBuild) -> None:
    state = torch.get_rng_state()
    first, second = trained(build, seed=3), trained(build, seed=3)
    assert same(first, second), "the same seed and batches must give bit-equal weights"
    observation = build.observations()
    assert (acted(first, observation) == acted(second, observation)).all(), "the same seed must draw the same actions"
    assert torch.equal(torch.get_rng_state(), state), "the team draws from torch's global generator"
    assert not same(build(seed=3), build(seed=4)), "another seed must give other weights"


def learns_every_trained_parameter(build: TeamBuild) -> None:
    agent = build()
    before = {name: value.clone() for name, value in agent.named_parameters()}
    in_optimizers = {
        id(parameter) for optimizer in agent.optimizers.values() for group in optimizer.param_groups
        for parameter in group["params"]
    }  # fmt: skip
    for number in range(6):
        agent.update(build.batch(number))
    for name, value in agent.named_parameters():
        if id(value) in in_optimizers:
            assert not torch.equal(value, before[name]), f"{name} is in an optimiser and never learns"


def stops_at_the_end(build: TeamBuild) -> None:
    """What is seen after a true end has no value; what is seen after a cut has."""
    batch, elsewhere = build.batch(), build.batch(9)
    over = batch.terminated

    def moved(where: Tensor) -> JointTransitions:
        return dataclasses.replace(
            batch,
            next_observation=torch.where(where[..., None, None], elsewhere.next_observation, batch.next_observation),
            next_state=torch.where(where[..., None], elsewhere.next_state, batch.next_state),
        )

    def updated(experience: JointTransitions) -> MultiAgent:
        agent = build(seed=1)
        agent.update(experience)
        return agent

    healthy = updated(batch)
    assert same(healthy, updated(moved(over))), "update uses what was seen after a true end, where nothing follows"
    cut = moved(batch.truncated)
    assert not same(healthy, updated(cut)), "update ignores what was seen after a cut, whose value replaces the rest"


def ignores_what_did_not_happen(build: TeamBuild) -> None:
    """Rows of padding must not count."""
    batch, other = build.batch(), build.batch(9)
    if batch.filled is None:
        return
    changes = {}
    for name in ("observation", "state", "action", "reward", "next_observation", "next_state"):
        value, noise = getattr(batch, name), getattr(other, name)
        changes[name] = torch.where(batch.filled.reshape(*batch.filled.shape, *[1] * (value.ndim - 2)), value, noise)
    first, second = build(seed=1), build(seed=1)
    first.update(batch)
    second.update(dataclasses.replace(batch, **changes))
    assert same(first, second), "update learns from rows of padding"


def saves_and_loads(build: TeamBuild) -> None:
    normalizer = team_normalizer(build.observations(64))
    blank = team_normalizer(build.observations(64, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "team.safetensors"
        agent = trained(build, seed=5, normalizer=normalizer)
        agent.save(path)
        loaded = build(seed=6, normalizer=blank).load(path)
        assert same(agent, loaded), "a loaded team must hold the saved weights"
        for number in range(2):
            observation = build.observations(seed=number)
            assert (acted(agent, observation) == acted(loaded, observation)).all(), "a loaded team acts otherwise"
            agent.update(build.batch(number))
            loaded.update(build.batch(number))
        assert same(agent, loaded), "a loaded team must go on training as the saved one, bit for bit"
        foreign = Path(folder) / "foreign"
        write_checkpoint(foreign, agent.state()[0], agent.state()[1] | {"agent": "SomebodyElse"})
        victim = build(seed=6, normalizer=blank)
        before = {name: value.clone() for name, value in victim.state_dict().items()}
        try:
            victim.load(foreign)
        except ValueError:
            after = victim.state_dict()
            assert all(torch.equal(after[name], value) for name, value in before.items()), "a failed load changed it"
        else:
            raise AssertionError("load accepted the file of another algorithm")


def applies_its_normalizer_everywhere(build: TeamBuild) -> None:
    """A team with a normalizer, on raw data, equals one without, on normalised data."""
    normalizer = team_normalizer(3 + 2 * build.observations(64))
    raw, plain, batch = build(seed=2, normalizer=normalizer), build(seed=2), build.batch()
    raw.update(batch)
    plain.update(
        dataclasses.replace(
            batch,
            observation=normalizer(batch.observation),
            next_observation=normalizer(batch.next_observation),
        )
    )
    weights = dict(plain.named_parameters())
    close = all(torch.allclose(value, weights[name], atol=1e-5) for name, value in raw.named_parameters())
    assert close, "update ignores the normalizer"
    observation = torch.as_tensor(build.observations())
    ours = acted(raw, observation.numpy(), deterministic=True)
    assert np.allclose(ours, acted(plain, normalizer(observation).numpy(), deterministic=True), atol=1e-4), (
        "act ignores the normalizer"
    )


def refuses_bad_input(build: TeamBuild) -> None:
    agent, good = build(), build.observations()
    observations, _ = joint_spaces(OF_ONE, build.actions, AGENTS)
    memory = agent.initial_memory(COPIES)
    batch = build.batch()
    calls: dict[str, Callable[[], Any]] = {
        "observations of another shape": lambda: agent.act(good[..., :-1], memory),
        "observations of too few agents": lambda: agent.act(good[:, 1:], memory),
        "NaN": lambda: agent.act(np.full_like(good, np.nan), memory),
        "one agent's spaces in place of the joint ones": lambda: type(agent)(OF_ONE, build.actions, build.config),
        "observations and actions of different numbers of agents": lambda: type(agent)(
            observations, joint_spaces(OF_ONE, build.actions, 2)[1], build.config
        ),
        "agents with unequal numbers of actions": lambda: type(agent)(
            observations, gym.spaces.MultiDiscrete([2, 3, 2]), build.config
        ),
        "an unknown device": lambda: build(device="abacus"),
        "a batch of another kind": lambda: agent.update({}),
        "NaN rewards": lambda: agent.update(dataclasses.replace(batch, reward=batch.reward * torch.nan)),
        "states of another size": lambda: agent.update(dataclasses.replace(batch, state=batch.state[..., :-1])),
    }
    if agent.experience == "rollouts":
        calls["a rollout without log_prob"] = lambda: agent.update(dataclasses.replace(batch, log_prob=None))
    if memory is not None:
        calls["no memory"] = lambda: agent.act(good)
        calls["memory of another size"] = lambda: agent.act(good, memory[..., :-1])
    if build.continuous:
        calls["a mask"] = lambda: agent.act(good, memory, mask=np.ones((COPIES, AGENTS, 4), dtype=bool))
    else:
        none = np.ones((COPIES, AGENTS, 4), dtype=bool)
        none[0, 1] = False
        calls["a mask that allows an agent nothing"] = lambda: agent.act(good, memory, mask=none)
        calls["a mask of another shape"] = lambda: agent.act(good, memory, mask=none[:, :, :-1])
    for what, call in calls.items():
        try:
            call()
        except ValueError:
            continue
        raise AssertionError(f"the team accepts {what}; it must raise a ValueError")


Check = Callable[[TeamBuild], None]
FEW_CHECKS: tuple[Check, ...] = (
    acts_in_batches, obeys_masks, updates_return_finite_scalars, repeats_bit_for_bit, learns_every_trained_parameter,
    stops_at_the_end, ignores_what_did_not_happen, saves_and_loads,
)  # fmt: skip
CHECKS: tuple[Check, ...] = (
    says_what_it_is, leaves_the_batch_alone, *FEW_CHECKS, applies_its_normalizer_everywhere, refuses_bad_input,
)  # fmt: skip
