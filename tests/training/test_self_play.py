"""Self-play: who plays which seat, what is learnt from, who is drawn from the pool, and resuming bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ca14lib.agents.multi_agent.base import Drawn
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.vdn import VDN
from ca14lib.environments import multi_agent_environment
from ca14lib.environments.matrix_games import MatrixGame, game_payoffs
from ca14lib.solvers.games import nash_conv
from ca14lib.training.multi_agent import TeamCollector
from ca14lib.training.self_play import Match, OpponentPool, StrategyAverage, policy_strategies, train_self_play

PENNIES: dict[str, Any] = {"game": "matching_pennies", "memory": 0}
ROCK: dict[str, Any] = {"game": "rock_paper_scissors", "memory": 1, "horizon": 3}


def team(arguments: dict[str, Any] = PENNIES, seed: int = 0, **settings: Any) -> IPPO:
    game = multi_agent_environment("MatrixGame", 1, **arguments)
    chosen = {"hidden_sizes": (8,), "team_reward": False, "epochs": 1, "minibatches": 2, "shared": False} | settings
    return IPPO.for_game(game, IPPOConfig(**chosen), seed=seed)


def set_strategy(agent: IPPO, strategies: Any) -> None:
    """Make every seat's policy a given distribution, whatever it sees."""
    with torch.no_grad():
        agent.policy.head.weight.zero_()
        agent.policy.head.bias.copy_(torch.log(torch.as_tensor(strategies).float()))


def weights(agent: IPPO) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in agent.state_dict().values()])


# Who plays, and what is learnt from


def seats_are_right(match_class: type[Match]) -> bool:
    """The learner always plays action 0, past selves always 1: seats, masks and log-probabilities fit together."""
    agent, past = team(), team(seed=1)
    set_strategy(agent, [[1.0, 1e-9]] * 2)
    set_strategy(past, [[1e-9, 1.0]] * 2)
    pool = OpponentPool(2)
    pool.add(past)
    pool.add(past)
    match = match_class(agent, 12, 0.25, 2)
    match.assign(pool, [0, 1], (0, 0))
    game = MatrixGame(12, **PENNIES)
    batch = TeamCollector(agent, game, 0, draw=match.sample, learns=match.mine).collect(4)
    assert batch.learns is not None
    assert batch.log_prob is not None
    mine = torch.as_tensor(match.mine)
    alone = mine.all(dim=1)
    return bool(
        (batch.learns == mine).all()
        and ((batch.action == 0) == mine).all()
        and (batch.log_prob[:, mine].abs() < 1e-3).all()  # of what the learner did, by the learner
        and alone.sum() == 3
        and (mine[~alone].sum(dim=1) == 1).all()
        and mine[~alone].any(dim=0).all()  # every seat is learnt in
        and all(mine[copies].any(dim=0).all() for copies in match.copies)  # against every past self
    )


def test_the_team_plays_the_seats_that_it_learns_from_and_past_selves_the_others() -> None:
    assert seats_are_right(Match)


def test_planted_learning_from_what_opponents_did_is_noticed() -> None:
    class Greedy(Match):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.mine = np.ones_like(self.mine)

    assert not seats_are_right(Greedy)


def test_planted_opponents_that_are_the_present_self_are_noticed() -> None:
    class Mirror(Match):
        def sample(self, *arguments: Any) -> Drawn:
            return self.agent.sample(*arguments)

    assert not seats_are_right(Mirror)


def test_planted_always_the_same_seat_is_noticed() -> None:
    class Seated(Match):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.mine[3:] = [True, False]

    assert not seats_are_right(Seated)


def test_planted_snapshots_that_go_on_learning_are_noticed() -> None:
    def is_a_copy(pool: OpponentPool) -> bool:
        agent = team()
        pool.add(agent)
        with torch.no_grad():
            agent.policy.head.bias += 1.0
        return not (pool.members[0]["policy.head.bias"] == agent.policy.head.bias).any()

    class Alias(OpponentPool):
        def add(self, agent: Any) -> None:
            super().add(agent)
            self.members[-1] = dict(agent.state_dict())

    assert is_a_copy(OpponentPool())
    assert not is_a_copy(Alias())


def test_opponents_do_not_change_what_is_learnt() -> None:
    """The same update whatever the rows of opponents hold."""
    agents = [team(), team()]
    match = Match(agents[0], 8, 0.0, 1)
    pool = OpponentPool()
    pool.add(agents[0])
    match.assign(pool, [0], (0, 0))
    batch = TeamCollector(agents[0], MatrixGame(8, **PENNIES), 0, draw=match.sample, learns=match.mine).collect(3)
    agents[1].generator.set_state(agents[0].generator.get_state())
    changed = batch.action.clone()
    other = ~torch.as_tensor(match.mine).expand_as(changed)
    changed[other] = 1 - changed[other]
    agents[0].update(batch)
    agents[1].update(type(batch)(**{**vars(batch), "action": changed}))
    assert (weights(agents[0]) == weights(agents[1])).all()


