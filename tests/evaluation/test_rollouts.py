"""Evaluation by rollouts: the same starts at every call, other ones than training, and the returns of a hand-run."""

from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from ca14lib.agents import DQN, PPO, SAC, PPOConfig, SACConfig
from ca14lib.agents.offline import BC
from ca14lib.environments.safe_grid import SafeGridVector
from ca14lib.evaluation import RolloutEvaluation
from ca14lib.solvers import policy_costs
from ca14lib.training import train_off_policy
from tests.continuous_probes import Bandit, Trace, TwoMoves

TRACE = "CourseTest/Trace-v0"


def agent_for(cls=BC, config=None, environment=Trace, seed=0):
    config = cls.config_class(hidden_sizes=(8,)) if config is None else config
    return cls(environment.observation_space, environment.action_space, config, seed=seed)


def starts(run):
    """All first observations of episodes that a run of vector environments gives: of resets and of autoresets."""
    seen, healthy = [], (SyncVectorEnv.reset, SyncVectorEnv.step)

    def reset(self, **keywords):
        found = healthy[0](self, **keywords)
        seen.append(found[0].copy())
        return found

    def step(self, actions):
        found = healthy[1](self, actions)
        seen.append(found[0][found[2] | found[3]])
        return found

    with mock.patch.multiple(SyncVectorEnv, reset=reset, step=step):
        run()
    return [{tuple(row) for row in group.tolist()} for group in seen if len(group)]


def test_returns_and_lengths_are_those_of_a_hand_run():
    agent, evaluation = agent_for(), RolloutEvaluation(TRACE, episodes=20, seed=3)
    returns, lengths = evaluation.episodes_of(agent)
    marks = starts(lambda: evaluation.episodes_of(agent))[0]
    assert len(marks) == 20, "the episodes start differently"
    by_hand = []
    for mark, _ in marks:
        environment = Trace()
        environment.reset()
        environment.mark, total, ended = mark, 0.0, False
        while not ended:
            action = agent.act(np.array([[mark, environment.steps]], np.float32), deterministic=True)[0]
            _, reward, terminated, truncated, _ = environment.step(action)
            total, ended = total + reward, terminated or truncated
        by_hand.append((total, environment.steps))
    found = np.array(sorted(zip(returns, lengths, strict=True)))
    assert np.allclose(sorted(by_hand), found, atol=1e-3)
    assert set(lengths) == {3, 4, 5}, "the case needs episodes of all kinds of end"
    found = evaluation(agent)
    assert found == {"return": returns.mean(), "return_std": returns.std(), "length": lengths.mean()}


def test_the_starts_are_the_same_at_every_call_and_follow_the_seed():
    agent = agent_for()
    evaluation = RolloutEvaluation(TRACE, episodes=5, seed=3)
    first, second = (starts(lambda: evaluation(agent))[0] for _ in range(2))
    again = starts(lambda: RolloutEvaluation(TRACE, episodes=5, seed=3)(agent))[0]
    other = starts(lambda: RolloutEvaluation(TRACE, episodes=5, seed=4)(agent))[0]
    assert first == second == again
    assert not first & other
    assert evaluation(agent) == evaluation(agent)
    more = starts(lambda: RolloutEvaluation(TRACE, episodes=9, seed=3)(agent))[0]
    assert first < more, "more episodes add to the same ones"


@pytest.mark.parametrize("seed", [0, 1, 13_999_999])
def test_the_starts_differ_from_those_of_training(seed):
    agent = agent_for(SAC)
    held_out = set().union(*(starts(lambda s=s: RolloutEvaluation(TRACE, 20, seed=s)(agent))[0] for s in range(5)))
    seen = set().union(
        *starts(
            lambda: train_off_policy(
                agent, TRACE, 400, num_envs=2, start_steps=400, seed=seed, log_every=100, checkpoint_every=50,
                progress=False,
            )
        )
    )  # fmt: skip
    assert len(seen) > 50
    assert not held_out & seen


def test_evaluating_changes_nothing_about_a_deterministic_agent():
    agent = agent_for(SAC)
    before = agent.generator.get_state()
    RolloutEvaluation(TRACE, episodes=5)(agent)
    assert (agent.generator.get_state() == before).all()


def test_the_stochastic_policy_is_evaluated_when_asked_for():
    agent = agent_for(SAC, SACConfig(hidden_sizes=(8,)), environment=Bandit)
    deterministic = RolloutEvaluation("CourseTest/Bandit-v0", episodes=4_000)(agent)
    stochastic = RolloutEvaluation("CourseTest/Bandit-v0", episodes=4_000, deterministic=False)(agent)
    assert deterministic["return_std"] == pytest.approx(0, abs=1e-6)
    drawn = agent.act(np.ones((4_000, 1), np.float32))[:, 0]
    assert stochastic["return"] == pytest.approx((1 - (drawn - 0.8) ** 2).mean(), abs=0.15)
    assert stochastic["return_std"] > 0.5


