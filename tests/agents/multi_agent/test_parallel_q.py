"""ParallelVDN and ParallelQMIX: λ-returns equal brute force, losses a computation by hand, faults are seen."""

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ca14lib.agents.multi_agent.parallel_q as module
from ca14lib.agents.multi_agent.check import check_team
from ca14lib.agents.multi_agent.parallel_q import (
    ParallelQMIX,
    ParallelQMIXConfig,
    ParallelVDN,
    ParallelVDNConfig,
    greedy_lambda_returns,
)
from ca14lib.data import JointTransitions
from ca14lib.environments import joint_spaces

AGENTS, FEATURES, STATES, ACTIONS, STEPS, COPIES = 2, 3, 4, 3, 6, 5
OF_ONE = gym.spaces.Box(-10, 10, (FEATURES,), np.float32)
STATE = gym.spaces.Box(-10, 10, (STATES,), np.float32)
TEAMS: tuple[type[ParallelVDN], ...] = (ParallelVDN, ParallelQMIX)


def small_team(cls: type, **settings: Any) -> Any:
    defaults = {"hidden_sizes": (8,), "discount": 0.9, "epochs": 1, "minibatches": 1}
    config = cls.config_class(**(defaults | settings))
    return cls(*joint_spaces(OF_ONE, gym.spaces.Discrete(ACTIONS), AGENTS), config, state_space=STATE)


def rollout(team: Any, seed: int = 0, masked: bool = True) -> JointTransitions:
    """Six steps of five copies with true ends and cuts in the middle and in the last row."""
    generator = torch.Generator().manual_seed(seed)
    lead = (STEPS, COPIES)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*lead, *shape, generator=generator)

    terminated, truncated = torch.zeros(lead, dtype=torch.bool), torch.zeros(lead, dtype=torch.bool)
    for row, copy in ((1, 0), (3, 0), (5, 1), (0, 2)):
        terminated[row, copy] = True
    for row, copy in ((2, 1), (4, 2), (5, 3)):
        truncated[row, copy] = True
    seen, following, state, next_state = (
        normal(AGENTS, FEATURES),
        normal(AGENTS, FEATURES),
        normal(STATES),
        normal(STATES),
    )
    allowed = [torch.rand(*lead, AGENTS, ACTIONS, generator=generator) < 0.5 for _ in range(2)]
    allowed[0][..., 0], allowed[1][..., 1] = True, True
    goes_on = ~(terminated | truncated)[:-1]
    following[:-1] = torch.where(goes_on[..., None, None], seen[1:], following[:-1])
    next_state[:-1] = torch.where(goes_on[..., None], state[1:], next_state[:-1])
    allowed[1][:-1] = torch.where(goes_on[..., None, None], allowed[0][1:], allowed[1][:-1])
    weight = allowed[0].float() if masked else torch.ones(*lead, AGENTS, ACTIONS)
    action = torch.multinomial(weight.reshape(-1, ACTIONS), 1, generator=generator).reshape(*lead, AGENTS)
    memory = None
    if team.memory_size:
        memory = 0.5 * torch.randn(COPIES, AGENTS, team.memory_size, generator=generator)
    return JointTransitions(
        observation=seen, state=state, action=action, reward=normal(AGENTS), next_observation=following,
        next_state=next_state, terminated=terminated, truncated=truncated, log_prob=torch.zeros(*lead, AGENTS),
        action_mask=allowed[0] if masked else None, next_action_mask=allowed[1] if masked else None, memory=memory,
    )  # fmt: skip


def mixture_of_n_step_returns(
    reward: list[float], value: list[float], over: list[bool], last: list[bool], start: int, discount: float,
    decay: float,
) -> float:  # fmt: skip
    """(1 − λ) Σ λ^{n−1} G^{(n)}, the rest of the weight on the longest: the definition, by its sums."""
    horizon = next(row for row in range(start, len(reward)) if last[row]) - start + 1
    longer = []
    for n in range(1, horizon + 1):
        end = start + n - 1
        total = sum(discount**k * reward[start + k] for k in range(n))
        longer.append(total + (0.0 if over[end] else discount**n * value[end]))
    weights = [(1 - decay) * decay ** (n - 1) for n in range(1, horizon)] + [decay ** (horizon - 1)]
    return sum(weight * total for weight, total in zip(weights, longer, strict=True))


