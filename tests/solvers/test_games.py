"""Game solvers against nashpy, linear programming duality, brute force and closed forms; planted faults are caught."""

import itertools
import warnings
from collections.abc import Callable

import nashpy
import numpy as np
import pytest

from ca14lib.environments import game_payoffs, mixed_motives, team_game, zero_sum_game
from ca14lib.solvers import games
from ca14lib.solvers.games import (
    action_values,
    additive_factorisation,
    best_response,
    cooperation_rate,
    expected_payoffs,
    fictitious_play,
    monotonic_factorisation,
    multiplicative_weights,
    nash_conv,
    nash_conv_path,
    nondominated,
    pure_equilibria,
    replicator_dynamics,
    softmax_policy_gradient,
    support_enumeration,
    team_optimum,
    zero_sum_equilibrium,
)

PENNIES, ROCK = game_payoffs("matching_pennies"), game_payoffs("rock_paper_scissors")
WEIGHTED = game_payoffs("weighted_rock_paper_scissors")


def random_game(seed: int, *sizes: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(sizes), *sizes)), [rng.dirichlet(np.ones(size)) for size in sizes]


def brute_force_nash_conv(payoffs: np.ndarray, strategies: list[np.ndarray]) -> float:
    """By the definition, over all joint actions in plain Python."""

    def value(player: int, mixed: list[np.ndarray]) -> float:
        joint = itertools.product(*(range(len(strategy)) for strategy in mixed))
        return sum(payoffs[(player, *a)] * np.prod([s[i] for s, i in zip(mixed, a)]) for a in joint)

    total = 0.0
    for player, strategy in enumerate(strategies):
        answers = [
            value(player, [*strategies[:player], row, *strategies[player + 1 :]]) for row in np.eye(len(strategy))
        ]
        total += max(answers) - value(player, strategies)
    return total


# NashConv and its pieces


def assert_nash_conv_is_the_definition(function: Callable) -> None:
    for seed, sizes in enumerate([(2, 2), (3, 4), (2, 3, 2), (3, 2, 4), (2, 2, 2, 3)]):
        payoffs, strategies = random_game(seed, *sizes)
        assert function(payoffs, strategies) == pytest.approx(brute_force_nash_conv(payoffs, strategies), abs=1e-12)


def test_nash_conv_is_the_definition_for_any_number_of_players():
    assert_nash_conv_is_the_definition(nash_conv)


def one_player_left_out(payoffs, strategies):
    values = action_values(payoffs, strategies)
    return sum(v.max() - s @ v for v, s in zip(values[1:], strategies[1:]))


def the_mean_over_players(payoffs, strategies):
    return nash_conv(payoffs, strategies) / len(strategies)


def answers_after_the_others_have_answered(payoffs, strategies):
    moved, total = [*strategies], 0.0
    for player, strategy in enumerate(strategies):
        action, value = best_response(payoffs, moved, player)
        total += value - expected_payoffs(payoffs, strategies)[player]
        moved[player] = np.eye(len(strategy))[action]
    return total


def own_strategy_against_itself(payoffs, strategies):
    values = [games.game_tensor(payoffs)[i].mean(axis=tuple(set(range(len(strategies))) - {i}))
              for i in range(len(strategies))]  # fmt: skip
    return sum(v.max() - s @ v for v, s in zip(values, strategies))


@pytest.mark.parametrize("fault", [
    one_player_left_out, the_mean_over_players, answers_after_the_others_have_answered, own_strategy_against_itself,
])  # fmt: skip
def test_planted_faults_of_nash_conv_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_nash_conv_is_the_definition(fault)


def test_nash_conv_is_zero_at_the_known_equilibria_and_positive_elsewhere():
    for payoffs, strategy in ((PENNIES, [0.5, 0.5]), (ROCK, [1 / 3] * 3), (WEIGHTED, [0.25, 0.5, 0.25])):
        assert nash_conv(payoffs, [strategy, strategy]) == pytest.approx(0.0, abs=1e-12)
    assert nash_conv(PENNIES, [[1, 0], [0, 1]]) == 2.0
    assert nash_conv(PENNIES, [[0.6, 0.4], [0.5, 0.5]]) == pytest.approx(0.2)
    defect, cooperate = [0.0, 1.0], [1.0, 0.0]
    dilemma = game_payoffs("prisoners_dilemma")
    assert nash_conv(dilemma, [defect, defect]) == 0.0
    assert nash_conv(dilemma, [cooperate, cooperate]) == 4.0
    for seed in range(20):
        assert nash_conv(*random_game(seed, 3, 3)) > 0


