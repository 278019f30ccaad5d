"""Mixers: monotone in every utility whatever the weights, so that everyone's best action is part of the best of all."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ca14lib.networks import MonotonicMixer, SumMixer, joint_actions

STATE = 4


def mixer_of(cls: type[MonotonicMixer], agents: int, seed: int, scale: float) -> MonotonicMixer:
    """A mixer with weights of any size and sign, not only those it starts with."""
    torch.manual_seed(seed)
    mixer = cls(agents, STATE, embed_dim=8, hypernet_hidden=16)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return mixer.double()


def trained_mixer(cls: type[MonotonicMixer], agents: int, seed: int) -> MonotonicMixer:
    """A mixer after updates towards a target that falls in every utility: everything asked it to fall."""
    torch.manual_seed(seed)
    mixer = cls(agents, STATE, embed_dim=8, hypernet_hidden=16).double()
    optimizer = torch.optim.Adam(mixer.parameters(), lr=0.03)
    for _ in range(30):
        q, state = torch.randn(32, agents).double(), torch.randn(32, STATE).double()
        optimizer.zero_grad()
        (mixer(q, state) + 3 * q.sum(dim=-1)).square().mean().backward()
        optimizer.step()
    return mixer


def smallest_slope(mixer: nn.Module, agents: int, seed: int) -> float:
    """The smallest finite difference in one agent's utility, over random utilities, states and steps."""
    generator = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(256, agents, generator=generator).double()
    state = 2 * torch.randn(256, STATE, generator=generator).double()
    step = 0.01 + 2 * torch.rand(256, 1, generator=generator).double()
    with torch.no_grad():
        below = mixer(q, state)
        rises = [mixer(q + step * torch.eye(agents).double()[i], state) - below for i in range(agents)]
    return float(torch.stack(rises).min() / below.abs().max().clamp(min=1))


