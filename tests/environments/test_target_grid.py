"""TargetGrid against a reference in plain loops and by hand; options; bad input; speed; faults that are noticed."""

from collections import Counter
from statistics import median
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments import TargetGrid, multi_agent_environment
from ca14lib.environments.grid import TILE
from ca14lib.environments.target_grid import AGENT_COLOURS, GONE, TARGET

STAY, UP, DOWN, LEFT, RIGHT = range(5)
MOVES = {STAY: (0, 0), UP: (0, 1), DOWN: (0, -1), LEFT: (-1, 0), RIGHT: (1, 0)}
Cell = tuple[int, int]


def started(agents: list[Cell], targets: list[Cell], **arguments) -> TargetGrid:
    game = TargetGrid(1, num_agents=len(agents), num_targets=len(targets), **arguments)
    game.reset(seed=0, options={"agents": agents, "targets": targets})
    return game


def stepped(game: TargetGrid, *actions: int) -> tuple[list[Cell], list[float], bool]:
    """Cells and rewards after one step of a single copy, without automatic reset, and if all is collected."""
    reward, terminated, _ = game.advance(game._checked(np.array([actions])))
    return [tuple(cell) for cell in game.agent_cells[0].tolist()], reward[0].tolist(), bool(terminated[0])


# The rules once more, one copy at a time


def wanted_cells(cells: list[Cell], actions: list[int], size: int) -> list[Cell]:
    moved = [(x + MOVES[a][0], y + MOVES[a][1]) for (x, y), a in zip(cells, actions)]
    return [new if min(new) >= 0 and max(new) < size else old for new, old in zip(moved, cells)]


def original_moves(cells: list[Cell], wanted: list[Cell]) -> tuple[list[Cell], set[int]]:
    """Who wants what another one wants is held back; nobody looks at where those who are held back stand."""
    times = Counter(wanted)
    held = {i for i, cell in enumerate(wanted) if times[cell] > 1}
    return [cells[i] if i in held else wanted[i] for i in range(len(cells))], held


def reference_moves(cells: list[Cell], wanted: list[Cell]) -> tuple[list[Cell], set[int]]:
    _, held = original_moves(cells, wanted)
    queue = list(held)
    while queue:
        stands = cells[queue.pop()]
        for i, cell in enumerate(wanted):
            if cell == stands and i not in held:
                held.add(i)
                queue.append(i)
    return [cells[i] if i in held else wanted[i] for i in range(len(cells))], held


def reference_observation(cells: list[Cell], targets: list[Cell], taken: set[int], size: int) -> list[list[float]]:
    rows = []
    for i, (x, y) in enumerate(cells):
        row = [x / size, y / size]
        for j, other in enumerate(cells):
            row += [(other[0] - x) / size, (other[1] - y) / size] if j != i else []
        for j, target in enumerate(targets):
            row += [0.0, 0.0] if j in taken else [(target[0] - x) / size, (target[1] - y) / size]
        rows.append(row)
    return rows


def follows_the_rules(game_class: type[TargetGrid], size: int, agents: int, targets: int, seed: int = 0) -> None:
    """Cells, rewards, ends, observation, state and counts of random play are those of the loops."""
    game = game_class(3, size=size, num_agents=agents, num_targets=targets, time_limit=None)
    rng = np.random.default_rng(seed)
    observation, info = game.reset(seed=seed)
    for _ in range(40):
        cells = [[tuple(cell) for cell in row] for row in game.agent_cells.tolist()]
        spots = [[tuple(cell) for cell in row] for row in game.target_cells.tolist()]
        before = [set(np.flatnonzero(row)) for row in game.collected]
        for copy in range(3):
            shown = reference_observation(cells[copy], spots[copy], before[copy], size)
            np.testing.assert_array_equal(observation[copy], np.array(shown, dtype=np.float32))
            places = np.array(cells[copy] + spots[copy]).reshape(-1) / size
            flags = [target in before[copy] for target in range(targets)]
            np.testing.assert_array_equal(info["state"][copy], np.concatenate([places, flags]).astype(np.float32))
        actions = rng.integers(5, size=(3, agents))
        observation, reward, terminated, truncated, info = game.step(actions)
        counts = info.get("final_info", info)
        for copy in range(3):
            wanted = wanted_cells(cells[copy], actions[copy].tolist(), size)
            after, held = reference_moves(cells[copy], wanted)
            new = {t: after.index(spots[copy][t]) for t in range(targets)
                   if t not in before[copy] and spots[copy][t] in after}  # fmt: skip
            expected = [2 * len(new) / agents - 0.1 - 0.5 * (i in held) + 10 * list(new.values()).count(i)
                        for i in range(agents)]  # fmt: skip
            np.testing.assert_allclose(reward[copy], expected, atol=1e-12)
            remaining = targets - len(before[copy]) - len(new)
            assert terminated[copy] == (remaining == 0)
            assert not truncated[copy]
            assert (counts["collisions"][copy], counts["collected"][copy]) == (len(held), len(new))
            assert counts["remaining"][copy] == remaining
            assert counts["collected_by"][copy].tolist() == [list(new.values()).count(i) for i in range(agents)]
            if remaining:
                assert [tuple(cell) for cell in game.agent_cells[copy].tolist()] == after


