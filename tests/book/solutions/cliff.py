"""A copy that errs with probability ε a step, where one error loses everything that follows."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.solvers import policy_return

STAY, ERR = 0, 1


def loss_of_the_copy(error: float, discount: float) -> float:
    """J(π_β) − J(copy), exactly. State 0 is the path (reward 1 for staying), state 1 the foot of the cliff."""
    transition = np.zeros((2, 2, 2))
    transition[0, STAY, 0] = transition[0, ERR, 1] = transition[1, :, 1] = 1.0
    model = TabularModel(transition=transition, reward=[[1, 0], [0, 0]], terminal=[False, True])
    expert = np.array([[1.0, 0.0], [1.0, 0.0]])
    copy = np.array([[1 - error, error], [1.0, 0.0]])
    return policy_return(model, expert, discount) - policy_return(model, copy, discount)


if __name__ == "__main__":
    discount = 0.99
    for error in (0.1, 0.01, 0.001, 0.0001):
        loss, bound = loss_of_the_copy(error, discount), error / (1 - discount) ** 2
        print(f"ε = {error:6.4f}: loses {loss:7.3f}, bound {bound:8.3f}, ratio {loss / bound:.3f}")
