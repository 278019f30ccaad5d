import itertools

import numpy as np
import pandas as pd
import pytest

from ca14lib.environments.matrix_games import team_game
from ca14lib.experiments.multi_agent import credit
from ca14lib.metrics.credit import joint_probabilities


def expected_payoffs_by_enumeration():
    rng = np.random.default_rng(0)
    for agents in (2, 5):
        lifting = rng.random(agents)
        chance = joint_probabilities(np.column_stack([1 - lifting, lifting]))
        exact = (chance * credit.lifting_table(agents)).sum()
        assert credit.lifting_payoff(lifting) == pytest.approx(exact)
        assert credit.lifting_table(agents).max() == pytest.approx(credit.lifting_optimum(agents))


def drawn_signals_are_those_of_the_tables():
    rng, agents = np.random.default_rng(1), 4
    lifting = rng.random(agents)
    lifts = rng.integers(2, size=(20, agents))
    policies = np.column_stack([1 - lifting, lifting])
    for name in credit.REINFORCE:
        table = credit.signal_table(name, agents, policies)
        expected = table[:, lifts[:, 0], lifts[:, 1], lifts[:, 2], lifts[:, 3]].T
        np.testing.assert_allclose(credit.drawn_signals(name, lifts.astype(float), lifting), expected)


@pytest.mark.parametrize("holds", [expected_payoffs_by_enumeration, drawn_signals_are_those_of_the_tables])
def test_property(holds):
    holds()


def test_faults_are_noticed(monkeypatch):
    healthy = credit.lifting_payoff
    monkeypatch.setattr(credit, "lifting_payoff", lambda lifting: healthy(lifting) + 0.1 * (lifting**2).sum(axis=-1))
    credit.lifting_table.cache_clear()
    with pytest.raises(AssertionError):
        expected_payoffs_by_enumeration()
    credit.lifting_table.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(credit, "ALONE", -0.4)  # tables of another game than the draws
    credit.lifting_table(4)
    monkeypatch.setattr(credit, "ALONE", -0.5)
    with pytest.raises(AssertionError):
        drawn_signals_are_those_of_the_tables()
    credit.lifting_table.cache_clear()


def test_all_estimators_of_current_policies_are_unbiased_and_old_experience_is_not():
    table = credit.estimator_table((2, 4, 8)).set_index(["estimator", "agents", "lifting"])
    old = table["bias"]["own critic, old experience"]
    assert all((table["bias"][name] == 0).all() for name in credit.SIGNALS[:-1])
    assert (old[:, 0.8] < -0.05).all()  # the others have changed since
    assert (old[:, 0.5] == 0).all()  # and here they have not
    variance = table["variance"]
    assert (variance["team reward"][:, 0.8].diff().dropna() > 0).all()  # grows with the team
    assert (variance["difference reward"][:, 0.8].diff().dropna() < 0).all()


def test_the_game_is_one_for_the_teams_of_the_library():
    payoffs = team_game(credit.lifting_table(3))
    assert payoffs.sum(axis=0)[1, 1, 1] == pytest.approx(credit.lifting_optimum(3))
    assert payoffs.sum(axis=0)[1, 0, 0] == pytest.approx(credit.ALONE)


def test_learners_repeat_and_differ_by_seed():
    first, again, other = (credit.reinforce("team reward", 4, seed, updates=5) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert credit.critic_share(True, 2, 0, updates=2) == credit.critic_share(True, 2, 0, updates=2)


def in_this_process(function, grid):
    points = [
        dict(zip(grid, values)) | {"seed": seed} for values in itertools.product(*grid.values()) for seed in (0, 1)
    ]
    return pd.DataFrame([point | function(**point) | {"error": ""} for point in points])


def test_the_part_makes_its_tables(monkeypatch):
    monkeypatch.setattr(credit, "AGENTS", (2, 3))
    monkeypatch.setattr(credit, "UPDATES", 5)
    monkeypatch.setattr(credit, "CRITIC_UPDATES", 2)
    tables = credit.credit_part(in_this_process, True)
    assert set(tables) == {"multi_agent_credit", "multi_agent_credit_learning"}
    assert {"estimator", "agents", "variance", "bias"} <= set(tables["multi_agent_credit"])
    learning = tables["multi_agent_credit_learning"]
    assert len(learning) == 2 * (len(credit.REINFORCE) + len(credit.CRITICS))
    assert learning["share_iqm"].between(-2, 1).all()
