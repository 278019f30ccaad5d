"""Physical domains: Gymnasium's dynamics at the nominal parameters, published equations elsewhere, ranges that hold."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments.domains import (
    LONGEST_DELAY,
    AdaptiveRanges,
    CartPoleDomainVector,
    HopperDomain,
    PendulumDomainVector,
    parameter_grid,
)

CART, PENDULUM = "CA14/CartPoleDomain-v0", "CA14/PendulumDomain-v0"
BOTH = pytest.mark.parametrize("cls", [CartPoleDomainVector, PendulumDomainVector])
SOME_RANGES = {
    CartPoleDomainVector: {"length": (0.25, 1.0), "cart_mass": (0.5, 2.0), "delay": (0, 3)},
    PendulumDomainVector: {"length": (0.7, 1.3), "mass": (0.5, 2.0), "delay": (0, 3)},
}


def actions_for(environment, steps, seed=0):
    rng, copies = np.random.default_rng(seed), environment.num_envs
    if isinstance(environment.single_action_space, gym.spaces.Discrete):
        return rng.integers(2, size=(steps, copies))
    return rng.uniform(-1, 1, size=(steps, copies, 1)).astype(np.float32)


# The nominal parameters


def test_cart_pole_is_gymnasiums_step_for_step_and_start_for_start():
    ours, theirs = gym.make(CART), gym.make("CartPole-v1")
    rng = np.random.default_rng(0)
    for seed in range(20):
        (first, _), (second, _) = ours.reset(seed=seed), theirs.reset(seed=seed)
        np.testing.assert_array_equal(first, second)
        ended = False
        while not ended:
            action = int(rng.integers(2))
            first, *left, _ = ours.step(action)
            second, *right, _ = theirs.step(action)
            np.testing.assert_array_equal(first, second)
            assert left == right
            ended = left[1] or left[2]


def test_cart_pole_is_cut_where_gymnasiums_is():
    """A controller that balances: both are truncated after step 500."""
    ours, theirs = gym.make(CART), gym.make("CartPole-v1")
    (observation, _), _ = ours.reset(seed=3), theirs.reset(seed=3)
    for step in range(1, 501):
        action = int(observation @ [0.1, 0.3, 1.0, 1.0] > 0)
        observation, *left, _ = ours.step(action)
        other, *right, _ = theirs.step(action)
        np.testing.assert_array_equal(observation, other)
        assert left == right == [1.0, False, step == 500]


def test_pendulum_is_gymnasiums_step_for_step_and_start_for_start():
    ours, theirs = gym.make(PENDULUM), gym.make("Pendulum-v1", disable_env_checker=True)
    rng = np.random.default_rng(0)
    for seed in range(5):
        (first, _), (second, _) = ours.reset(seed=seed), theirs.reset(seed=seed)
        np.testing.assert_array_equal(first, second)
        for step in range(1, 201):
            action = rng.uniform(-1, 1, 1)
            first, reward, *ends, _ = ours.step(action)
            second, expected, *others, _ = theirs.step(2 * action)
            np.testing.assert_array_equal(first, second)
            assert reward == pytest.approx(expected, abs=1e-12)
            assert ends == others == [False, step == 200]


# Away from them


def cart_pole_forces(state, force, cart_mass, pole_mass, length, friction, damping):
    """Newton's equations as a linear system in the two accelerations, with a rod of moment of inertia m l² / 3."""
    _, velocity, angle, turning = state
    sine, cosine = np.sin(angle), np.cos(angle)
    coupling = pole_mass * length * cosine
    matrix = [[cart_mass + pole_mass, coupling], [coupling, pole_mass * length**2 * 4 / 3]]
    right = [
        force - friction * np.sign(velocity) + pole_mass * length * turning**2 * sine,
        pole_mass * 9.8 * length * sine - damping * turning,
    ]
    return np.linalg.solve(matrix, right)


