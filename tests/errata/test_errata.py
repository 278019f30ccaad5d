"""Shows in numbers what the original notebook got wrong. Book: errata, which names every test of this file.

Each test rebuilds one faulty computation in a few lines of its own and holds it against the exact answer.
Some tests hold the other side: that a fault did no harm in the place where it stood.
"""

import ast
import heapq
import inspect
import re
import statistics
import warnings
from collections import Counter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ca14lib.environments import TabularModel, behaviour_policy, multi_agent_environment, tabular_model
from ca14lib.solvers import (
    InfeasibleError,
    constrained_optimum,
    occupancy_measure,
    policy_costs,
    policy_evaluation,
    policy_return,
    value_iteration,
)
from tests.book.test_solutions import solution

GRID, SEPSIS, SAFE_GRID = "CA14/GridWorld-v0", "CA14/ICUSepsis-v0", "CA14/SafeGrid-v0"
ERRATA = Path(__file__).parents[2] / "book" / "errata.md"


def with_reward(model: TabularModel, reward: np.ndarray) -> TabularModel:
    """The same problem paid differently."""
    return TabularModel(model.transition, reward, terminal=model.terminal, initial=model.initial)


def with_mean_subtracted(model: TabularModel, behaviour: np.ndarray) -> tuple[TabularModel, float]:
    """The problem a learner sees after the mean reward of the behaviour's data was subtracted from every reward."""
    visits = occupancy_measure(model, behaviour)
    mean = (visits * model.expected_reward).sum() / visits.sum()
    return with_reward(model, model.expected_reward - mean), mean


# --- the whole document ------------------------------------------------------------------------------------------