def test_a_matrix_stands_for_its_zero_sum_game():
    _, strategies = random_game(0, 2, 2)
    assert nash_conv(PENNIES[0], strategies) == nash_conv(PENNIES, strategies)


def test_best_response_does_not_depend_on_the_players_own_strategy():
    payoffs, strategies = random_game(3, 3, 2, 4)
    action, value = best_response(payoffs, strategies, 2)
    assert (action, value) == best_response(payoffs, [*strategies[:2], [1, 0, 0, 0]], 2)
    deviation = [*strategies[:2], np.eye(4)[action]]
    assert expected_payoffs(payoffs, deviation)[2] == pytest.approx(value)


def test_nash_conv_does_not_change_when_players_and_actions_are_renumbered():
    payoffs, strategies = random_game(5, 2, 3, 4)
    order, action_order = [2, 0, 1], np.array([3, 1, 0, 2])
    renumbered = payoffs[order].transpose(0, *(1 + player for player in order))[:, action_order]
    moved = [strategies[2][action_order], strategies[0], strategies[1]]
    assert nash_conv(renumbered, moved) == pytest.approx(nash_conv(payoffs, strategies))


# equilibria


def assert_solves_zero_sum_games(solve: Callable) -> None:
    for seed, sizes in enumerate([(2, 2), (3, 3), (2, 5), (5, 3), (6, 6)]):
        payoffs, _ = random_game(seed, *sizes)
        found = solve(payoffs[0])
        row, column = found.strategies
        # weak duality: nobody can guarantee more than the other concedes, so equality proves both optimal
        assert (row @ payoffs[0]).min() == pytest.approx(found.value, abs=1e-9)
        assert (payoffs[0] @ column).max() == pytest.approx(found.value, abs=1e-9)
        assert nash_conv(payoffs[0], found.strategies) == pytest.approx(0.0, abs=1e-9)


def test_zero_sum_equilibrium_meets_its_own_dual():
    assert_solves_zero_sum_games(zero_sum_equilibrium)


def pure_guarantee(matrix):
    matrix = np.asarray(matrix)
    row, column = matrix.min(axis=1).argmax(), matrix.max(axis=0).argmin()
    return games.ZeroSumSolution([np.eye(len(matrix))[row], np.eye(matrix.shape[1])[column]], matrix.min(axis=1).max())


def column_player_maximises_too(matrix):
    matrix = np.asarray(matrix)
    return games.ZeroSumSolution(
        [zero_sum_equilibrium(matrix).strategies[0], zero_sum_equilibrium(matrix.T).strategies[0]],
        zero_sum_equilibrium(matrix).value,
    )


def everything_equally_likely(matrix):
    matrix = np.asarray(matrix)
    rows, columns = matrix.shape
    return games.ZeroSumSolution([np.full(rows, 1 / rows), np.full(columns, 1 / columns)], matrix.mean())


@pytest.mark.parametrize("fault", [pure_guarantee, column_player_maximises_too, everything_equally_likely])
def test_planted_faults_of_the_zero_sum_solver_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_solves_zero_sum_games(fault)


def test_zero_sum_equilibria_of_the_known_games():
    for payoffs, strategy in ((PENNIES, [0.5, 0.5]), (ROCK, [1 / 3] * 3), (WEIGHTED, [0.25, 0.5, 0.25])):
        found = zero_sum_equilibrium(payoffs[0])
        assert found.value == pytest.approx(0.0, abs=1e-9)
        for player in found.strategies:
            assert player == pytest.approx(strategy, abs=1e-9)
    # a game with a value that is not zero, by hand: indifference gives 2/5 and 1/5
    shifted = zero_sum_equilibrium([[2, -1], [-1, 1]])
    assert shifted.value == pytest.approx(0.2)
    assert shifted.strategies[0] == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize("seed, sizes", [(0, (2, 2)), (1, (3, 3)), (2, (3, 2)), (3, (2, 4)), (4, (4, 4)), (5, (3, 4))])
