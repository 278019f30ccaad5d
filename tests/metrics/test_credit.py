import itertools

import numpy as np
import pytest

from ca14lib.environments import MatrixGame, multi_agent_environment
from ca14lib.metrics import credit as credit_module
from ca14lib.metrics.credit import (
    DifferenceRewards,
    counterfactual_signal,
    credit,
    difference_signal,
    game_difference_rewards,
    gradient_moments,
    joint_probabilities,
    own_critic_signal,
)


def random_team(agents=3, actions=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(actions,) * agents), rng.dirichlet(np.ones(actions), size=agents)


def sum_game(agents):
    """The team receives the sum of actions −1 and 1."""
    return (2 * np.indices((2,) * agents) - 1).sum(axis=0).astype(float)


def copied(team):
    return np.broadcast_to(team, (team.ndim, *team.shape))


def signals_by_loops():
    """Every table against its definition, one joint action at a time."""
    team, policies = random_team()
    differences, baseline = difference_signal(team, [2, 0, 1]), counterfactual_signal(team, policies)
    own = own_critic_signal(team, policies)
    chance = joint_probabilities(policies)
    for joint in itertools.product(range(3), repeat=3):
        assert chance[joint] == pytest.approx(np.prod([policies[i, joint[i]] for i in range(3)]))
        for i in range(3):

            def replaced(action, joint=joint, i=i):
                return team[(*joint[:i], action, *joint[i + 1 :])]

            assert differences[(i, *joint)] == pytest.approx(team[joint] - replaced([2, 0, 1][i]))
            mean = sum(policies[i, a] * replaced(a) for a in range(3))
            assert baseline[(i, *joint)] == pytest.approx(team[joint] - mean)
            others = [j for j in range(3) if j != i]
            worth = 0.0
            for actions in itertools.product(range(3), repeat=2):
                whole = list(joint)
                for j, action in zip(others, actions):
                    whole[j] = action
                worth += team[tuple(whole)] * np.prod([policies[j, a] for j, a in zip(others, actions)])
            assert own[(i, *joint)] == pytest.approx(worth)


def moments_agree_with_draws():
    team, policies = random_team(seed=1)
    policies = 0.5 * policies + 0.5 / 3  # no rare action, whose draws would decide about the variance
    signal = difference_signal(team)
    exact = gradient_moments(signal, policies)
    rng, number = np.random.default_rng(0), 200_000
    actions = np.stack([rng.choice(3, size=number, p=row) for row in policies])
    for i in range(3):
        score = np.eye(3)[actions[i]] - policies[i]
        drawn = score * signal[i][tuple(actions)][:, None]
        error = drawn.std(axis=0) / np.sqrt(number)
        assert (abs(drawn.mean(axis=0) - exact.mean[i]) < 5 * error).all()
        assert exact.variance[i] == pytest.approx(drawn.var(axis=0).sum(), rel=0.02)


def unbiased_signals_share_the_gradient_of_the_payoff():
    team, policies = random_team(seed=2)
    logits = np.log(policies)

    def payoff(at):
        rows = np.exp(at) / np.exp(at).sum(axis=1, keepdims=True)
        return (joint_probabilities(rows) * team).sum()

    step = 1e-5
    truth = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        move = np.zeros_like(logits)
        move[index] = step
        truth[index] = (payoff(logits + move) - payoff(logits - move)) / (2 * step)
    for signal in (
        copied(team), difference_signal(team, 1), counterfactual_signal(team, policies),
        own_critic_signal(team, policies),
    ):  # fmt: skip
        np.testing.assert_allclose(gradient_moments(signal, policies).mean, truth, atol=1e-8)
    old = np.full_like(policies, 1 / 3)
    assert abs(gradient_moments(own_critic_signal(team, old), policies).mean - truth).max() > 0.01


PROPERTIES = (signals_by_loops, moments_agree_with_draws, unbiased_signals_share_the_gradient_of_the_payoff)


@pytest.mark.parametrize("holds", PROPERTIES)
def test_property(holds):
    holds()