def follows_the_rules_on_several_seeds(game_class: type[TargetGrid]) -> None:
    for seed in range(5):
        follows_the_rules(game_class, 3, 4, 2, seed)


def keeps_agents_apart(game_class: type[TargetGrid]) -> None:
    game = game_class(32, size=3, num_agents=6, num_targets=2, time_limit=30)
    rng = np.random.default_rng(1)
    game.reset(seed=0)
    for _ in range(150):
        game.step(rng.integers(5, size=(32, 6)))
        cells = np.sort(game.agent_cells @ [3, 1], axis=1)
        assert (cells[:, 1:] > cells[:, :-1]).all()


def starts_everywhere_alike(game_class: type[TargetGrid]) -> None:
    game = game_class(24_000, size=2, num_agents=2, num_targets=1)
    game.reset(seed=0)
    cells = np.concatenate([game.agent_cells, game.target_cells], axis=1) @ [2, 1]
    counts = Counter(map(tuple, cells.tolist()))
    assert len(counts) == 24
    assert all(len(set(cells)) == 3 for cells in counts)
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 49.7  # chi-square, 23 degrees, p = 0.001


@pytest.mark.parametrize(
    ("size", "agents", "targets"), [(8, 4, 3), (3, 4, 2), (2, 2, 1), (5, 1, 2), (4, 9, 3), (3, 8, 1), (7, 2, 4)]
)
def test_batched_game_follows_the_rules(size, agents, targets):
    follows_the_rules(TargetGrid, size, agents, targets)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 1000))
def test_batched_game_follows_the_rules_at_any_size(size, agents, targets, seed):
    if agents + targets <= size**2:
        follows_the_rules(TargetGrid, size, agents, targets, seed)


def test_agents_never_share_a_cell():
    keeps_agents_apart(TargetGrid)


def test_starts_are_uniform_over_placements_on_different_cells():
    starts_everywhere_alike(TargetGrid)


def test_moves_differ_from_the_originals_only_where_it_puts_two_agents_on_one_cell():
    game = TargetGrid(1, size=3, num_agents=5, num_targets=1, time_limit=None)
    rng = np.random.default_rng(0)
    game.reset(seed=0)
    repaired = 0
    for _ in range(600):
        cells = [tuple(cell) for cell in game.agent_cells[0].tolist()]
        actions = rng.integers(5, size=5)
        after, held = original_moves(cells, wanted_cells(cells, actions.tolist(), 3))
        game.reset(options={"agents": cells, "targets": [tuple(next(c for c in np.ndindex(3, 3) if c not in cells))]})
        now, _, _ = stepped(game, *actions.tolist())
        legal = len(set(after)) == 5
        assert (now == after) == legal
        assert int(game._report()["collisions"][0]) == len(held) or not legal
        repaired += not legal
    assert repaired > 10


# By hand


def test_each_action_moves_as_named_and_the_border_holds():
    for action, place in [(STAY, (1, 1)), (UP, (1, 2)), (DOWN, (1, 0)), (LEFT, (0, 1)), (RIGHT, (2, 1))]:
        assert stepped(started([(1, 1)], [(0, 0)], size=3), action)[0] == [place]
    for corner, actions in [((0, 0), (DOWN, LEFT)), ((2, 2), (UP, RIGHT))]:
        for action in actions:
            assert stepped(started([corner], [(1, 1)], size=3), action) == ([corner], [-0.1], False)