def test_support_enumeration_finds_what_nashpy_finds(seed, sizes):
    payoffs, _ = random_game(seed, *sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = list(nashpy.Game(*payoffs).vertex_enumeration())
    mine = support_enumeration(payoffs)
    assert len(mine) == len(peer)
    assert len(mine) % 2 == 1  # as in every nondegenerate game
    as_set = [{tuple(np.round(np.concatenate(pair), 8) + 0.0) for pair in found} for found in (mine, peer)]
    assert as_set[0] == as_set[1]


def test_support_enumeration_finds_the_mixed_equilibria_of_the_dilemmas():
    stag = support_enumeration(game_payoffs("stag_hunt"))
    assert [pair[0].tolist() for pair in stag] == [[1, 0], [0, 1], pytest.approx([0.75, 0.25])]
    assert support_enumeration(game_payoffs("chicken"))[-1][0] == pytest.approx([0.5, 0.5])
    first, second = support_enumeration(game_payoffs("battle_of_the_sexes"))[-1]
    assert first == pytest.approx([2 / 3, 1 / 3])
    assert second == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("game, expected", [
    ("prisoners_dilemma", [(1, 1)]), ("stag_hunt", [(0, 0), (1, 1)]), ("chicken", [(0, 1), (1, 0)]),
    ("matching_pennies", []), ("rock_paper_scissors", []), ("climbing", [(0, 0), (1, 1)]),
    ("penalty", [(0, 0), (1, 1), (2, 2)]), ("battle_of_the_sexes", [(0, 0), (1, 1)]),
])  # fmt: skip
def test_pure_equilibria_of_the_named_games(game, expected):
    assert pure_equilibria(game_payoffs(game)) == expected


def test_pure_equilibria_are_the_joint_actions_without_nash_conv():
    payoffs, _ = random_game(8, 2, 3, 2)
    payoffs = payoffs.round(1)
    found = [
        joint for joint in itertools.product(range(2), range(3), range(2))
        if nash_conv(payoffs, [np.eye(n)[a] for n, a in zip((2, 3, 2), joint)]) == pytest.approx(0, abs=1e-12)
    ]  # fmt: skip
    assert pure_equilibria(payoffs) == found


# dynamics


def plain_fictitious_play(payoffs: np.ndarray, steps: int, start: list[np.ndarray]) -> list[np.ndarray]:
    """Average play after ``steps`` rounds, from the definition."""
    counts = [np.zeros(size) for size in payoffs.shape[1:]]
    for _ in range(steps):
        beliefs = [(c + b) / (c + b).sum() for c, b in zip(counts, start)]
        answers = [best_response(payoffs, beliefs, player)[0] for player in range(len(payoffs))]
        for count, action in zip(counts, answers):
            count[action] += 1
    return [count / steps for count in counts]


def assert_plays_fictitiously(play: Callable) -> None:
    for seed, sizes in enumerate([(3, 3), (4, 2), (2, 3, 2)]):
        payoffs, start = random_game(seed, *sizes)
        for mine, plain in zip(play(payoffs, 60, start=start).at(-1), plain_fictitious_play(payoffs, 60, start)):
            np.testing.assert_allclose(mine, plain, atol=1e-12)
    for payoffs in (PENNIES, ROCK, WEIGHTED):
        assert nash_conv(payoffs, play(payoffs, 20_000).at(-1)) <= 0.02


def test_fictitious_play_answers_the_average_and_converges_in_zero_sum_games():
    assert_plays_fictitiously(fictitious_play)


def answers_to_the_last_action(payoffs, steps, start=None):
    counts = [np.zeros(size) for size in payoffs.shape[1:]]
    believed = [np.eye(len(c))[0] for c in counts] if start is None else start
    for _ in range(steps):
        answers = [best_response(payoffs, believed, player)[0] for player in range(len(payoffs))]
        believed = [np.eye(len(c))[a] for c, a in zip(counts, answers)]
        counts = [c + b for c, b in zip(counts, believed)]
    return games.Play(np.array([steps]), believed, [c[None] / steps for c in counts])


def answers_to_its_own_average(payoffs, steps, start=None):
    swapped = payoffs[::-1].copy() if len(payoffs) == 2 and payoffs.shape[1] == payoffs.shape[2] else payoffs
    return fictitious_play(swapped, steps, start=start)


def belief_counted_as_play(payoffs, steps, start=None):
    play = fictitious_play(payoffs, steps, start=start)
    first = [np.eye(n)[0] for n in payoffs.shape[1:]] if start is None else start
    return games.Play(play.steps, play.last, [(a * steps + f) / (steps + 1) for a, f in zip(play.average, first)])


def last_instead_of_average(payoffs, steps, start=None):
    play = fictitious_play(payoffs, steps, start=start)
    return games.Play(play.steps, play.last, play.last)


@pytest.mark.parametrize("fault", [
    answers_to_the_last_action, answers_to_its_own_average, belief_counted_as_play, last_instead_of_average,
])  # fmt: skip
def test_planted_faults_of_fictitious_play_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_plays_fictitiously(fault)


def test_average_of_fictitious_play_meets_the_bar_while_its_last_action_does_not():
    for payoffs in (PENNIES, ROCK):
        play = fictitious_play(payoffs, 100_000, record=20)
        assert nash_conv(payoffs, play.at(-1)) <= 0.01
        assert min(nash_conv(payoffs, play.at(record, "last")) for record in range(len(play.steps))) >= 1


def test_fictitious_play_cycles_in_shapleys_game():
    # Shapley (1964): the average goes round a polygon for ever, in longer and longer phases
    first = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    payoffs = np.stack([first, np.roll(first, 1, axis=1)])
    play = fictitious_play(payoffs, 50_000, record=40, start=[[1, 0, 0], [0, 0, 1]])
    late = [nash_conv(payoffs, play.at(record)) for record in range(20, len(play.steps))]
    assert min(late) > 0.1


def assert_follows_multiplicative_weights(dynamic: Callable) -> None:
    payoffs, start = random_game(4, 3, 2)
    play = dynamic(payoffs, 3, rate=0.5, start=start)
    current, total = start, [np.zeros(3), np.zeros(2)]
    for step in range(3):
        for record, strategy in zip(play.at(step, "last"), current):
            np.testing.assert_allclose(record, strategy, atol=1e-12)
        total = [t + c for t, c in zip(total, current)]
        values = [payoffs[0] @ current[1], payoffs[1].T @ current[0]]
        weights = [c * np.exp(0.5 * v / np.ptp(p)) for c, v, p in zip(current, values, payoffs)]
        current = [w / w.sum() for w in weights]
    for record, whole in zip(play.at(2), total):
        np.testing.assert_allclose(record, whole / 3, atol=1e-12)


def test_multiplicative_weights_follow_their_definition():
    assert_follows_multiplicative_weights(multiplicative_weights)


def one_after_the_other(payoffs, steps, *, rate, start):
    """The second player already sees the first one's new strategy."""
    current, rows = [*start], [[], []]
    for _ in range(steps):
        for player in (0, 1):
            rows[player].append(current[player])
        for player in (0, 1):
            value = action_values(payoffs, current)[player]
            weights = current[player] * np.exp(rate * value / np.ptp(payoffs[player]))
            current[player] = weights / weights.sum()
    last = [np.array(row) for row in rows]
    return games.Play(np.arange(1, steps + 1), last, [np.cumsum(x, 0) / np.arange(1, steps + 1)[:, None] for x in last])


def loses_instead_of_wins(payoffs, steps, *, rate, start):
    return multiplicative_weights(-payoffs, steps, rate=rate, start=start)


def forgets_the_range(payoffs, steps, *, rate, start):
    return multiplicative_weights(payoffs, steps, rate=rate * np.ptp(payoffs[0]), start=start)


@pytest.mark.parametrize("fault", [one_after_the_other, loses_instead_of_wins, forgets_the_range])
def test_planted_faults_of_multiplicative_weights_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_follows_multiplicative_weights(fault)


def test_average_of_multiplicative_weights_keeps_the_proved_bound():
    steps = 4_000
    for payoffs in (PENNIES, ROCK, WEIGHTED, zero_sum_game(random_game(6, 4, 3)[0][0])):
        play = multiplicative_weights(payoffs, steps, record=2)
        bound = sum(np.ptp(payoffs[0]) * np.sqrt(2 * np.log(size) / steps) for size in payoffs.shape[1:])
        assert nash_conv(payoffs, play.at(-1)) <= bound


def test_last_strategies_move_away_from_the_equilibrium_and_optimism_brings_them_back():
    start = [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3]]
    plain = multiplicative_weights(ROCK, 2_000, rate=0.2, start=start)
    optimistic = multiplicative_weights(ROCK, 10_000, rate=0.3, optimistic=True, start=start)
    begin = nash_conv(ROCK, start)
    assert nash_conv(ROCK, plain.at(-1, "last")) > 2 * begin
    assert nash_conv(ROCK, optimistic.at(-1, "last")) < 1e-3 * begin


