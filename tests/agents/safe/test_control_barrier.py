"""Control barrier functions: the programme is solved exactly, and safe sets are not left where the barrier is valid."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.agents.safe import control_barrier as module
from ca14lib.agents.safe.control_barrier import (
    ControlBarrier,
    reactor_barrier,
    sampling_margin,
    verify_barrier_on_grid,
)
from ca14lib.environments.reactor import ReactorVector
from tests.agents.safe.test_projection import general_solver

LIMIT, BRAKE = 1.0, 2.0  # a wall at position 1, and the largest deceleration


# Systems


def integrator_drift(state: np.ndarray) -> np.ndarray:
    """Position and velocity; the action is the acceleration."""
    return np.stack([state[:, 1], np.zeros(len(state))], axis=1)


def integrator_gain(state: np.ndarray) -> np.ndarray:
    return np.tile(np.array([[0.0], [1.0]]), (len(state), 1, 1))


def braking(state: np.ndarray) -> np.ndarray:
    """Room that is left after braking fully."""
    return LIMIT - state[:, 0] - np.maximum(state[:, 1], 0.0) ** 2 / (2 * BRAKE)


def braking_gradient(state: np.ndarray) -> np.ndarray:
    return np.stack([-np.ones(len(state)), -np.maximum(state[:, 1], 0.0) / BRAKE], axis=1)


def position(state: np.ndarray) -> np.ndarray:
    return LIMIT - state[:, 0]


def position_gradient(state: np.ndarray) -> np.ndarray:
    return np.tile([-1.0, 0.0], (len(state), 1))


def double_integrator(barrier=braking, gradient=braking_gradient, **keywords: object) -> ControlBarrier:
    settings = {"gamma": 1.0, "low": -BRAKE, "high": BRAKE} | keywords
    return ControlBarrier(integrator_drift, integrator_gain, barrier, gradient, **settings)


@dataclass
class Run:
    """Positions and velocities of a run of the double integrator, ``[T, N]``."""

    position: np.ndarray
    velocity: np.ndarray


def brake(state: np.ndarray) -> np.ndarray:
    return np.full((len(state), 1), -BRAKE)


def drive(
    control: ControlBarrier | None,
    step: float,
    duration: float = 6.0,
    rows: int = 40,
    seed: int = 0,
    least: float = -0.2,
) -> Run:
    """Thrust towards the wall, each action held for ``step`` and integrated exactly.

    ``least`` 1 is full thrust all the time, less is noise.
    """
    rng = np.random.default_rng(seed)
    state = np.stack([rng.uniform(-3, 0, rows), rng.uniform(-1, 1, rows)], axis=1)
    state[0] = 0.0, 0.0
    assert (braking(state) > 0).all()
    positions, velocities = [], []
    for _ in range(int(duration / step)):
        wanted = np.clip(BRAKE * rng.uniform(least, 1.5, size=(rows, 1)), -BRAKE, BRAKE)
        action = wanted if control is None else control(state, wanted)
        assert (abs(action) <= BRAKE).all()
        x, v, u = state[:, 0], state[:, 1], action[:, 0]
        state = np.stack([x + step * v + 0.5 * step**2 * u, v + step * u], axis=1)
        positions.append(state[:, 0])
        velocities.append(state[:, 1])
    return Run(np.array(positions), np.array(velocities))


# Properties, and faults that each must notice


def the_closed_form_is_the_solution_of_the_programme() -> None:
    rng = np.random.default_rng(0)
    for weight in (math.inf, 20.0, 0.5):
        for size in (1, 3):
            for _ in range(25):
                a, influence = rng.normal(size=(1, size)), rng.normal(size=(1, size))
                along, value = rng.normal(size=1), rng.normal(size=1)
                found = module.barrier_action(a, along, influence, value, 0.7, weight)
                expected, _ = general_solver(a[0], -influence, along + 0.7 * value, None, None, weight)
                np.testing.assert_allclose(found[0], expected, atol=1e-5)


def the_wall_is_never_passed() -> None:
    step = 0.02
    margin = sampling_margin(step, 2 * BRAKE, 1.0)
    run = drive(double_integrator(margin=margin, backup=brake), step)
    assert run.position.max() <= LIMIT
    assert run.position.max() > LIMIT - 5 * margin - 0.1, "the filter does not simply stop the car"


def several_barriers_are_kept_at_once() -> None:
    """ẋ = x + u leaves every bounded set by itself; two barriers keep it in [−1, 1], whatever the policy wants."""
    control = ControlBarrier(
        lambda x: x, lambda x: np.ones((len(x), 1, 1)), lambda x: np.concatenate([1 - x, 1 + x], axis=1),
        lambda x: np.tile([[-1.0], [1.0]], (len(x), 1, 1)), gamma=2.0, low=-1.5, high=1.5,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    state = free = rng.uniform(-0.9, 0.9, (50, 1))
    for k in range(2_000):
        wanted = np.full((50, 1), 1.5 * math.sin(k / 150))
        action = control(state, wanted)
        assert (abs(action) <= 1.5).all()
        state, free = state + 0.005 * (state + action), free + 0.005 * (free + np.clip(wanted, -1.5, 1.5))
        assert (abs(state) <= 1 + 1e-9).all()
    assert abs(free).max() > 10
    assert abs(state).max() > 0.5
    assert control.infeasible == 0


def actions_that_meet_the_condition_pass_unchanged() -> None:
    control = double_integrator()
    state = np.stack([np.linspace(-3, 0.9, 100), np.zeros(100)], axis=1)
    brakes = np.full((100, 1), -1.0)
    np.testing.assert_array_equal(control(state, brakes), brakes)
    assert (control.calls, control.corrections) == (100, 0)


def the_grid_tells_a_valid_barrier_from_an_invalid_one() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-3, 1.5, 61), np.linspace(-3, 3, 61)), axis=-1).reshape(-1, 2)
    wall = lambda state: state[:, 0] > LIMIT  # noqa: E731
    good = module.verify_barrier_on_grid(double_integrator(), grid, unsafe=wall)
    assert good.valid
    assert good.checked == (braking(grid) >= 0).sum()
    blind = module.verify_barrier_on_grid(double_integrator(position, position_gradient), grid, unsafe=wall)
    assert not blind.valid
    assert len(blind.unsafe) == 0
    # without influence on the barrier, too fast is too fast: v > γ(limit − x)
    too_fast = (position(grid) >= 0) & (grid[:, 1] > position(grid) + 1e-9)
    assert sorted(map(tuple, blind.violating)) == sorted(map(tuple, grid[too_fast]))
    np.testing.assert_allclose(blind.shortfall.max(), (grid[:, 1] - position(grid))[too_fast].max())
    weak = module.verify_barrier_on_grid(double_integrator(low=-BRAKE / 2), grid)
    assert not weak.valid, "brakes that are half as strong as the barrier believes"
    generous = module.verify_barrier_on_grid(
        double_integrator(lambda s: braking(s) + 0.5, braking_gradient), grid, unsafe=wall
    )
    assert len(generous.unsafe) > 0, "the barrier's set reaches beyond the wall"


PROPERTIES = [
    the_closed_form_is_the_solution_of_the_programme,
    the_wall_is_never_passed,
    several_barriers_are_kept_at_once,
    actions_that_meet_the_condition_pass_unchanged,
    the_grid_tells_a_valid_barrier_from_an_invalid_one,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds()


def drift_is_forgotten(patch):
    healthy = ControlBarrier.conditions

    def conditions(self, state):
        influence, rest = healthy(self, state)
        value = np.asarray(self.barrier(state)).reshape(len(state), -1)
        return influence, self.gamma * (value - self.margin) + 0 * rest

    patch.setattr(ControlBarrier, "conditions", conditions)


def rate_of_the_wrong_sign(patch):
    healthy = ControlBarrier.conditions

    def conditions(self, state):
        influence, rest = healthy(self, state)
        value = np.asarray(self.barrier(state)).reshape(len(state), -1)
        return influence, rest - 2 * self.gamma * (value - self.margin)

    patch.setattr(ControlBarrier, "conditions", conditions)


def constraint_turned_round(patch):
    healthy = module.nearest_action
    patch.setattr(module, "nearest_action", lambda a, g, h, **k: healthy(a, -g, h, **k))


def only_the_first_barrier(patch):
    healthy = module.nearest_action
    patch.setattr(module, "nearest_action", lambda a, g, h, **k: healthy(a, g[:, :1], h[:, :1], **k))


def slack_counts_twice(patch):
    """M s² taken for ½ M s²: the multiplier is divided by ‖L_g h‖² + 1/M."""
    healthy = module.barrier_action
    patch.setattr(module, "barrier_action", lambda a, f, g, h, gamma, weight: healthy(a, f, g, h, gamma, weight / 2))


def correction_not_squared(patch):
    def action(a, along, influence, value, gamma, weight=math.inf):
        excess = along + (influence * a).sum(axis=1) + gamma * value
        size = np.linalg.norm(influence, axis=1) + 0.5 / weight
        return a + (np.maximum(-excess, 0) / size)[:, None] * influence

    patch.setattr(module, "barrier_action", action)


def the_grid_ignores_the_bounds(patch):
    patch.setattr(module, "checked_bounds", lambda low, high, size: (np.full(size, -1e6), np.full(size, 1e6)))


def the_grid_asks_about_the_worst_action(patch):
    patch.setattr(module, "checked_bounds", lambda low, high, size: (np.zeros(size), np.zeros(size)))


FAULTS = [
    (drift_is_forgotten, the_wall_is_never_passed),
    (rate_of_the_wrong_sign, the_wall_is_never_passed),
    (constraint_turned_round, the_wall_is_never_passed),
    (only_the_first_barrier, several_barriers_are_kept_at_once),
    (slack_counts_twice, the_closed_form_is_the_solution_of_the_programme),
    (correction_not_squared, the_closed_form_is_the_solution_of_the_programme),
    (the_grid_ignores_the_bounds, the_grid_tells_a_valid_barrier_from_an_invalid_one),
    (the_grid_asks_about_the_worst_action, the_grid_tells_a_valid_barrier_from_an_invalid_one),
]


@pytest.mark.parametrize("plant, holds", FAULTS, ids=lambda function: function.__name__)
def test_planted_fault_is_caught(plant, holds, monkeypatch):
    holds()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        holds()


# The reactor


def hottest(control: ControlBarrier | None, wanted, steps: int = 200, rows: int = 32) -> tuple[float, int]:
    """Highest temperature in K, and steps that ended above the limit, counted over all of a run."""
    environment = ReactorVector(rows)
    observation, _ = environment.reset(seed=0)
    above, highest = 0, 0.0
    for k in range(steps):
        action = np.full((rows, 1), wanted(k))
        if control is not None:
            action = control(observation, action)
        observation, _, terminated, truncated, info = environment.step(action)
        ended = terminated | truncated
        cost = np.where(ended[:, None], info["final_info"]["cost"], info["cost"]) if ended.any() else info["cost"]
        above += int(cost[:, 0].sum())
        highest = max(highest, float(environment.state(observation)[:, 1].max()))
    return highest, above


HEATING = {"always": lambda k: 1.0, "waves": lambda k: math.sin(k / 8), "turns": lambda k: 1.0 - 2.0 * (k // 40 % 2)}


@pytest.mark.parametrize("policy", HEATING)
def test_the_reactor_stays_below_its_limit_whatever_the_policy_wants(policy):
    control = reactor_barrier(ReactorVector(1))
    highest, above = hottest(control, HEATING[policy])
    assert above == 0
    assert 353 < highest <= 354.1, "the filter uses the room it has"
    assert control.calls == 200 * 32
    free, violations = hottest(None, HEATING[policy])
    assert free > 420
    assert violations > 1_000


def test_a_margin_of_nothing_and_a_hasty_rate_let_the_reactor_run_away():
    assert hottest(reactor_barrier(ReactorVector(1), gamma=10.0, margin=0.0), HEATING["waves"])[0] > 400


def reactor_grid(limit: float) -> np.ndarray:
    axes = np.linspace(0, 1, 41), np.linspace(300, limit, 56), np.array([345.0, 350.0, 355.0])
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)


def test_the_reactors_barriers_are_valid_and_the_temperature_alone_is_not():
    environment = ReactorVector(1)
    too_hot = lambda state: state[:, 1] > environment.temperature_limit  # noqa: E731
    report = verify_barrier_on_grid(reactor_barrier(environment), reactor_grid(355.0), unsafe=too_hot)
    assert report.valid
    assert report.checked > 5_000
    alone = verify_barrier_on_grid(reactor_barrier(environment, slope=0.0, margin=0.0), reactor_grid(355.0))
    assert 0.01 < len(alone.violating) / alone.checked < 0.2
    assert alone.violating[:, 0].min() > 0.5, "where there is much unreacted feed"
    assert alone.violating[:, 1].min() > 345
    higher = verify_barrier_on_grid(reactor_barrier(ReactorVector(1, temperature_limit=365.0)), reactor_grid(365.0))
    assert not higher.valid, "another limit needs another slope"


# More


def test_without_the_filter_or_with_the_wrong_barrier_the_wall_is_passed():
    assert drive(None, 0.02).position.max() > LIMIT + 1
    blind = double_integrator(position, position_gradient)
    assert drive(blind, 0.02).position.max() > LIMIT + 1
    assert blind.infeasible > 0


@pytest.mark.parametrize("least", [-0.2, 1.0])
@pytest.mark.parametrize("step", [0.2, 0.05])
def test_the_sampling_margin_is_needed_and_enough(step, least):
    margin = sampling_margin(step, 2 * BRAKE, 1.0)
    runs = [drive(double_integrator(margin=size, backup=brake), step, 20.0, least=least) for size in (0.0, margin)]
    bare, kept = (braking(np.stack([run.position.ravel(), run.velocity.ravel()], axis=1)).min() for run in runs)
    assert -margin <= bare < -1e-4, "held actions overshoot, by no more than the margin"
    assert kept >= 0


def test_sampled_at_a_standstill_the_filter_is_blind_without_a_backup():
    """At v = 0 just outside the set the action has no influence on ḣ: full thrust passes, and again after braking."""
    margin = sampling_margin(0.2, 2 * BRAKE, 1.0)
    blind = drive(double_integrator(margin=margin), 0.2, 60.0, least=1.0)
    assert blind.position.max() > LIMIT
    assert drive(double_integrator(margin=margin, backup=brake), 0.2, 60.0, least=1.0).position.max() <= LIMIT


@given(seed=st.integers(0, 10**6), weight=st.sampled_from([math.inf, 100.0, 1.0]))
def test_the_filter_is_the_closed_form_where_the_bounds_do_not_bind(seed, weight):
    rng = np.random.default_rng(seed)
    state, wanted = rng.uniform(-1, 1, (20, 2)), rng.uniform(-1, 1, (20, 1))
    control = double_integrator(slack_weight=weight, low=-math.inf, high=math.inf)
    value, gradient = braking(state), braking_gradient(state)
    along = (gradient * integrator_drift(state)).sum(axis=1)
    influence = np.einsum("ni,nid->nd", gradient, integrator_gain(state))
    expected = module.barrier_action(wanted, along, influence, value, control.gamma, weight)
    np.testing.assert_allclose(control(state, wanted), expected, atol=1e-8)


def test_a_soft_barrier_settles_outside_by_what_its_weight_says():
    """ẋ = u, h = −x, and a policy that pushes with u = 1: at rest, −λ + 1 = 0 and s = λ/2M, so h = −1/(2Mγ)."""
    for weight in (1.0, 10.0):
        control = ControlBarrier(
            lambda x: 0 * x, lambda x: np.ones((len(x), 1, 1)), lambda x: -x[:, 0],
            lambda x: -np.ones((len(x), 1)), gamma=2.0, slack_weight=weight,
        )  # fmt: skip
        state = np.array([[-1.0]])
        for _ in range(1_500):
            state = state + 0.01 * control(state, np.array([[1.0]]))
        assert float(-state[0, 0]) == pytest.approx(-1 / (2 * weight * 2.0), abs=1e-6)


def test_observations_are_mapped_to_states_and_infeasible_rows_are_counted():
    control = double_integrator(
        state=lambda observation: observation[:, ::-1], backup=lambda state: -9.0 + 0 * state[:, :1]
    )
    observation = np.array([[3.0, 0.99], [0.0, 0.0]])  # velocity first
    action = control(observation, np.array([[1.0], [1.0]]))
    assert action.tolist() == [[-BRAKE], [1.0]]
    assert (control.calls, control.corrections, control.infeasible) == (2, 1, 1)


def test_a_report_of_nothing_is_not_valid():
    report = verify_barrier_on_grid(double_integrator(), np.array([[5.0, 0.0]]))
    assert report.checked == 0
    assert not report.valid


def test_several_barriers_are_checked_jointly():
    """Each of two opposite demands can be met, both together cannot."""
    control = ControlBarrier(
        lambda x: 0 * x, lambda x: np.ones((len(x), 1, 1)), lambda x: np.zeros((len(x), 2)),
        lambda x: np.tile([[1.0], [-1.0]], (len(x), 1, 1)), low=-1, high=1,
    )  # fmt: skip
    assert verify_barrier_on_grid(control, np.zeros((3, 1))).valid
    torn = ControlBarrier(
        lambda x: 0 * x - [[0.0]], lambda x: np.ones((len(x), 1, 1)), lambda x: np.zeros((len(x), 2)),
        lambda x: np.tile([[1.0], [-1.0]], (len(x), 1, 1)), low=0.5, high=1,
    )  # fmt: skip
    report = verify_barrier_on_grid(torn, np.zeros((3, 1)))
    assert len(report.violating) == 3


def test_bad_input_is_refused():
    for keywords, message in (
        ({"gamma": 0.0}, "gamma"), ({"gamma": math.nan}, "gamma"), ({"slack_weight": 0.0}, "slack_weight"),
        ({"margin": -1.0}, "margin"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            double_integrator(**keywords)
    control = double_integrator()
    with pytest.raises(ValueError, match="action must have shape"):
        control(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        control(np.full((2, 2), np.nan), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="barrier must give"):
        double_integrator(lambda s: np.zeros(7))(np.zeros((2, 2)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="barrier_gradient"):
        double_integrator(braking, lambda s: np.zeros((len(s), 3)))(np.zeros((2, 2)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="input_gain"):
        ControlBarrier(integrator_drift, lambda s: np.ones((len(s), 2)), braking, braking_gradient)(
            np.zeros((2, 2)), np.zeros((2, 1))
        )
    with pytest.raises(ValueError, match="states"):
        verify_barrier_on_grid(control, np.zeros(3))
    good = (np.zeros((2, 1)), np.zeros(2), np.ones((2, 1)), np.ones(2), 1.0)
    for place, wrong, message in (
        (0, np.full((2, 1), np.nan), "finite"), (1, np.zeros((2, 1)), r"drift_derivative and barrier \[N\]"),
        (2, np.ones((2, 2)), r"must be \[N, D\]"), (3, np.full(2, np.inf), "finite"), (4, -1.0, "gamma"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            module.barrier_action(*[wrong if index == place else value for index, value in enumerate(good)])
    with pytest.raises(ValueError, match=r"gamma must lie in \(0, 10\], .* got 50"):
        module.reactor_barrier(ReactorVector(1), gamma=50)
    for arguments, message in (((0.0, 1.0, 1.0), "positive"), ((2.0, 1.0, 1.0), "exceed 1")):
        with pytest.raises(ValueError, match=message):
            sampling_margin(*arguments)
