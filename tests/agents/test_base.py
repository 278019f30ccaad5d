"""What every agent does before it learns anything: settings, spaces, devices, acting, policy tables."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import AGENTS, DQN, ContinuousAgent, DiscreteAgent, DQNConfig, OnPolicyAgent, agent_class
from ca14lib.agents.offline import DiscreteBC, DiscreteBCConfig, DiscreteIQL, DiscreteIQLConfig
from ca14lib.data import Normalizer
from ca14lib.environments import TabularModel
from tests.agents.reference_discrete import ACTIONS, OBSERVATIONS

SMALL = {"hidden_sizes": (8,)}
COMMON = {
    "hidden_sizes": [(), (0,), (16, -1), (2.5,)],
    "learning_rate": [0.0, -1e-3, float("nan"), float("inf")],
    "discount": [0.0, -0.1, 1.01, float("nan")],
}
TARGET = {"target_rate": [0.0, -0.1, 1.1, float("nan")]}
ON_POLICY = COMMON | {
    "value_learning_rate": [0.0, float("nan")],
    "gae_lambda": [-0.1, 1.1, float("nan")],
    "cost_gae_lambda": [-0.1, 1.1],
    "cost_discount": [0.0, 1.1],
    "cost_limits": [(-1.0,), (float("nan"),), (float("inf"),)],
    "value_epochs": [0, 1.5],
    "minibatches": [0],
    "entropy_weight": [-0.1, float("inf")],
    "final_entropy_weight": [-0.1, float("nan")],
    "annealing": [-0.1, 1.1],
}
CLIPPED = ON_POLICY | {
    "learning_rate_decay": [0.0, 1.1, float("nan")],
    "clip": [0.0, 1.0],
    "epochs": [0, 2.5],
    "max_gradient_norm": [0.0, float("nan")],
    "max_kl": [0.0, float("nan")],
}
MULTIPLIER = CLIPPED | {
    "cost_limits": [(), (-1.0,)],
    "multiplier_learning_rate": [-0.1, float("inf")],
    "initial_multiplier": [-0.1, float("inf")],
    "max_multiplier": [0.0, float("nan")],
}
DEEP_Q = COMMON | TARGET | {"exploration": [-0.1, 1.1, float("nan")]}
DISTRIBUTIONAL = DEEP_Q | {"risk": ["variance"]}
OUT_OF_RANGE = {
    "DiscreteBC": COMMON,
    "DQN": DEEP_Q,
    "DiscreteCQL": COMMON | TARGET | {"conservative_weight": [-0.1, float("nan"), float("inf")]},
    "DiscreteIQL": COMMON
    | TARGET
    | {
        "expectile": [0.0, 1.0, -0.5, 1.2, float("nan")],
        "temperature": [-1.0, float("nan"), float("inf")],
        "max_weight": [0.0, -1.0, float("nan")],
    },
    "DiscreteAWR": COMMON
    | {
        "trace_decay": [-0.1, 1.1, float("nan")],
        "temperature": [0.0, -1.0, float("inf")],
        "max_weight": [0.0, float("nan")],
        "relabel_interval": [0, -1],
    },
    "DiscreteBCQ": COMMON | TARGET | {"threshold": [-0.1, 1.0, float("nan")]},
    "DiscreteBCRegularized": COMMON | TARGET | {"behaviour_weight": [-0.1, float("nan"), float("inf")]},
    "SAC": COMMON | TARGET | {"initial_temperature": [0.0, -1.0, float("nan")]},
    "BC": COMMON,
    "AWR": COMMON | {"trace_decay": [-0.1, 1.1], "temperature": [0.0], "max_weight": [0.0]},
    "BCQ": COMMON
    | TARGET
    | {
        "max_perturbation": [-0.1, float("nan")],
        "target_samples": [0],
        "acting_samples": [0],
        "min_weight": [-0.1, 1.1],
        "divergence_weight": [-0.1, float("inf")],
    },
    "CQL": COMMON
    | TARGET
    | {
        "policy_learning_rate": [0.0, float("nan")],
        "conservative_weight": [-0.1, float("inf")],
        "sampled_actions": [0],
        "lagrange_threshold": [float("nan"), float("inf")],
    },
    "IQL": COMMON
    | TARGET
    | {"expectile": [0.0, 1.0], "temperature": [-1.0], "max_weight": [0.0], "policy_decay_updates": [-1]},
    "TD3BC": COMMON
    | TARGET
    | {
        "value_weight": [-0.1, float("nan")],
        "policy_delay": [0],
        "target_noise": [-0.1, float("inf")],
        "noise_clip": [-0.1, float("nan")],
    },
    "PPO": CLIPPED,
    "PPOLagrangian": MULTIPLIER,
    "PIDLagrangian": MULTIPLIER
    | {
        "proportional": [-0.1, float("inf")],
        "integral": [-0.1, float("nan")],
        "derivative": [-0.1],
        "smoothing": [-0.1, 1.0],
        "delay": [0, 1.5],
    },
    "FixedPenalty": CLIPPED | {"cost_limits": [()], "penalty": [-0.1, float("inf")]},
    "CPO": ON_POLICY
    | {
        "cost_limits": [(), (1.0, 2.0)],
        "trust_region": [0.0, float("inf")],
        "trust_region_decay": [0.0, 1.1],
        "damping": [-0.1, float("inf")],
        "fisher_share": [0.0, 1.1],
        "backtrack_factor": [0.0, 1.0],
        "cautious_errors": [-0.1, float("nan")],
        "conjugate_gradient_steps": [0, 1.5],
        "backtracks": [0],
    },
    "SafePolicyGradient": MULTIPLIER,
    "CVaRPolicyGradient": CLIPPED
    | {"tail": [0.0, 1.1, float("nan")], "anneal_updates": [-1, 0.5], "multiplier_learning_rate": [-0.1, float("inf")]},
    "RiskSensitivePolicyGradient": CLIPPED
    | {"measure": ["variance"], "parameter": [1.0, -0.1, float("nan")], "risk_weight": [-0.1, float("inf")]},
    "QRDQN": DISTRIBUTIONAL | {"num_quantiles": [0, 2.5], "kappa": [0.0, float("nan"), float("inf")]},
    "IQN": DISTRIBUTIONAL
    | {name: [0, 1.5] for name in ("num_fractions", "num_target_fractions", "num_choice_fractions", "num_cosines")}
    | {"kappa": [-1.0, float("inf")]},
    "C51": DISTRIBUTIONAL
    | {"num_atoms": [1, 2.5], "value_min": [float("nan"), float("-inf"), 11.0], "value_max": [float("inf")]},
    "BootstrappedDQN": DEEP_Q
    | {
        "num_heads": [1, 2.5],
        "mask_probability": [0.0, 1.1, float("nan")],
        "prior_scale": [-0.1, float("inf")],
        "prior_size": [0],
    },
    "AdversarialPPO": CLIPPED
    | {
        "epsilon": [-0.1, float("nan"), float("inf")],
        "regulariser": [-0.1, float("inf")],
        "attack": ["newton"],
        "attack_steps": [0, 1.5],
        "norm": ["l1"],
        "ramp_delay": [-1],
        "ramp_updates": [0],
    },
    "ConstrainedBCQ": COMMON
    | TARGET
    | {
        "cost_limits": [(-1.0,), (float("nan"),)],
        "cost_discount": [0.0, 1.1],
        "threshold": [-0.1, 1.0],
        "logit_penalty": [-0.1, float("inf")],
        "temperature": [-0.1, float("nan")],
        "pessimism": [-0.1, 1.1],
        "multiplier_learning_rate": [-0.1, float("inf")],
        "multiplier_patience": [0, 1.5],
        "initial_multiplier": [-0.1, 101.0],
        "max_multiplier": [0.0, float("inf")],
    },
    "ContinualDQN": DEEP_Q
    | {"penalty_weight": [-0.1, float("nan"), float("inf")], "clone_weight": [-0.1, float("nan"), float("inf")]},
    "DiscreteCalQL": COMMON | TARGET | {"conservative_weight": [-0.1, float("nan")], "relabel_interval": [0, 1.5]},
    "RobustLagrangian": MULTIPLIER | {"num_models": [0, 1.5], "weight_learning_rate": [-0.1, float("inf")]},
}
DISCRETE = [name for name, cls in AGENTS.items() if issubclass(cls, DiscreteAgent)]
CONTINUOUS = [name for name, cls in AGENTS.items() if issubclass(cls, ContinuousAgent)]
ON_ROLLOUTS = [name for name, cls in AGENTS.items() if issubclass(cls, OnPolicyAgent)]  # of either kind of action
TORQUES = gym.spaces.Box(-2, 2, (2,), dtype=np.float32)


def test_every_agent_has_its_bad_settings_here():
    assert OUT_OF_RANGE.keys() == AGENTS.keys()
    assert sorted(DISCRETE + CONTINUOUS + ON_ROLLOUTS) == sorted(AGENTS)


def small(cls, observations=OBSERVATIONS, actions=None, **keywords):
    actions = actions or (TORQUES if issubclass(cls, ContinuousAgent) else ACTIONS)
    return cls(observations, actions, cls.config_class(**SMALL), **keywords)


@pytest.mark.parametrize(
    "name, field, value",
    [
        (name, field, value)
        for name, fields in OUT_OF_RANGE.items()
        for field, values in fields.items()
        for value in values
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_and_value(name, field, value):
    with pytest.raises(ValueError, match=field) as caught:
        AGENTS[name].config_class(**{field: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("name", AGENTS)
def test_settings_at_the_edge_of_their_range_are_accepted(name):
    edges = {"discount": 1.0, "target_rate": 1.0, "exploration": 0.0, "conservative_weight": 0.0, "threshold": 0.0}
    edges |= {"behaviour_weight": 0.0, "max_perturbation": 0.0, "value_weight": 0.0, "trace_decay": 0.0}
    edges |= {"gae_lambda": 0.0, "cost_gae_lambda": 1.0, "cost_discount": 1.0, "annealing": 0.0, "penalty": 0.0}
    edges |= {"cost_limits": (0.0,), "multiplier_learning_rate": 0.0, "tail": 1.0, "smoothing": 0.0, "damping": 0.0}
    if "IQL" in name:  # AWR divides by its temperature
        edges["temperature"] = 0.0
    config = AGENTS[name].config_class
    config(**{field: value for field, value in edges.items() if field in config.__dataclass_fields__})


def test_hidden_sizes_may_be_a_list_and_stay_comparable():
    assert DQNConfig(hidden_sizes=[32, 32]) == DQNConfig(hidden_sizes=(32, 32))


@pytest.mark.parametrize("name", AGENTS)
def test_the_settings_of_another_algorithm_are_refused(name):
    other = DiscreteBCConfig() if name != "DiscreteBC" else DQNConfig()
    with pytest.raises(ValueError, match=AGENTS[name].config_class.__name__):
        AGENTS[name](OBSERVATIONS, TORQUES if name in CONTINUOUS else ACTIONS, other)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "xpu:7"])
@pytest.mark.parametrize("name", AGENTS)
def test_an_unknown_device_is_refused_by_name(name, device):
    with pytest.raises(ValueError, match=device):
        small(AGENTS[name], device=device)


@pytest.mark.parametrize(
    "actions", [gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(3, start=1), gym.spaces.MultiDiscrete([2, 2])]
)
def test_actions_must_be_discrete_from_zero(actions):
    with pytest.raises(ValueError, match="Discrete action space from 0"):
        DiscreteBC(OBSERVATIONS, actions)


@pytest.mark.parametrize(
    "actions", [gym.spaces.Discrete(3), gym.spaces.Box(-np.inf, 1, (2,)), gym.spaces.Box(-1, 1, (2, 2))]
)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_actions_must_be_a_bounded_row(name, actions):
    with pytest.raises(ValueError, match="bounded Box action space of one dimension"):
        AGENTS[name](OBSERVATIONS, actions)


@pytest.mark.parametrize(
    "actions",
    [
        gym.spaces.Discrete(3, start=1), gym.spaces.Box(-np.inf, 1, (2,)), gym.spaces.Box(-1, 1, (2, 2)),
        gym.spaces.Box(-1, 1, (2,), np.int64), gym.spaces.Box(np.float32([0, 1]), np.float32([1, 1])),
        gym.spaces.MultiDiscrete([2, 2]),
    ],
    ids=["from 1", "unbounded", "a matrix", "whole numbers", "no width", "several"],
)  # fmt: skip
@pytest.mark.parametrize("name", ON_ROLLOUTS)
def test_on_policy_agents_need_discrete_actions_or_a_bounded_row(name, actions):
    with pytest.raises(ValueError, match=f"{name} needs .*Discrete"):
        AGENTS[name](OBSERVATIONS, actions)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_agents_need_observations_in_a_box(name):
    with pytest.raises(ValueError, match=r"Box observation space, got Discrete\(3\)"):
        small(AGENTS[name], gym.spaces.Discrete(3))


@pytest.mark.parametrize("name", CONTINUOUS + ON_ROLLOUTS)
def test_continuous_actions_are_in_the_environments_units_and_inside_its_bounds(name):
    agent = small(AGENTS[name], actions=TORQUES, seed=1)
    observation = np.random.default_rng(0).normal(0, 30, (50, 2)).clip(-10, 10)
    for deterministic in (True, False):
        action = agent.act(observation, deterministic=deterministic)
        assert action.shape == (50, 2)
        assert action.dtype == np.float32
        assert all(TORQUES.contains(one) for one in action)
    with pytest.raises(ValueError, match="takes no mask"):
        agent.act(observation, mask=np.ones((50, 2), dtype=bool))


def test_observations_must_be_numbers_in_a_box_or_discrete():
    with pytest.raises(ValueError, match="MultiBinary"):
        small(DQN, gym.spaces.MultiBinary(3))


def test_a_normalizer_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\)"):
        small(DQN, normalizer=Normalizer(torch.zeros(3), torch.ones(3)))


def test_agents_are_found_by_name():
    assert agent_class("DiscreteIQL") is DiscreteIQL
    with pytest.raises(ValueError, match="DiscreteCQL") as caught:
        agent_class("SARSA")
    assert "SARSA" in str(caught.value)


@pytest.mark.parametrize("name", AGENTS)
def test_building_an_agent_leaves_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    small(AGENTS[name], seed=3)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", DISCRETE + ON_ROLLOUTS)
def test_observations_of_any_real_dtype_and_discrete_ones_of_any_integer_dtype_act_alike(name):
    observation = np.array([[1, -2], [3, 4]])
    agent = small(AGENTS[name])
    wanted = agent.act(observation.astype(np.float32), deterministic=True)
    assert (agent.act(observation.astype(np.float64), deterministic=True) == wanted).all()
    assert (agent.act(observation.tolist(), deterministic=True) == wanted).all()
    discrete = small(AGENTS[name], gym.spaces.Discrete(5))
    wanted = discrete.act(np.array([0, 4]), deterministic=True)
    assert (discrete.act(np.array([0, 4], dtype=np.uint8), deterministic=True) == wanted).all()


@pytest.mark.parametrize(
    "observation, complaint",
    [
        (np.zeros(2, np.float32), "shape"),
        (np.zeros((1, 3), np.float32), "shape"),
        (np.float32(1.0), "shape"),
        (np.array([[np.nan, 0.0]]), "finite"),
        (np.array([[np.inf, 0.0]]), "finite"),
    ],
)
def test_a_bad_observation_is_refused(observation, complaint):
    with pytest.raises(ValueError, match=complaint):
        small(DQN).act(observation)


@pytest.mark.parametrize("observation", [np.array([-1]), np.array([5]), np.array([1.0]), np.array([True])])
def test_a_bad_discrete_observation_is_refused(observation):
    with pytest.raises(ValueError, match="observation"):
        small(DQN, gym.spaces.Discrete(5)).act(observation)


@pytest.mark.parametrize("name", DISCRETE + ON_ROLLOUTS)
def test_actions_are_drawn_with_the_probabilities_stated(name):
    agent, size = small(AGENTS[name], seed=1), 20_000
    observation = np.tile(np.array([[2.0, -1.0]], dtype=np.float32), (size, 1))
    stated = agent.probabilities(observation[:1])[0]
    drawn = np.bincount(agent.act(observation), minlength=3) / size
    assert abs(drawn - stated).max() < 4 * np.sqrt(0.25 / size)
    mask = np.tile([True, False, True], (size, 1))
    stated = agent.probabilities(observation[:1], mask=mask[:1])[0]
    drawn = np.bincount(agent.act(observation, mask=mask), minlength=3) / size
    assert stated[1] == drawn[1] == 0.0
    assert abs(drawn - stated).max() < 4 * np.sqrt(0.25 / size)


def test_dqn_explores_with_a_uniform_allowed_action_at_its_rate():
    agent = DQN(OBSERVATIONS, ACTIONS, DQNConfig(**SMALL, exploration=0.3))
    observation = np.zeros((1, 2), dtype=np.float32)
    best = agent.act(observation, deterministic=True)[0]
    free = agent.probabilities(observation)[0]
    assert free[best] == pytest.approx(0.7 + 0.1)
    assert np.delete(free, best) == pytest.approx([0.1, 0.1])
    mask = np.ones((1, 3), dtype=bool)
    mask[0, best] = False
    assert sorted(agent.probabilities(observation, mask=mask)[0]) == pytest.approx([0.0, 0.15, 0.85])


def test_iql_acts_by_its_policy_network_not_by_its_values():
    agent = DiscreteIQL(OBSERVATIONS, ACTIONS, DiscreteIQLConfig(**SMALL))
    with torch.no_grad():
        agent.policy[-1].bias += torch.tensor([0.0, 50.0, 0.0])
        for critic in agent.critics:
            critic[-1].bias += torch.tensor([0.0, 0.0, 50.0])
    assert (agent.act(np.zeros((4, 2), np.float32), deterministic=True) == 1).all()


def test_policy_and_value_tables_show_what_the_agent_sees_in_each_state():
    observation = np.array([[0, 0], [1, 0], [0, 3]], dtype=np.float32)
    mask = np.array([[True, True, True], [False, True, False], [True, True, False]])
    model = TabularModel(np.full((3, 3, 3), 1 / 3), np.zeros((3, 3)), observation=observation, action_mask=mask)
    agent = small(DQN, seed=4, normalizer=Normalizer(torch.tensor([1.0, 1.0]), torch.tensor([0.2, 3.0])))
    assert (agent.policy_table(model).argmax(axis=1) == agent.act(observation, mask=mask, deterministic=True)).all()
    assert np.allclose(agent.policy_table(model, deterministic=False), agent.probabilities(observation, mask=mask))
    expected = agent.q_network(agent.normalizer(torch.tensor(observation))).detach().numpy()
    assert np.allclose(agent.q_table(model), expected)


def test_the_mask_of_a_model_gives_no_warning():
    model = TabularModel(np.full((2, 3, 2), 0.5), np.zeros((2, 3)), action_mask=np.ones((2, 3), dtype=bool))
    agent = small(DQN, gym.spaces.Discrete(2))
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            agent.policy_table(model)
    finally:
        torch.set_warn_always(False)


def test_values_of_iql_are_the_lesser_of_its_critics():
    agent = DiscreteIQL(gym.spaces.Discrete(4), ACTIONS, DiscreteIQLConfig(**SMALL), seed=1)
    model = TabularModel(np.full((4, 3, 4), 0.25), np.zeros((4, 3)))
    first, second = (critic(torch.arange(4)).detach().numpy() for critic in agent.critics)
    assert (first < second).any()
    assert (first > second).any()
    assert np.allclose(agent.q_table(model), np.minimum(first, second))