def test_policy_gradient_is_the_gradient_of_the_own_payoff():
    payoffs, start = random_game(2, 3, 2)
    play = softmax_policy_gradient(payoffs, 2, rate=1.0, start=start)

    def payoff(player: int, logits: np.ndarray) -> float:
        mixed = [*start]
        mixed[player] = np.exp(logits) / np.exp(logits).sum()
        return expected_payoffs(payoffs, mixed)[player]

    for player, size in enumerate((3, 2)):
        logits, step = np.log(start[player]), 1e-6
        gradient = np.array([
            (payoff(player, logits + step * row) - payoff(player, logits - step * row)) / (2 * step)
            for row in np.eye(size)
        ])  # fmt: skip
        moved = np.exp(logits + gradient)
        np.testing.assert_allclose(play.at(1, "last")[player], moved / moved.sum(), atol=1e-8)


def test_replicator_dynamics_circle_around_the_equilibrium_at_a_constant_distance():
    start = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]]
    play = replicator_dynamics(ROCK, start, duration=60.0)
    # the sum of the divergences from the equilibrium is conserved in zero-sum games
    distance = sum(-np.log(rows).mean(axis=1) for rows in play.last)
    np.testing.assert_allclose(distance, distance[0], rtol=1e-7)
    nash_convs = [nash_conv(ROCK, play.at(record, "last")) for record in range(len(play.steps))]
    assert min(nash_convs) > 0.1
    assert nash_conv(ROCK, play.at(-1)) < 0.05