@pytest.mark.parametrize("fault", ["own action in the baseline", "others' defaults", "second moment for variance"])
def test_planted_faults_are_noticed(fault, monkeypatch):
    if fault == "own action in the baseline":
        monkeypatch.setitem(globals(), "counterfactual_signal", lambda team, policies: half_own(team))
        noticed_by = unbiased_signals_share_the_gradient_of_the_payoff
    elif fault == "others' defaults":
        monkeypatch.setitem(globals(), "difference_signal", lambda team, default=0: credit_module.difference_signal(
            np.asarray(team), np.roll(np.broadcast_to(default, team.ndim), 1)))  # fmt: skip
        noticed_by = signals_by_loops
    else:
        exact = gradient_moments

        def second_moment(signal, policies):
            mean, variance = exact(signal, policies)
            return credit_module.GradientMoments(mean, variance + (mean**2).sum(axis=1))

        monkeypatch.setitem(globals(), "gradient_moments", second_moment)
        noticed_by = moments_agree_with_draws
    with pytest.raises(AssertionError):
        noticed_by()


def half_own(team):
    """A baseline that keeps a part of the own action's payoff."""
    return np.stack([0.5 * team - 0.5 * team.mean(axis=axis, keepdims=True) for axis in range(team.ndim)])


@pytest.mark.parametrize("agents", [2, 5, 9])
def test_the_sum_game_has_the_variances_of_the_book(agents):
    """(n − 1) / 4 for each of the two logits with the team's reward, nothing with a counterfactual baseline."""
    team, even = sum_game(agents), np.full((agents, 2), 0.5)
    np.testing.assert_allclose(gradient_moments(copied(team), even).variance / 2, (agents - 1) / 4)
    np.testing.assert_allclose(gradient_moments(counterfactual_signal(team, even), even).variance, 0, atol=1e-12)


def test_difference_rewards_are_aligned_and_more_sensitive_than_the_teams():
    team = sum_game(6)
    shared, differences = credit(copied(team), team), credit(difference_signal(team), team)
    assert (shared.aligned == 1).all()
    assert (differences.aligned == 1).all()
    assert (differences.sensitive == np.inf).all()  # the others' actions have no influence at all
    assert (shared.sensitive < 1.5).all()
    selfish = np.stack([-team, *copied(team)[1:]])
    assert credit(selfish, team).aligned.tolist() == [0, 1, 1, 1, 1, 1]


def test_difference_rewards_of_games_are_those_of_their_tables():
    team = random_team(seed=3)[0]
    game = MatrixGame(64, payoffs=np.stack([team / 3] * 3))
    game.reset(seed=0)
    action = np.random.default_rng(0).integers(3, size=(64, 3))
    found = game_difference_rewards(game, action, 1)
    expected = difference_signal(team, 1)[:, action[:, 0], action[:, 1], action[:, 2]].T
    np.testing.assert_allclose(found, expected)


def test_on_target_grid_the_collector_gets_the_credit_and_the_game_stands_where_it_was():
    game = multi_agent_environment("TargetGrid", 1, size=4, num_agents=2, num_targets=2)
    game.reset(seed=0, options={"agents": [[0, 0], [3, 3]], "targets": [[1, 0], [0, 3]]})
    right, stay = 4, 0
    before = game.agent_cells.copy()
    credits = game_difference_rewards(game, np.array([[right, stay]]))
    np.testing.assert_allclose(credits, [[12.0, 0.0]])  # 10 and the team's bonus of 2, nothing for who stays
    assert (game.agent_cells == before).all()


def test_a_game_with_difference_rewards_is_otherwise_the_same_game():
    plain = multi_agent_environment("TargetGrid", 8, size=4, num_agents=2, num_targets=2, time_limit=7)
    shaped = DifferenceRewards(plain.spawn(8))
    (seen, info), (shown, shown_info) = plain.reset(seed=5), shaped.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_array_equal(seen, shown)
        np.testing.assert_array_equal(info["state"], shown_info["state"])
        action = rng.integers(5, size=(8, 2))
        expected = game_difference_rewards(plain, action)
        seen, _, terminated, truncated, info = plain.step(action)
        shown, reward, over, cut, shown_info = shaped.step(action)
        np.testing.assert_allclose(reward, expected)
        np.testing.assert_array_equal(terminated, over)
        np.testing.assert_array_equal(truncated, cut)


def test_bad_input_is_refused():
    team, policies = random_team()
    for call, message in (
        (lambda: difference_signal(team, 3), "default"), (lambda: gradient_moments(team, policies), "signal must have"),
        (lambda: gradient_moments(copied(team), policies * 2), "distributions"), (lambda: credit(team, team), "signal"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
