"""CommNet, TarMAC and DIAL: who hears what and when, what learns from it; and planted faults that these catch."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from ca14lib.agents import check_agent
from ca14lib.agents.multi_agent import dial
from ca14lib.agents.multi_agent.check import ACTIONS, AGENTS, COPIES, OF_ONE, STATE, random_joint
from ca14lib.agents.multi_agent.commnet import CommNet, CommNetConfig, MeanExchange, mean_of_others
from ca14lib.agents.multi_agent.communication import CommunicatingTeam
from ca14lib.agents.multi_agent.dial import DIAL, DIALConfig, channel_bits, in_turn, signalling_loss
from ca14lib.agents.multi_agent.tarmac import AttentionExchange, TarMAC, TarMACConfig, attention_over_others
from ca14lib.data import JointTransitions
from ca14lib.environments import joint_spaces

TEAMS = {"CommNet": CommNet, "TarMAC": TarMAC, "DIAL": DIAL}
SMALL = {"hidden_sizes": (8,), "epochs": 1, "minibatches": 1, "message_size": 3}


def team_of(cls: type[CommunicatingTeam], seed: int = 0, *, loud: bool = True, **fields) -> CommunicatingTeam:
    """A team; a loud one is far from uniform policies, so that what is heard shows in what is done."""
    config = cls.config_class(**(SMALL | fields))
    team = cls(*joint_spaces(OF_ONE, ACTIONS, AGENTS), config, state_space=STATE, seed=seed)
    if loud:
        with torch.no_grad():
            team.policy.head.weight.mul_(300.0)
    return team


def observations(copies: int = COPIES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(copies, AGENTS, 4)).astype(np.float32)


def midway(team: CommunicatingTeam) -> JointTransitions:
    """Experience that begins in the middle of an episode."""
    memory = team.initial_memory(COPIES)
    if memory is not None:
        memory = torch.rand(memory.shape, generator=torch.Generator().manual_seed(0))
    stand_in = SimpleNamespace(experience="rollouts", initial_memory=lambda copies: memory, sample=team.sample)
    return random_joint(stand_in, seed=2, masked=True)  # type: ignore[arg-type]


def heard_after_two_steps(team: CommunicatingTeam, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probabilities in the second of two steps that the team acts in."""
    memory = team.initial_memory(len(first))
    if memory is not None:
        _, memory = team.act(first, memory, deterministic=True)
    return team.probabilities(second, memory)


# Properties. Each takes a class, so that faulty ones can be put in.


def replaying_gives_the_probabilities_that_acted(cls: type[CommunicatingTeam]) -> None:
    for fields in ({}, {"recurrent": True}, {"channel": "cut"}):
        team = team_of(cls, **fields)
        assert team.update(midway(team))["kl"].item() < 1e-6


def an_open_channel_is_heard_and_a_cut_one_is_not(cls: type[CommunicatingTeam]) -> None:
    team = team_of(cls)
    seen, other = observations(), observations(seed=1)
    changed = seen.copy()
    changed[:, 0] = other[:, 0]
    for mode in ("open", "cut"):
        with team.channel(mode):
            before = heard_after_two_steps(team, seen, seen)
            after = heard_after_two_steps(team, changed, changed)
        assert bool(np.abs(before - after)[:, 1:].max() > 1e-4) == (mode == "open")
        assert np.abs(before - after)[:, 0].max() > 1e-4
    assert team.channel_mode == "open"


def nobody_hears_itself(cls: type[CommunicatingTeam]) -> None:
    """Noise on agent 0's message as it arrives is heard by the others and not by agent 0."""
    for shared in (True, False):
        # in a second round the others' answers would carry it back
        team = team_of(cls, shared=shared, **({} if cls.config_class is DIALConfig else {"rounds": 1}))
        inputs = torch.as_tensor(observations())
        memory = team.initial_memory(COPIES)
        if memory is not None:
            memory = torch.rand(memory.shape, generator=torch.Generator().manual_seed(0))

        def disturbed(messages: Tensor) -> Tensor:
            noise = torch.zeros_like(messages)
            noise[:, 0] = 1.0
            return messages + noise

        clear, arrived = (
            team.policy(inputs, memory, *([None] if sends_bits(team) else []), None, deliver)[0]
            for deliver in (lambda messages: messages, disturbed)
        )
        change = (clear - arrived).abs().amax(dim=(0, 2))
        assert change[0] < 1e-6
        assert (change[1:] > 1e-4).all()