def test_two_who_want_one_cell_stay_and_pay():
    cells, rewards, _ = stepped(started([(0, 0), (2, 0), (4, 4)], [(3, 3)], size=5), RIGHT, LEFT, STAY)
    assert cells == [(0, 0), (2, 0), (4, 4)]
    assert rewards == pytest.approx([-0.6, -0.6, -0.1])


def test_who_is_walked_into_while_standing_pays_as_well():
    cells, rewards, _ = stepped(started([(0, 0), (1, 0)], [(3, 3)], size=4), RIGHT, STAY)
    assert cells == [(0, 0), (1, 0)]
    assert rewards == pytest.approx([-0.6, -0.6])


def test_a_queue_behind_an_agent_that_is_held_back_stands_still_and_each_pays_once():
    agents = [(4, 0), (2, 0), (1, 0), (0, 0)]  # the first two want (3, 0); the others follow the second
    cells, rewards, _ = stepped(started(agents, [(7, 7)]), LEFT, RIGHT, RIGHT, RIGHT)
    assert cells == agents
    assert rewards == pytest.approx([-0.6] * 4)


def test_a_queue_that_nothing_stops_moves_on():
    cells, rewards, _ = stepped(started([(2, 0), (1, 0), (0, 0)], [(7, 7)]), RIGHT, RIGHT, RIGHT)
    assert cells == [(3, 0), (2, 0), (1, 0)]
    assert rewards == pytest.approx([-0.1] * 3)


def test_swapping_and_turning_in_a_ring_are_allowed():
    assert stepped(started([(0, 0), (1, 0)], [(3, 3)]), RIGHT, LEFT)[:2] == ([(1, 0), (0, 0)], [-0.1, -0.1])
    ring = [(0, 0), (1, 0), (1, 1), (0, 1)]
    cells, rewards, _ = stepped(started(ring, [(3, 3)]), RIGHT, UP, LEFT, DOWN)
    assert cells == ring[1:] + ring[:1]
    assert rewards == pytest.approx([-0.1] * 4)


def test_nobody_collects_where_two_collide():
    game = started([(0, 0), (2, 0)], [(1, 0)])
    assert stepped(game, RIGHT, LEFT)[2] is False
    assert not game.collected.any()


def test_collector_gets_ten_and_the_team_shares_two():
    _, rewards, done = stepped(started([(0, 0), (5, 5), (6, 6), (7, 7)], [(1, 0), (0, 7)]), RIGHT, STAY, STAY, STAY)
    assert rewards == pytest.approx([10.4, 0.4, 0.4, 0.4])
    assert not done


def test_two_targets_in_one_step_double_the_bonus_and_end_the_episode():
    _, rewards, done = stepped(started([(0, 0), (5, 5), (6, 6), (7, 7)], [(1, 0), (5, 6)]), RIGHT, UP, STAY, STAY)
    assert rewards == pytest.approx([10.9, 10.9, 0.9, 0.9])
    assert done


def test_a_target_is_collected_once():
    game = started([(0, 0)], [(1, 0), (5, 5)])
    rewards = [stepped(game, action)[1][0] for action in (RIGHT, STAY, LEFT, RIGHT)]
    assert rewards == pytest.approx([11.9, -0.1, -0.1, -0.1])


def test_time_limit_truncates_and_the_end_terminates():
    game = TargetGrid(64, size=4, num_agents=2, num_targets=1, time_limit=7)
    rng = np.random.default_rng(0)
    game.reset(seed=0)
    length, ends = np.zeros(64, dtype=int), Counter()
    for _ in range(60):
        _, _, terminated, truncated, _ = game.step(rng.integers(5, size=(64, 2)))
        length += 1
        assert not (terminated & truncated).any()
        assert (length[truncated] == 7).all()
        assert (length <= 7).all()
        ends.update(terminated=terminated.sum(), truncated=truncated.sum())
        length[terminated | truncated] = 0
    assert min(ends.values()) > 50


def test_final_observation_and_state_are_of_the_episode_that_ended():
    game = started([(0, 0), (7, 7)], [(1, 0)])
    observation, _, terminated, _, info = game.step(np.array([[RIGHT, STAY]]))
    assert terminated[0]
    np.testing.assert_allclose(info["final_obs"][0, 0], [1 / 8, 0, 6 / 8, 7 / 8, 0, 0])
    np.testing.assert_allclose(info["final_info"]["state"][0], [1 / 8, 0, 7 / 8, 7 / 8, 1 / 8, 0, 1])
    assert info["final_info"]["collected"][0] == 1
    assert info["final_info"]["remaining"][0] == 0
    assert info["remaining"][0] == 1
    assert info["state"][0, -1] == 0
    assert not np.array_equal(observation, info["final_obs"])


