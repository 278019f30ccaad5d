"""All languages of two words for four objects: what they can achieve, and what they say."""

import itertools

import numpy as np

OBJECTS, WORDS = 4, 2


def information(sender: tuple[int, ...]) -> float:
    """Bits that a word tells about the object."""
    share = np.bincount(sender, minlength=WORDS) / OBJECTS
    share = share[share > 0]
    return float((share * np.log2(1 / share)).sum())


def success(sender: tuple[int, ...], receiver: tuple[int, ...]) -> float:
    return sum(receiver[word] == thing for thing, word in enumerate(sender)) / OBJECTS


PAIRS = [
    (information(sender), success(sender, receiver))
    for sender in itertools.product(range(WORDS), repeat=OBJECTS)
    for receiver in itertools.product(range(OBJECTS), repeat=WORDS)
]

if __name__ == "__main__":
    print("best success", max(rate for _, rate in PAIRS))
    for bits in sorted({bits for bits, _ in PAIRS}):
        rates = [rate for said, rate in PAIRS if said == bits]
        counts = {rate: rates.count(rate) for rate in sorted(set(rates))}
        print(f"{bits:.2f} bits: {len(rates)} pairs, mean success {np.mean(rates):.3f}, successes {counts}")
