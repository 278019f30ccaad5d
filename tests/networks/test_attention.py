import math

import pytest
import torch

from ca14lib.networks import attention
from ca14lib.networks.attention import AgentAttention, AttentionCritic

F, A, N, B, WIDTH = 3, 4, 5, 6, 8


def critic(seed=0, agents=N, **keywords):
    torch.manual_seed(seed)
    return AttentionCritic(F, A, agents, WIDTH, 2, **keywords)


def experience(agents=N, seed=1):
    generator = torch.Generator().manual_seed(seed)
    observation = torch.randn(B, agents, F, generator=generator)
    action = torch.nn.functional.one_hot(torch.randint(A, (B, agents), generator=generator), A).float()
    return observation, action


def own_action_changes_nothing():
    """Agent 2's values ignore its own action, and everyone else's feel it."""
    network, (observation, action) = critic(), experience()
    changed = action.clone()
    changed[:, 2] = action[:, 2].roll(1, dims=-1)
    before, after = (network(observation, a)[0] for a in (action, changed))
    torch.testing.assert_close(before[:, 2], after[:, 2], rtol=0, atol=0)
    rest = [0, 1, 3, 4]
    assert ((before - after)[:, rest].abs().amax(dim=-1) > 1e-6).all()


def order_of_others_does_not_matter():
    network, (observation, action) = critic(identity=False, layer_norm=True), experience()
    order = torch.tensor([0, 3, 1, 4, 2])  # agent 0 stays
    before, after = network(observation, action)[0], network(observation[:, order], action[:, order])[0]
    torch.testing.assert_close(before[:, order], after)


def attention_is_a_softmax_over_the_others():
    """Against a loop over agents, heads and others."""
    torch.manual_seed(0)
    layer, asking, shown = AgentAttention(WIDTH, 2), torch.randn(B, N, WIDTH), torch.randn(B, N, WIDTH)
    read, logits = layer(asking, shown)
    query, key, value = layer.query(asking), layer.key(shown), layer.value(shown)
    size = WIDTH // 2
    for i in range(N):
        others = [j for j in range(N) if j != i]
        for head in range(2):
            part = slice(head * size, (head + 1) * size)
            products = torch.stack([(query[:, i, part] * key[:, j, part]).sum(-1) for j in others], dim=-1)
            torch.testing.assert_close(logits[:, i, others, head], products / math.sqrt(size))
            weights = (products / math.sqrt(size)).softmax(dim=-1)
            expected = sum(weights[:, k, None] * value[:, j, part] for k, j in enumerate(others))
            torch.testing.assert_close(read[:, i, part], expected)


PROPERTIES = (own_action_changes_nothing, order_of_others_does_not_matter, attention_is_a_softmax_over_the_others)


@pytest.mark.parametrize("holds", PROPERTIES)
def test_property(holds):
    holds()


@pytest.mark.parametrize("fault", ["self not excluded", "unscaled", "own pair in the head", "identity of the others"])
def test_planted_faults_are_noticed(fault, monkeypatch):
    healthy = AgentAttention.logits
    if fault == "self not excluded":

        def with_itself(self, asking, shown):
            query, key = self._split(self.query(asking)), self._split(self.key(shown))
            return torch.einsum("bihd,bjhd->bijh", query, key) / query.shape[-1] ** 0.5

        monkeypatch.setattr(AgentAttention, "logits", with_itself)
        noticed_by = (own_action_changes_nothing, attention_is_a_softmax_over_the_others)
    elif fault == "unscaled":
        monkeypatch.setattr(AgentAttention, "logits", lambda self, a, s: healthy(self, a, s) * 2.0)
        noticed_by = (attention_is_a_softmax_over_the_others,)
    elif fault == "own pair in the head":
        forward = AttentionCritic.forward

        def leaky(self, observation, action):
            q, logits = forward(self, observation, action)
            return q + 0.01 * action, logits

        monkeypatch.setattr(AttentionCritic, "forward", leaky)
        noticed_by = (own_action_changes_nothing,)
    else:
        linear = attention.AgentLinear
        monkeypatch.setattr(
            attention, "AgentLinear", lambda *args, identity=False, **rest: linear(*args, identity=True, **rest)
        )
        noticed_by = (order_of_others_does_not_matter,)
    for holds in noticed_by:
        with pytest.raises(AssertionError):
            holds()


def test_an_agent_alone_has_values_and_reads_nothing():
    network, (observation, action) = critic(agents=1), experience(agents=1)
    q, _ = network(observation, action)
    assert q.shape == (B, 1, A)
    assert q.isfinite().all()
    assert (network.attention(torch.randn(B, 1, WIDTH), torch.randn(B, 1, WIDTH))[0] == 0).all()


def test_separate_encoders_share_the_attention_alone():
    network = critic(shared=False)
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert all((shape[0] == N) == (not name.startswith("attention")) for name, shape in shapes.items())


def test_gradients_reach_the_others_and_are_finite():
    network, (observation, action) = critic(layer_norm=True), experience()
    action.requires_grad_()
    network(observation, action)[0][:, 0].sum().backward()
    assert action.grad.isfinite().all()
    assert (action.grad[:, 0] == 0).all()
    assert (action.grad[:, 1:].abs().sum(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize(("width", "heads"), [(8, 3), (8, 0)])
def test_widths_that_the_heads_do_not_divide_are_refused(width, heads):
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        AgentAttention(width, heads)