def test_cart_pole_accelerations_solve_newtons_equations():
    rng = np.random.default_rng(1)
    allowed = list(CartPoleDomainVector.PARAMETERS.values())[:5]
    values = np.stack([rng.uniform(max(one.low, 0.1), min(one.high, 3.0), 100) for one in allowed])
    state, force = rng.normal(size=(100, 4)), rng.normal(size=100) * 10
    found = CartPoleDomainVector.accelerations(state, force, values)
    expected = [cart_pole_forces(s, f, *v) for s, f, v in zip(state, force, values.T)]
    np.testing.assert_allclose(np.stack(found, axis=-1), expected, rtol=1e-10)


def test_pendulum_accelerations_are_torque_over_moment_of_inertia():
    rng = np.random.default_rng(1)
    state, torque = rng.normal(size=(50, 2)), rng.normal(size=50)
    mass, length, friction, damping = values = rng.uniform(0.2, 2.0, size=(4, 50))
    angle, turning = state.T
    gravity = mass * 10.0 * length / 2 * np.sin(angle)
    expected = (gravity + torque - damping * turning - friction * np.sign(turning)) / (mass * length**2 / 3)
    np.testing.assert_allclose(PendulumDomainVector.acceleration(state, torque, values), expected, rtol=1e-12)


def test_damping_and_friction_take_energy_and_gain_multiplies_the_force():
    def speed_after(**ranges):
        environment = PendulumDomainVector(1, ranges=ranges, start=((0.0, 4.0), (0.0, 4.0)))
        environment.reset(seed=0)
        environment.step(np.array([[0.5]]))
        return environment.state[0, 1]

    assert speed_after() == pytest.approx(4.0 + 0.05 * 3.0 * 1.0)
    assert speed_after(gain=2.0) == pytest.approx(4.0 + 0.05 * 3.0 * 2.0)
    assert speed_after(damping=0.5) == pytest.approx(4.0 + 0.05 * 3.0 * (1.0 - 0.5 * 4.0))
    assert speed_after(friction=0.5) == pytest.approx(4.0 + 0.05 * 3.0 * 0.5)
    assert speed_after(mass=2.0) == pytest.approx(4.0 + 0.05 * 1.5)
    assert speed_after(length=2.0) == pytest.approx(4.0 + 0.05 * 0.75)


@pytest.mark.parametrize("delay", [0, 1, 4, LONGEST_DELAY])
def test_an_action_arrives_after_its_delay_and_none_before_the_first(delay):
    environment = PendulumDomainVector(3, ranges={"delay": delay, "mass": 20.0}, start=(0.0, 0.0))
    environment.reset(seed=0)
    for step in range(15):
        before = environment.state
        environment.step(np.full((3, 1), (step + 1) / 100))
        gravity = 15.0 * np.sin(before[:, 0])
        torque = ((environment.state[:, 1] - before[:, 1]) / 0.05 - gravity) / (3.0 / 20.0)
        np.testing.assert_allclose(torque, 2 * max(step + 1 - delay, 0) / 100, atol=1e-9)


def test_nothing_that_was_sent_in_one_episode_arrives_in_the_next():
    environment = PendulumDomainVector(2, ranges={"delay": 3}, start=(0.0, 0.0), time_limit=5)
    environment.reset(seed=0)
    for _ in range(5):
        environment.step(np.ones((2, 1)))
    for _ in range(3):
        environment.step(np.zeros((2, 1)))
        np.testing.assert_array_equal(environment.state, 0.0)


# Drawing and fixing


