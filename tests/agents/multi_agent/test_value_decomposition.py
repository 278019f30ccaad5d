"""IQLearners, VDN and QMIX: losses in closed form, exploration, targets, and the faults that these notice."""

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import ca14lib.agents.multi_agent.iq_learners as iq_module
import ca14lib.agents.multi_agent.value_team as value_team
import ca14lib.agents.multi_agent.vdn as vdn_module
from ca14lib.agents.multi_agent.check import check_team
from ca14lib.agents.multi_agent.iq_learners import IQLearners
from ca14lib.agents.multi_agent.qmix import QMIX, QMIXConfig
from ca14lib.agents.multi_agent.value_team import ReplayTeam, epsilon_now, greedy_actions, half_mean_square
from ca14lib.agents.multi_agent.vdn import VDN, VDNConfig
from ca14lib.data import JointTransitions
from ca14lib.environments import joint_spaces
from ca14lib.networks import SumMixer

AGENTS, FEATURES, STATES, ACTIONS, STEPS, COPIES = 2, 3, 4, 3, 4, 6
OF_ONE = gym.spaces.Box(-10, 10, (FEATURES,), np.float32)
STATE = gym.spaces.Box(-10, 10, (STATES,), np.float32)
TEAMS: tuple[type[ReplayTeam], ...] = (IQLearners, VDN, QMIX)


