"""The regret bound of posterior sampling, in numbers."""

import math


def bound(states: int, actions: int, horizon: int, steps: int) -> float:
    """Right-hand side of the theorem."""
    log = math.log(4 * states * actions * steps**2)
    return (
        8 * math.sqrt(2) * horizon * states * math.sqrt(actions * steps * log) + 2 * horizon**2 * states * actions + 2
    )


def doubling_at_which_it_says_something(states: int, actions: int, horizon: int, optimum: float) -> int:
    """The least n at which the bound for 2ⁿ steps is under the regret of policies that earn nothing."""
    n = 1
    while bound(states, actions, horizon, 2**n) >= optimum * 2**n / horizon:
        n += 1
    return n


if __name__ == "__main__":
    print(bound(6, 2, 20, 20_000), doubling_at_which_it_says_something(6, 2, 20, 4.677))