def test_memory_of_a_seat_is_its_players_own() -> None:
    agent, past = team(ROCK, recurrent=True), team(ROCK, seed=1, recurrent=True)
    pool = OpponentPool()
    pool.add(past)
    match = Match(agent, 4, 0.0, 1)
    match.assign(pool, [0], (0, 0))
    observation, _ = MatrixGame(4, **ROCK).reset(seed=0)
    memory = agent.initial_memory(4)
    drawn = match.sample(observation, memory)
    own, theirs = agent.sample(observation, memory).memory, past.sample(observation, memory).memory
    mine = torch.as_tensor(match.mine)
    assert drawn.memory is not None
    assert own is not None
    assert theirs is not None
    assert (drawn.memory[mine] == own[mine]).all()
    assert (drawn.memory[~mine] == theirs[~mine]).all()
    assert not (own == theirs).all()


# The pool


def test_uniform_draws_are_uniform_and_prioritised_ones_prefer_who_is_not_beaten() -> None:
    agent = team()
    uniform, prioritised = OpponentPool(4, seed=1), OpponentPool(4, selection="prioritised", memory=0.0, seed=1)
    for pool in (uniform, prioritised):
        for won in (1.0, 0.5, 0.0, 0.0):
            pool.add(agent)
            pool.record(len(pool) - 1, won)
    assert (uniform.probabilities() == 0.25).all()
    assert not np.allclose(uniform.won, 0.5)
    expected = np.array([0.0, 0.25, 1.0, 1.0]) / 2.25
    assert np.allclose(prioritised.probabilities(), expected, atol=1e-5)
    counts = np.bincount(prioritised.draw(4000), minlength=4) / 4000
    assert np.allclose(counts, expected, atol=0.03)


def test_a_full_pool_keeps_its_size_and_some_of_its_past() -> None:
    agent = team()
    pool = OpponentPool(8, seed=0)
    for _ in range(40):
        pool.add(agent)
    assert len(pool) == len(pool.won) == len(pool.ages) == 8
    assert pool.ages == sorted(pool.ages)
    assert pool.ages[-1] == 39
    assert min(pool.ages) < 30


def test_won_is_counted_from_the_learners_seat() -> None:
    agent, past = team(), team(seed=1)
    set_strategy(agent, [[1.0, 1e-9]] * 2)
    set_strategy(past, [[1.0, 1e-9]] * 2)  # both always show heads: the first seat wins
    pool = OpponentPool(memory=0.0)
    pool.add(past)
    history = train_self_play(
        agent, "MatrixGame", 16, environment_arguments=PENNIES, num_envs=16, rollout_steps=1, pool=pool, latest=0.0,
        opponents=1, progress=False,
    )  # fmt: skip
    assert history.last("won") == 0.5  # as often in the first seat as in the second


def test_an_exploitable_past_self_is_beaten_and_prioritised_less() -> None:
    agent = team(learning_rate=0.05, entropy_weight=0.0)
    pool = OpponentPool(8, selection="prioritised", memory=0.5)
    weak = team(seed=3)
    set_strategy(weak, [[0.95, 0.05], [0.95, 0.05]])
    pool.add(weak)
    train_self_play(
        agent, "MatrixGame", 40 * 64, environment_arguments=PENNIES, num_envs=64, rollout_steps=1, pool=pool,
        latest=0.0, opponents=8, snapshot_every=40, progress=False,
    )  # fmt: skip
    assert pool.won[0] > 0.75
    assert pool.probabilities()[0] < pool.probabilities()[1:].max()


# The loop


def run(agent: IPPO, steps: int, pool: OpponentPool | None, evaluate: Any = None, **keywords: Any) -> Any:
    settings = {"environment_arguments": PENNIES, "num_envs": 8, "rollout_steps": 3, "snapshot_every": 2,
                "opponents": 2, "progress": False} | keywords  # fmt: skip
    return train_self_play(agent, "MatrixGame", steps, pool=pool, evaluate=evaluate, **settings)


@pytest.mark.parametrize("selection", ["uniform", "prioritised", None])
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(selection: str | None, recurrent: bool, tmp_path: Path) -> None:
    def parts() -> tuple[IPPO, OpponentPool | None, StrategyAverage]:
        pool = None if selection is None else OpponentPool(3, selection=selection, seed=5)
        return team(recurrent=recurrent), pool, StrategyAverage(MatrixGame(1, **PENNIES))

    whole, stopped, resumed = parts(), parts(), parts()
    history = run(whole[0], 240, *whole[1:], checkpoint=tmp_path / "whole", checkpoint_every=3)
    run(stopped[0], 144, *stopped[1:], checkpoint=tmp_path / "cut", checkpoint_every=3)
    again = run(resumed[0], 240, *resumed[1:], checkpoint=tmp_path / "cut", checkpoint_every=3)
    assert history == again
    assert (weights(whole[0]) == weights(resumed[0])).all()
    assert (whole[2].average == resumed[2].average).all()
    assert whole[2].calls == resumed[2].calls == 11
    if whole[1] is not None and resumed[1] is not None:
        assert (whole[1].ages, whole[1].won) == (resumed[1].ages, resumed[1].won)