def small_team(cls: type, seed: int = 0, **settings: Any) -> Any:
    """A team whose target networks are others than those that learn, so that each has to be used in its place."""
    config = cls.config_class(**({"hidden_sizes": (8,), "discount": 0.9} | settings))
    team = cls(*joint_spaces(OF_ONE, gym.spaces.Discrete(ACTIONS), AGENTS), config, state_space=STATE, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in team.named_parameters():
            if not parameter.requires_grad or "mixer" in name:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return team


def episodes(seed: int = 0, masked: bool = True, leaves: bool = False) -> JointTransitions:
    """Six episodes of 1 to 4 steps; every other one is cut. In one of them agent 0 leaves after the first step."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    lengths = torch.tensor([4, 1, 3, 4, 2, 1])
    row = torch.arange(STEPS).unsqueeze(-1)
    last, filled = row == lengths - 1, row < lengths
    truly = torch.arange(COPIES) % 2 == 0
    seen, states = normal(STEPS + 1, COPIES, AGENTS, FEATURES), normal(STEPS + 1, COPIES, STATES)
    allowed = torch.rand(STEPS + 1, COPIES, AGENTS, ACTIONS, generator=generator) < 0.5
    allowed.scatter_(-1, torch.randint(ACTIONS, (*allowed.shape[:-1], 1), generator=generator), True)
    weight = allowed[:-1].float() if masked else torch.ones(STEPS, COPIES, AGENTS, ACTIONS)
    action = torch.multinomial(weight.reshape(-1, ACTIONS), 1, generator=generator).reshape(STEPS, COPIES, AGENTS)
    learns = torch.ones(STEPS, COPIES, AGENTS, dtype=torch.bool)
    if leaves:
        learns[1:, 0, 0] = False
    return JointTransitions(
        observation=seen[:-1], state=states[:-1], action=action, reward=normal(STEPS, COPIES, AGENTS),
        next_observation=seen[1:], next_state=states[1:], terminated=last & truly, truncated=last & ~truly,
        action_mask=allowed[:-1] if masked else None, next_action_mask=allowed[1:] if masked else None,
        filled=filled, learns=learns if leaves else None,
    )  # fmt: skip


def squared_errors(team: Any, batch: JointTransitions) -> float:
    """The loss again, step by step and agent by agent: half the mean of the squared errors, in plain Python."""
    config, errors = team.config, []
    learns = torch.ones_like(batch.reward, dtype=torch.bool) if batch.learns is None else batch.learns
    mixer, target_mixer = getattr(team, "mixer", None), getattr(team, "target_mixer", None)
    with torch.no_grad():
        for copy in range(batch.reward.shape[1]):
            length = int(batch.filled[:, copy].sum())
            memory = old_memory = None
            online, target = [], []
            for row in range(length + 1):
                seen = batch.observation[row, copy] if row < length else batch.next_observation[row - 1, copy]
                q, memory = team.utilities(team._features(seen[None]), memory)
                old_q, old_memory = team.target_utilities(team._features(seen[None]), old_memory)
                online.append(q[0])
                target.append(old_q[0])
            for row in range(length):
                here, there, over = [], [], bool(batch.terminated[row, copy])
                for agent in range(AGENTS):
                    is_in = bool(learns[row, copy, agent])
                    stays = bool(learns[row + 1, copy, agent]) if row + 1 < length else is_in
                    picks = online if config.double else target
                    scores = picks[row + 1][agent].clone()
                    if batch.next_action_mask is not None:
                        scores[~batch.next_action_mask[row, copy, agent]] = -torch.inf
                    action = batch.action[row, copy, agent]
                    here.append(online[row][agent, action] if is_in else torch.zeros(()))
                    there.append(target[row + 1][agent, scores.argmax()] if stays else torch.zeros(()))
                reward = config.reward_scale * batch.reward[row, copy]
                if mixer is None:
                    for agent in range(AGENTS):
                        goal = reward[agent] + (0 if over else config.discount * there[agent])
                        if learns[row, copy, agent]:
                            errors.append(float(here[agent] - goal))
                elif learns[row, copy].any():
                    value = target_mixer(torch.stack(there), batch.next_state[row, copy])
                    goal = reward.sum() + (0 if over else config.discount * value)
                    errors.append(float(mixer(torch.stack(here), batch.state[row, copy]) - goal))
    return 0.5 * float(np.square(errors).mean())


def differs(cls: type, **settings: Any) -> float:
    """By how much the loss of an update differs from the one computed by hand, relative to it."""
    batch = episodes(leaves=settings.pop("leaves", False), masked=settings.pop("masked", True))
    team = small_team(cls, **settings)
    expected = squared_errors(team, batch)
    return abs(float(team.update(batch)["loss"]) - expected) / expected


def loss_is_as_by_hand(cls: type) -> bool:
    return differs(cls) < 1e-5


# The suite for all agents, and losses


@pytest.mark.parametrize("cls", TEAMS)
def test_team_keeps_the_contract(cls: type) -> None:
    check_team(cls)


@pytest.mark.parametrize("cls", TEAMS)
@pytest.mark.parametrize(
    "settings",
    [
        {}, {"masked": False}, {"recurrent": True}, {"shared": False}, {"double": False}, {"reward_scale": 0.1},
        {"leaves": True}, {"leaves": True, "recurrent": True, "shared": False}, {"discount": 1.0},
    ],
    ids=lambda settings: ",".join(settings) or "default",
)  # fmt: skip
def test_loss_is_as_computed_by_hand(cls: type, settings: dict[str, Any]) -> None:
    assert differs(cls, **settings) < 1e-5


def test_qmix_target_on_two_steps_in_numbers() -> None:
    """Two episodes of one step, all utilities constant: what a target is can be read off."""
    team = small_team(QMIX, discount=0.5, reward_scale=2.0)
    q, old = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
    with torch.no_grad():
        for network, values in ((team.utilities, q), (team.target_utilities, old)):
            network.head.weight.zero_()
            network.head.bias.copy_(values)
    batch = episodes()
    ended, cut = 4, 5  # the last step of episode 4 is a true end, that of episode 5 a cut
    one = dataclasses.replace(
        batch.copies(torch.tensor([ended, cut])),
        next_action_mask=torch.tensor([True, False, True]).expand(STEPS, 2, AGENTS, ACTIONS),
        reward=torch.full((STEPS, 2, AGENTS), 1.5),
    )
    q_there, next_q = team._evaluated(one)
    # action 1 is the best and not allowed, action 2 is the second best and rated by the target network
    assert next_q[1, 0].tolist() == next_q[0, 1].tolist() == [30.0, 30.0]
    assert q_there[0, 0].tolist() == [q[a].item() for a in one.action[0, 0]]
    target = team._target(one, next_q)
    with torch.no_grad():
        rest = team.target_mixer(torch.tensor([30.0, 30.0]), one.next_state[0, 1])
    assert target[1, 0].item() == pytest.approx(2.0 * 3.0)
    assert target[0, 1].item() == pytest.approx(6.0 + 0.5 * rest.item(), rel=1e-5)


@pytest.mark.parametrize("cls", TEAMS)
def test_padding_saves_work_and_changes_nothing(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, saving, plain = episodes(), small_team(cls), small_team(cls)
    rows = []
    forward = type(saving.utilities).forward
    monkeypatch.setattr(
        type(saving.utilities), "forward", lambda self, seen, *memory: rows.append(len(seen)) or forward(self, seen)
    )
    saving.update(batch)
    filled, copies = int(batch.filled.sum()), batch.filled.shape[1]
    assert rows == [filled + copies, filled]  # every step once, and the first observations; the target network none
    monkeypatch.setattr(ReplayTeam, "_sparse", lambda self, batch: None)
    plain.update(batch)
    for mine, its in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)


def test_vdn_fits_the_sum_of_what_was_chosen() -> None:
    team, batch = small_team(VDN, learning_rate=1e-12), episodes(masked=False)
    q = team.utilities(batch.observation)[0].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
    mean = (q * batch.filled).sum() / batch.filled.sum()
    assert team.update(batch)["q"].item() == pytest.approx(mean.item(), rel=1e-5)
    seen, state = batch.observation[0], batch.state[0]
    table = team.joint_values(seen.numpy(), state.numpy())
    utilities = team.utilities(seen)[0].detach().numpy()
    assert table == pytest.approx(utilities[:, 0, :, None] + utilities[:, 1, None, :], abs=1e-5)


@pytest.mark.parametrize("cls", [VDN, QMIX])
def test_greedy_actions_are_the_best_of_all_joint_actions(cls: type) -> None:
    """Found by listing them all: for VDN and QMIX everyone's own best is part of the best."""
    team, batch = small_team(cls), episodes()
    seen, state = batch.flat("observation").numpy(), batch.flat("state").numpy()
    table = team.joint_values(seen, state)
    action = team.act(seen, deterministic=True)
    best = table.reshape(len(table), -1).max(axis=1)
    assert table[np.arange(len(table)), action[:, 0], action[:, 1]] == pytest.approx(best, abs=1e-5)


def test_joint_values_need_a_team_without_memory() -> None:
    with pytest.raises(ValueError, match="VDN has memory"):
        small_team(VDN, recurrent=True).joint_values(np.zeros((1, AGENTS, FEATURES)), np.zeros((1, STATES)))


def test_separate_agents_of_iqlearners_learn_from_their_own_rewards_alone() -> None:
    """The reward of agent 1 leaves the parameters of agent 0 as they are."""
    batch = episodes()
    other = dataclasses.replace(batch, reward=batch.reward + torch.tensor([0.0, 1.0]))
    first, second = (small_team(IQLearners, shared=False, max_gradient_norm=1e9) for _ in range(2))
    first.update(batch)
    second.update(other)
    ours, theirs = first.utilities.head.weight, second.utilities.head.weight  # [n, in, out]
    assert torch.equal(ours[0], theirs[0])
    assert not torch.equal(ours[1], theirs[1])


# Targets


@pytest.mark.parametrize("cls", TEAMS)
def test_no_gradient_reaches_the_targets(cls: type) -> None:
    team = small_team(cls)
    before = [parameter.clone() for parameter in team.parameters() if not parameter.requires_grad]
    team.update(episodes())
    after = [parameter for parameter in team.parameters() if not parameter.requires_grad]
    assert before
    assert all(parameter.grad is None for parameter in after)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_gradient_is_that_of_the_values_at_the_steps_taken_alone() -> None:
    """Finite differences of the loss with the targets held fixed."""
    team, batch = small_team(QMIX, learning_rate=1e-12, max_gradient_norm=1e9), episodes()
    _, next_q = team._evaluated(batch)
    target = team._target(batch, next_q)
    weight = team.utilities.head.weight

    def loss() -> float:
        total = team.mixer(team._evaluated(batch)[0], batch.state)
        return float(half_mean_square(total - target, batch.filled))

    with torch.no_grad():
        weight[1, 2] += 1e-2
        up = loss()
        weight[1, 2] -= 2e-2
        down = loss()
        weight[1, 2] += 1e-2
    team.update(batch)
    assert weight.grad[1, 2].item() == pytest.approx((up - down) / 2e-2, rel=2e-2, abs=1e-4)


@pytest.mark.parametrize("cls", TEAMS)
def test_hard_targets_are_copies_on_schedule(cls: type) -> None:
    team = small_team(cls, target_every=3)

    def equal() -> bool:
        return all(
            torch.equal(a, b)
            for target, source in team._targets()
            for a, b in zip(target.parameters(), source.parameters(), strict=True)
        )

    found = []
    for number in range(7):
        team.update(episodes(number))
        found.append(equal())
    assert found == [False, False, True, False, False, True, False]


def test_polyak_targets_trail() -> None:
    team = small_team(QMIX, target_every=1, target_rate=0.1)
    before = team.target_mixer.first_bias.weight.clone()
    team.update(episodes())
    expected = before + 0.1 * (team.mixer.first_bias.weight - before)
    assert torch.allclose(team.target_mixer.first_bias.weight, expected, atol=1e-6)


# Exploration


def test_epsilon_falls_in_equal_steps_and_stays() -> None:
    config = VDNConfig(epsilon_start=0.9, epsilon_end=0.1, epsilon_updates=4)
    assert [epsilon_now(config, updates) for updates in (0, 1, 2, 4, 9)] == pytest.approx([0.9, 0.7, 0.5, 0.1, 0.1])
    assert epsilon_now(dataclasses.replace(config, epsilon_updates=0), 0) == 0.1
    team = small_team(VDN, epsilon_start=1.0, epsilon_end=0.0, epsilon_updates=2)
    team.update(episodes())
    assert team.epsilon == 0.5


@pytest.mark.parametrize("masked", [False, True])
def test_draws_are_epsilon_greedy_agent_by_agent(masked: bool) -> None:
    count = 20_000
    team = small_team(VDN, epsilon_start=0.3, epsilon_end=0.3)
    seen = np.repeat(episodes().observation[:1, 0].numpy(), count, axis=0)
    mask = np.ones((count, AGENTS, ACTIONS), dtype=bool)
    best = team.act(seen[:1], deterministic=True)[0]
    if masked:
        mask[:, 0, best[0]] = False
    drawn = team.sample(seen, mask=mask)
    best = team.act(seen[:1], mask=mask[:1], deterministic=True)[0]
    shares = (drawn.action.unsqueeze(-1) == torch.arange(ACTIONS)).double().mean(dim=0).numpy()
    allowed = mask[0].sum(axis=1, keepdims=True)
    expected = 0.3 * mask[0] / allowed + 0.7 * np.eye(ACTIONS)[best]
    assert shares == pytest.approx(expected, abs=0.015)
    assert drawn.log_prob[0].exp().numpy() == pytest.approx(expected[[0, 1], drawn.action[0].numpy()], abs=1e-5)
    explored = (drawn.action != torch.as_tensor(best)).double()
    together, product = explored.prod(dim=1).mean(), explored.mean(dim=0).prod()
    assert together.item() == pytest.approx(product.item(), abs=0.01), "agents explore independently"


def test_greedy_actions_are_allowed_ones() -> None:
    q = torch.tensor([[1.0, 5.0, 3.0]])
    assert greedy_actions(q, None).tolist() == [1]
    assert greedy_actions(q, torch.tensor([[True, False, True]])).tolist() == [2]


# What is refused


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"epsilon_start": 1.2}, "epsilon_start must be in"),
        ({"epsilon_updates": -1}, "epsilon_updates must be"),
        ({"target_every": 0}, "target_every must be"),
        ({"target_rate": 0.0}, "target_rate must be"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be"),
        ({"embed_dim": 0}, "embed_dim must be"),
        ({"hypernet_hidden": 0}, "hypernet_hidden must be"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QMIXConfig(**settings)


def test_two_episodes_in_one_column_are_refused() -> None:
    batch = episodes()
    with pytest.raises(ValueError, match="whole episodes, one in each column"):
        small_team(VDN).update(dataclasses.replace(batch, filled=None))


# Planted faults

Plant = Callable[[pytest.MonkeyPatch], None]


def patched(module: Any, name: str, make: Callable[[Any], Any]) -> Plant:
    return lambda monkeypatch: monkeypatch.setattr(module, name, make(getattr(module, name)))


def _bootstraps(original: Any) -> Any:
    return lambda reward, terminated, value, discount: reward + discount * value


def _cut_is_end(original: Any) -> Any:
    return lambda self, batch: original(self, dataclasses.replace(batch, terminated=batch.terminated | batch.truncated))


def _first_pick(original: Any) -> Any:
    return lambda online, target, mask, double=True: original(online, target, None, double)


def _target_picks(original: Any) -> Any:
    return lambda online, target, mask, double=True: original(online, target, mask, False)


def _online_rates(original: Any) -> Any:
    return lambda online, target, mask, double=True: original(online, online, mask, double)


def _drops_ends(original: Any) -> Any:
    return lambda batch: original(batch) & ~batch.terminated.unsqueeze(-1)


def _counts_padding(original: Any) -> Any:
    return lambda error, counts: original(error, torch.ones_like(counts))


def _puts_rows_back_by_episode(original: Any) -> Any:
    def rows_of_one_episode_after_the_other(function: Any, rows: Tensor | None, *inputs: Tensor) -> Tensor:
        if rows is None:
            return original(function, rows, *inputs)
        values = function(*(column[rows] for column in inputs))
        back = values.new_zeros(*rows.T.shape, *values.shape[1:])
        return back.index_put((rows.T,), values).transpose(0, 1)

    return rows_of_one_episode_after_the_other


def _mixes_online(original: Any) -> Any:
    def target(self: Any, batch: JointTransitions, next_q: Tensor) -> Tensor:
        kept, self.target_mixer = self.target_mixer, self.mixer
        try:
            return original(self, batch, next_q)
        finally:
            self.target_mixer = kept

    return target


def _mixes_in_the_state_before(original: Any) -> Any:
    return lambda self, batch, next_q: original(self, dataclasses.replace(batch, next_state=batch.state), next_q)


def _mean_reward(original: Any) -> Any:
    return lambda batch: batch.reward.mean(dim=-1)


def _everybodys_reward(original: Any) -> Any:
    return lambda self, batch: original(
        self, dataclasses.replace(batch, reward=batch.team_reward().unsqueeze(-1).expand_as(batch.reward))
    )


def shared_faults(module: Any, cls: type) -> dict[str, Plant]:
    return {
        "bootstraps-through-a-true-end": patched(module, "td_target", _bootstraps),
        "takes-a-cut-for-an-end": patched(cls, "update", _cut_is_end),
        "picks-a-forbidden-action-in-the-target": patched(value_team, "next_utilities", _first_pick),
        "lets-the-target-network-pick": patched(value_team, "next_utilities", _target_picks),
        "lets-the-online-network-rate": patched(value_team, "next_utilities", _online_rates),
        "drops-the-terminal-transition": patched(JointTransitions, "counts", _drops_ends),
        "counts-padding": patched(module, "half_mean_square", _counts_padding),
        "puts-rows-back-by-episode": patched(value_team, "on_rows", _puts_rows_back_by_episode),
    }


FAULTS: dict[tuple[type, str], Plant] = {
    (cls, name): plant
    for cls, module in ((IQLearners, iq_module), (VDN, vdn_module), (QMIX, vdn_module))
    for name, plant in shared_faults(module, VDN if cls is QMIX else cls).items()
}
FAULTS |= {
    (IQLearners, "learns-from-the-teams-reward"): patched(IQLearners, "update", _everybodys_reward),
    (VDN, "takes-the-mean-of-the-rewards"): patched(JointTransitions, "team_reward", _mean_reward),
    (QMIX, "takes-the-mean-of-the-rewards"): patched(JointTransitions, "team_reward", _mean_reward),
    (QMIX, "mixes-the-targets-online"): patched(VDN, "_target", _mixes_online),
    (QMIX, "mixes-the-next-utilities-in-the-state-before"): patched(VDN, "_target", _mixes_in_the_state_before),
}


@pytest.mark.parametrize("cls", TEAMS)
def test_property_holds_without_faults(cls: type) -> None:
    assert loss_is_as_by_hand(cls)


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_every_fault_is_seen(case: tuple[type, str], monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[case](monkeypatch)
    assert not loss_is_as_by_hand(case[0])


def test_mean_for_the_sum_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    team, batch = small_team(VDN), episodes(masked=False)
    monkeypatch.setattr(SumMixer, "forward", lambda self, agent_qs, state: agent_qs.mean(dim=-1))
    utilities = team.utilities(batch.observation[0])[0].detach().numpy()
    found = team.joint_values(batch.observation[0].numpy(), batch.state[0].numpy())
    assert found != pytest.approx(utilities[:, 0, :, None] + utilities[:, 1, None, :], abs=1e-3)