@BOTH
def test_parameters_are_drawn_per_copy_and_episode_within_their_ranges(cls):
    ranges = SOME_RANGES[cls]
    environment = cls(64, ranges=ranges, time_limit=4)
    _, info = environment.reset(seed=0)
    seen = [environment.parameters]
    for action in actions_for(environment, 4):
        np.testing.assert_array_equal(info["parameters"], np.stack(list(environment.parameters.values()), axis=-1))
        *_, info = environment.step(action)
    seen.append(environment.parameters)
    for name, allowed in cls.PARAMETERS.items():
        for drawn in seen:
            low, high = ranges.get(name, (allowed.nominal, allowed.nominal))
            assert (drawn[name] >= low).all()
            assert (drawn[name] <= high).all()
            assert not allowed.whole or (drawn[name] == drawn[name].round()).all()
            assert len(np.unique(drawn[name])) == (1 if low == high else 4 if allowed.whole else 64)
        if name in ranges:
            assert (seen[0][name] != seen[1][name]).any()


@BOTH
def test_same_seed_gives_the_same_domains_and_they_are_uniform(cls):
    first, second = (cls(2_000, ranges=SOME_RANGES[cls]) for _ in range(2))
    first.reset(seed=5)
    second.reset(seed=5)
    np.testing.assert_array_equal(first.parameters["length"], second.parameters["length"])
    low, high = SOME_RANGES[cls]["length"]
    share = (first.parameters["length"] - low) / (high - low)
    assert np.abs(np.histogram(share, bins=4, range=(0, 1))[0] / 500 - 1).max() < 0.2


def test_range_of_steps_includes_both_ends():
    environment = CartPoleDomainVector(500, ranges={"delay": (1, 3)})
    environment.reset(seed=0)
    assert set(environment.parameters["delay"]) == {1.0, 2.0, 3.0}


@BOTH
def test_options_fix_what_this_reset_begins_and_nothing_later(cls):
    environment = cls(3, ranges={"length": (0.6, 0.7)}, time_limit=2)
    state = np.full((3, cls.DIMENSION), 0.01)
    environment.reset(seed=0, options={"parameters": {"length": [0.5, 1.0, 2.0]}, "state": state})
    np.testing.assert_array_equal(environment.parameters["length"], [0.5, 1.0, 2.0])
    np.testing.assert_array_equal(environment.state, state)
    for action in actions_for(environment, 2):
        *_, info = environment.step(action)
    old = info["final_info"]["parameters"][:, environment.names.index("length")]
    np.testing.assert_array_equal(old, [0.5, 1.0, 2.0])
    assert (environment.parameters["length"] <= 0.7).all()


def test_options_reach_the_single_environment():
    environment = gym.make(CART, ranges={"length": (0.4, 0.6)})
    _, info = environment.reset(seed=0, options={"parameters": {"length": 0.9}})
    assert info["parameters"][2] == 0.9


def test_start_shifts_the_initial_states():
    environment = CartPoleDomainVector(1_000, start=([-1.0, 0, 0.1, 0], [-0.5, 0, 0.2, 0]))
    observation, _ = environment.reset(seed=0)
    assert (observation.min(axis=0) >= np.float32([-1.0, 0, 0.1, 0])).all()
    assert (observation.max(axis=0) <= np.float32([-0.5, 0, 0.2, 0])).all()
    assert environment.spawn(2).start[0].tolist() == [-1.0, 0, 0.1, 0]


def test_what_one_copy_has_does_not_touch_another():
    """Copies with parameters of their own step as they do alone."""
    lengths = np.array([0.3, 0.5, 0.9])
    together = CartPoleDomainVector(3)
    state = np.random.default_rng(0).uniform(-0.05, 0.05, (3, 4))
    together.reset(seed=0, options={"parameters": {"length": lengths}, "state": state})
    alone = [CartPoleDomainVector(1, ranges={"length": length}) for length in lengths]
    for environment, row in zip(alone, state):
        environment.reset(seed=0, options={"state": row[None]})
    for action in actions_for(together, 8):
        together.step(action)
        for copy, environment in enumerate(alone):
            environment.step(action[copy : copy + 1])
            np.testing.assert_allclose(together.state[copy], environment.state[0], rtol=1e-12)


