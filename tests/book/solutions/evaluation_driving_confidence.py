"""How many drives without a crash it takes to say that a crash is rare."""

import math


def drives_needed(rate: float, confidence: float = 0.95) -> int:
    """Drives that must all pass before a crash rate of at least ``rate`` is excluded."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate))


def upper_limit(drives: int, confidence: float = 0.95) -> float:
    """The largest crash rate that so many drives without a crash leave possible."""
    return 1 - (1 - confidence) ** (1 / drives)


if __name__ == "__main__":
    print(f"30 drives: up to {upper_limit(30):.3f}; for 1 in 1,000: {drives_needed(1e-3):,} drives")
