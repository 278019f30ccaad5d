"""The attacks' part of the experiment: what it compares, that it repeats, and that its tables say what is said."""

import numpy as np
import pytest
import torch

from ca14lib.evaluation.attacks import AttackSuite
from ca14lib.experiments.robust.attacks import (
    ATTACKED_AGENTS,
    TASK,
    attacked_agent,
    attacks_part,
    attacks_run,
    evaluation_starts,
    trained_agent,
)
from ca14lib.training.sweep import sweep

TINY = {"steps": 256, "epsilons": (0.05,), "episodes": 2, "adversary_steps": 256, "cap": 16}


def test_all_agents_start_from_the_same_network_on_the_same_units():
    agents = [attacked_agent(name, 3) for name in ATTACKED_AGENTS]
    for other in agents[1:]:
        for first, second in zip(agents[0].policy.parameters(), other.policy.parameters(), strict=True):
            assert torch.equal(first, second)
        assert torch.equal(agents[0].normalizer.scale, other.normalizer.scale)


def test_unknown_agent_is_refused():
    with pytest.raises(ValueError, match="agent must be one of PPO"):
        attacked_agent("TRPO", 0)


@pytest.mark.parametrize("name", ["PPO (attacked)", "ATLA", "AdversarialPPO (PGD)"])
def test_training_repeats_with_its_seed_and_leaves_the_normalizer(name):
    first, again, other = (trained_agent(name, seed, 4_096) for seed in (3, 3, 4))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    different = [torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)]
    assert all(same)
    assert not any(different[:1])
    assert torch.equal(first.normalizer.scale, attacked_agent(name, 3).normalizer.scale)


def test_starts_are_those_of_the_suite():
    suite = AttackSuite(TASK, 0.1, episodes=3, seed=5)
    seen = []

    class Watcher:
        observation_space = suite.evaluation._vector.single_observation_space
        action_space = suite.evaluation._vector.single_action_space

        def act(self, observation, *, deterministic=False):
            seen.append(observation)
            return np.zeros(len(observation), np.int64)

    suite.returns(Watcher())
    np.testing.assert_allclose(seen[0], evaluation_starts(3, 5), atol=1e-7)


def test_run_reports_every_attack_and_a_bound_under_all_of_them():
    (row,) = attacks_run("PPO", 0, **TINY)
    attacks = ["none", "random", "fgsm", "pgd", "critic", "mad", "target_0", "target_1", "learned"]
    assert row["worst"] == min(row[name] for name in attacks)
    assert row["certified"] <= row["worst"]
    assert row["certified_over"] == 0
    assert row["kept"] == row["worst"] / row["none"]


@pytest.mark.slow
def test_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, {"agent": ["PPO"]} | {k: [v] for k, v in TINY.items()}, seeds=2, jobs=1,
                     progress=False)  # fmt: skip

    tables = attacks_part(sweeps, True)
    assert list(tables) == ["robust_attacks", "robust_attacks_runs"]
    assert tables["robust_attacks"]["agent"].tolist() == ["PPO"]
    assert (tables["robust_attacks"]["certified_over"] == 0).all()