def test_change_sets_a_parameter_of_some_copies():
    environment = PendulumDomainVector(4)
    environment.reset(seed=0)
    environment.change("mass", [2.0, 3.0], np.array([1, 3]))
    assert environment.parameters["mass"].tolist() == [1.0, 2.0, 1.0, 3.0]
    environment.change("gain", 0.5)
    assert environment.parameters["gain"].tolist() == [0.5] * 4


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranges": {"colour": 1.0}}, "unknown parameter 'colour'; there are .*length"),
        ({"ranges": {"length": -1.0}}, r"length must be a number in .* m, got -1\.0"),
        ({"ranges": {"length": (0.9, 0.4)}}, r"length must be a range with low at most high, got \(0\.9, 0\.4\)"),
        ({"ranges": {"length": float("nan")}}, "length must be a range .*nan"),
        ({"ranges": {"length": "long"}}, "length must be a number or a pair .*'long'"),
        ({"ranges": {"length": (1, 2, 3)}}, "length must be a number or a pair"),
        ({"ranges": {"delay": 1.5}}, r"delay must be a whole number in \[0, 10\] steps, got 1\.5"),
        ({"ranges": {"delay": 11}}, "delay must be a whole number .* got 11"),
        ({"ranges": {"damping": (-0.1, 0.1)}}, r"damping must be a number in \[0, 2\] N m s, got -0\.1"),
        ({"start": (-1000.0, 0.0)}, "start must be ranges within"),
        ({"start": (0.1, -0.1)}, "start must be ranges within"),
        ({"start": 3.0}, r"start must be \(low, high\)"),
        ({"time_limit": 0}, "time_limit .* got 0"),
        ({"render_mode": "rgb_array"}, "render_mode"),
    ],
)
def test_what_makes_no_sense_is_named(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(2, **arguments)


@BOTH
def test_options_that_make_no_sense_are_named(cls):
    environment = cls(2)
    for options, message in [
        ({"parameters": {"colour": 1}}, "unknown parameter 'colour'"),
        ({"parameters": {"length": [1.0, 1.0, 1.0]}}, r"length must be a number or have shape \(2,\)"),
        ({"parameters": {"length": 0.0}}, "length must be a number in"),
        ({"state": np.zeros((1, cls.DIMENSION))}, "state must have shape"),
        ({"state": np.full((2, cls.DIMENSION), 1e9)}, "state must have shape .* and lie within"),
        ({"low": -0.1}, "unknown option 'low'"),
    ]:
        with pytest.raises(ValueError, match=message):
            environment.reset(seed=0, options=options)
    with pytest.raises(ValueError, match="unknown parameter 'colour'"):
        environment.change("colour", 1.0)
    with pytest.raises(ValueError, match="length must be a number in"):
        environment.change("length", -2.0)


# Grids


def test_grid_includes_both_ends_of_every_range():
    mesh = parameter_grid({"length": (0.25, 1.0), "cart_mass": (0.5, 2.0)}, 4)
    assert len(mesh) == 16
    assert mesh[0] == {"length": 0.25, "cart_mass": 0.5}
    assert mesh[-1] == {"length": 1.0, "cart_mass": 2.0}
    assert [point["cart_mass"] for point in mesh[:4]] == [0.5, 1.0, 1.5, 2.0]
    CartPoleDomainVector(1, ranges=mesh[3])


def test_grid_has_one_point_for_a_number_and_whole_delays():
    mesh = parameter_grid({"length": 0.5, "delay": (0, 3), "gain": (1.0, 1.0)}, {"length": 5, "delay": 7, "gain": 3})
    assert [point["delay"] for point in mesh] == [0, 1, 2, 3]
    assert {point["length"] for point in mesh} == {0.5}


@pytest.mark.parametrize(
    ("ranges", "points", "message"),
    [
        ({}, 3, "at least one parameter"),
        ({"length": (0.2, 1.0)}, 1, r"points of length \(both ends count\) must be at least 2, got 1"),
        ({"length": (0.2, 1.0)}, {"mass": 3}, "points of length .* got None"),
        ({"length": (1.0, 0.2)}, 3, "low at most high"),
        ({"length": (0.0, np.inf)}, 3, "length must be a number in"),
    ],
)
def test_grid_that_makes_no_sense_is_named(ranges, points, message):
    with pytest.raises(ValueError, match=message):
        parameter_grid(ranges, points)


# Adaptive ranges


def adaptive(**changes):
    settings_of = {
        "start": {"length": (0.5, 0.5), "gain": (0.9, 1.1)},
        "limits": {"length": (0.25, 1.0), "gain": (0.5, 2.0)},
        "step": {"length": 0.1, "gain": 0.2},
        "low_threshold": 100.0,
        "high_threshold": 400.0,
        "buffer_size": 2,
    }
    return AdaptiveRanges(**(settings_of | changes))


def test_boundary_moves_out_above_the_high_and_in_below_the_low_threshold():
    ranges = adaptive()
    assert not ranges.record("length", "high", 300.0)
    assert ranges.record("length", "high", 500.0)  # mean 400: at the threshold
    assert ranges["length"] == (0.5, 0.6)
    assert not any(ranges.record("length", "high", 399.0) for _ in range(4))  # between the thresholds it stays
    assert [ranges.record("length", "high", 50.0) for _ in range(2)] == [False, True]
    assert ranges["length"] == (0.5, 0.5)
    assert [ranges.record("gain", "low", 450.0) for _ in range(2)] == [False, True]
    assert ranges["gain"] == pytest.approx((0.7, 1.1))


def test_boundaries_stay_between_start_and_limits():
    ranges = adaptive(buffer_size=1)
    for _ in range(20):
        for boundary in ranges.boundaries:
            ranges.record(*boundary, 500.0)
    assert dict(ranges) == ranges.limits
    assert not ranges.record("length", "low", 500.0)  # nowhere left to go
    for _ in range(20):
        for boundary in ranges.boundaries:
            ranges.record(*boundary, 0.0)
    assert dict(ranges) == ranges.start


def test_buffer_is_emptied_and_belongs_to_one_boundary():
    ranges = adaptive(buffer_size=3)
    for performance in (1000.0, 1000.0):
        ranges.record("length", "high", performance)
        ranges.record("length", "low", 0.0)
    assert ranges["length"] == (0.5, 0.5)
    ranges.record("length", "high", 1000.0)
    assert ranges["length"] == (0.5, 0.6)
    assert not ranges.record("length", "high", 1000.0)  # a new buffer of three has begun


def test_boundary_domain_holds_one_parameter_and_draws_the_others():
    ranges = adaptive()
    assert ranges.at_boundary("gain", "high") == {"length": (0.5, 0.5), "gain": 1.1}


def test_entropy_is_the_mean_log_width():
    assert adaptive().entropy() == -np.inf
    wide = adaptive(start={"length": (0.4, 0.9), "gain": (0.9, 1.1)})
    assert wide.entropy() == pytest.approx((np.log(0.5) + np.log(0.2)) / 2)


@given(slope=st.floats(50.0, 2_000.0), noise=st.floats(0.0, 20.0), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_on_a_known_performance_the_range_ends_where_the_threshold_is_met(slope, noise, seed):
    """Performance 500 − slope · |length − 0.5|: boundaries end within a step of 400 or at their limits."""
    rng = np.random.default_rng(seed)
    ranges = adaptive(step={"length": 0.02, "gain": 0.2}, low_threshold=350.0, buffer_size=10)
    for _ in range(1_500):
        side = ("low", "high")[rng.integers(2)]
        value = ranges.at_boundary("length", side)["length"]
        ranges.record("length", side, 500.0 - slope * abs(value - 0.5) + noise * rng.normal())
    reach = 100.0 / slope  # where the performance is at the high threshold
    slack = 0.02 + 3 * noise / slope
    low, high = ranges["length"]
    assert low == pytest.approx(max(0.5 - reach, 0.25), abs=slack + 1e-9)
    assert high == pytest.approx(min(0.5 + reach, 1.0), abs=slack + 1e-9)


def test_environment_reads_adaptive_ranges_at_every_start():
    ranges = adaptive(start={"length": (0.5, 0.5), "gain": (1.0, 1.0)}, buffer_size=1)
    environment = gym.make_vec(CART, num_envs=50, ranges=ranges)
    environment.reset(seed=0)
    assert np.ptp(environment.unwrapped.parameters["length"]) == 0
    for _ in range(3):
        ranges.record("length", "high", 500.0)
    environment.reset()
    drawn = environment.unwrapped.parameters["length"]
    assert 0.7 < drawn.max() <= 0.8
    assert 0.5 <= drawn.min() < 0.6
    assert environment.unwrapped.spawn(2).ranges is ranges


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {"length": (0.25, 1.0)}}, "must name the same parameters"),
        ({"start": {"length": (0.1, 0.5), "gain": 1.0}}, r"length must be a number in \[0\.25, 1\] .* got 0\.1"),
        ({"step": {"length": 0.0, "gain": 0.1}}, r"step of length must be positive and finite, got 0\.0"),
        ({"high_threshold": 50.0}, "thresholds must be finite and rise"),
        ({"buffer_size": 0}, "buffer_size must be at least 1, got 0"),
    ],
)
def test_adaptive_ranges_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        adaptive(**changes)