def sends_bits(team: CommunicatingTeam) -> bool:
    return isinstance(team, DIAL)


def gradients_cross_from_hearer_to_speaker(cls: type[CommunicatingTeam]) -> None:
    """With separate parameters, what agent 1 does teaches agent 0 what to say, and only through what it says."""
    team = team_of(cls, shared=False)
    batch = replace(midway(team), terminated=torch.zeros(6, 8, dtype=torch.bool))
    batch = replace(batch, truncated=batch.terminated)
    inputs = team._features(batch.observation)
    if not team.memory_size:
        inputs = inputs.flatten(0, 1)
    noise = batch.noise
    outputs, _ = team._replayed(inputs, batch.memory, batch.starts(), noise, batch.counts())
    say = team.policy.say if sends_bits(team) else team.policy.exchange.say
    loss = outputs[..., 1, :].square().sum()
    of_words, of_acts = torch.autograd.grad(loss, [say.weight, team.policy.head.weight], allow_unused=True)
    assert of_words is not None, "no gradient reaches what is said"
    assert of_words[0].abs().max() > 1e-4
    assert of_acts[0].abs().max() == 0


def who_has_left_is_not_heard(cls: type[CommunicatingTeam]) -> None:
    """Agent 0 observes zeros. The others act as in a team of which it is no part, whatever it would have said."""
    seen = observations()
    seen[:, 0] = 0.0
    quiet, loud = (team_of(cls, leaving=True) for _ in "ab")
    with torch.no_grad():  # only what agent 0 says differs: its own bias of the first layer tells it apart
        (loud.policy.team if sends_bits(loud) else loud.policy.look).body[0].bias[0] += 2.0
    a, b = (heard_after_two_steps(team, seen, seen) for team in (quiet, loud))
    assert np.abs(a - b)[:, 1:].max() < 1e-6
    stays = [heard_after_two_steps(team_of(cls), observations(), observations())]
    other = team_of(cls)
    with torch.no_grad():
        (other.policy.team if sends_bits(other) else other.policy.look).body[0].bias[0] += 2.0
    stays.append(heard_after_two_steps(other, observations(), observations()))
    assert np.abs(stays[0] - stays[1])[:, 1:].max() > 1e-4, "the test cannot see what agent 0 says"


def a_scrambled_channel_brings_the_words_of_another_copy(cls: type[CommunicatingTeam]) -> None:
    team = team_of(cls)
    words = torch.arange(5.0).reshape(5, 1, 1).expand(5, AGENTS, 3)
    with team.channel("scrambled"):
        for _ in range(10):
            arrived = team._deliver(words)[:, 0, 0]
            assert (arrived != torch.arange(5.0)).all()
            assert sorted(arrived.tolist()) == [0, 1, 2, 3, 4]
        seen = observations()
        memory = team.initial_memory(COPIES)
        if memory is not None:
            _, memory = team.act(seen, memory, deterministic=True)
        draws = [team.probabilities(seen, memory) for _ in range(6)]
    assert any(not np.array_equal(draws[0], draw) for draw in draws)


def what_is_heard_is_the_mean_of_those_present(cls: type[CommunicatingTeam]) -> None:
    exchange = team_of(cls).policy.exchange
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, AGENTS, 8, generator=generator)
    said = torch.tanh(exchange.say(hidden))
    for present in (None, torch.tensor([[True] * 3, [False, True, True], [True, False, False], [False] * 3])):
        heard, sent = exchange(hidden, present, lambda messages: messages)
        torch.testing.assert_close(sent, said)
        there = torch.ones(4, AGENTS, dtype=torch.bool) if present is None else present
        for row in range(4):
            for agent in range(AGENTS):
                others = [said[row, j] for j in range(AGENTS) if j != agent and there[row, j]]
                expected = torch.stack(others).mean(dim=0) if others and there[row, agent] else torch.zeros(3)
                torch.testing.assert_close(heard[row, agent], expected)


