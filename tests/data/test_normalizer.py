"""The normalizer standardises what it was fitted on, centres constants, and can be saved."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.data import Normalizer, OfflineDataset
from ca14lib.training import collect


@given(seed=st.integers(0, 999), scale=st.sampled_from([1.0, 30.0]), epsilon=st.sampled_from([0.0, 1e-3, 0.5]))
def test_fitted_data_get_mean_zero_and_the_shrunk_deviation(seed, scale, epsilon):
    values = torch.tensor(np.random.default_rng(seed).normal(5, scale, size=(200, 3)), dtype=torch.float32)
    result = Normalizer.fit(values, epsilon)(values)
    deviation = values.double().std(dim=0, correction=0)
    torch.testing.assert_close(result.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-4)
    expected = (deviation / (deviation + epsilon)).float()
    torch.testing.assert_close(result.std(dim=0, correction=0), expected, rtol=1e-4, atol=1e-5)


def test_closed_form():
    normalizer = Normalizer(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 4.0]), epsilon=0.5)
    result = normalizer(torch.tensor([[1.0, -2.0], [3.5, 7.0]]))
    torch.testing.assert_close(result, torch.tensor([[0.0, 0.0], [1.0, 2.0]]))


def test_feature_that_never_varies_is_only_centred():
    values = torch.tensor([[7.0, 1.0], [7.0, 3.0]])
    normalizer = Normalizer.fit(values)
    torch.testing.assert_close(
        normalizer(torch.tensor([[7.0, 2.0], [9.0, 2.0]])), torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    )


def test_large_offsets_do_not_lose_the_deviation():
    values = torch.tensor([[4096.0], [4097.0], [4098.0], [4099.0]])
    torch.testing.assert_close(
        Normalizer.fit(values, 0.0)(values).std(correction=0), torch.tensor(1.0), rtol=1e-4, atol=0
    )


def test_every_feature_of_an_image_has_its_own_statistics():
    values = torch.rand(50, 2, 3, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7).reshape(2, 3)
    normalizer = Normalizer.fit(values)
    assert normalizer.mean.shape == (2, 3)
    assert normalizer(values).shape == (50, 2, 3)


def test_state_survives_saving_and_moving():
    normalizer = Normalizer.fit(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)))
    other = Normalizer(torch.zeros(3), torch.ones(3))
    other.load_state_dict(normalizer.state_dict())
    sample = torch.rand(4, 3)
    torch.testing.assert_close(other(sample), normalizer(sample), rtol=0, atol=0)
    assert not list(normalizer.parameters())  # nothing an optimiser could change


def test_dataset_gives_the_normalizer_of_its_observations():
    data = collect("CA14/GridWorld-v0", "random", 50, seed=0)
    normalizer = data.normalizer()
    torch.testing.assert_close(normalizer.mean, data.transitions.observation.mean(dim=0), rtol=1e-5, atol=1e-5)
    before = data.transitions.observation.clone()
    normalizer(data.transitions.observation)
    torch.testing.assert_close(data.transitions.observation, before)  # the data stay raw


def test_discrete_observations_have_no_normalizer():
    data = collect("CA14/RiverSwim-v0", "random", 5, seed=0)
    assert data.normalizer() is None


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (torch.zeros(2), torch.ones(3), r"one shape, got \(2,\) and \(3,\)"),
        (torch.tensor([np.nan]), torch.ones(1), "finite"),
        (torch.zeros(1), torch.tensor([np.inf]), "finite"),
        (torch.zeros(1), torch.tensor([-1.0]), "not negative"),
    ],
)
def test_impossible_statistics_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalizer(mean, std)


@pytest.mark.parametrize("values", [torch.zeros(0, 2), torch.zeros(3, 2, dtype=torch.int64)])
def test_fitting_needs_real_observations(values):
    with pytest.raises(ValueError, match="at least one real-valued observation"):
        Normalizer.fit(values)


def test_one_transition_can_be_fitted():
    space = gym.spaces.Box(-9, 9, (2,), np.float32)
    rows = np.array([[1.0, 2.0], [1.0, 2.0]], dtype=np.float32)
    data = OfflineDataset(
        rows, [0, 0], [0.0, 0], rows, [True, True], [False, False],
        observation_space=space, action_space=gym.spaces.Discrete(1),
    )  # fmt: skip
    torch.testing.assert_close(data.normalizer()(torch.tensor([[1.0, 3.0]])), torch.tensor([[0.0, 1.0]]))