def test_a_blanket_filter_hides_a_division_by_zero():
    for action, expected in (("ignore", 0), ("always", 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            assert np.isinf(np.float64(1.0) / np.float64(0.0))
        assert len(caught) == expected


def test_one_more_draw_from_a_shared_generator_changes_every_later_draw():
    def second_environment(shared: bool, extra_draws: int) -> float:
        first = np.random.default_rng(42)
        first.random(3 + extra_draws)
        return (first if shared else np.random.default_rng(43)).random()

    assert second_environment(shared=True, extra_draws=0) != second_environment(shared=True, extra_draws=1)
    assert second_environment(shared=False, extra_draws=0) == second_environment(shared=False, extra_draws=1)


def test_one_done_flag_cannot_hold_two_kinds_of_end():
    environment = gym.make(GRID)
    environment.reset(seed=0)
    *_, terminated, truncated, _ = [environment.step(2) for _ in range(50)][-1]
    assert (terminated, truncated) == (False, True)
    environment.reset(seed=0)
    *_, terminated, truncated, _ = [environment.step(action) for action in [3] * 4 + [0] * 4][-1]
    assert (terminated, truncated) == (True, False)


# --- section 1, offline ------------------------------------------------------------------------------------------


def test_section_1_prints_only_properties_of_its_data():
    rewards = np.array([-0.1] * 7 + [1.0])  # the one trajectory behind all 10,000 "expert" episodes
    assert rewards.mean() == pytest.approx(0.037, abs=6e-4)
    assert rewards.std() == pytest.approx(0.364, abs=6e-4)
    assert 10_000 * len(rewards) == 80_000  # "size" asks for episodes and reports transitions
    model, mixed = tabular_model(GRID), behaviour_policy(GRID, "mixed")
    visits = occupancy_measure(model, mixed, horizon=50)
    assert (visits * model.expected_reward).sum() / visits.sum() == pytest.approx(-0.002, abs=6e-4)


def test_the_environment_name_is_ignored():
    cart_pole = gym.make("CartPole-v1")
    assert cart_pole.observation_space.shape == (4,)
    assert cart_pole.action_space.n == 2
    printed_state_dimension, printed_action_shares = 2, 4
    grid = gym.make(GRID)
    assert grid.observation_space.shape == (printed_state_dimension,)
    assert grid.action_space.n == printed_action_shares


def test_subtracting_the_mean_reward_changes_the_optimal_policy():
    start, middle, end = 0, 1, 2
    short, long = 0, 1
    transition = np.zeros((3, 2, 3))
    transition[start, short, end] = transition[start, long, middle] = 1.0
    transition[middle, :, end] = transition[end, :, end] = 1.0
    reward = np.zeros((3, 2))
    reward[start, short], reward[middle, :] = 0.6, 1.0
    model = TabularModel(transition, reward, terminal=np.arange(3) == end)

    shifted, mean = with_mean_subtracted(model, np.full((3, 2), 0.5))

    assert mean == pytest.approx(0.8 / 1.5)
    assert value_iteration(model).policy[start].argmax() == long
    assert value_iteration(shifted).policy[start].argmax() == short
    scaled = with_reward(model, reward / 7.0)
    assert value_iteration(scaled).policy[start].argmax() == long


def test_a_shift_adds_the_episode_length_to_the_return():
    model, mixed = tabular_model(GRID), behaviour_policy(GRID, "mixed")
    length = occupancy_measure(model, mixed).sum()
    shifted = with_reward(model, model.expected_reward - 0.25)
    assert policy_return(shifted, mixed) == pytest.approx(policy_return(model, mixed) - 0.25 * length)


@pytest.mark.slow
def test_subtracting_the_mean_reward_lowers_survival_in_icu_sepsis():
    model, clinician = tabular_model(SEPSIS), behaviour_policy(SEPSIS, "clinician")
    shifted, mean = with_mean_subtracted(model, clinician)
    misled, best = value_iteration(shifted).policy, value_iteration(model)
    clinicians = policy_return(model, clinician)
    gap_closed = (policy_return(model, misled) - clinicians) / (best.optimal_return - clinicians)
    assert mean == pytest.approx(0.085, abs=0.001)
    assert gap_closed < 0.35  # the exact optimum of the shifted rewards, learned without any error
    assert occupancy_measure(model, misled).sum() < 0.7 * occupancy_measure(model, best.policy).sum()


@pytest.mark.parametrize("behaviour", ["expert", "mixed", "random"])
def test_the_shift_leaves_the_original_grid_unharmed(behaviour):
    model = tabular_model(GRID)
    shifted, _ = with_mean_subtracted(model, behaviour_policy(GRID, behaviour))
    assert policy_return(model, value_iteration(shifted).policy) == pytest.approx(0.3)


def test_raw_states_lie_outside_what_normalised_data_taught():
    model = tabular_model(GRID)
    visits = occupancy_measure(model, behaviour_policy(GRID, "random"), horizon=50).sum(axis=1)
    weight, states = visits / visits.sum(), model.observation
    mean = weight @ states
    deviation = np.sqrt(weight @ (states - mean) ** 2)
    trained = (states - mean) / deviation
    outside = ((states < trained.min(axis=0)) | (states > trained.max(axis=0))).any(axis=1)
    assert outside.sum() == 21  # of 25 cells; a raw 2 already reads as more than a normalised 4


def test_a_target_moved_every_hundredth_update_hardly_moves():
    def share_of_the_way(updates: int, every: int, rate: float = 0.005) -> float:
        target = 0.0
        for update in range(1, updates + 1):
            if update % every == 0:
                target += rate * (1.0 - target)
        return target

    assert share_of_the_way(1_000, every=100) == pytest.approx(0.049, abs=0.001)
    assert share_of_the_way(10_000, every=100) == pytest.approx(0.394, abs=0.001)
    assert share_of_the_way(1_000, every=1) > 0.99


def test_the_goal_reward_does_not_travel_eight_steps_through_that_target():
    def value_of_the_start(every: int, updates: int = 10_000) -> float:
        online, target = np.zeros(8), np.zeros(8)  # eight steps to the goal; the learner fits every target exactly
        for update in range(1, updates + 1):
            online = np.append(target[1:], 1.0)
            if update % every == 0:
                target += 0.005 * (online - target)
        return online[0]

    assert value_of_the_start(every=1) > 0.999
    assert value_of_the_start(every=100) < 1e-4


def test_a_head_that_enters_no_loss_is_never_trained():
    torch.manual_seed(0)
    heads = nn.ModuleDict({"q": nn.Linear(2, 4), "value": nn.Linear(2, 1)})
    before = heads["value"].weight.detach().clone()
    optimiser = torch.optim.Adam(heads.parameters())
    states = torch.ones(8, 2)
    heads["value"](states)  # computed in every forward pass, as in the original
    q = heads["q"](states)
    (torch.logsumexp(q, dim=1) - q[:, 0]).mean().backward()
    optimiser.step()
    assert heads["value"].weight.grad is None
    assert torch.equal(heads["value"].weight, before)
    assert heads["q"].weight.grad is not None


def test_one_noisy_critic_inflates_the_value_more_than_the_smaller_of_two():
    def expectile(samples: np.ndarray, level: float) -> float:
        value = 0.0
        for _ in range(100):
            weight = np.where(samples > value, level, 1 - level)
            value = (weight * samples).sum() / weight.sum()
        return value

    noise = np.random.default_rng(0).normal(size=(2, 100_000))  # two critics of actions whose true value is 0
    one, smaller_of_two = expectile(noise[0], 0.7), expectile(noise.min(axis=0), 0.7)
    assert one > 0.3
    assert smaller_of_two < 0.0 < one


def test_dividing_the_advantage_by_three_stays_close_to_cloning():
    model, mixed = tabular_model(GRID), behaviour_policy(GRID, "mixed")
    values = policy_evaluation(model, mixed, discount=0.99)
    advantage = values.q - values.value[:, None]

    def share_of_the_way_to_the_optimum(inverse_temperature: float) -> float:
        weighted = mixed * np.exp(inverse_temperature * advantage)
        policy = weighted / weighted.sum(axis=1, keepdims=True)
        cloned = policy_return(model, mixed)
        return (policy_return(model, policy) - cloned) / (0.3 - cloned)

    assert share_of_the_way_to_the_optimum(1 / 3) < 0.1
    assert 0.2 < share_of_the_way_to_the_optimum(1 / 3 / 0.314) < 0.3  # rewards divided by their deviation, as there
    assert share_of_the_way_to_the_optimum(3.0) > 0.5
    assert share_of_the_way_to_the_optimum(10.0) > 0.9


def test_expert_episodes_contain_eight_state_actions():
    model = tabular_model(GRID)
    visits = occupancy_measure(model, behaviour_policy(GRID, "expert"))
    assert (visits > 0).sum() == 8
    assert set(visits[visits > 0]) == {1.0}
    assert (~model.terminal).sum() * model.num_actions == 96


def test_without_time_outs_two_histories_store_the_same_arrays():
    corner = (0, 0)  # bumping into the wall at the start: a time-out there leaves no trace in the next state
    step = (corner, 2, -0.1, corner, False)
    two_episodes, one_episode = [[step] * 50, [step] * 50], [[step] * 100]
    stored = [[transition for episode in history for transition in episode] for history in (two_episodes, one_episode)]
    assert stored[0] == stored[1]
    returns = [statistics.mean(sum(t[2] for t in episode) for episode in h) for h in (two_episodes, one_episode)]
    assert returns == pytest.approx([-5.0, -10.0])


def test_the_maximum_of_noisy_values_is_biased_and_the_operator_is_not():
    model = tabular_model(GRID)
    exact = value_iteration(model, discount=0.99)
    backed_up = model.expected_reward + 0.99 * model.transition @ exact.q.max(axis=1)
    assert backed_up[~model.terminal] == pytest.approx(exact.q[~model.terminal])  # the true Q is its own backup
    estimates = np.random.default_rng(0).normal(size=(100_000, 4))  # unbiased estimates of four values that are all 0
    assert estimates.mean() == pytest.approx(0.0, abs=0.01)
    assert estimates.max(axis=1).mean() == pytest.approx(1.03, abs=0.01)


# --- section 2, safe ---------------------------------------------------------------------------------------------

SIZE, GOAL, HAZARDS = 6, (5, 5), {(2, 2), (3, 1), (1, 3), (4, 3)}


def cost_of(cell: tuple[int, int]) -> float:
    return (cell in HAZARDS) + 0.1 * any(coordinate in (0, SIZE - 1) for coordinate in cell)


def neighbours(cell: tuple[int, int]) -> set[tuple[int, int]]:
    return {
        (min(max(cell[0] + dx, 0), SIZE - 1), min(max(cell[1] + dy, 0), SIZE - 1))
        for dx, dy in ((0, 1), (0, -1), (-1, 0), (1, 0))
    }


def cheapest_finish() -> float:
    """Dijkstra's algorithm on the cost of the cells entered."""
    queue, settled = [(0.0, (0, 0))], set()
    while queue:
        cost, cell = heapq.heappop(queue)
        if cell == GOAL:
            return cost
        if cell not in settled:
            settled.add(cell)
            for successor in neighbours(cell):
                heapq.heappush(queue, (cost + cost_of(successor), successor))
    raise AssertionError("the goal cannot be reached")


def test_finishing_costs_at_least_six_times_the_limit():
    assert cheapest_finish() == pytest.approx(0.6)


def test_the_best_policy_within_the_limit_never_finishes():
    # every first step enters a border cell, so every policy spends the whole limit of 0.1 at once …
    assert min(cost_of(cell) for cell in neighbours((0, 0))) == pytest.approx(0.1)
    # … then only free cells are left, and those that can be reached for nothing do not include the goal
    free = {cell for cell in neighbours((0, 1)) | neighbours((1, 0)) if cost_of(cell) == 0}
    while True:
        grown = free | {n for cell in free for n in neighbours(cell) if cost_of(n) == 0}
        if grown == free:
            break
        free = grown
    assert free == {(1, 1), (1, 2), (2, 1)}
    assert GOAL not in {n for cell in free for n in neighbours(cell)}
    rewards_of_an_unfinished_episode = [-0.1] * 50
    assert sum(rewards_of_an_unfinished_episode) == pytest.approx(-5.0)
    best = constrained_optimum(tabular_model(SAFE_GRID), [0.1])
    assert best.optimal_return == pytest.approx(-5.0)
    with pytest.raises(InfeasibleError):
        constrained_optimum(tabular_model(SAFE_GRID), [0.09])


def test_between_the_two_costs_the_optimum_needs_a_coin():
    for limit, optimum in ((0.3, 0.64), (0.5, 6.28), (0.6, 9.1), (1.0, 9.1)):
        best = constrained_optimum(tabular_model(SAFE_GRID), [limit])
        assert best.optimal_return == pytest.approx(optimum)
        visited = best.occupancy.sum(axis=-1) > 1e-9
        coins = int((((best.policy > 1e-9).sum(axis=-1) > 1) & visited).sum())
        assert coins == (1 if limit < 0.6 else 0)


def test_both_safe_agents_end_more_than_twenty_times_above_the_limit():
    for printed_cost in (2.1240, 2.5260):
        assert printed_cost / 0.1 > 20
        assert printed_cost / cheapest_finish() > 3


def test_the_skip_rule_never_fires():
    generator = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e6):
        cost_advantage = generator.gamma(0.3, size=500) * scale
        normalised = (cost_advantage - cost_advantage.mean()) / (cost_advantage.std() + 1e-8)
        ratio = np.ones(500)  # the policy that is tested collected the data
        assert abs((ratio * normalised).mean()) < 1e-6 < 0.1


def test_one_step_per_batch_leaves_clip_and_divergence_idle():
    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4), nn.LogSoftmax(dim=-1))
    observations, actions = torch.rand(64, 2), torch.randint(4, (64,))
    advantage = 10 * torch.randn(64)
    chosen = policy(observations).gather(1, actions[:, None]).squeeze(1)
    old = chosen.detach()  # the only update on a batch is made with the policy that collected it
    ratio = (chosen - old).exp()
    clipped = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    plain = -(chosen * advantage).mean()
    assert (old - chosen).mean().item() == 0.0  # what is called the KL divergence
    with_clip = torch.autograd.grad(clipped, list(policy.parameters()), retain_graph=True)
    without = torch.autograd.grad(plain, list(policy.parameters()))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(with_clip, without))