def greedy_is_best(mixer: nn.Module, agents: int, seed: int, actions: int = 3) -> bool:
    """Whether the joint action of each agent's best is the best of all joint actions, in random games."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(16, agents, actions, generator=generator).double()
    state = torch.randn(16, STATE, generator=generator).double()
    every = joint_actions(agents, actions)
    with torch.no_grad():
        listed = torch.stack([q[:, torch.arange(agents), joint] for joint in every], dim=1)  # [16, A**n, n]
        totals = mixer(listed, state.unsqueeze(1).expand(-1, len(every), -1))
        greedy = mixer(q.max(dim=-1).values, state)
    best = totals.max(dim=1).values
    return bool((greedy >= best - 1e-9 * best.abs().clamp(min=1)).all())


def monotone(cls: type[MonotonicMixer]) -> bool:
    slopes = [smallest_slope(mixer_of(cls, 3, seed, scale), 3, seed) for seed in range(3) for scale in (0.1, 1.0)]
    slopes += [smallest_slope(trained_mixer(cls, 3, 0), 3, 0)]
    return min(slopes) >= -1e-9


def best_action_is_greedy(cls: type[MonotonicMixer]) -> bool:
    return all(greedy_is_best(mixer_of(cls, 3, seed, 1.0), 3, seed) for seed in range(5))


@settings(max_examples=40, deadline=None)
@given(agents=st.integers(1, 5), seed=st.integers(0, 10_000), scale=st.floats(0.01, 3.0))
def test_mixer_is_monotonic_in_every_agent(agents: int, seed: int, scale: float) -> None:
    assert smallest_slope(mixer_of(MonotonicMixer, agents, seed, scale), agents, seed) >= -1e-9


@pytest.mark.parametrize("agents", [1, 2, 4])
def test_mixer_is_monotonic_after_updates_that_ask_it_to_fall(agents: int) -> None:
    assert smallest_slope(trained_mixer(MonotonicMixer, agents, agents), agents, agents) >= -1e-9


@settings(max_examples=25, deadline=None)
@given(agents=st.integers(1, 4), seed=st.integers(0, 10_000), scale=st.floats(0.01, 3.0))
def test_best_joint_action_is_that_of_each_agents_best(agents: int, seed: int, scale: float) -> None:
    assert greedy_is_best(mixer_of(MonotonicMixer, agents, seed, scale), agents, seed)
    assert greedy_is_best(SumMixer(), agents, seed)


def test_mixer_is_the_formula_of_the_page() -> None:
    mixer = mixer_of(MonotonicMixer, 2, 1, 0.7)
    q, state = np.array([0.3, -1.2]), np.array([0.5, -0.1, 2.0, 0.7])
    weights = {name: value.detach().numpy() for name, value in mixer.named_parameters()}

    def net(name: str) -> np.ndarray:
        hidden = np.maximum(weights[f"{name}.0.weight"] @ state + weights[f"{name}.0.bias"], 0)
        return weights[f"{name}.2.weight"] @ hidden + weights[f"{name}.2.bias"]

    before = np.abs(net("first_weights")).reshape(2, 8).T @ q
    before = before + weights["first_bias.weight"] @ state + weights["first_bias.bias"]
    hidden = np.where(before > 0, before, np.expm1(before))
    expected = np.abs(net("last_weights")) @ hidden + net("last_bias")[0]
    assert mixer(torch.as_tensor(q), torch.as_tensor(state)).item() == pytest.approx(expected)


def test_biases_are_free_to_be_negative() -> None:
    """With utilities of zero the value may have either sign, and it depends on the state."""
    mixer, state = mixer_of(MonotonicMixer, 2, 0, 1.0), torch.randn(64, STATE).double()
    values = mixer(torch.zeros(64, 2).double(), state)
    assert values.min() < 0 < values.max()


def test_sum_is_the_sum_and_looks_at_no_state() -> None:
    q = torch.randn(5, 7, 3)
    assert torch.equal(SumMixer()(q, torch.randn(5, 7, STATE)), q.sum(dim=-1))
    assert list(SumMixer().parameters()) == []


def test_leading_axes_are_free() -> None:
    mixer, q, state = mixer_of(MonotonicMixer, 3, 0, 1.0), torch.randn(5, 7, 3).double(), torch.randn(5, 7, 4).double()
    whole, rows = mixer(q, state), mixer(q.flatten(0, 1), state.flatten(0, 1))
    assert whole.shape == (5, 7)
    assert torch.allclose(whole.flatten(), rows)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"agent_qs must have shape \[..., 3\], got \(2, 4\)"):
        MonotonicMixer(3, STATE)(torch.zeros(2, 4), torch.zeros(2, STATE))
    with pytest.raises(ValueError, match="embed_dim must be a positive integer, got 0"):
        MonotonicMixer(3, STATE, embed_dim=0)
    with pytest.raises(ValueError, match="at most a million"):
        joint_actions(20, 5)


def test_joint_actions_are_all_of_them_once() -> None:
    every = joint_actions(3, 4)
    assert every.shape == (64, 3)
    assert len({tuple(row) for row in every.tolist()}) == 64
    assert every[1].tolist() == [0, 0, 1]
    assert joint_actions(1, 2).tolist() == [[0], [1]]


# planted faults


class FreeFirstLayer(MonotonicMixer):
    def weights(self, state: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first_weights(state)
        return first.reshape(*state.shape[:-1], self.n_agents, self.embed_dim), self.last_weights(state).abs()


class FreeLastLayer(MonotonicMixer):
    def weights(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().weights(state)[0], self.last_weights(state)


class UtilitiesOnce(MonotonicMixer):
    """A path from the utilities around the weights, with a sign that is free."""

    def forward(self, agent_qs: Tensor, state: Tensor) -> Tensor:
        return super().forward(agent_qs, state) + (agent_qs * state[..., :1]).sum(dim=-1)


class WaveInPlaceOfELU(MonotonicMixer):
    def forward(self, agent_qs: Tensor, state: Tensor) -> Tensor:
        first, last = self.weights(state)
        hidden = ((agent_qs.unsqueeze(-1) * first).sum(dim=-2) + self.first_bias(state)).sin()
        return (hidden * last).sum(dim=-1) + self.last_bias(state).squeeze(-1)


@pytest.mark.parametrize("holds", [monotone, best_action_is_greedy], ids=lambda value: value.__name__)
def test_properties_hold_without_faults(holds: Callable[..., bool]) -> None:
    assert holds(MonotonicMixer)


@pytest.mark.parametrize("holds", [monotone, best_action_is_greedy], ids=lambda value: value.__name__)
@pytest.mark.parametrize("faulty", [FreeFirstLayer, FreeLastLayer, UtilitiesOnce, WaveInPlaceOfELU])
def test_every_fault_is_seen(faulty: type[MonotonicMixer], holds: Callable[..., bool]) -> None:
    assert not holds(faulty)
