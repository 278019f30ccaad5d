"""Bounds whose ends are not exchanged for negative weights, against the corners of the box."""

import itertools

import numpy as np


def faulty_bounds(low: np.ndarray, high: np.ndarray, layers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    first, second = layers
    return second @ np.tanh(first @ low), second @ np.tanh(first @ high)


def sound_bounds(low: np.ndarray, high: np.ndarray, layers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    for depth, weight in enumerate(layers):
        if depth:
            low, high = np.tanh(low), np.tanh(high)
        positive, negative = np.maximum(weight, 0), np.minimum(weight, 0)
        low, high = positive @ low + negative @ high, positive @ high + negative @ low
    return low, high


def share_violated(bounds, repetitions: int = 500, radius: float = 0.1) -> float:
    generator, violated = np.random.default_rng(0), 0
    corners = np.array(list(itertools.product((-radius, radius), repeat=3)))
    for _ in range(repetitions):
        layers = [generator.normal(size=(8, 3)), generator.normal(size=(2, 8))]
        centre = generator.normal(size=3)
        low, high = bounds(centre - radius, centre + radius, layers)
        outputs = np.tanh((centre + corners) @ layers[0].T) @ layers[1].T
        violated += bool(((outputs < low - 1e-12) | (outputs > high + 1e-12)).any())
    return violated / repetitions


if __name__ == "__main__":
    print(share_violated(faulty_bounds), share_violated(sound_bounds))