def test_reports_that_make_no_sense_are_named():
    ranges = adaptive()
    with pytest.raises(ValueError, match="unknown boundary"):
        ranges.record("mass", "low", 1.0)
    with pytest.raises(ValueError, match="unknown boundary"):
        ranges.at_boundary("length", "left")
    with pytest.raises(ValueError, match="must be finite, got nan"):
        ranges.record("length", "low", float("nan"))
    with pytest.raises(ValueError, match="length must be a number in"):
        PendulumDomainVector(1, ranges=adaptive(limits={"length": (0.01, 1.0), "gain": (0.5, 2.0)}))


# Hopper


def hopper(**arguments) -> tuple[gym.Env, HopperDomain]:
    environment = gym.make("CA14/HopperDomain-v0", **arguments)
    found = environment
    while not isinstance(found, HopperDomain):
        found = found.env
    return environment, found


def rollout(environment, steps=60, seed=0):
    rng = np.random.default_rng(0)
    seen = [environment.reset(seed=seed)[0]]
    for _ in range(steps):
        seen.append(environment.step(rng.uniform(-1, 1, 3).astype(np.float32))[0])
    return np.array(seen)


def test_hopper_is_gymnasiums_at_the_nominal_parameters():
    ours, theirs = hopper()[0], gym.make("Hopper-v5")
    np.testing.assert_array_equal(rollout(ours), rollout(theirs))
    assert ours.spec.max_episode_steps == 1000


