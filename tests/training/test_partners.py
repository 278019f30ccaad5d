"""Training for strangers: the pool that stays as it is, tables read off teams, and what relabelling forbids."""

from dataclasses import replace

import numpy as np
import pytest

import ca14lib.training.partners as module
import tests.environments.test_lever_game as labels
from ca14lib.agents.multi_agent.ippo import IPPOConfig
from ca14lib.environments.lever_game import LeverGame
from ca14lib.environments.matrix_games import MatrixGame
from ca14lib.solvers.partners import cross_play, other_play_value
from ca14lib.training.partners import (
    PartnerPool,
    PartnersConfig,
    co_play_team,
    new_team,
    partner_population,
    policy_tables,
    self_play_team,
    shorter,
)

TINY = PartnersConfig(updates=2, num_envs=8, population=2, stages=2)
ONE_ROUND = replace(
    TINY, levers=(1.0, 1.0, 1.0), horizon=1, updates=40, num_envs=64, team=replace(TINY.team, learning_rate=1e-2)
)


def tables(team, config: PartnersConfig) -> np.ndarray:
    return policy_tables(team, LeverGame(1, **config.arguments))


def test_a_pool_of_partners_takes_in_who_is_met_and_not_who_learns():
    pool = PartnerPool(1, seed=0)
    pool.add(new_team(TINY, 0))
    assert len(pool) == 0
    pool.meet(new_team(TINY, 0))
    assert len(pool) == 1
    with pytest.raises(ValueError, match="holds its 1 partners already"):
        pool.meet(new_team(TINY, 1))


def test_a_population_keeps_every_team_at_every_stage_and_co_play_leaves_it_alone():
    pool = partner_population(TINY, 0)
    assert len(pool) == TINY.population * TINY.stages
    before = [{name: value.clone() for name, value in member.items()} for member in pool.members]
    name = next(name for name in before[0] if name.startswith("policy") and name.endswith("weight"))
    assert not (before[0][name] == before[1][name]).all(), "stages differ"
    assert not (before[0][name] == before[2][name]).all(), "teams differ"
    co_play_team(TINY, 0, pool)
    assert all((old[key] == new[key]).all() for old, new in zip(before, pool.members, strict=True) for key in old)


def test_tables_are_what_the_team_would_do():
    team = new_team(TINY, 3)
    game = LeverGame(2, **TINY.arguments)
    table = policy_tables(team, game)
    seen, _ = game.reset(seed=0)
    np.testing.assert_allclose(team.probabilities(seen)[0], table[:, 0, 0], atol=1e-6)
    seen, *_ = game.step(np.array([[2, 1], [0, 3]]))
    for copy, (first, second) in enumerate(((2, 1), (0, 3))):
        expected = [table[0, 1, 1 + first * 4 + second], table[1, 1, 1 + second * 4 + first]]
        np.testing.assert_allclose(team.probabilities(seen)[copy], expected, atol=1e-6)
    np.testing.assert_allclose(table.sum(axis=-1), 1.0)


def test_under_other_names_there_is_no_convention_to_learn():
    """Three levers that pay the same, one pull: self-play settles on one, Other-Play has no reason to."""
    alone, others = (self_play_team(ONE_ROUND, 1, relabelled=relabelled) for relabelled in (False, True))
    first, second = tables(alone, ONE_ROUND), tables(others, ONE_ROUND)
    assert cross_play(np.eye(3), *first) > 0.95
    assert other_play_value(np.eye(3), *first) == pytest.approx(1 / 3)
    assert second[:, 0, 0].max() < 0.8


@pytest.mark.verify
@pytest.mark.parametrize("seed", [0, 1])
def test_other_play_earns_with_renamed_partners_what_self_play_cannot(seed):
    """The optimum under other names is 0.9 a round; a convention is worth a third of a round."""
    config = PartnersConfig()
    payoff, rounds = np.diag(config.levers), config.horizon
    alone, others = (self_play_team(config, seed, relabelled=relabelled) for relabelled in (False, True))
    assert cross_play(payoff, *tables(alone, config)) > 0.85 * rounds
    assert other_play_value(payoff, *tables(others, config)) > 0.75 * rounds


def test_settings_and_games_that_make_no_sense_are_refused():
    for fields, message in (
        ({"population": 0}, "population must be a positive integer"),
        ({"stages": 1}, "stages must be from 2 to updates"),
        ({"team": IPPOConfig()}, "team_reward=False"),
    ):
        with pytest.raises(ValueError, match=message):
            PartnersConfig(**fields)
    with pytest.raises(ValueError, match="the pool is empty"):
        co_play_team(TINY, 0, PartnerPool(1))
    with pytest.raises(ValueError, match="two players and one round of memory, got 2 and 0"):
        policy_tables(new_team(TINY, 0), MatrixGame(1, memory=0))
    assert shorter(TINY, 5).updates == 5


# planted faults


def test_planted_faults_are_noticed(monkeypatch):
    with monkeypatch.context() as patch:  # the learner joins its partners
        patch.setattr(PartnerPool, "add", module.OpponentPool.add)
        with pytest.raises(AssertionError):
            test_a_pool_of_partners_takes_in_who_is_met_and_not_who_learns()
    with monkeypatch.context() as patch:  # only finished partners
        healthy = module.play_itself
        patch.setattr(module, "play_itself", lambda team, config, updates, seed, **k: healthy(team, config, 1, 0, **k))
        patch.setattr(PartnerPool, "meet", lambda self, agent: module.OpponentPool.add(self, new_team(TINY, 0)))
        with pytest.raises(AssertionError):
            test_a_population_keeps_every_team_at_every_stage_and_co_play_leaves_it_alone()
    with monkeypatch.context() as patch:  # the second player's labels are what it does, but not what it sees
        patch.setattr(LeverGame, "_observe", super(LeverGame, LeverGame)._observe)
        with pytest.raises(AssertionError):
            labels.test_the_second_player_sees_its_own_labels_and_the_first_the_true_ones()