# Observations and options


@pytest.mark.parametrize(
    ("agents", "targets", "options", "size"),
    [
        (4, 3, {}, 14),
        (1, 1, {}, 4),
        (32, 3, {}, 70),
        (4, 3, {"view_radius": 2}, 20),
        (4, 3, {"message_channel": 5}, 29),
        (2, 2, {"view_radius": 1, "message_channel": 2}, 13),
    ],
)
def test_observation_has_its_true_size_and_stays_in_its_space(agents, targets, options, size):
    game = multi_agent_environment("TargetGrid", 8, num_agents=agents, num_targets=targets, **options)
    assert game.agent_observation_space.shape == (size,)
    rng = np.random.default_rng(0)
    observation, info = game.reset(seed=0)
    for _ in range(30):
        assert observation.shape == (8, agents, size)
        assert observation.dtype == np.float32
        assert all(one in game.single_observation_space for one in observation)
        assert all(one in game.state_space for one in info["state"])
        observation, reward, _, _, info = game.step(rng.integers(game.agent_action_space.n, size=(8, agents)))
        assert reward.shape == (8, agents)
        assert reward.dtype == np.float64


def test_radius_hides_what_is_far_and_flags_tell_it_from_here():
    game = started([(3, 3), (5, 1), (6, 3)], [(2, 4), (7, 7)], view_radius=2)
    first = game._observe()[0, 0] * 8
    np.testing.assert_allclose(first[:10], [3, 3, 2, -2, 0, 0, -1, 1, 0, 0])
    np.testing.assert_array_equal(first[10:] / 8, [1, 0, 1, 0])
    stepped(game, LEFT, STAY, STAY)
    stepped(game, UP, STAY, STAY)  # collects the first target: no flag, though it is here
    np.testing.assert_array_equal(game._observe()[0, 0, 10:], [0, 0, 0, 0])


def test_a_radius_as_wide_as_the_grid_hides_nothing():
    near, whole = TargetGrid(50, view_radius=7), TargetGrid(50)
    seen, full = near.reset(seed=3)[0], whole.reset(seed=3)[0]
    np.testing.assert_array_equal(seen[..., :14], full)
    assert (seen[..., 14:] == 1).all()


def test_symbols_are_heard_by_the_others_one_step_later_at_any_distance():
    game = started([(0, 0), (7, 7), (7, 0)], [(3, 3)], message_channel=3, view_radius=1)
    silent = game._observe()[0, :, -6:]
    assert (silent == 0).all()
    assert (game._state()[0, -9:] == 0).all()
    cells, _, _ = stepped(game, RIGHT + 5 * 2, STAY + 5 * 0, STAY + 5 * 1)
    assert cells == [(1, 0), (7, 7), (7, 0)]
    two, zero, one = [0, 0, 1], [1, 0, 0], [0, 1, 0]
    assert game._observe()[0, :, -6:].tolist() == [zero + one, two + one, two + zero]
    assert game._state()[0, -9:].tolist() == two + zero + one
    game.reset(seed=1)
    assert (game._observe()[..., -6:] == 0).all()


def test_symbols_change_nothing_but_what_is_heard():
    silent, talking = TargetGrid(16, time_limit=20), TargetGrid(16, time_limit=20, message_channel=4)
    rng = np.random.default_rng(0)
    for game in (silent, talking):
        game.reset(seed=5)
    for _ in range(50):
        moves, symbols = rng.integers(5, size=(16, 4)), rng.integers(4, size=(16, 4))
        one, other = silent.step(moves), talking.step(moves + 5 * symbols)
        np.testing.assert_array_equal(one[0], other[0][..., :14])
        for index in (1, 2, 3):
            np.testing.assert_array_equal(one[index], other[index])


def played(steps: int = 60, **arguments) -> np.ndarray:
    game = TargetGrid(16, size=4, time_limit=20, **arguments)
    game.reset(seed=2)
    rng = np.random.default_rng(2)
    return np.array([game.step(rng.integers(5, size=(16, 4)))[1] for _ in range(steps)])