def attention_is_a_scaled_softmax_over_the_others(cls: type[CommunicatingTeam]) -> None:
    exchange = team_of(cls, signature_size=5).policy.exchange
    hidden = torch.randn(4, AGENTS, 8, generator=torch.Generator().manual_seed(0)) * 3
    query, message = exchange.ask(hidden), exchange.say(hidden)
    signature, said = message[..., :5], message[..., 5:].tanh()
    for present in (None, torch.tensor([[True] * 3, [False, True, True], [True, False, False], [False] * 3])):
        heard, _ = exchange(hidden, present, lambda messages: messages)
        there = torch.ones(4, AGENTS, dtype=torch.bool) if present is None else present
        for row in range(4):
            for agent in range(AGENTS):
                others = [j for j in range(AGENTS) if j != agent and there[row, j] and there[row, agent]]
                scores = [math.exp((query[row, agent] @ signature[row, j]).item() / math.sqrt(5)) for j in others]
                expected = torch.zeros(3)
                for j, score in zip(others, scores, strict=True):
                    expected = expected + said[row, j] * score / sum(scores)
                torch.testing.assert_close(heard[row, agent], expected, atol=1e-5, rtol=1e-4)


def a_team_learns_through_noise_and_acts_with_bits(cls: type[CommunicatingTeam]) -> None:
    team = team_of(cls, channel_noise=2.0)
    seen, memory = observations(2000), team.initial_memory(2000)
    drawn = team.sample(seen, memory)
    sent = drawn.memory[..., -3:]
    assert ((sent > 0) & (sent < 1)).all()
    _, _, logits = team.policy(torch.as_tensor(seen), memory, None, None, team._deliver)
    noise = (sent.logit() - logits) / 2.0
    assert abs(noise.mean().item()) < 0.05
    assert abs(noise.std().item() - 1) < 0.05
    torch.testing.assert_close(noise, drawn.noise, atol=1e-3, rtol=1e-2)
    for deterministic in (True, False):
        _, after = team.act(seen, memory, deterministic=deterministic)
        assert torch.equal(after[..., -3:], (logits > 0).float())
        assert (team.messages(seen, memory) == after[..., -3:].numpy()).all()


def messages_take_a_step(cls: type[CommunicatingTeam]) -> None:
    """What agent 0 sees now does not reach agent 1 now, but in the next step, through the channel alone."""
    team = team_of(cls)
    seen, memory = observations(), team.initial_memory(COPIES)
    changed = seen.copy()
    changed[:, 0] = observations(seed=1)[:, 0] * 5
    now = [team.probabilities(first, memory) for first in (seen, changed)]
    assert np.array_equal(now[0][:, 1:], now[1][:, 1:])
    then = [heard_after_two_steps(team, first, seen) for first in (seen, changed)]
    assert np.abs(then[0] - then[1])[:, 1:].max() > 1e-4


def nothing_is_heard_across_episodes(cls: type[CommunicatingTeam]) -> None:
    team = team_of(cls)
    batch = midway(team)
    starts = torch.zeros(6, 8, dtype=torch.bool)
    starts[3] = True
    inputs, noise = team._features(batch.observation), batch.noise
    changed = inputs.clone()
    changed[:3] += 1.0
    for marks, reaches in ((starts, False), (None, True)):
        a, b = (team._replayed(x, batch.memory, marks, noise, batch.counts())[0] for x in (inputs, changed))
        assert bool((a[3:] != b[3:]).any()) == reaches


COMMON = (
    replaying_gives_the_probabilities_that_acted, an_open_channel_is_heard_and_a_cut_one_is_not, nobody_hears_itself,
    gradients_cross_from_hearer_to_speaker, who_has_left_is_not_heard,
    a_scrambled_channel_brings_the_words_of_another_copy,
)  # fmt: skip
OWN = {
    "CommNet": (what_is_heard_is_the_mean_of_those_present,),
    "TarMAC": (attention_is_a_scaled_softmax_over_the_others,),
    "DIAL": (a_team_learns_through_noise_and_acts_with_bits, messages_take_a_step, nothing_is_heard_across_episodes),
}
CASES = [(name, holds) for name in TEAMS for holds in (*COMMON, *OWN[name])]