def test_value_targets_ignore_the_size_of_the_reward():
    def targets(scale: float) -> np.ndarray:
        advantage = scale * np.array([3.0, 1.0, -2.0, 5.0])
        return (advantage - advantage.mean()) / advantage.std() + np.zeros(4)  # values that start at 0

    assert targets(1.0) == pytest.approx(targets(100.0))
    assert targets(1.0).mean() == pytest.approx(0.0)


def test_the_mean_cost_to_go_is_not_the_episode_cost():
    def mean_cost_to_go(costs: np.ndarray) -> float:
        return np.mean([sum(0.99**k * c for k, c in enumerate(costs[t:])) for t in range(len(costs))])

    early, late = np.eye(10)[0], np.eye(10)[9]  # both episodes cost exactly 1
    assert mean_cost_to_go(early) == pytest.approx(0.1)
    assert mean_cost_to_go(late) > 0.95
    model = tabular_model(SAFE_GRID)
    best = constrained_optimum(model, [0.6])
    assert policy_costs(model, best.policy) == pytest.approx(0.6)
    steps = np.einsum("tsa,sa->t", best.occupancy, model.expected_cost[0])[: round(best.occupancy.sum())]
    assert steps.sum() == pytest.approx(0.6)
    assert mean_cost_to_go(steps) < 0.4


