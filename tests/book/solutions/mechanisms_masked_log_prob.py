"""A bandit behind a shield: the gradient with the masked log-probability, and with the one that ignores the mask."""

import numpy as np

REWARD = np.array([-2.0, -1.0, -1.0])
ALLOWED = np.array([True, True, False])


def softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


def executed(logits: np.ndarray) -> np.ndarray:
    return softmax(np.where(ALLOWED, logits, -np.inf))


def value(logits: np.ndarray) -> float:
    return float(executed(logits) @ REWARD)


def mean_gradient(logits: np.ndarray, masked: bool) -> np.ndarray:
    """E[R ∇ log π(a)] over executed actions, with the log-probability of the masked policy or of the unmasked one."""
    policy = executed(logits)
    scored = policy if masked else softmax(logits)
    return (policy * REWARD) @ (np.eye(3) - scored)


def ascend(masked: bool, steps: int = 5_000, rate: float = 0.1) -> np.ndarray:
    logits = np.zeros(3)
    for _ in range(steps):
        logits = logits + rate * mean_gradient(logits, masked)
    return logits


if __name__ == "__main__":
    start = np.array([1.0, 0.0, 2.0])
    numeric = [(value(start + d) - value(start - d)) / 2e-5 for d in 1e-5 * np.eye(3)]
    print(f"derivative of the value   {np.round(numeric, 4)}")
    for masked in (True, False):
        logits = ascend(masked)
        print(f"masked {masked!s:5}: gradient {mean_gradient(start, masked).round(4)}, after ascent logits "
              f"{logits.round(1)}, executed {executed(logits).round(3)}, value {value(logits):.3f}")  # fmt: skip
