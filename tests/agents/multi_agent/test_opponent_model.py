"""Opponent models: the exact estimate, forgetting, and the best response to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from ca14lib.agents.multi_agent.opponent_model import (
    BestResponder,
    OpponentModel,
    OpponentModelConfig,
    discounted_cross_entropy,
    regret,
)
from ca14lib.environments.matrix_games import game_payoffs
from ca14lib.solvers.games import best_response

ROCK, PAPER, SCISSORS = range(3)
ACTIONS = [0, 0, 2, 1, 1, 1, 2, 0, 1]


def fits_exactly(make: Callable[..., OpponentModel]) -> bool:
    """The estimate minimises the discounted cross-entropy, by a numerical search over all distributions."""
    for forgetting in (1.0, 0.9, 0.5):
        model = make(1, 3, config=OpponentModelConfig(forgetting=forgetting, prior=0.7))
        for action in ACTIONS:
            model.observe([action])

        def loss(logits: np.ndarray, forgetting: float = forgetting) -> float:
            chances = np.exp(logits - logits.max())
            return discounted_cross_entropy(chances / chances.sum(), ACTIONS, forgetting, 0.7)

        found = minimize(loss, np.zeros(3), tol=1e-12).x
        expected = np.exp(found - found.max()) / np.exp(found - found.max()).sum()
        if not np.allclose(model.probabilities()[0], expected, atol=1e-5):
            return False
    return True


def test_estimate_minimises_the_discounted_cross_entropy() -> None:
    assert fits_exactly(OpponentModel)


def test_planted_no_forgetting_is_noticed() -> None:
    class Elephant(OpponentModel):
        def observe(self, actions: Any, context: int = 0) -> None:
            self.counts[context, np.arange(self.num_opponents), self._checked(actions, context)] += 1.0

    assert not fits_exactly(Elephant)


def test_planted_forgetting_the_newest_too_is_noticed() -> None:
    class Late(OpponentModel):
        def observe(self, actions: Any, context: int = 0) -> None:
            self.counts[context, np.arange(self.num_opponents), self._checked(actions, context)] += 1.0
            self.counts[context] *= self.config.forgetting

    assert not fits_exactly(Late)


def test_planted_a_missing_prior_is_noticed() -> None:
    class Sure(OpponentModel):
        def probabilities(self, context: int = 0) -> np.ndarray:
            weights = self.counts[context] + 1e-12
            return weights / weights.sum(axis=-1, keepdims=True)

    assert not fits_exactly(Sure)


def test_without_observations_every_action_is_equally_likely() -> None:
    assert (OpponentModel(2, 4).probabilities() == 0.25).all()


def test_contexts_and_opponents_are_told_apart() -> None:
    model = OpponentModel(2, 2, contexts=2)
    for _ in range(50):
        model.observe([0, 1], context=0)
        model.observe([1, 1], context=1)
    assert model.probabilities(0).argmax(axis=1).tolist() == [0, 1]
    assert model.probabilities(1).argmax(axis=1).tolist() == [1, 1]
    assert model.cross_entropy([0, 1], 0) < 0.05 < model.cross_entropy([1, 0], 0)
    model.forget()
    assert (model.probabilities(1) == 0.5).all()


def answers_best(make: Callable[..., BestResponder]) -> bool:
    """Against every opponent that always does the same, and for both players: the exact best response to the model."""
    for name in ("rock_paper_scissors", "weighted_rock_paper_scissors", "stag_hunt", "battle_of_the_sexes"):
        payoffs = game_payoffs(name)
        for player in range(2):
            for theirs in range(payoffs.shape[1]):
                agent = make(payoffs, player)
                for _ in range(40):
                    agent.observe([theirs, 0] if player else [0, theirs])
                strategies = [agent.model.probabilities()[0]] * 2
                if agent.act() != best_response(payoffs, strategies, player)[0]:
                    return False
                if agent.act() != int(np.take(payoffs[player], theirs, axis=1 - player).argmax()):
                    return False
    return True


def test_answer_is_the_exact_best_response() -> None:
    assert answers_best(BestResponder)


def test_planted_modelling_itself_is_noticed() -> None:
    class Vain(BestResponder):
        def observe(self, actions: Any) -> None:
            self.model.observe(np.asarray(actions)[[self.player]])

    assert not answers_best(Vain)


def test_planted_the_worst_answer_is_noticed() -> None:
    class Kind(BestResponder):
        def values(self) -> np.ndarray:
            return -super().values()

    assert not answers_best(Kind)


def test_planted_the_payoffs_of_the_other_are_noticed() -> None:
    class Confused(BestResponder):
        def __init__(self, payoffs: Any, player: int) -> None:
            super().__init__(np.asarray(payoffs)[::-1], player)

    assert not answers_best(Confused)


def test_three_players_are_modelled_apart() -> None:
    payoffs = np.zeros((3, 2, 2, 2))
    payoffs[1, 1, :, 0] = [0.0, 1.0]  # the second player: 1 for action 1 if the first does 1 and the third 0
    payoffs[1, :, 0] = 0.5
    agent = BestResponder(payoffs, 1)
    for _ in range(50):
        agent.observe([1, 0, 0])
    assert agent.act() == 1
    for _ in range(500):
        agent.observe([1, 0, 1])
    assert agent.act() == 0


def mean_regret(forgetting: float, seed: int, rounds: int = 600) -> float:
    """After an opponent that mostly plays rock has turned to paper."""
    payoffs = game_payoffs("rock_paper_scissors")
    draws = np.random.default_rng(seed)
    agent = BestResponder(payoffs, 0, OpponentModelConfig(forgetting=forgetting), seed=seed)
    total = 0.0
    for step in range(2 * rounds):
        theirs = np.array([0.8, 0.1, 0.1]) if step < rounds else np.array([0.1, 0.8, 0.1])
        action = agent.act()
        if step >= rounds:
            total += regret(payoffs, [np.ones(3) / 3, theirs], 0, action)
        agent.observe([action, draws.choice(3, p=theirs)])
    return total / rounds


def test_forgetting_follows_an_opponent_that_changes() -> None:
    faithful, forgetful = ([mean_regret(value, seed) for seed in range(3)] for value in (1.0, 0.95))
    assert max(forgetful) < 0.1 < min(faithful)


def test_regret_is_what_the_best_answer_would_have_paid_more() -> None:
    payoffs = game_payoffs("rock_paper_scissors")
    rock = [np.ones(3) / 3, np.array([1.0, 0.0, 0.0])]
    assert [regret(payoffs, rock, 0, action) for action in range(3)] == [1.0, 0.0, 2.0]


def test_ties_are_broken_at_random_and_exploration_covers_all_actions() -> None:
    agent = BestResponder(game_payoffs("rock_paper_scissors"))
    assert {agent.act() for _ in range(60)} == {ROCK, PAPER, SCISSORS}
    explorer = BestResponder(game_payoffs("rock_paper_scissors"), exploration=0.5)
    for _ in range(20):
        explorer.observe([ROCK, ROCK])
    answers = [explorer.act() for _ in range(400)]
    assert 0.55 < np.mean(np.array(answers) == PAPER) < 0.78
    assert set(answers) == {ROCK, PAPER, SCISSORS}


@pytest.mark.parametrize("settings", [{"forgetting": 0.0}, {"forgetting": 1.1}, {"prior": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OpponentModelConfig(**settings)


@pytest.mark.parametrize("actions", [[0, 1], [3], [-1], [0.5]])
def test_actions_that_are_none_are_refused(actions: list) -> None:
    with pytest.raises(ValueError, match="actions must"):
        OpponentModel(1, 3).observe(actions)


def test_players_and_games_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="player"):
        BestResponder(game_payoffs("chicken"), 2)
    with pytest.raises(ValueError, match="same number of actions"):
        BestResponder(np.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match="num_actions"):
        OpponentModel(1, 0)
    with pytest.raises(ValueError, match="context"):
        OpponentModel(1, 2).observe([0], context=1)