def test_weight_of_the_team_mixes_rewards_and_keeps_their_sum():
    own = played()
    for weight in (0.25, 1.0):
        mixed = played(team_weight=weight)
        np.testing.assert_allclose(mixed, (1 - weight) * own + weight * own.mean(axis=2, keepdims=True), atol=1e-12)
        np.testing.assert_allclose(mixed.sum(axis=2), own.sum(axis=2), atol=1e-12)
    assert np.ptp(own, axis=2).max() > 9
    assert np.ptp(played(team_weight=1.0), axis=2).max() < 1e-12


def test_competition_takes_what_the_others_collect_so_that_this_part_sums_to_zero():
    own, rivals = played(), played(competitive=True)
    game = started([(0, 0), (5, 5), (6, 6)], [(1, 0), (0, 7)], competitive=True)
    assert stepped(game, RIGHT, STAY, STAY)[1] == pytest.approx([10 + 2 / 3 - 0.1, 2 / 3 - 5.1, 2 / 3 - 5.1])
    collected = np.round((own - own.min(axis=2, keepdims=True)) / 10)
    assert (own - rivals).sum() == pytest.approx(10 * collected.sum())
    assert collected.sum() > 20


def test_spawned_copy_has_the_same_parameters():
    game = TargetGrid(
        2, size=6, num_agents=3, num_targets=2, view_radius=2, message_channel=3, team_weight=0.5, competitive=True,
        time_limit=9,
    )  # fmt: skip
    other = game.spawn(5)
    assert other.num_envs == 5
    assert other.single_observation_space == game.single_observation_space
    for name in ("size", "num_agents", "num_targets", "view_radius", "message_channel", "team_weight", "competitive"):
        assert getattr(other, name) == getattr(game, name)
    assert other.time_limit == 9
    assert other.agent_action_space == game.agent_action_space


def test_same_seed_and_actions_give_the_same_game():
    np.testing.assert_array_equal(played(), played())