def loss_by_hand(team: Any, batch: JointTransitions) -> float:
    """Half the mean squared error against λ-returns, step by step, in plain Python."""
    config, errors = team.config, []
    with torch.no_grad():
        for copy in range(COPIES):
            memory = None if batch.memory is None else batch.memory[copy : copy + 1]
            values, totals = [], []
            for row in range(STEPS):
                if row and bool((batch.terminated | batch.truncated)[row - 1, copy]) and memory is not None:
                    memory = torch.zeros_like(memory)
                q, memory = team.utilities(batch.observation[row, copy][None], memory)
                following, _ = team.utilities(batch.next_observation[row, copy][None], memory)
                if batch.next_action_mask is not None:
                    following = following.masked_fill(~batch.next_action_mask[row, copy], -torch.inf)
                values.append(team.mixer(following[0].max(dim=-1).values, batch.next_state[row, copy]).item())
                taken = torch.stack([q[0, agent, batch.action[row, copy, agent]] for agent in range(AGENTS)])
                totals.append(team.mixer(taken, batch.state[row, copy]).item())
            reward = (config.reward_scale * batch.reward[:, copy].sum(dim=-1)).tolist()
            over = batch.terminated[:, copy].tolist()
            last = (batch.terminated | batch.truncated)[:, copy].tolist()
            last[-1] = True
            for row in range(STEPS):
                goal = mixture_of_n_step_returns(reward, values, over, last, row, config.discount, config.trace_decay)
                errors.append(totals[row] - goal)
    return 0.5 * float(np.square(errors).mean())


def differs(cls: type, **settings: Any) -> float:
    """By how much the loss of an update differs from the one computed by hand, relative to it."""
    masked = settings.pop("masked", True)
    team = small_team(cls, **settings)
    batch = rollout(team, masked=masked)
    expected = loss_by_hand(team, batch)
    return abs(float(team.update(batch)["loss"]) - expected) / expected


def loss_is_as_by_hand(cls: type) -> bool:
    return differs(cls) < 1e-5


def targets_stay(cls: type) -> bool:
    """The targets of all steps of an update are those of the networks before the first."""
    team = small_team(cls, epochs=3, minibatches=1, learning_rate=0.05)
    batch = rollout(team)
    values = module.greedy_lambda_returns(
        batch.team_reward(),
        team._greedy_values(batch, batch.counts()),
        batch.terminated,
        batch.last_of_path(),
        0.9,
        team.config.trace_decay,
    )
    sums: list[float] = []
    original = module.half_mean_square

    def spy(error: Tensor, counts: Tensor) -> Tensor:
        q = team.utilities(batch.observation)[0].detach()
        total = team.mixer(module.chosen(q, batch.action), batch.state).detach()
        sums.append(float(total.sum() - error.detach().sum()))  # the sum of the targets, in whatever order
        return original(error, counts)

    module.half_mean_square = spy
    try:
        team.update(batch)
    finally:
        module.half_mean_square = original
    return len(sums) == 3 and sums == pytest.approx([float(values.sum())] * 3, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("cls", TEAMS)
def test_team_keeps_the_contract(cls: type) -> None:
    check_team(cls)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), decay=st.floats(0, 1), discount=st.floats(0.1, 1))
def test_lambda_returns_are_mixtures_of_n_step_returns(data: Any, decay: float, discount: float) -> None:
    steps = data.draw(st.integers(1, 7))
    numbers = st.lists(st.floats(-3, 3), min_size=steps, max_size=steps)
    flags = st.lists(st.booleans(), min_size=steps, max_size=steps)
    reward, value, over, cut = (data.draw(kind) for kind in (numbers, numbers, flags, flags))
    last = [a or b for a, b in zip(over, cut, strict=True)]
    last[-1] = True
    columns = [torch.tensor(column).unsqueeze(-1) for column in (reward, value, over, last)]
    columns[:2] = [column.double() for column in columns[:2]]
    found = greedy_lambda_returns(*columns, discount, decay).squeeze(-1).tolist()
    expected = [mixture_of_n_step_returns(reward, value, over, last, row, discount, decay) for row in range(steps)]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_lambda_returns_in_numbers() -> None:
    reward, value = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[10.0], [20.0], [40.0]])
    none = torch.zeros(3, 1, dtype=torch.bool)
    last = torch.tensor([[False], [False], [True]])
    assert greedy_lambda_returns(reward, value, none, last, 0.5, 0.0).flatten().tolist() == [6.0, 12.0, 24.0]
    assert greedy_lambda_returns(reward, value, none, last, 0.5, 1.0).flatten().tolist() == [8.0, 14.0, 24.0]
    assert greedy_lambda_returns(reward, value, last, last, 0.5, 1.0).flatten().tolist() == [3.0, 4.0, 4.0]


@pytest.mark.parametrize("cls", TEAMS)
@pytest.mark.parametrize(
    "settings",
    [
        {}, {"masked": False}, {"recurrent": True}, {"shared": False}, {"trace_decay": 0.0}, {"trace_decay": 1.0},
        {"reward_scale": 0.1}, {"layer_norm": False}, {"recurrent": True, "shared": False}, {"discount": 1.0},
    ],
    ids=lambda settings: ",".join(f"{name}={value}" for name, value in settings.items()) or "default",
)  # fmt: skip
def test_loss_is_as_computed_by_hand(cls: type, settings: dict[str, Any]) -> None:
    assert differs(cls, **settings) < 1e-5


@pytest.mark.parametrize("cls", TEAMS)
def test_targets_are_computed_once(cls: type) -> None:
    assert targets_stay(cls)


