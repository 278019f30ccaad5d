"""The probe environments at the settings of the course: each isolates one part of a learner."""

import numpy as np
import pytest

from ca14lib.agents import AGENTS, Agent
from ca14lib.environments import tabular_model
from ca14lib.training import collect, train_offline

pytestmark = pytest.mark.learning

DISCOUNT = 0.9
VALUES = {
    "ProbeReward": [[1.0, 1.0]],
    "ProbeValue": [[-1.0, -1.0], [1.0, 1.0]],
    "ProbeDiscount": [[DISCOUNT, DISCOUNT], [1.0, 1.0]],
    "ProbeAction": [[-1.0, 1.0]],
    "ProbeTruncation": [[1 / (1 - DISCOUNT)] * 2],
}


def trained(name: str, probe: str, **settings: float) -> Agent:
    data = collect(f"CA14/{probe}-v0", "random", 500, seed=0)
    cls = AGENTS[name]
    config = cls.config_class(**{"hidden_sizes": (32, 32), "learning_rate": 3e-3} | settings)
    agent = cls(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=0)
    train_offline(agent, data, 1_000, batch_size=64, progress=False)
    return agent


@pytest.mark.parametrize("probe", VALUES)
@pytest.mark.parametrize("name", ["DQN", "DiscreteBCQ", "DiscreteIQL"])
def test_values_of_the_probe_are_right(name, probe):
    agent = trained(name, probe, discount=DISCOUNT, target_rate=0.05)
    right = np.array(VALUES[probe])
    assert agent.q_table(tabular_model(f"CA14/{probe}-v0"))[: len(right)] == pytest.approx(right, rel=0.03, abs=0.05)


@pytest.mark.parametrize(
    "name", ["DQN", "DiscreteBCRegularized", "DiscreteAWR", "DiscreteBCQ", "DiscreteCQL", "DiscreteIQL"]
)
def test_the_better_action_is_taken_in_the_action_probe(name):
    table = trained(name, "ProbeAction").policy_table(tabular_model("CA14/ProbeAction-v0"))
    assert table[0].tolist() == [0.0, 1.0]


def test_the_copy_of_uniform_data_is_uniform():
    agent = trained("DiscreteBC", "ProbeAction")
    table = agent.policy_table(tabular_model("CA14/ProbeAction-v0"), deterministic=False)
    assert table[0] == pytest.approx([0.5, 0.5], abs=0.1)