@pytest.mark.parametrize("violation", [0.01, 10.0])
def test_adam_moves_the_multiplier_by_the_same_step_for_any_violation(violation):
    multiplier = nn.Parameter(torch.tensor(1.0))
    optimiser = torch.optim.Adam([multiplier], lr=1e-2)
    (-multiplier * violation).backward()
    optimiser.step()
    assert multiplier.item() == pytest.approx(1.01, abs=1e-6)


def test_the_multiplier_of_the_whole_run_stays_under_a_seventh_of_its_value():
    multiplier = nn.Parameter(torch.tensor(1.0))
    optimiser = torch.optim.Adam([multiplier], lr=1e-2)
    for _ in range(300):  # the updates of the stored run, each with a violation twenty times the limit
        optimiser.zero_grad()
        (-multiplier * 2.0).backward()
        optimiser.step()
    price = constrained_optimum(tabular_model(SAFE_GRID), [0.3]).multipliers[0]
    assert price == pytest.approx(28.2)
    assert multiplier.item() == pytest.approx(4.0, abs=0.01)
    assert multiplier.item() < price / 7


def test_a_cost_that_no_action_changes_adds_only_variance():
    policy = np.array([0.7, 0.3])
    score = np.eye(2) - policy  # gradient of log-probabilities with respect to the logits, by action

    def moments(cost: np.ndarray) -> tuple[np.ndarray, float]:
        sample = score * cost[:, None]
        mean = policy @ sample
        return mean, float(policy @ ((sample - mean) ** 2).sum(axis=1))

    mean, variance = moments(np.full(2, 1.0))
    assert mean == pytest.approx(np.zeros(2))
    assert moments(np.full(2, 10.0))[1] == pytest.approx(100 * variance)
    assert variance > 0
    assert moments(np.full(2, 10.0) - 10.0)[1] == 0.0  # with the value as baseline