@pytest.mark.parametrize("recurrent", [False, True])
def test_every_step_is_in_one_minibatch_of_every_pass(recurrent: bool) -> None:
    team = small_team(ParallelVDN, epochs=2, minibatches=3, recurrent=recurrent)
    size = COPIES if recurrent else STEPS * COPIES
    parts = list(team._minibatches(size))
    assert len(parts) == 6
    for of_pass in (parts[:3], parts[3:]):
        assert sorted(torch.cat(of_pass).tolist()) == list(range(size))
    assert parts[0].tolist() != parts[3].tolist()


def test_no_gradient_flows_through_the_targets() -> None:
    team = small_team(ParallelQMIX)
    batch = rollout(team)
    assert not team._greedy_values(batch, batch.counts()).requires_grad


@pytest.mark.parametrize("cls", TEAMS)
def test_greedy_value_is_the_best_of_all_joint_actions(cls: type) -> None:
    team = small_team(cls)
    batch = rollout(team, masked=False)
    table = team.joint_values(batch.flat("next_observation").numpy(), batch.flat("next_state").numpy())
    found = team._greedy_values(batch, batch.counts()).flatten().numpy()
    assert found == pytest.approx(table.reshape(len(table), -1).max(axis=1), abs=1e-5)


@pytest.mark.parametrize(
    "config, settings, message",
    [
        (ParallelVDNConfig, {"trace_decay": 1.1}, "trace_decay must be"),
        (ParallelVDNConfig, {"epochs": 0}, "epochs must be"),
        (ParallelVDNConfig, {"minibatches": 0}, "minibatches must be"),
        (ParallelQMIXConfig, {"embed_dim": 0}, "embed_dim must be"),
    ],
)
def test_settings_out_of_range_are_named(config: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


# Planted faults

Plant = Callable[[pytest.MonkeyPatch], None]


def returns_with(change: Callable[..., tuple]) -> Plant:
    """λ-returns computed from other arguments."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        original = greedy_lambda_returns
        monkeypatch.setattr(module, "greedy_lambda_returns", lambda *arguments: original(*change(*arguments)))

    return plant


def values_with(change: Callable[[JointTransitions], dict[str, Any]]) -> Plant:
    """Greedy values computed from another batch."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        original = ParallelVDN._greedy_values
        monkeypatch.setattr(
            ParallelVDN, "_greedy_values",
            lambda self, batch, present: original(self, dataclasses.replace(batch, **change(batch)), present),
        )  # fmt: skip

    return plant


def _only_last_row(last: Tensor) -> Tensor:
    other = torch.zeros_like(last)
    other[-1] = True
    return other


FAULTS: dict[str, Plant] = {
    "bootstraps-through-a-true-end": returns_with(
        lambda reward, value, over, last, *rest: (reward, value, torch.zeros_like(over), last, *rest)
    ),
    "takes-a-cut-for-an-end": returns_with(
        lambda reward, value, over, last, *rest: (reward, value, over | _cut(last), last, *rest)
    ),
    "goes-on-into-the-next-episode": returns_with(
        lambda reward, value, over, last, *rest: (reward, value, over, _only_last_row(last), *rest)
    ),
    "one-step-returns-whatever-λ": returns_with(lambda *arguments: (*arguments[:-1], 0.0)),
    "forgets-the-discount": returns_with(lambda *arguments: (*arguments[:-2], 1.0, arguments[-1])),
    "values-of-forbidden-actions": values_with(lambda batch: {"next_action_mask": None}),
    "values-mixed-in-the-state-before": values_with(lambda batch: {"next_state": batch.state}),
    "values-of-the-next-row-after-a-cut": values_with(
        lambda batch: {"next_observation": torch.cat([batch.observation[1:], batch.next_observation[-1:]])}
    ),
    "takes-the-mean-of-the-rewards": lambda monkeypatch: monkeypatch.setattr(
        JointTransitions, "team_reward", lambda batch: batch.reward.mean(dim=-1)
    ),
}
OF_THE_STATE = ("values-mixed-in-the-state-before",)  # which a sum does not look at


def _cut(last: Tensor) -> Tensor:
    """Every end of a path but the last row, which may only be the end of the rollout."""
    return last & ~_only_last_row(last)


@pytest.mark.parametrize("cls", TEAMS)
def test_properties_hold_without_faults(cls: type) -> None:
    assert loss_is_as_by_hand(cls)


@pytest.mark.parametrize(
    "cls, name", [(cls, name) for cls in TEAMS for name in FAULTS if cls is ParallelQMIX or name not in OF_THE_STATE]
)
def test_every_fault_is_seen(cls: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[name](monkeypatch)
    assert not loss_is_as_by_hand(cls)


@pytest.mark.parametrize("cls", TEAMS)
def test_moving_targets_are_seen(cls: type) -> None:
    class Moving(cls):
        """Computes the targets anew for every pass."""

        def update(self, batch: JointTransitions) -> dict[str, Tensor]:
            once, logs = dataclasses.replace(self.config, epochs=1), {}
            whole, self.config = self.config, once
            for _ in range(whole.epochs):
                logs = super().update(batch)
            self.config = whole
            return logs

    assert not targets_stay(Moving)