def test_hoppers_model_gets_the_drawn_factors_and_its_own_back():
    environment, domain = hopper(ranges={"mass": (0.5, 2.0), "gain": (0.8, 1.2), "friction": 0.7, "damping": (0.5, 3)})
    nominal = gym.make("Hopper-v5").unwrapped.model
    factors = set()
    for seed in range(4):
        _, info = environment.reset(seed=seed)
        mass, friction, damping, gain, delay = info["parameters"]
        factors.add(mass)
        np.testing.assert_allclose(domain.model.body_mass, mass * nominal.body_mass)
        np.testing.assert_allclose(domain.model.body_inertia, mass * nominal.body_inertia)
        np.testing.assert_allclose(domain.model.body_subtreemass, mass * nominal.body_subtreemass)
        np.testing.assert_allclose(domain.model.geom_friction[:, 0], 0.7 * nominal.geom_friction[:, 0])
        np.testing.assert_allclose(domain.model.geom_friction[:, 1:], nominal.geom_friction[:, 1:])
        np.testing.assert_allclose(domain.model.dof_damping, damping * nominal.dof_damping)
        np.testing.assert_allclose(domain.model.actuator_gear, gain * nominal.actuator_gear)
        assert (friction, delay) == (0.7, 0.0)
    assert len(factors) == 4
    environment.reset(seed=0, options={"parameters": dict.fromkeys(["mass", "friction", "damping", "gain"], 1.0)})
    np.testing.assert_array_equal(domain.model.body_mass, nominal.body_mass)
    np.testing.assert_array_equal(domain.model.actuator_gear, nominal.actuator_gear)


