"""The ICU-Sepsis adapter against the files that the original package ships."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import icu_sepsis
import numpy as np
import pytest

from ca14lib.environments import ICUSepsis, ICUSepsisVector, behaviour_policy, tabular_model
from ca14lib.environments.icu_sepsis import source_environment

ID = "CA14/ICUSepsis-v0"
DEATH, SURVIVAL, ABSORBING = 713, 714, 715
LIVING = slice(0, 713)


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    """The estimated process, read from the package's own file, and its admissible actions as a table."""
    assets = Path(icu_sepsis.__file__).parent / "envs" / "assets"
    with np.load(assets / "dynamics.npz") as file:
        arrays = {name: file[name] for name in ("tx_mat", "r_mat", "d_0", "expert_policy", "sofa_scores")}
    _, *lines = (assets / "admissible_actions.txt").read_text().splitlines()
    arrays["admissible"] = np.array([[str(action) in line.split() for action in range(25)] for line in lines])
    return arrays


def test_dynamics_are_the_packages(shipped):
    model = tabular_model(ID)
    assert model.transition.shape == (716, 25, 716)
    assert abs(model.transition[LIVING] - shipped["tx_mat"][LIVING]).max() < 1e-14
    np.testing.assert_allclose(model.initial, shipped["d_0"], rtol=0, atol=1e-14)
    assert (model.reward[LIVING] == shipped["r_mat"][LIVING]).all()
    assert np.flatnonzero(model.terminal).tolist() == [DEATH, SURVIVAL, ABSORBING]
    np.testing.assert_allclose(model.transition.sum(axis=2), 1.0, atol=1e-13)


def test_reward_is_1_for_survival_and_nothing_else():
    reward = tabular_model(ID).reward[LIVING]
    assert (reward[:, :, SURVIVAL] == 1).all()
    assert reward.sum() == reward[:, :, SURVIVAL].size
    assert reward.min() == 0


def test_admissible_actions_are_the_packages(shipped):
    admissible = ICUSepsisVector(1).admissible
    np.testing.assert_array_equal(admissible, shipped["admissible"])
    assert admissible.any(axis=1).all()
    assert not admissible[LIVING].all()


def test_inadmissible_actions_act_as_the_mean_of_the_admissible_ones(shipped):
    transition, admissible = tabular_model(ID).transition, shipped["admissible"]
    for state in range(0, 713, 7):
        mean = transition[state, admissible[state]].mean(axis=0)
        np.testing.assert_allclose(transition[state, ~admissible[state]] - mean, 0, atol=1e-12)


def test_clinicians_policy_is_the_packages(shipped):
    policy = behaviour_policy(ID, "clinician")
    np.testing.assert_allclose(policy[LIVING], shipped["expert_policy"][LIVING], rtol=0, atol=1e-12)
    np.testing.assert_allclose(policy.sum(axis=1), 1, atol=1e-12)


def test_random_behaviour_is_uniform_over_all_25_actions():
    np.testing.assert_array_equal(behaviour_policy(ID, "random"), np.full((716, 25), 1 / 25))


def test_information_describes_the_state(shipped):
    environment = ICUSepsisVector(16)
    observation, info = environment.reset(seed=0)
    for _ in range(20):
        np.testing.assert_array_equal(info["admissible"], shipped["admissible"][observation])
        np.testing.assert_array_equal(info["sofa"], shipped["sofa_scores"][observation])
        observation, _, terminated, _, info = environment.step(np.full(16, 3))
        if terminated.any():
            np.testing.assert_array_equal(info["final_info"]["sofa"], shipped["sofa_scores"][info["final_obs"]])


def test_time_limit_is_the_packages():
    assert gym.make(ID).unwrapped.batched.time_limit == source_environment().spec.max_episode_steps


def test_episodes_end_as_in_the_original_environment():
    """Both run the same random patients; the survival rates agree within 5 standard errors."""
    original, rng = source_environment(), np.random.default_rng(0)
    survived = []
    for episode in range(250):
        original.reset(seed=episode)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = original.step(int(rng.integers(25)))
            ended = terminated or truncated
        survived.append(reward)
    vector = ICUSepsisVector(1_000)
    vector.reset(seed=0)
    returns, alive = np.zeros(1_000), np.ones(1_000, dtype=bool)
    while alive.any():
        _, reward, terminated, truncated, _ = vector.step(rng.integers(25, size=1_000))
        returns += reward * alive
        alive &= ~(terminated | truncated)
    difference = np.mean(survived) - returns.mean()
    assert abs(difference) < 5 * np.sqrt(np.var(survived) / 250 + returns.var() / 1_000)


@pytest.mark.parametrize("strategy", ["terminate", "raise_exception", "MEAN", None])
def test_other_strategies_for_inadmissible_actions_are_refused_by_name(strategy):
    with pytest.raises(ValueError, match=f"inadmissible_action_strategy must be 'mean'.*{strategy!r}"):
        ICUSepsis(inadmissible_action_strategy=strategy)


def test_a_patient_has_no_picture():
    with pytest.raises(ValueError, match="rgb_array"):
        ICUSepsis(render_mode="rgb_array")


def test_model_and_policies_cannot_be_spoilt_for_others():
    for array in (behaviour_policy(ID, "clinician"), ICUSepsisVector(1).admissible, tabular_model(ID).transition):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


NOTICE = """Gym has been unmaintained since 2022 and does not support NumPy 2.0 amongst other critical functionality.
Please upgrade to Gymnasium, the maintained drop-in replacement of Gym, or contact the authors of your software.
Users of this version of Gym should be able to simply replace 'import gym' with 'import gymnasium as gym'.
See the migration guide at https://gymnasium.farama.org/introduction/migrate_from_gym/ for additional information."""


def test_gyms_notice_is_not_passed_on_but_anything_else_is():
    """The package imports the abandoned gym, which greets every process with what its notices say of its version."""
    code = f"""
import gym_notices.notices, importlib.metadata
gym_notices.notices.notices[importlib.metadata.version("gym")] = {NOTICE + chr(10) + "the disk is nearly full"!r}
import gymnasium, ca14lib
gymnasium.make({ID!r}).reset(seed=0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280)
    assert (done.stdout, done.stderr.strip()) == ("", "the disk is nearly full")


def test_package_is_imported_only_when_it_is_needed():
    code = "import sys, gymnasium, ca14lib; gymnasium.make('CA14/GridWorld-v0'); print('icu_sepsis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout.strip() == "False"