def test_records_are_spread_and_hold_the_last_round():
    full, some = (fictitious_play(ROCK, 1_000, record=record) for record in (None, 12))
    assert full.steps.tolist() == list(range(1, 1_001))
    assert some.steps[0] == 1
    assert some.steps[-1] == 1_000
    assert len(some.steps) <= 12
    for record, step in enumerate(some.steps):
        for which in ("average", "last"):
            for mine, whole in zip(some.at(record, which), full.at(step - 1, which)):
                np.testing.assert_array_equal(mine, whole)


def test_path_of_nash_conv_is_that_of_its_records():
    payoffs, start = random_game(7, 3, 4)
    play = multiplicative_weights(payoffs, 30, start=start, record=6)
    for which in ("average", "last"):
        path = nash_conv_path(payoffs, play, which)
        assert path.tolist() == pytest.approx([nash_conv(payoffs, play.at(r, which)) for r in range(len(play.steps))])


# teams


def test_team_optimum_is_the_largest_sum():
    assert team_optimum(game_payoffs("climbing")) == ((0, 0), 11.0)
    assert team_optimum(game_payoffs("prisoners_dilemma")) == ((0, 0), 6.0)
    payoffs, _ = random_game(9, 2, 3, 4)
    joint, value = team_optimum(payoffs)
    assert value == max(payoffs[:, a, b, c].sum() for a in range(2) for b in range(3) for c in range(4))
    assert payoffs[(slice(None), *joint)].sum() == value


