"""Other traffic: what the settings change in highway-env, and what a worse sensor does."""

import numpy as np
import pytest

from ca14lib.environments.applications.driving import NoisyRadar, Traffic, traffic_environment

pytest.importorskip("highway_env")


def test_settings_reach_the_simulator():
    plain, dense = traffic_environment(), traffic_environment(Traffic(density=1.5, aggressive=True))
    before, after = (each.unwrapped.config for each in (plain, dense))
    assert (before["vehicles_count"], after["vehicles_count"]) == (12, 18)
    assert (before["vehicles_density"], after["vehicles_density"]) == (1.0, 1.5)
    assert after["other_vehicles_type"].endswith("AggressiveVehicle")


def test_errors_are_those_of_the_data_sheet_and_leave_the_own_car_alone():
    noisy, plain = (traffic_environment(Traffic(sensor_noise=noise)) for noise in (2.0, 0.0))
    truth, _ = plain.reset(seed=3)
    noisy.reset(seed=3)
    errors = np.array([noisy.observation(truth) - truth for _ in range(3_000)])
    assert not errors[:, 0].any()
    assert not errors[..., [0, 2, 4]].any()
    np.testing.assert_allclose(errors[:, 1:, 1].std() * 200, 6.0, rtol=0.05)
    np.testing.assert_allclose(errors[:, 1:, 3].std() * 80, 2.0, rtol=0.05)


def test_absent_cars_stay_absent():
    radar = NoisyRadar(traffic_environment(), 5.0)
    radar.reset(seed=0)
    empty = np.zeros((5, 5), dtype=np.float32)
    empty[0, 0] = 1.0
    np.testing.assert_array_equal(radar.observation(empty), empty)


def test_the_same_seed_gives_the_same_drive():
    first, again = (traffic_environment(Traffic(1.2, True, 1.0)) for _ in range(2))
    for one, two in zip(first.reset(seed=4)[0], again.reset(seed=4)[0], strict=True):
        np.testing.assert_array_equal(one, two)
    for action in (1, 3, 1):
        np.testing.assert_array_equal(first.step(action)[0], again.step(action)[0])


@pytest.mark.parametrize("arguments", [{"density": 0.0}, {"density": np.nan}, {"sensor_noise": -1.0}])
def test_impossible_traffic_is_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        Traffic(**arguments)