def test_treating_a_time_limit_as_the_end_changes_the_value():
    forever = TabularModel(np.ones((1, 1, 1)), np.full((1, 1), -0.1))
    policy = np.ones((1, 1))
    assert policy_return(forever, policy, discount=0.99) == pytest.approx(-10.0)
    assert policy_return(forever, policy, discount=0.99, horizon=50) == pytest.approx(-3.95, abs=0.01)


def test_border_cells_are_flagged_as_violations_and_called_safe():
    border = [(x, y) for x in range(SIZE) for y in range(SIZE) if {x, y} & {0, SIZE - 1}]
    assert len(border) == 20
    assert all(cost_of(cell) > 0 for cell in border)  # the flag of the original
    assert not HAZARDS & set(border)  # its own test of safety says all twenty are safe, start and goal included


def test_the_list_of_safe_actions_would_have_prevented_every_hazard():
    model = tabular_model(SAFE_GRID)
    hazard = np.array([tuple(cell) in HAZARDS for cell in model.observation.astype(int)])
    assert hazard.sum() == len(HAZARDS)
    enters = model.transition @ hazard > 0
    safe = ~enters
    safe[~safe.any(axis=1)] = True  # its fallback: all actions
    masked = TabularModel(
        model.transition, model.reward, terminal=model.terminal, initial=model.initial, horizon=model.horizon,
        action_mask=safe,
    )  # fmt: skip
    every = np.where(safe, 1.0, 0.0) / safe.sum(axis=1, keepdims=True)
    state = model.initial
    for _ in range(model.horizon):
        state = np.einsum("s,sa,sat->t", state, every, model.transition)
        assert state[hazard].sum() == 0.0  # the random policy, masked, which visits whatever any masked policy can
    assert value_iteration(masked).optimal_return == pytest.approx(9.1)


def test_the_barrier_of_a_state_is_infinite_on_the_border_and_undefined_on_hazards():
    limit, cells = 0.1, [(x, y) for x in range(SIZE) for y in range(SIZE)]
    with np.errstate(all="ignore"):
        barrier = {cell: -np.log(limit - cost_of(cell)) for cell in cells}
    assert sum(np.isinf(value) for value in barrier.values()) == 20
    assert np.isinf(barrier[(0, 0)])
    assert np.isinf(barrier[GOAL])
    assert {cell for cell, value in barrier.items() if np.isnan(value)} == HAZARDS