def test_given_starts_are_taken_for_one_copy_or_for_each():
    game = TargetGrid(2, num_agents=1, num_targets=1)
    game.reset(options={"agents": [(1, 2)], "targets": [(3, 4)]})
    assert game.agent_cells.tolist() == [[[1, 2]]] * 2
    assert game.target_cells.tolist() == [[[3, 4]]] * 2
    game.reset(options={"agents": [[(1, 2)], [(0, 0)]], "targets": [[(3, 4)], [(5, 5)]]})
    assert game.agent_cells.tolist() == [[[1, 2]], [[0, 0]]]
    assert game.target_cells.tolist() == [[[3, 4]], [[5, 5]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": [(0, 0)]}, r"'agents' and 'targets', got \['agents'\]"),
        ({"agents": [(0, 0)], "targets": [(0, 0)]}, "different cells"),
        ({"agents": [(0, 8)], "targets": [(0, 0)]}, r"8 × 8 grid, got \[\[0, 8\]\]"),
        ({"agents": [(0, 0.5)], "targets": [(0, 0)]}, "agents must be integers"),
        ({"agents": [(0, 0), (1, 1)], "targets": [(0, 0)]}, r"of shape \(2, 2\)"),
    ],
)
def test_impossible_starts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TargetGrid(1, num_agents=1, num_targets=1).reset(options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 2, "num_agents": 3, "num_targets": 2}, "a cell each, got 3 and 2 on 4 cells"),
        ({"size": 1}, "size must be at least 2, got 1"),
        ({"num_agents": 0}, "num_agents must be at least 1, got 0"),
        ({"num_agents": 2.0}, "num_agents must be an integer, got 2.0"),
        ({"num_targets": 0}, "num_targets must be at least 1, got 0"),
        ({"view_radius": 0}, r"view_radius \(None for no limit\) must be at least 1, got 0"),
        ({"message_channel": -1}, r"message_channel \(0 for none\) must be at least 0, got -1"),
        ({"message_channel": 1}, "at least 2 symbols, got 1"),
        ({"team_weight": 1.5}, r"team_weight must lie in \[0, 1\], got 1.5"),
        ({"team_weight": float("nan")}, r"team_weight must lie in \[0, 1\], got nan"),
        ({"competitive": True, "num_agents": 1}, "num_agents of at least 2, got 1"),
        ({"time_limit": 0}, "time_limit"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TargetGrid(1, **arguments)


def test_a_grid_without_a_free_cell_is_playable():
    game = TargetGrid(4, size=2, num_agents=3, num_targets=1)
    game.reset(seed=0)
    ends = 0
    for seed in range(60):
        ends += game.step(np.random.default_rng(seed).integers(5, size=(4, 3)))[2].sum()
    assert ends > 0


def test_picture_shows_agents_in_colours_of_their_own_and_what_is_collected():
    game = started([(0, 0), (7, 7), (3, 0)], [(1, 0), (4, 5)], render_mode="rgb_array")

    def colour(x: int, y: int, dx: int = 0) -> tuple[int, ...]:
        (frame,) = game.render()
        assert frame.shape == (8 * TILE + 1, 8 * TILE + 1, 3)
        assert frame.dtype == np.uint8
        return tuple(frame[(7 - y) * TILE + TILE // 2, x * TILE + TILE // 2 + dx].tolist())

    assert [colour(0, 0), colour(7, 7), colour(3, 0)] == list(AGENT_COLOURS[:3])
    assert colour(1, 0) == TARGET
    assert colour(4, 5) == TARGET
    stepped(game, RIGHT, STAY, STAY)
    assert colour(1, 0) == AGENT_COLOURS[0]
    assert colour(1, 0, dx=17) == GONE
    assert colour(4, 5) == TARGET


def test_pictures_of_many_agents_tell_each_from_the_others():
    agents = [(x, y) for x in range(3) for y in range(7)]
    game = started(agents, [(7, 7)], render_mode="rgb_array")
    (frame,) = game.render()
    tiles = {frame[(7 - y) * TILE + 1 : (8 - y) * TILE, x * TILE + 1 : (x + 1) * TILE].tobytes() for x, y in agents}
    assert len(tiles) == 21


def test_a_million_environment_steps_a_second_on_one_core():
    """4 agents, observations and resets included, in CPU time; about three times as many where nothing else runs."""
    game = TargetGrid(4096)
    game.reset(seed=0)
    actions = np.random.default_rng(0).integers(5, size=(20, 4096, 4))
    speeds = []
    for _ in range(7):
        start = process_time()
        for action in actions:
            game.step(action)
        speeds.append(actions[..., 0].size / (process_time() - start))
    assert median(speeds) > 1e6, f"{median(speeds):,.0f}"


# Faults


class OnlyFirstCollisions(TargetGrid):
    """As the original: an agent may step onto one that was held back."""

    def _settled(self, wanted):
        held = np.array([[(wanted[:, copy] == cell).sum() > 1 for copy, cell in enumerate(row)] for row in wanted])
        return np.where(held, self._cell, wanted), held


class BonusForEach(TargetGrid):
    """Every agent gets the whole bonus."""

    def _own_rewards(self, gained, collided):
        return super()._own_rewards(gained, collided) + 1.5 * gained.sum(axis=0)


class FineWithoutBlame(TargetGrid):
    """Colliding agents pay nothing."""

    def _own_rewards(self, gained, collided):
        return super()._own_rewards(gained, np.zeros_like(collided))


class CollectedStaysVisible(TargetGrid):
    def _observe(self):
        taken, self._taken = self._taken, np.zeros_like(self._taken)
        observation = super()._observe()
        self._taken = taken
        return observation


class UpIsDown(TargetGrid):
    def _transition(self, action):
        return super()._transition(np.array([0, 2, 1, 3, 4])[action])


class SelfAmongOthers(TargetGrid):
    """The observation's first other is the agent itself."""

    def _observe(self):
        others, self._others = self._others, self._others.copy()
        self._others[:, 0] = np.arange(self.num_agents)
        observation = super()._observe()
        self._others = others
        return observation


@pytest.mark.parametrize(
    "faulty",
    [OnlyFirstCollisions, BonusForEach, FineWithoutBlame, CollectedStaysVisible, UpIsDown, SelfAmongOthers],
)
def test_faults_break_the_rules(faulty):
    with pytest.raises(AssertionError):
        follows_the_rules_on_several_seeds(faulty)


def test_collisions_of_the_first_round_only_bring_agents_together():
    with pytest.raises(AssertionError):
        keeps_agents_apart(OnlyFirstCollisions)


class RanksAsCells(TargetGrid):
    """Ranks among free cells are taken for cells, modulo those that are taken."""

    def _random_starts(self, count):
        agents, targets = super()._random_starts(count)
        return np.sort(agents, axis=0), targets


def test_starts_that_favour_an_order_are_noticed():
    with pytest.raises(AssertionError):
        starts_everywhere_alike(RanksAsCells)