@pytest.mark.parametrize(("name", "holds"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_property_holds(name, holds):
    holds(TEAMS[name])


# Planted faults: a class with one of them, and the property that says so.

Property = Callable[[type[CommunicatingTeam]], None]
FAULTS: list[tuple[str, str, type[CommunicatingTeam], Property]] = []


def planted(name: str, holds: Property, **methods) -> None:
    base = TEAMS[name]
    FAULTS.append((name, next(iter(methods.pop("what"))), type(f"Faulty{name}", (base,), methods), holds))


def with_exchange(name: str, what: str, holds: Property, exchange: type) -> None:
    def build(self, hidden_size):
        sizes = [self.config.message_size]
        if name == "TarMAC":
            sizes.append(self.config.signature_size)
        return exchange(hidden_size, *sizes, self.num_agents, shared=self.config.shared)

    planted(name, holds, what={what}, _exchange=build)


for team_name, team_class in TEAMS.items():

    def always_open(self, messages):
        return messages

    def same_copy(self, messages, team_class=team_class):
        return messages if self.channel_mode == "scrambled" else team_class._deliver(self, messages)

    def nobody_leaves(self, inputs):
        return None

    def silent_teacher(self, inputs, memory, starts, noise, counts, team_class=team_class):
        deliver, self._deliver = self._deliver, lambda messages: deliver(messages).detach()
        try:
            return team_class._replayed(self, inputs, memory, starts, noise, counts)
        finally:
            del self._deliver

    planted(team_name, an_open_channel_is_heard_and_a_cut_one_is_not, what={"cut not cut"}, _deliver=always_open)
    planted(
        team_name, a_scrambled_channel_brings_the_words_of_another_copy, what={"scrambled in order"}, _deliver=same_copy
    )
    planted(team_name, who_has_left_is_not_heard, what={"the gone go on talking"}, _present=nobody_leaves)
    planted(team_name, gradients_cross_from_hearer_to_speaker, what={"messages detached"}, _replayed=silent_teacher)


class MeanOfAll(MeanExchange):
    def forward(self, hidden, present, deliver):
        message = torch.tanh(self.say(hidden))
        return deliver(message).mean(dim=-2, keepdim=True).expand_as(message), message


class SumOfOthers(MeanExchange):
    def forward(self, hidden, present, deliver):
        heard, message = super().forward(hidden, present, deliver)
        return heard * (AGENTS - 1), message


class DividedByAll(MeanExchange):
    """Those who have left are counted, though they say nothing."""

    def forward(self, hidden, present, deliver):
        message = torch.tanh(self.say(hidden))
        kept = deliver(message) if present is None else deliver(message) * present.unsqueeze(-1)
        return mean_of_others(kept), message


class ListensToItself(AttentionExchange):
    def weights(self, hidden, signature, present):
        return (self.ask(hidden) @ signature.transpose(-1, -2) / self.signature_size**0.5).softmax(dim=-1)


class Unscaled(AttentionExchange):
    def weights(self, hidden, signature, present):
        return attention_over_others(self.ask(hidden) * self.signature_size**0.5, signature, present)


class SoftmaxOverListeners(AttentionExchange):
    def weights(self, hidden, signature, present):
        return attention_over_others(signature, self.ask(hidden), present).transpose(-1, -2)


class QueryOfTheSpeaker(AttentionExchange):
    def weights(self, hidden, signature, present):
        return attention_over_others(signature, self.ask(hidden), present)


with_exchange("CommNet", "own message in the mean", nobody_hears_itself, MeanOfAll)
with_exchange("CommNet", "a sum", what_is_heard_is_the_mean_of_those_present, SumOfOthers)
with_exchange("CommNet", "divided by n - 1", what_is_heard_is_the_mean_of_those_present, DividedByAll)
with_exchange("TarMAC", "self not excluded", nobody_hears_itself, ListensToItself)
with_exchange("TarMAC", "not scaled", attention_is_a_scaled_softmax_over_the_others, Unscaled)
with_exchange("TarMAC", "wrong axis", attention_is_a_scaled_softmax_over_the_others, SoftmaxOverListeners)
with_exchange("TarMAC", "query for key", attention_is_a_scaled_softmax_over_the_others, QueryOfTheSpeaker)


for team_name, team_class in TEAMS.items():

    def forgetful(self, inputs, memory, starts, noise, counts, team_class=team_class):
        memory = None if memory is None else torch.zeros_like(memory)
        return team_class._replayed(self, inputs, memory, starts, noise, counts)

    planted(team_name, replaying_gives_the_probabilities_that_acted, what={"memory from zero"}, _replayed=forgetful)


def fresh_noise(self, inputs, memory, starts, noise, counts):
    return DIAL._replayed(self, inputs, memory, starts, torch.randn_like(noise), counts)


def across_episodes(self, inputs, memory, starts, noise, counts):
    return DIAL._replayed(self, inputs, memory, None, noise, counts)


def no_noise(self, inputs):
    return torch.zeros(*inputs.shape[:-1], 3)


def noisy_always(self, inputs):
    return torch.randn(*inputs.shape[:-1], 3, generator=self.generator)


def heard_at_once(self, inputs, memory, noise):
    _, following, _ = self.policy(inputs, memory, noise, None, self._deliver)
    mixed = torch.cat([memory[..., :-3], following[..., -3:]], dim=-1)
    outputs, _, _ = self.policy(inputs, mixed, noise, None, self._deliver)
    return outputs, following


planted("DIAL", replaying_gives_the_probabilities_that_acted, what={"fresh noise in learning"}, _replayed=fresh_noise)
planted("DIAL", nothing_is_heard_across_episodes, what={"heard across episodes"}, _replayed=across_episodes)
planted("DIAL", a_team_learns_through_noise_and_acts_with_bits, what={"no noise in training"}, _noise=no_noise)
planted("DIAL", a_team_learns_through_noise_and_acts_with_bits, what={"soft bits when acting"}, _noise=noisy_always)
planted("DIAL", messages_take_a_step, what={"heard in the same step"}, _step=heard_at_once)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}-{fault[1].replace(' ', '-')}")
def test_planted_fault_is_caught(fault):
    _, _, faulty, holds = fault
    with pytest.raises(AssertionError):
        holds(faulty)


def test_a_dial_that_hears_itself_is_caught(monkeypatch):
    def all_in_turn(messages: Tensor) -> Tensor:
        return torch.cat([messages.roll(-step, dims=-2) for step in range(AGENTS - 1)], dim=-1)

    monkeypatch.setattr(dial, "in_turn", all_in_turn)
    with pytest.raises(AssertionError):
        nobody_hears_itself(DIAL)


def test_every_property_can_fail_for_every_team():
    caught = {(name, holds) for name, _, _, holds in FAULTS} | {("DIAL", nobody_hears_itself)}
    assert set(CASES) == caught


# Pure functions and settings


def test_the_mean_leaves_the_speaker_out_and_is_zero_for_who_is_alone():
    messages = torch.tensor([[[1.0], [2.0], [6.0]]])
    assert mean_of_others(messages).flatten().tolist() == [4.0, 3.5, 1.5]
    assert mean_of_others(messages, torch.tensor([[True, True, False]])).flatten().tolist() == [2.0, 1.0, 0.0]
    assert mean_of_others(messages[:, :1]).flatten().tolist() == [0.0]


def test_equal_signatures_are_heard_alike_and_nobody_alone():
    weights = attention_over_others(torch.randn(2, 3, 4), torch.ones(2, 3, 4))
    torch.testing.assert_close(weights, (1 - torch.eye(3)).expand(2, 3, 3) / 2)
    assert attention_over_others(torch.ones(1, 1, 4), torch.ones(1, 1, 4)).tolist() == [[[0.0]]]


def test_the_channel_squashes_noise_in_training_and_cuts_in_execution():
    logits, noise = torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([1.0, 0.0, -2.0])
    expected = 1 / (1 + np.exp(-np.array([1.0, 0.5, -1.0])))
    np.testing.assert_allclose(channel_bits(logits, noise, 2.0).numpy(), expected, rtol=1e-6)
    assert channel_bits(logits, None, 2.0).tolist() == [0.0, 1.0, 1.0]


def test_messages_are_heard_in_turn_from_the_next_agent_on():
    messages = torch.tensor([[[1.0], [2.0], [3.0]]])
    assert in_turn(messages).tolist() == [[[2.0, 3.0], [3.0, 1.0], [1.0, 2.0]]]
    assert in_turn(messages[:, :1]).shape == (1, 1, 0)


def test_the_communication_loss_rewards_clear_and_different_messages():
    """In nats: a bit that is clear and 1 half of the time has entropy ln 2 and none given what was seen."""
    counts, config = torch.ones(4, 1, dtype=torch.bool), DIALConfig(message_size=1)
    clear = torch.tensor([100.0, -100.0, 100.0, -100.0]).reshape(4, 1, 1)
    assert signalling_loss(clear, counts, config).item() == pytest.approx(-math.log(2), abs=1e-3)
    assert signalling_loss(clear.abs(), counts, config).item() == pytest.approx(0.0, abs=1e-3)
    assert signalling_loss(clear * 0, counts, config).item() == pytest.approx(0.0, abs=1e-3)
    noisy = replace(config, diversity_weight=0.0)
    assert signalling_loss(clear * 0, counts, noisy).item() == pytest.approx(math.log(2), abs=1e-3)
    priced = replace(config, diversity_weight=0.0, clarity_weight=0.0, message_price=3.0)
    assert signalling_loss(clear, counts, priced).item() == pytest.approx(1.5)
    only_ones = torch.tensor([True, False, True, False]).reshape(4, 1)
    assert signalling_loss(clear, only_ones, priced).item() == pytest.approx(3.0)


@pytest.mark.parametrize("name", TEAMS)
def test_a_price_makes_messages_smaller(name):
    fields = {"message_price": 1.0} | ({"diversity_weight": 0.0, "clarity_weight": 0.0} if name == "DIAL" else {})
    sizes = []
    for weight in (0.0, 5.0):
        team = team_of(TEAMS[name], communication_weight=weight, learning_rate=0.02, epochs=30, loud=False, **fields)
        batch = midway(team)
        logs = team.update(batch)
        assert ("communication_loss" in logs) == (weight > 0)
        sizes.append(np.square(team.messages(batch.observation[0].numpy(), team.initial_memory(COPIES))).sum())
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.parametrize("name", TEAMS)
def test_messages_of_steps_that_do_not_count_do_not_enter_the_communication_loss(name):
    team = team_of(TEAMS[name], communication_weight=1.0, message_price=1.0)
    batch = midway(team)
    nobody = torch.zeros_like(batch.reward, dtype=torch.bool)
    assert team.update(replace(batch, learns=nobody))["communication_loss"].item() == 0.0


@pytest.mark.parametrize("name", TEAMS)
def test_messages_are_logged_as_they_are_sent_whatever_arrives(name):
    team = team_of(TEAMS[name])
    seen, memory = observations(), team.initial_memory(COPIES)
    sent = team.messages(seen, memory)
    width = {"CommNet": 2 * 3, "TarMAC": 16 + 3, "DIAL": 3}[name]
    assert sent.shape == (COPIES, AGENTS, width)
    assert sent.dtype == (np.int64 if name == "DIAL" else np.float32)
    with team.channel("cut"):
        assert np.array_equal(team.messages(seen, memory)[..., :3], sent[..., :3])
    assert np.unique(sent[:, 0], axis=0).shape[0] > 1


def test_tarmac_shows_how_agents_listen():
    for recurrent in (False, True):
        team = team_of(TarMAC, recurrent=recurrent)
        weights = team.attention(observations(), team.initial_memory(COPIES))
        assert weights.shape == (COPIES, AGENTS, AGENTS)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
        assert (weights[:, range(AGENTS), range(AGENTS)] == 0).all()


@pytest.mark.parametrize("name", TEAMS)
def test_the_team_passes_the_public_checks(name):
    check_agent(TEAMS[name], TEAMS[name].config_class(**SMALL))


@pytest.mark.parametrize("name", TEAMS)
def test_a_team_learns_only_with_the_channel_of_its_configuration(name):
    team = team_of(TEAMS[name])
    batch = midway(team)
    with team.channel("cut"), pytest.raises(ValueError, match="learns with the channel open"):
        team.update(batch)
    with pytest.raises(ValueError, match="one of open, cut, scrambled, got 'closed'"), team.channel("closed"):
        pass


def test_a_scrambled_channel_needs_two_copies():
    team = team_of(CommNet)
    with team.channel("scrambled"), pytest.raises(ValueError, match="two"):
        team.act(observations(1))


def test_dial_asks_for_the_noise_that_acted():
    team = team_of(DIAL)
    with pytest.raises(ValueError, match="noise"):
        team.update(replace(midway(team), noise=None))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (CommNetConfig, "rounds", 0), (CommNetConfig, "message_size", 0), (CommNetConfig, "message_size", 2.5),
        (CommNetConfig, "channel", "scrambled"), (CommNetConfig, "critic_input", "all"),
        (CommNetConfig, "communication_weight", -1.0), (CommNetConfig, "message_price", math.inf),
        (TarMACConfig, "signature_size", 0), (TarMACConfig, "rounds", True), (DIALConfig, "channel_noise", 0.0),
        (DIALConfig, "diversity_weight", -0.1), (DIALConfig, "clarity_weight", math.nan),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(config, field, value):
    with pytest.raises(ValueError, match=field):
        config(**{field: value})