def test_the_mean_of_many_episodes_is_the_exact_expectation():
    agent = agent_for(environment=TwoMoves)
    exact = TwoMoves.exact_return(lambda observation: agent.act(observation, deterministic=True))
    found = RolloutEvaluation("CourseTest/TwoMoves-v0", episodes=2_000)(agent)
    assert abs(found["return"] - exact) < 4 * found["return_std"] / np.sqrt(2_000)
    assert found["length"] == 2


def test_scores_come_with_references():
    agent = agent_for(environment=Bandit)
    evaluation = RolloutEvaluation("CourseTest/Bandit-v0", 3, references=(Bandit.random, Bandit.optimum))
    found = evaluation(agent)
    assert found["score"] == pytest.approx(100 * (found["return"] - Bandit.random) / (1 - Bandit.random))


def test_arguments_reach_the_environment():
    plain, shifted = (
        RolloutEvaluation(TRACE, 5, environment_arguments={"bonus": bonus}).episodes_of(agent_for())
        for bonus in (0.0, 10.0)
    )
    assert shifted[0] - plain[0] == pytest.approx(10 * plain[1], abs=1e-3)


def test_environments_of_the_course_are_evaluated_too():
    made = gym.make("CA14/ProbeValue-v0")
    agent = DQN(made.observation_space, made.action_space, seed=0)
    found = RolloutEvaluation("CA14/ProbeValue-v0", episodes=30)(agent)
    assert found["length"] == 1
    assert abs(found["return"]) < 1
    assert RolloutEvaluation("CA14/ProbeValue-v0", episodes=30)(agent) == found


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="episodes"):
        RolloutEvaluation(TRACE, episodes=0)
    with pytest.raises(ValueError, match="Nowhere"):
        RolloutEvaluation("CourseTest/Nowhere-v0")
    with pytest.raises(ValueError, match="expert"):
        RolloutEvaluation(TRACE, references=(1.0, 0.0))(agent_for())


def test_costs_are_those_of_a_hand_run_and_ended_episodes_pay_no_more():
    """On SafeGrid the exact model knows the mean; episodes end at different times."""
    made = gym.make("CA14/SafeGrid-v0")
    agent = PPO(made.observation_space, made.action_space, PPOConfig(hidden_sizes=(8,)), seed=0)
    evaluation = RolloutEvaluation("CA14/SafeGrid-v0", episodes=3_000, seed=1, deterministic=False)
    found = evaluation(agent)
    model = SafeGridVector(1).tabular_model()
    exact = float(policy_costs(model, agent.policy_table(model, deterministic=False))[0])
    assert abs(found["cost_0"] - exact) < 4 * found["cost_std_0"] / np.sqrt(3_000)
    costs = evaluation.costs_of(agent)
    assert costs.shape == (3_000, 1)
    assert found["worst_cost_0"] >= costs.mean() > 0
    lengths = evaluation.episodes_of(agent)[1]
    assert lengths.min() < 50 == lengths.max(), "the case needs episodes that go on after others ended"


def test_every_constraint_has_its_cost_and_the_filter_decides_what_is_executed():
    made = gym.make("CA14/Reactor-v0")
    agent = PPO(made.observation_space, made.action_space, PPOConfig(hidden_sizes=(8,)), seed=0)
    hot, cold = (
        RolloutEvaluation("CA14/Reactor-v0", 5, action_filter=lambda seen, action, to=to: np.full_like(action, to))(
            agent
        )
        for to in (1.0, -1.0)
    )
    assert hot["cost_0"] > 100 > 0 == cold["cost_0"], "heating overheats, cooling does not"
    assert cold["cost_1"] > 100 > 0 == hot["cost_1"], "a cold reactor leaves the feed unreacted"


def test_costs_of_an_environment_without_any_are_an_error():
    assert not any(name.startswith("cost") for name in RolloutEvaluation(TRACE, 3)(agent_for()))
    with pytest.raises(ValueError, match="no info"):
        RolloutEvaluation(TRACE, 3).costs_of(agent_for())


def test_episodes_that_begin_elsewhere_are_no_evaluation():
    environment = SafeGridVector(1, restarts=0.5)
    agent = PPO(environment.single_observation_space, environment.single_action_space, PPOConfig(hidden_sizes=(8,)))
    evaluation = RolloutEvaluation("CA14/SafeGrid-v0", 4, 0, environment_arguments={"restarts": 0.5})
    with pytest.raises(ValueError, match="evaluate CA14/SafeGrid-v0 without restarts"):
        evaluation(agent)
