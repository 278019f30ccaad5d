"""Cross-play, best responses and the stranger's optimum against closed forms, and against the game itself."""

import numpy as np
import pytest

import ca14lib.solvers.partners as module
from ca14lib.environments.lever_game import LeverGame
from ca14lib.solvers import policy_return
from ca14lib.solvers.partners import (
    best_partner_return,
    cross_play,
    imitator,
    other_play_value,
    partner_model,
    renamed,
    stranger_optimum,
    stubborn,
    symmetries,
    win_stay,
)

PAYOFF = np.diag([1.0, 1.0, 1.0, 0.9])
UNIFORM = np.full(4, 0.25)
ROUNDS = 5


def some_table(seed: int = 0, rounds: int = ROUNDS, actions: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(actions), size=(rounds, 1 + actions**2))


def test_symmetries_permute_what_pays_the_same():
    found = symmetries(PAYOFF)
    assert len(found) == 6
    assert (found[:, 3] == 3).all()
    assert len(symmetries(np.eye(3))) == 6
    assert len(symmetries(np.diag([1.0, 2.0]))) == 1


def test_renaming_both_players_alike_changes_nothing_and_names_compose():
    first, second, names = some_table(0), some_table(1), symmetries(PAYOFF)[3]
    together = cross_play(PAYOFF, renamed(first, names), renamed(second, names))
    assert together == pytest.approx(cross_play(PAYOFF, first, second))
    np.testing.assert_allclose(renamed(renamed(first, names), np.argsort(names)), first)


def test_cross_play_of_stubborn_players_is_all_or_nothing():
    for lever, pay in enumerate([1.0, 1.0, 1.0, 0.9]):
        mine = stubborn(lever, 4, ROUNDS)
        assert cross_play(PAYOFF, mine, mine) == pytest.approx(ROUNDS * pay)
        assert cross_play(PAYOFF, mine, stubborn((lever + 1) % 4, 4, ROUNDS)) == 0.0
    assert cross_play(PAYOFF, some_table(0), some_table(1)) == pytest.approx(
        cross_play(PAYOFF, some_table(1), some_table(0))
    )


def test_an_imitator_follows_from_the_second_round_on_and_two_of_them_swap_for_ever():
    copycat = imitator(UNIFORM, ROUNDS)
    assert cross_play(PAYOFF, copycat, stubborn(0, 4, ROUNDS)) == pytest.approx(0.25 + ROUNDS - 1)
    # a match in the first round lasts, a mismatch too
    assert cross_play(PAYOFF, copycat, copycat) == pytest.approx(ROUNDS * (3 * 1.0 + 0.9) / 16)


def test_who_stays_after_a_win_keeps_it():
    """Two who draw again until they match: in round t they match with probability 1 − (3/4)^t."""
    player = win_stay(UNIFORM, ROUNDS)
    matched = [1 - 0.75 ** (t + 1) for t in range(ROUNDS)]
    assert cross_play(PAYOFF, player, player) == pytest.approx(sum(matched) * (3 + 0.9) / 4)


def test_under_other_names_a_convention_is_a_guess_and_the_odd_lever_is_not():
    assert other_play_value(PAYOFF, stubborn(0, 4, ROUNDS)) == pytest.approx(ROUNDS / 3)
    assert other_play_value(PAYOFF, stubborn(3, 4, ROUNDS)) == pytest.approx(0.9 * ROUNDS)


def test_the_best_response_is_at_least_every_answer_and_exact_where_it_is_known():
    assert best_partner_return(PAYOFF, stubborn(3, 4, ROUNDS)) == pytest.approx(0.9 * ROUNDS)
    # an imitator with a random opening is led from the second round on
    assert best_partner_return(PAYOFF, imitator(UNIFORM, ROUNDS)) == pytest.approx(0.25 + ROUNDS - 1)
    partner = some_table(2)
    best = best_partner_return(PAYOFF, partner)
    assert all(cross_play(PAYOFF, some_table(seed), partner) < best for seed in range(5))


def test_the_model_of_a_partner_gives_what_cross_play_gives():
    mine, partner = some_table(3), some_table(4)
    model = partner_model(PAYOFF, partner)
    policy = np.vstack([mine.reshape(-1, 4), UNIFORM[None]])
    assert policy_return(model, policy) == pytest.approx(cross_play(PAYOFF, mine, partner))