def test_the_conditional_mean_at_an_atom_is_not_cvar():
    losses, probability, level = np.array([0.0, 1.0]), np.array([0.9, 0.1]), 0.85
    value_at_risk = losses[np.searchsorted(np.cumsum(probability), level)]
    tail = losses >= value_at_risk
    conditional_mean = (losses * probability)[tail].sum() / probability[tail].sum()
    cvar = min(c + probability @ np.maximum(losses - c, 0) / (1 - level) for c in losses)
    assert conditional_mean == pytest.approx(0.1)
    assert cvar == pytest.approx(2 / 3)


# --- section 3, multi-agent --------------------------------------------------------------------------------------


def test_the_declared_observation_size_differs_from_the_true_one():
    agents, targets = 4, 3
    declared = 2 + 2 * agents + 2 * targets
    observation = [0.0, 0.0] + [0.0, 0.0] * (agents - 1) + [0.0, 0.0] * targets
    assert (declared, len(observation)) == (16, 14)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        nn.Linear(declared, 128)(torch.tensor([observation]))


def test_a_list_of_rewards_cannot_be_sliced_by_agent():
    batch_of_rewards = [[0.0, 1.0], [2.0, 3.0]]
    with pytest.raises(TypeError, match="list indices must be integers"):
        batch_of_rewards[:, 0]
    assert np.array(batch_of_rewards)[:, 0].tolist() == [0.0, 2.0]


def test_a_softmax_of_probabilities_never_becomes_greedy():
    certain = torch.eye(5)[0]
    assert torch.softmax(certain, dim=0).max().item() == pytest.approx(np.e / (np.e + 4), abs=1e-6)
    assert np.e / (np.e + 4) < 0.41


def test_the_qmix_target_moves_five_percent_in_the_whole_run():
    updates = 500  # one an episode
    soft_updates = sum(update % 100 == 0 for update in range(updates))
    assert soft_updates == 5
    assert 1 - 0.99**soft_updates == pytest.approx(0.049, abs=0.001)


def test_a_mixer_with_free_signs_is_not_monotonic():
    torch.manual_seed(0)
    falling = 0
    for _ in range(100):
        final = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
        weights = torch.rand(32, 4)  # the first layer's weights, made positive as in the original
        utilities = torch.randn(4, requires_grad=True)
        final(weights @ utilities).backward()
        falling += bool((utilities.grad < 0).any())
    assert falling > 20  # of 100 freshly initialised mixers

    forced = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for parameter, value in zip(forced.parameters(), (1.0, 0.0, -1.0, 0.0)):
        nn.init.constant_(parameter, value)
    assert forced(torch.tensor([[2.0]])) < forced(torch.tensor([[1.0]]))


def test_without_a_state_bias_equal_utilities_have_one_value_in_every_state():
    torch.manual_seed(0)
    mixer, final = nn.Linear(3, 2 * 32), nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    states, utilities = torch.randn(50, 3), torch.zeros(50, 2, 1)
    weights = mixer(states).relu().abs().view(50, 2, 32)
    team_value = final((weights.transpose(1, 2) @ utilities).squeeze(-1))
    assert team_value.std().item() == pytest.approx(0.0, abs=1e-6)


def test_the_cooperation_rate_is_full_for_one_agent_working_alone():
    targets_found = [1] * 100  # agent 0 starts beside a target and takes it; nobody moves again
    assert sum(found > 0 for found in targets_found) / len(targets_found) == 1.0


def test_agents_that_avoid_a_collision_can_end_on_one_cell():
    positions = {"a": 0, "b": 2, "c": 3}  # on a line: a and b both step to 1, c steps to where b stood
    wanted = {"a": 1, "b": 1, "c": 2}
    counts = Counter(wanted.values())
    after = {agent: wanted[agent] if counts[wanted[agent]] == 1 else positions[agent] for agent in positions}
    assert after["b"] == after["c"] == 2