def test_hopper_in_another_domain_moves_otherwise_and_the_same_seed_gives_the_same():
    heavy = rollout(hopper(ranges={"mass": 1.5})[0])
    assert np.abs(heavy - rollout(hopper()[0])).max() > 0.1
    np.testing.assert_array_equal(heavy, rollout(hopper(ranges={"mass": 1.5})[0]))
    first, second = (rollout(hopper(ranges={"mass": (0.5, 2.0)})[0], seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_hoppers_actions_arrive_late():
    late, prompt = hopper(ranges={"delay": 2})[0], hopper()[0]
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (20, 3)).astype(np.float32)
    first, second = [late.reset(seed=0)[0]], [prompt.reset(seed=0)[0]]
    for action, earlier in zip(actions, [np.zeros(3, np.float32)] * 2 + list(actions[:-2])):
        first.append(late.step(action)[0])
        second.append(prompt.step(earlier)[0])
    np.testing.assert_array_equal(first, second)


def test_hoppers_bad_parameters_are_named():
    with pytest.raises(ValueError, match="unknown parameter 'colour'"):
        hopper(ranges={"colour": 1.0})
    with pytest.raises(ValueError, match=r"mass must be a number in .* got 0\.0"):
        hopper(ranges={"mass": 0.0})
    with pytest.raises(ValueError, match="needs a MuJoCo environment, got CartPoleEnv"):
        HopperDomain(gym.make("CartPole-v1"))


# Planted faults


def test_fault_actions_under_way_survive_a_reset_is_caught(monkeypatch):
    def place(self, where, states):
        self._state[where], self._values[:, where] = states

    monkeypatch.setattr(PendulumDomainVector, "_place", place)
    with pytest.raises(AssertionError):
        test_nothing_that_was_sent_in_one_episode_arrives_in_the_next()


def test_fault_a_length_of_the_whole_pole_is_caught(monkeypatch):
    healthy = CartPoleDomainVector.accelerations
    scale = np.ones((7, 1))
    scale[2] = 2.0
    monkeypatch.setattr(
        CartPoleDomainVector, "accelerations", lambda self, state, force, values: healthy(state, force, scale * values)
    )
    with pytest.raises(AssertionError):
        test_cart_pole_is_gymnasiums_step_for_step_and_start_for_start()


def test_fault_a_buffer_that_is_never_emptied_is_caught(monkeypatch):
    class Kept(list):
        def clear(self):
            pass

    healthy = AdaptiveRanges.__init__

    def made(self, *arguments, **keywords):
        healthy(self, *arguments, **keywords)
        self._buffers = {boundary: Kept() for boundary in self._buffers}

    monkeypatch.setattr(AdaptiveRanges, "__init__", made)
    with pytest.raises(AssertionError):
        test_buffer_is_emptied_and_belongs_to_one_boundary()


def test_fault_parameters_drawn_once_for_all_episodes_is_caught(monkeypatch):
    healthy = CartPoleDomainVector._place

    def place(self, where, states):
        healthy(self, where, (states[0], states[1] if isinstance(where, slice) else self._values[:, where]))

    monkeypatch.setattr(CartPoleDomainVector, "_place", place)
    with pytest.raises(AssertionError):
        test_parameters_are_drawn_per_copy_and_episode_within_their_ranges(CartPoleDomainVector)