def test_a_stranger_loses_the_first_round_only_against_stubborn_partners():
    """Whatever is tried first is right with one partner in four; then it is seen what the other pulled."""
    partners = [stubborn(lever, 4, ROUNDS) for lever in range(4)]
    expected = (ROUNDS * 1.0 + (ROUNDS - 1) * (1.0 + 1.0 + 0.9)) / 4
    assert stranger_optimum(PAYOFF, partners) == pytest.approx(expected)
    informed = np.mean([best_partner_return(PAYOFF, partner) for partner in partners])
    assert stranger_optimum(PAYOFF, partners) < informed
    assert stranger_optimum(PAYOFF, partners[:1]) == pytest.approx(ROUNDS)
    assert stranger_optimum(PAYOFF, partners, [0.0 + 1e-9, 1 - 3e-9, 1e-9, 1e-9]) == pytest.approx(ROUNDS, abs=1e-6)


def test_the_game_pays_what_the_tables_say():
    copies, draws = 4_000, np.random.default_rng(0)
    game = LeverGame(copies, horizon=3)
    first, second = some_table(5, 3), some_table(6, 3)
    game.reset(seed=0)
    total, views = np.zeros(copies), np.zeros((2, copies), dtype=int)
    for step in range(3):
        action = np.column_stack([
            (table[step, views[seat]].cumsum(axis=1) > draws.random((copies, 1))).argmax(axis=1)
            for seat, table in enumerate((first, second))
        ])  # fmt: skip
        _, reward, *_ = game.step(action)
        total += reward.sum(axis=1)
        views = np.stack([1 + action[:, 0] * 4 + action[:, 1], 1 + action[:, 1] * 4 + action[:, 0]])
    assert total.mean() == pytest.approx(cross_play(PAYOFF, first, second), abs=4 * total.std() / copies**0.5)


def test_what_is_no_game_and_no_table_is_refused():
    with pytest.raises(ValueError, match="finite and symmetric"):
        cross_play([[1.0, 2.0], [0.0, 1.0]], some_table(), some_table())
    with pytest.raises(ValueError, match=r"a table must be \[H, 17, 4\], got shape \(5, 4\)"):
        cross_play(PAYOFF, np.ones((5, 4)) / 4, some_table())
    with pytest.raises(ValueError, match="rows of a table must be distributions"):
        cross_play(PAYOFF, 2 * some_table(), some_table())
    with pytest.raises(ValueError, match="the same number of rounds, got 5 and 3"):
        cross_play(PAYOFF, some_table(), some_table(rounds=3))
    with pytest.raises(ValueError, match="names must be a permutation of 0…3"):
        renamed(some_table(), [0, 0, 1, 2])
    with pytest.raises(ValueError, match="at most 8 actions, got 9"):
        symmetries(np.eye(9))


# planted faults


def unmirrored(payoff, partner):
    """The partner sees my view instead of its own."""
    count = len(np.asarray(payoff))
    swapped = np.asarray(partner, dtype=float).copy()
    inner = swapped[:, 1:].reshape(len(swapped), count, count, count)
    swapped[:, 1:] = inner.swapaxes(1, 2).reshape(len(swapped), count * count, count)
    return HEALTHY_MODEL(payoff, swapped)


def names_without_views(table, names):
    """Actions are renamed, what is seen of them is not."""
    policy, result = np.asarray(table, dtype=float), np.empty_like(np.asarray(table, dtype=float))
    result[..., np.asarray(names)] = policy
    return result


HEALTHY_MODEL = partner_model


def test_planted_faults_are_noticed(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "partner_model", unmirrored)
        assert module.best_partner_return(PAYOFF, imitator(UNIFORM, ROUNDS)) != pytest.approx(0.25 + ROUNDS - 1)
    with monkeypatch.context() as patch:  # without symmetries Other-Play is self-play
        patch.setattr(module, "symmetries", lambda payoff: np.array([[0, 1, 2, 3]]))
        assert module.other_play_value(PAYOFF, stubborn(0, 4, ROUNDS)) != pytest.approx(ROUNDS / 3)
    first, second, names = some_table(0), some_table(1), symmetries(PAYOFF)[3]
    wrong = cross_play(PAYOFF, names_without_views(first, names), names_without_views(second, names))
    assert wrong != pytest.approx(cross_play(PAYOFF, first, second))