def test_additive_factorisation_is_the_least_squares_fit():
    table = np.random.default_rng(0).normal(size=(3, 2, 4))
    rows = [np.concatenate([np.eye(n)[i] for n, i in zip(table.shape, joint)]) for joint in np.ndindex(table.shape)]
    weights = np.linalg.lstsq(np.array(rows), table.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(additive_factorisation(table).values.reshape(-1), np.array(rows) @ weights, atol=1e-10)


def test_sum_of_utilities_settles_for_seven_where_a_monotonic_function_finds_eight():
    risky = [[0, 1], [1, 8]]
    np.testing.assert_allclose(additive_factorisation(risky).values, [[-1.5, 2.5], [2.5, 6.5]])
    assert additive_factorisation(risky).values.max() == 6.5 < 7
    np.testing.assert_allclose(monotonic_factorisation(risky).values, risky, atol=1e-9)


def assert_is_isotonic_fit(fit: Callable) -> None:
    # two actions each: with the orders fixed, the fit is found by trying all blocks of equal values
    for seed in range(6):
        table = np.random.default_rng(seed).normal(size=(2, 2))
        found, best = fit(table), np.inf
        for order in itertools.product([(0, 1), (1, 0)], repeat=2):
            y = table[np.ix_(*order)].reshape(-1)  # least, two in the middle, largest
            for partition in ([[0], [1], [2], [3]], [[0, 1], [2], [3]], [[0, 2], [1], [3]], [[0], [1, 3], [2]],
                              [[0], [2, 3], [1]], [[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 1, 2], [3]],
                              [[0], [1, 2, 3]], [[0, 1, 2, 3]]):  # fmt: skip
                f = np.empty(4)
                for block in partition:
                    f[block] = y[block].mean()
                if f[0] <= min(f[1], f[2]) and max(f[1], f[2]) <= f[3]:
                    best = min(best, ((f - y) ** 2).mean())
        assert found.error == pytest.approx(best, abs=1e-9)
        assert ((found.values - table) ** 2).mean() == pytest.approx(found.error, abs=1e-9)


def test_monotonic_factorisation_is_the_best_over_all_orders():
    assert_is_isotonic_fit(monotonic_factorisation)


def first_order_only(table):
    full, keep = itertools.permutations, games.itertools
    try:
        games.itertools = type("Fixed", (), {"permutations": lambda items: [tuple(items)], "product": keep.product})
        return monotonic_factorisation(table)
    finally:
        games.itertools = keep
        assert itertools.permutations is full


@pytest.mark.parametrize(
    "fault", [additive_factorisation, first_order_only, lambda table: games.Factorisation(table, 0)]
)
def test_planted_faults_of_the_monotonic_fit_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_is_isotonic_fit(fault)


def test_no_monotonic_function_finds_the_best_of_the_climbing_game():
    climbing = game_payoffs("climbing").sum(axis=0)
    assert climbing[additive_factorisation(climbing).joint_action] == 5
    assert climbing[monotonic_factorisation(climbing).joint_action] == 5


def test_team_weight_one_makes_every_game_a_team_game():
    payoffs, strategies = random_game(1, 3, 3)
    common = mixed_motives(payoffs, 1.0)
    np.testing.assert_allclose(common[0], common[1])
    np.testing.assert_allclose(common, team_game(payoffs.sum(axis=0)))
    assert expected_payoffs(common, strategies).sum() == pytest.approx(expected_payoffs(payoffs, strategies).sum())


def test_nondominated_points_are_those_nobody_beats():
    points = [[1, 3], [2, 2], [3, 1], [1, 1], [2, 2], [2, 1]]
    assert nondominated(points).tolist() == [True, True, True, False, True, False]
    random = np.random.default_rng(0).normal(size=(60, 3))
    plain = [not any((other >= own).all() and (other > own).any() for other in random) for own in random]
    assert nondominated(random).tolist() == plain


def test_cooperation_rate_is_the_mean_over_players():
    assert cooperation_rate([[1.0, 0.0], [0.5, 0.5]]) == 0.75


# bad input


@pytest.mark.parametrize("call, message", [
    (lambda: nash_conv(np.zeros((3, 2, 2)), [[1, 0], [1, 0]]), "payoffs must be a matrix or have shape"),
    (lambda: nash_conv([[1, np.nan]], [[1], [1, 0]]), "payoffs must be finite, got nan"),
    (lambda: nash_conv(PENNIES, [[1, 0]]), "strategies must have shapes"),
    (lambda: nash_conv(PENNIES, [[0.5, 0.6], [1, 0]]), "strategy 0 must be a distribution"),
    (lambda: nash_conv(PENNIES, [[1.5, -0.5], [1, 0]]), "strategy 0 must be a distribution"),
    (lambda: nash_conv(PENNIES, [[np.nan, 1], [1, 0]]), "strategy 0 must be a distribution"),
    (lambda: best_response(PENNIES, [[1, 0], [1, 0]], 2), "player must lie in 0…1, got 2"),
    (lambda: zero_sum_equilibrium(PENNIES), "given by its matrix"),
    (lambda: support_enumeration(np.zeros((3, 2, 2, 2))), "two players, got 3"),
    (lambda: fictitious_play(PENNIES, 0), "at least 1"),
    (lambda: multiplicative_weights(PENNIES, 5, rate=0.0), "rate must be positive"),
    (lambda: multiplicative_weights(PENNIES, 5, start=[[1, 0], [1, 0]]), "positive everywhere"),
    (lambda: softmax_policy_gradient(PENNIES, 5, rate=-1.0), "rate must be positive"),
    (lambda: replicator_dynamics(PENNIES, [[1, 0], [1, 0]], duration=0.0), "positive duration"),
    (lambda: fictitious_play(PENNIES, 5).at(-1, "median"), "which must be"),
    (lambda: nash_conv_path(PENNIES, fictitious_play(PENNIES, 5), "best"), "which must be"),
    (lambda: nash_conv_path(np.zeros((3, 2, 2, 2)), fictitious_play(PENNIES, 5)), "two players, got 3"),
    (lambda: additive_factorisation([1.0, 2.0]), "at least two"),
    (lambda: monotonic_factorisation(np.zeros((6, 6))), "at most 5000"),
    (lambda: nondominated([1.0, 2.0]), "points must have shape"),
    (lambda: nondominated([[np.inf, 2.0]]), "points must be finite"),
])  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