def test_three_agents_that_collide_are_counted_as_one_collision():
    wanted = ["x", "x", "x", "y"]
    involved = [agent for agent, cell in enumerate(wanted) if wanted.count(cell) > 1]
    assert (len(involved), len(involved) // 2) == (3, 1)


def test_every_agent_of_the_original_sees_the_whole_state():
    # own cell and all relative cells, as in the original; collected targets show (0, 0), where no open one can be
    game = multi_agent_environment("TargetGrid", 50)
    observation, _ = game.reset(seed=0)
    assert observation.shape[-1] == 14
    rows = np.rint(8 * observation).astype(int).reshape(50, 4, 7, 2)
    for agent in range(4):
        cells = rows[:, agent, 1:] + rows[:, agent, :1]
        others = np.delete(np.arange(4), agent)
        assert (cells[:, :3] == game.agent_cells[:, others]).all()
        assert (cells[:, 3:] == game.target_cells).all()


def team_episodes(name: str, copies: int = 300) -> dict[str, np.ndarray]:
    nearest = solution("multi_agent_nearest")
    return nearest.first_episodes(nearest.TEAMS[name], copies, seed=0)


def test_the_cooperation_rate_is_highest_for_the_team_that_gets_stuck():
    stuck, planned = team_episodes("nearest target"), team_episodes("assigned")
    assert stuck["return"].mean() < -20 < 30 < planned["return"].mean()
    assert stuck["cooperation"].mean() > planned["cooperation"].mean() + 0.08


def test_uniform_actions_find_most_targets():
    uniform = team_episodes("uniform", copies=1_000)
    assert uniform["targets"].mean() / 3 == pytest.approx(0.88, abs=0.03)
    assert uniform["finished"].mean() == pytest.approx(0.69, abs=0.05)
    assert uniform["return"].mean() == pytest.approx(0.15, abs=2.6)  # four standard errors
    assert uniform["return"].std() == pytest.approx(20, abs=2)


def test_critics_that_agree_on_actions_disagree_about_mixtures():
    reward = torch.tensor([1.0, 0.0, 0.5])

    def critic(action: torch.Tensor, bump: float) -> torch.Tensor:
        return action @ reward + bump * action[..., 1] * action[..., 2]

    mixture = torch.tensor([0.2, 0.4, 0.4], requires_grad=True)
    gradients = []
    for bump in (0.0, 10.0):
        assert critic(torch.eye(3), bump).tolist() == reward.tolist()
        gradients.append(torch.autograd.grad(critic(mixture, bump), mixture)[0])
    assert gradients[0].argmax() == 0
    assert gradients[1].argmax() == 2


def test_half_of_the_mixing_weights_start_at_zero():
    torch.manual_seed(0)
    states, hyper = (
        torch.randn(200, 56),
        nn.Sequential(nn.Linear(56, 256), nn.ReLU(), nn.Linear(256, 4 * 32), nn.ReLU()),
    )
    weights = hyper(states)
    assert torch.equal(weights, weights.abs())
    assert (weights == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


# --- section 4, robust -------------------------------------------------------------------------------------------


def test_a_literal_backslash_n_is_a_syntax_error():
    with pytest.raises(SyntaxError):
        ast.parse(r"distribution = make(probabilities)\n            log_prob = distribution.log_prob(actions)")


def test_a_loss_of_stored_values_has_no_gradient():
    stored, returns = torch.tensor([0.1, 0.2]), torch.tensor([1.0, 1.0])
    with pytest.raises(RuntimeError, match="does not require grad"):
        nn.functional.mse_loss(stored, returns).backward()


def test_raising_entropy_can_help_the_agent():
    reward = torch.tensor([0.0, 1.0])
    logit = torch.tensor(2.0, requires_grad=True)  # the policy prefers the worse action
    policy = torch.softmax(torch.stack([logit, torch.tensor(0.0)]), dim=0)
    entropy = -(policy * policy.log()).sum()
    attacked = logit + 0.5 * torch.sign(torch.autograd.grad(entropy, logit)[0])
    after = torch.softmax(torch.stack([attacked, torch.tensor(0.0)]), dim=0)
    assert after @ reward > policy @ reward


def test_no_gradient_passes_through_the_sign():
    weight = torch.tensor([0.3, -0.7], requires_grad=True)
    torch.sign(weight).sum().backward()
    assert torch.equal(weight.grad, torch.zeros(2))


def test_dropout_makes_the_ratio_differ_from_one_before_any_update():
    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4), nn.LogSoftmax(dim=-1))
    observations = torch.randn(256, 6)
    ratio = (policy(observations) - policy(observations)).exp()
    assert (ratio - 1).abs().max() > 0.05
    policy.eval()
    assert (policy(observations) - policy(observations)).abs().max() == 0


def test_zero_uncertainty_still_randomises_the_grid():
    base_size, uncertainty = 6, 0.0
    variation = max(1, int(base_size * uncertainty))
    sizes = range(max(3, base_size - variation), base_size + variation + 1)
    assert list(sizes) == [5, 6, 7]


