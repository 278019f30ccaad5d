"""Small environments with continuous actions whose right answers are known; importing this file registers them."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

ACTIONS = gym.spaces.Box(-2, 2, (1,), np.float32)


class Bandit(gym.Env):
    """One step; the reward is 1 − (a − 0.8)², so 0.8 is best. Its episodes end by themselves."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = ACTIONS
    best, optimum = 0.8, 1.0
    random = 1 - (4 / 3 + 0.8**2)  # of a uniform on [−2, 2]: its variance is 4/3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), 1 - (float(action[0]) - self.best) ** 2, True, False, {}


class TwoMoves(gym.Env):
    """A position x from [−1, 1] is moved twice, x ← x + a/2, at a cost of x² + a²/8; observed are x and the moves made.

    By backward induction the cost to go is k x² with k = c K / (c + K), where c is the price of a unit moved and K
    one more than the k that follows; the best move is −x K / (c + K).
    """

    observation_space = gym.spaces.Box(-4, 4, (2,), np.float32)
    action_space = ACTIONS
    price = 0.5  # of a unit moved, squared: a²/8 with a = 2 units

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.moves = self.np_random.uniform(-1, 1), 0
        return self._observation(), {}

    def step(self, action):
        move = float(action[0]) / 2
        self.x, self.moves = self.x + move, self.moves + 1
        return self._observation(), -(self.x**2) - self.price * move**2, self.moves == 2, False, {}

    def _observation(self):
        return np.array([self.x, self.moves], np.float32)

    @classmethod
    def optimal_return(cls) -> float:
        k = 0.0
        for _ in range(2):
            k = cls.price * (1 + k) / (cls.price + 1 + k)
        return -k / 3  # the mean of x² is 1/3

    @classmethod
    def random_return(cls) -> float:
        """Moves are uniform on [−1, 1], of mean square 1/3: x² is 2/3 and then 3/3 in the mean."""
        return -(2 / 3 + 3 / 3) - 2 * cls.price / 3

    @classmethod
    def exact_return(cls, act: Callable[[NDArray], NDArray]) -> float:
        """Expected return of deterministic actions, by quadrature over the start."""
        x = np.linspace(-1, 1, 401)
        total = np.zeros_like(x)
        for moves in range(2):
            action = act(np.stack([x, np.full_like(x, moves)], axis=1).astype(np.float32))[:, 0]
            x = x + action / 2
            total -= x**2 + cls.price * (action / 2) ** 2
        return float(np.trapezoid(total, np.linspace(-1, 1, 401)) / 2)


class Trace(gym.Env):
    """Observations (mark of the episode, steps made) from which every right transition can be told.

    An episode with a mark under 0.4 terminates after 3 steps, one above 0.7 is truncated after 5, one in between is
    both terminated and truncated after 4.
    """

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 3], np.float32))

    def __init__(self, bonus: float = 0.0):
        self.bonus = bonus

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.mark, self.steps = self.np_random.uniform(), 0
        return np.array([self.mark, 0], np.float32), {}

    def step(self, action):
        self.steps += 1
        terminated = (self.mark < 0.4 and self.steps == 3) or (0.4 <= self.mark <= 0.7 and self.steps == 4)
        truncated = (self.mark > 0.7 and self.steps == 5) or (0.4 <= self.mark <= 0.7 and self.steps == 4)
        reward = self.mark + self.steps + float(action.sum()) + self.bonus
        return np.array([self.mark, self.steps], np.float32), reward, terminated, truncated, {}


PROBES = {"Bandit": Bandit, "TwoMoves": TwoMoves, "Trace": Trace}
for _name, _probe in PROBES.items():
    if f"CourseTest/{_name}-v0" not in gym.registry:
        gym.register(f"CourseTest/{_name}-v0", _probe)
