"""λ-returns of one episode, with and without the value of the state in which a limit cut it."""

import gymnasium as gym
import numpy as np

import ca14lib  # noqa: F401  (registers the probes)


def lambda_returns(reward, value, last_value, terminated, discount, trace) -> np.ndarray:
    """``value`` is that of the T states acted in, ``last_value`` that of the state after the last step."""
    following_return = following_value = 0.0 if terminated else last_value
    returns = np.zeros(len(reward))
    for t in reversed(range(len(reward))):
        mixed = (1 - trace) * following_value + trace * following_return
        returns[t] = reward[t] + discount * mixed
        following_return, following_value = returns[t], value[t]
    return returns


def faulty_lambda_returns(reward, value, discount, trace) -> np.ndarray:
    """The exercise's version: every episode is taken to be over after its last step."""
    return lambda_returns(reward, value, 0.0, True, discount, trace)


def probe_episode() -> tuple[np.ndarray, bool]:
    """Rewards of one episode of the probe, and whether it terminated."""
    environment = gym.make("CA14/ProbeTruncation-v0")
    environment.reset(seed=0)
    rewards, terminated, truncated = [], False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, _ = environment.step(0)
        rewards.append(reward)
    return np.array(rewards), terminated


if __name__ == "__main__":
    reward, terminated = probe_episode()
    value = np.full(len(reward), 1 / (1 - 0.99))
    for trace in (0.0, 0.5, 0.95, 1.0):
        right = lambda_returns(reward, value, value[-1], terminated, 0.99, trace)
        wrong = faulty_lambda_returns(reward, value, 0.99, trace)
        print(f"λ = {trace:4.2f}: right {right.round(2)}, as printed {wrong.round(2)}")