def test_the_robustness_ratio_rewards_collapse_when_returns_are_negative():
    low_uncertainty, mild, collapse = -10.0, -11.0, -100.0
    assert collapse / low_uncertainty > mild / low_uncertainty > 1.0  # 1 was drawn as "perfect"
    near_zero = -0.01
    assert collapse / near_zero > 1_000


def test_maximising_the_posterior_mean_is_not_thompson_sampling():
    generator = np.random.default_rng(0)
    mean, deviation = np.array([0.5, 0.4]), np.array([0.1, 0.3])  # posterior over the values of two arms
    greedy = {int(mean.argmax()) for _ in range(100)}
    sampled = Counter(int(generator.normal(mean, deviation).argmax()) for _ in range(1_000))
    assert greedy == {0}
    assert 250 < sampled[1] < 500


# --- section 5, evaluation ---------------------------------------------------------------------------------------


def test_the_number_of_parameters_does_not_tell_what_an_agent_returns():
    def offline(state, epsilon=0.0):
        return 1

    def safe(state):
        return 1, -0.5

    def guessed(act):
        if len(inspect.signature(act).parameters) > 1:
            action, _, _ = act("state")
            return action
        return act("state")

    with pytest.raises(TypeError):  # an action cannot be unpacked
        guessed(offline)
    assert guessed(safe) == (1, -0.5)  # a tuple goes to the environment as an action


def test_a_network_for_two_features_cannot_read_six():
    with pytest.raises(RuntimeError):
        nn.Linear(2, 128)(torch.zeros(1, 6))


def test_eighty_percent_of_a_negative_best_is_never_reached():
    curve = [-9.0, -7.0, -5.0, -5.0]
    assert not any(reward >= 0.8 * max(curve) for reward in curve)


def test_the_smallest_over_the_largest_return_is_blind_to_negative_returns():
    def robustness(returns: list[float]) -> float:
        return min(returns) / max(returns) if max(returns) > 0 else 0.0

    assert robustness([-1.0, -1.0]) == robustness([-1.0, -1_000.0]) == 0.0


def test_a_reward_under_minus_one_is_no_measure_of_cost():
    walk_over_every_hazard = [-0.1] * 49 + [10.0]  # the safe grid pays the same wherever the agent stands
    assert not any(reward < -1.0 for reward in walk_over_every_hazard)


def min_max(scores: dict[str, float]) -> dict[str, float]:
    low, high = min(scores.values()), max(scores.values())
    return {name: (score - low) / (high - low) if high > low else 1.0 for name, score in scores.items()}


def weighted(metrics: list[dict[str, float]], weights: list[float]) -> dict[str, float]:
    scaled = [min_max(scores) for scores in metrics]
    names = {name for scores in metrics for name in scores}
    return {
        name: sum(w * s[name] for w, s in zip(weights, scaled) if name in s)
        / sum(w for w, s in zip(weights, scaled) if name in s)
        for name in names
    }


def test_a_third_method_reverses_the_order_of_two():
    performance, safety = {"a": 10.0, "b": 8.0}, {"a": 0.0, "b": 1.0}
    alone = weighted([performance, safety], [0.55, 0.45])
    assert alone["a"] > alone["b"]
    joined = weighted([performance | {"c": 0.0}, safety | {"c": 0.0}], [0.55, 0.45])
    assert joined["a"] < joined["b"]


def test_a_lone_method_scores_one():
    assert min_max({"only": -1_000.0}) == {"only": 1.0}


def test_measuring_less_can_win():
    performance, safety = {"a": 10.0, "b": 9.0, "c": 0.0}, {"b": 1.0, "c": 0.0}
    scores = weighted([performance, safety | {"d": 1.5}], [0.5, 0.5])
    assert scores["a"] == 1.0 > scores["b"]  # a was never tested for safety


def test_one_run_has_no_interval():
    with pytest.raises(statistics.StatisticsError):
        statistics.stdev([8.76])


# --- the page ----------------------------------------------------------------------------------------------------


def test_the_errata_page_and_this_file_name_the_same_tests():
    here = {name for name, value in globals().items() if name.startswith("test_") and inspect.isfunction(value)}
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", ERRATA.read_text(encoding="utf8")))
    assert named - here == set(), "the page names tests that do not exist"
    assert here - named == {"test_the_errata_page_and_this_file_name_the_same_tests"}, "tests the page does not name"
