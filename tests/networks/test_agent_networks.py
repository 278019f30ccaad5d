"""Networks with an axis of agents equal what each agent would compute alone."""

import pytest
import torch
from torch import nn

from ca14lib.networks import AgentGRU, AgentLinear, TeamNetwork


def test_separate_layers_equal_one_linear_layer_per_agent():
    layer, inputs = AgentLinear(4, 5, 3, shared=False), torch.randn(2, 7, 3, 4)
    for agent in range(3):
        expected = inputs[:, :, agent] @ layer.weight[agent] + layer.bias[agent]
        torch.testing.assert_close(layer(inputs)[:, :, agent], expected)


def test_identity_bias_equals_a_one_hot_name_in_the_input():
    layer, inputs = AgentLinear(4, 5, 3, identity=True), torch.randn(6, 3, 4)
    names = torch.eye(3).expand(6, 3, 3)
    plain = nn.Linear(7, 5)
    with torch.no_grad():
        plain.weight.copy_(torch.cat([layer.weight, layer.bias.T], dim=1))
        plain.bias.zero_()
    torch.testing.assert_close(layer(inputs), plain(torch.cat([inputs, names], dim=-1)))


def test_shared_parameters_without_identity_treat_agents_alike():
    layer, row = AgentLinear(4, 5, 3), torch.randn(2, 1, 4)
    outputs = layer(row.expand(2, 3, 4))
    torch.testing.assert_close(outputs[:, 0], outputs[:, 2])


@pytest.mark.parametrize("shared", [True, False])
def test_unit_equals_pytorchs_gated_recurrent_unit(shared):
    unit, reference = AgentGRU(4, 5, 2, shared=shared), nn.GRUCell(4, 5)
    agent = 1
    with torch.no_grad():
        for own, weight, bias in (
            (unit.of_input, reference.weight_ih, reference.bias_ih),
            (unit.of_memory, reference.weight_hh, reference.bias_hh),
        ):
            weight.copy_(own.weight if shared else own.weight[agent].T)
            bias.copy_(own.bias[0 if shared else agent])
    inputs, memory = torch.randn(6, 2, 4), torch.randn(6, 2, 5)
    torch.testing.assert_close(unit(inputs, memory)[:, agent], reference(inputs[:, agent], memory[:, agent]))


@pytest.mark.parametrize("shared", [True, False])
def test_unrolled_network_equals_its_steps_and_forgets_at_starts(shared):
    network = TeamNetwork(4, 2, 3, (8, 6), shared=shared, recurrent=True)
    inputs, memory = torch.randn(5, 7, 3, 4), torch.randn(7, 3, 6)
    starts = torch.rand(5, 7) < 0.3
    outputs = network.unrolled(inputs, memory, starts)
    for step in range(5):
        memory = torch.where(starts[step].reshape(-1, 1, 1), 0, memory)
        expected, memory = network(inputs[step], memory)
        torch.testing.assert_close(outputs[step], expected)


def test_separate_agents_share_no_gradient_and_shared_ones_do():
    for shared in (True, False):
        network, inputs = TeamNetwork(4, 2, 3, (8,), shared=shared, recurrent=True), torch.randn(5, 3, 4)
        outputs, _ = network(inputs)
        outputs[:, 1].sum().backward()
        weight = network.head.weight.grad
        assert weight is not None
        if not shared:
            assert weight[0].abs().sum() == 0
            assert weight[1].abs().sum() > 0


def test_layers_are_normalised_where_asked_for():
    network = TeamNetwork(4, 2, 3, (8,), layer_norm=True)
    hidden = network.body[:2](100 + 50 * torch.randn(6, 3, 4))
    torch.testing.assert_close(hidden.mean(dim=-1), torch.zeros(6, 3), atol=1e-4, rtol=0)


def test_output_starts_small_where_asked_for():
    network = TeamNetwork(4, 2, 3, (8,), output_scale=0.0)
    assert network(torch.randn(6, 3, 4))[0].abs().max() == 0


def test_inputs_of_another_number_of_agents_are_refused():
    with pytest.raises(ValueError, match="3, features"):
        TeamNetwork(4, 2, 3, (8,))(torch.randn(6, 2, 4))
