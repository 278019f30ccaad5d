"""Measures of a protocol against hand values, and what they must not depend on."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from ca14lib.metrics import channel_value, communication, message_entropy, speaker_consistency, topographic_similarity

MEANINGS = np.array(list(itertools.product(range(3), repeat=2)))


def assert_measures_topography(similarity) -> None:
    assert similarity(MEANINGS, MEANINGS) == pytest.approx(1.0)
    # by hand: distances of the meanings 1, 2, 1 with ranks 1.5, 3, 1.5; of the messages 1, 1, 2, ranks 1.5, 1.5, 3
    assert similarity(np.array([[0, 0], [0, 1], [1, 1]]), np.array([[0, 0], [0, 1], [1, 0]])) == pytest.approx(-0.5)
    rng = np.random.default_rng(0)
    messages = rng.integers(4, size=(9, 3))
    first = [(a != b).sum() for a, b in itertools.combinations(MEANINGS, 2)]
    second = [(a != b).sum() for a, b in itertools.combinations(messages, 2)]
    assert similarity(MEANINGS, messages) == pytest.approx(spearmanr(first, second).statistic)
    assert similarity(MEANINGS, np.zeros((9, 2), dtype=int)) == 0.0
    order = rng.permutation(9)
    assert similarity(MEANINGS[order], messages[order]) == pytest.approx(similarity(MEANINGS, messages))


def test_topographic_similarity_is_the_rank_correlation_of_distances():
    assert_measures_topography(topographic_similarity)


def correlates_values_instead_of_ranks(meanings, messages):
    first, second = (communication.pdist(np.asarray(rows), "hamming") for rows in (meanings, messages))
    return 0.0 if second.std() == 0 else float(np.corrcoef(first, second)[0, 1])


def ties_in_order_of_appearance(meanings, messages):
    first, second = (communication.pdist(np.asarray(rows), "hamming") for rows in (meanings, messages))
    return 0.0 if second.std() == 0 else float(np.corrcoef(first.argsort().argsort(), second.argsort().argsort())[0, 1])


def distance_of_symbol_numbers(meanings, messages):
    return topographic_similarity(meanings, np.asarray(messages), distance="euclidean")


def constant_messages_are_not_a_number(meanings, messages):
    value = topographic_similarity(meanings, messages)
    return value if len(np.unique(messages, axis=0)) > 1 else math.nan


@pytest.mark.parametrize("fault", [
    correlates_values_instead_of_ranks, ties_in_order_of_appearance, distance_of_symbol_numbers,
    constant_messages_are_not_a_number,
])  # fmt: skip
def test_planted_faults_of_topographic_similarity_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_measures_topography(fault)


def test_topographic_similarity_does_not_depend_on_the_names_of_symbols():
    messages = np.random.default_rng(1).integers(4, size=(9, 2))
    renamed = np.array([2, 0, 3, 1])[messages]
    assert topographic_similarity(MEANINGS, renamed) == pytest.approx(topographic_similarity(MEANINGS, messages))
    assert topographic_similarity(MEANINGS, messages[:, ::-1]) == pytest.approx(
        topographic_similarity(MEANINGS, messages)
    )


def test_holistic_code_is_less_similar_than_a_compositional_one():
    rng = np.random.default_rng(2)
    holistic = [topographic_similarity(MEANINGS, MEANINGS[rng.permutation(9)]) for _ in range(200)]
    assert abs(np.mean(holistic)) < 0.1
    assert topographic_similarity(MEANINGS, MEANINGS) == 1.0


def test_real_messages_are_compared_by_euclidean_distance():
    meanings = np.array([[0], [1], [1], [0]])
    assert topographic_similarity(meanings, [[0.0], [1.0], [1.0], [0.0]]) == pytest.approx(1.0)
    assert topographic_similarity(meanings, np.zeros((4, 3))) == 0.0


def test_edit_distance_counts_insertions():
    distance = communication._edit_distance
    assert distance([0, 1, 2], [1, 2]) == 1
    assert distance([0, 1, 2], [2, 1, 0]) == 2
    assert distance([], [1, 1]) == 2
    assert distance([1, 2, 3, 4], [2, 3, 4, 5]) == 2
    # shifted by one symbol: far apart for Hamming, near for edit distance
    messages = np.array([[1, 2, 3, -1], [0, 1, 2, 3], [3, 0, 0, -1]])
    meanings = np.array([[0, 0], [0, 1], [1, 2]])
    assert topographic_similarity(meanings, messages, distance="edit") > topographic_similarity(meanings, messages)


def test_entropy_is_that_of_the_symbol_counts():
    assert message_entropy([0, 0, 0], 4) == 0.0
    assert message_entropy([[0, 1], [2, 3]], 4) == pytest.approx(2.0)
    assert message_entropy([0, 0, 0, 1], 2) == pytest.approx(0.811278, abs=1e-6)
    messages = np.random.default_rng(0).integers(5, size=(40, 2))
    assert message_entropy(np.array([4, 2, 0, 1, 3])[messages], 5) == pytest.approx(message_entropy(messages, 5))
    assert 0 <= message_entropy(messages, 5) <= math.log2(5)


def assert_measures_consistency(consistency) -> None:
    assert consistency(MEANINGS, MEANINGS[:, ::-1]) == pytest.approx(1.0)
    assert consistency([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0.0, abs=1e-12)
    # one attribute of two is told: half of the information
    assert consistency(MEANINGS, MEANINGS[:, 0]) == pytest.approx(0.5)
    # synonyms cost nothing: the meaning is still told
    assert consistency([0, 0, 1, 1], [0, 1, 2, 3]) == pytest.approx(1.0)
    # by hand: I = 1 − 3/4 · h(1/3), H = 1
    h = -(math.log2(1 / 3) + 2 * math.log2(2 / 3)) / 3
    assert consistency([0, 0, 1, 1], [0, 0, 0, 1]) == pytest.approx(1 - 0.75 * h)
    assert consistency([0, 0, 0], [0, 1, 2]) == 0.0


def test_consistency_is_the_share_of_the_meaning_that_is_told():
    assert_measures_consistency(speaker_consistency)


def normalised_by_the_message(meanings, messages):
    return speaker_consistency(messages, meanings)


def not_normalised(meanings, messages):
    return speaker_consistency(meanings, messages) * communication._entropy(
        np.unique(np.asarray(meanings), axis=0, return_counts=True)[1]
    )


def first_symbol_only(meanings, messages):
    messages = np.asarray(messages)
    return speaker_consistency(meanings, messages[:, 0] if messages.ndim == 2 else messages)


@pytest.mark.parametrize("fault", [normalised_by_the_message, not_normalised, first_symbol_only])
def test_planted_faults_of_consistency_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_measures_consistency(fault)


def test_value_of_the_channel_is_the_paired_difference():
    noise = np.random.default_rng(0).normal(size=12)
    value = channel_value(noise + 2.0, noise)
    assert value.estimate == value.low == value.high == pytest.approx(2.0)
    nothing = channel_value(noise, np.random.default_rng(1).permutation(noise))
    assert nothing.low < 0 < nothing.high


@pytest.mark.parametrize("call, message", [
    (lambda: topographic_similarity(MEANINGS, MEANINGS[:4]), "as many messages as meanings"),
    (lambda: topographic_similarity([0, 1], [0, 1]), "at least 3, got 2"),
    (lambda: topographic_similarity(MEANINGS * 1.0, MEANINGS), "meanings must be integers"),
    (lambda: topographic_similarity(MEANINGS, MEANINGS * np.nan), "messages must be finite"),
    (lambda: topographic_similarity(MEANINGS, MEANINGS, distance="cosine"), "distance must be"),
    (lambda: topographic_similarity(MEANINGS, MEANINGS * 1.0, distance="edit"), "distance must be"),
    (lambda: topographic_similarity([], []), "not be empty"),
    (lambda: message_entropy([], 3), "not empty"), (lambda: message_entropy([0, 3], 3), "0…2, got 0 to 3"),
    (lambda: message_entropy([-1], 3), "0…2"), (lambda: message_entropy([0.5], 3), "must be integers"),
    (lambda: speaker_consistency([0, 1], [0]), "as many messages"),
    (lambda: speaker_consistency([0.5, 1], [0, 1]), "meanings must be integers"),
    (lambda: channel_value([1.0, 2.0], [1.0]), "paired by run"), (lambda: channel_value([1.0], [1.0]), "two runs"),
    (lambda: channel_value([1.0, np.nan], [1.0, 0.0]), "finite"),
])  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
