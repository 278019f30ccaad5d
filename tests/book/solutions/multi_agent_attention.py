"""Where a policy settles if the critic of all own actions has seen the action that was taken."""

import numpy as np


def learned(rewards: tuple[float, float], sees_own_action: bool, start: float, rounds: int = 20_000) -> float:
    """Probability of the first action after exact updates; the critic is a table, trained where actions were taken."""
    reward, logit = np.array(rewards), np.log(start / (1 - start))
    for _ in range(rounds):
        policy = np.array([1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(logit))])
        # row: action seen by the critic, column: action valued; what was never taken keeps its first value, 0
        critic = np.diag(reward) if sees_own_action else np.tile(reward, (2, 1))
        advantage = np.diag(critic) - critic @ policy
        score = np.array([1 - policy[0], -policy[0]])
        logit += 0.5 * policy @ (score * advantage)
    return float(1 / (1 + np.exp(-logit)))


if __name__ == "__main__":
    for rewards in ((2.0, 1.0), (-1.0, -2.0)):
        for start in (0.2, 0.5):
            right, wrong = (learned(rewards, sees, start) for sees in (False, True))
            print(f"rewards {rewards}, from {start}: ends at {right:.2f}, with the bug at {wrong:.2f}")