def test_planted_a_pool_that_is_not_restored_is_noticed(tmp_path: Path) -> None:
    class Amnesia(OpponentPool):
        def restore(self, tensors: Any, metadata: Any) -> None:
            generator = self.generator.get_state()
            super().restore(tensors, metadata)
            self.generator.set_state(generator)

    settings = {"checkpoint_every": 4, "num_envs": 32, "latest": 0.0}
    whole, stopped, resumed = (team(learning_rate=0.1) for _ in range(3))
    history = run(whole, 1920, OpponentPool(3, seed=5), checkpoint=tmp_path / "whole", **settings)
    run(stopped, 768, OpponentPool(3, seed=5), checkpoint=tmp_path / "cut", **settings)
    again = run(resumed, 1920, Amnesia(3, seed=5), checkpoint=tmp_path / "cut", **settings)
    assert history != again


def test_snapshots_join_the_pool_on_schedule_the_untrained_team_first() -> None:
    agent, pool = team(), OpponentPool()
    first = weights(agent)
    run(agent, 24 * 5, pool)
    assert pool.ages == [0, 1, 2]
    kept = torch.cat([value.flatten().float() for value in pool.members[0].values()])
    assert (kept == first).all()


def test_shared_and_separate_policies_both_play() -> None:
    for shared in (False, True):
        agent = team(ROCK, shared=shared)
        history = run(agent, 72, OpponentPool(), environment_arguments=ROCK)
        assert np.isfinite(history.last("policy_loss"))
        assert 0.0 <= history.last("won") <= 1.0


def test_equal_seeds_repeat_and_others_differ() -> None:
    results = []
    for seed in (0, 0, 1):
        agent = team()
        results.append(run(agent, 96, OpponentPool(seed=seed), seed=seed))
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.parametrize(
    "arguments",
    [{"steps": 0}, {"num_envs": 0}, {"rollout_steps": 0}, {"snapshot_every": 0}, {"opponents": 0}, {"latest": 1.5},
     {"seed": -1}, {"evaluate_every": 0}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        run(team(), **({"steps": 24, "pool": None} | arguments))


def test_teams_that_cannot_play_themselves_are_refused() -> None:
    game = MatrixGame(1, **PENNIES)
    with pytest.raises(ValueError, match="replay"):
        run(VDN.for_game(game), 24, None)
    with pytest.raises(ValueError, match="team_reward=False"):
        run(team(team_reward=True), 24, None)
    with pytest.raises(ValueError, match="observation_space"):
        run(team(ROCK), 24, None)


def test_other_checkpoints_are_not_resumed(tmp_path: Path) -> None:
    agent = team()
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="no self-play run"):
        run(agent, 24, None, checkpoint=tmp_path / "agent")
    run(agent, 24, None, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="its seed is 0, expected 1"):
        run(agent, 24, None, checkpoint=tmp_path / "run", seed=1)


@pytest.mark.parametrize("arguments", [{"capacity": 0}, {"selection": "best"}, {"memory": 1.0}])
def test_pools_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        OpponentPool(**arguments)


def test_an_empty_pool_and_an_impossible_share_are_refused() -> None:
    pool = OpponentPool()
    with pytest.raises(ValueError, match="empty"):
        pool.draw(1)
    pool.add(team())
    with pytest.raises(ValueError, match="won"):
        pool.record(0, 1.5)


# Strategies


def test_strategies_are_read_off_and_averaged_exactly() -> None:
    agent, judge = team(), StrategyAverage(MatrixGame(1, **PENNIES))
    rows = [[[0.9, 0.1], [0.3, 0.7]], [[0.1, 0.9], [0.7, 0.3]]]
    for strategies in rows:
        set_strategy(agent, strategies)
        assert np.allclose(policy_strategies(agent, MatrixGame(1, **PENNIES)), strategies, atol=1e-6)
        values = judge(agent)
        assert np.isclose(values["nash_conv"], nash_conv(game_payoffs("matching_pennies"), strategies), atol=1e-5)
        assert np.isclose(values["agent_0_action_0"], strategies[0][0], atol=1e-6)
    assert np.allclose(judge.average, 0.5, atol=1e-6)
    assert values["nash_conv_average"] < 1e-5 < values["nash_conv"]


def test_strategies_of_longer_games_and_of_many_copies_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rounds"):
        StrategyAverage(MatrixGame(1, **ROCK))
    with pytest.raises(ValueError, match="num_envs=2"):
        policy_strategies(team(), MatrixGame(2, **PENNIES))
    with pytest.raises(ValueError, match="matrix game"):
        StrategyAverage(multi_agent_environment("TwoStepGame", 1))
