"""Probe environments: each can be solved only if one part of a value-based learner is right.

Run them in this order; the first that fails names the fault. With discount γ the right values are:

=================  ==================================================  ===========================================
probe              what happens                                        right values
=================  ==================================================  ===========================================
ProbeReward        one step, constant observation, reward 1            Q = 1 for both actions
ProbeValue         one step, observation ±1, reward equals it          Q = observation
ProbeDiscount      two steps, observations 0 and 1, reward 1 at last   Q = γ, then 1
ProbeAction        one step, reward −1 for action 0, +1 for action 1   Q = −1 and +1
ProbeTruncation    reward 1 for ever, cut after every second step      Q = 1 / (1 − γ); 1 / (1 − γ / 2) if a cut ends it
=================  ==================================================  ===========================================
"""

from typing import Any

import numpy as np

from ca14lib.environments.batched import SingleEnvironment
from ca14lib.environments.tabular import TabularEnvironment
from ca14lib.environments.tabular_model import TabularModel


def _chain(successor: list[int], reward: list[list[float]], **rest: Any) -> TabularModel:
    """A model in which both actions lead to the same successor."""
    transition = np.repeat(np.eye(len(successor))[successor][:, None], 2, axis=1)
    return TabularModel(transition=transition, reward=np.array(reward), **rest)


class _ProbeVector(TabularEnvironment):
    """A batched probe. Args: ``num_envs``, the number of copies; ``render_mode`` must be None."""

    metadata = TabularEnvironment.metadata | {"render_modes": []}

    def __init__(
        self, model: TabularModel, num_envs: int, render_mode: str | None, time_limit: int | None = None
    ) -> None:
        super().__init__(model, num_envs, time_limit=time_limit, render_mode=render_mode)

    def spawn(self, num_envs: int) -> "_ProbeVector":
        return type(self)(num_envs)  # type: ignore[arg-type,call-arg]


class ProbeRewardVector(_ProbeVector):
    """Does the value reach the reward at all?"""

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None) -> None:
        model = _chain([1, 1], [[1, 1], [0, 0]], terminal=[False, True], observation=np.zeros((2, 1), np.float32))
        super().__init__(model, num_envs, render_mode)


class ProbeValueVector(_ProbeVector):
    """Does the value depend on the observation?"""

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None) -> None:
        model = _chain(
            [2, 2, 2],
            [[-1, -1], [1, 1], [0, 0]],
            terminal=[False, False, True],
            initial=[0.5, 0.5, 0],
            observation=np.array([[-1], [1], [0]], np.float32),
        )
        super().__init__(model, num_envs, render_mode)


class ProbeDiscountVector(_ProbeVector):
    """Is the next value bootstrapped, and discounted once?"""

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None) -> None:
        model = _chain(
            [1, 2, 2],
            [[0, 0], [1, 1], [0, 0]],
            terminal=[False, False, True],
            observation=np.array([[0], [1], [2]], np.float32),
        )
        super().__init__(model, num_envs, render_mode)


class ProbeActionVector(_ProbeVector):
    """Does the value depend on the action, and does the policy follow it?"""

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None) -> None:
        model = _chain([1, 1], [[-1, 1], [0, 0]], terminal=[False, True], observation=np.zeros((2, 1), np.float32))
        super().__init__(model, num_envs, render_mode)


class ProbeTruncationVector(_ProbeVector):
    """Does a time limit leave the bootstrap alone?"""

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None) -> None:
        model = _chain([0], [[1, 1]], observation=np.zeros((1, 1), np.float32))
        super().__init__(model, num_envs, render_mode, time_limit=2)


class _Probe(SingleEnvironment):
    metadata = {"render_modes": []}


class ProbeReward(_Probe):
    """``CA14/ProbeReward-v0``: see :class:`ProbeRewardVector`."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ProbeRewardVector(1, **parameters))


class ProbeValue(_Probe):
    """``CA14/ProbeValue-v0``: see :class:`ProbeValueVector`."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ProbeValueVector(1, **parameters))


class ProbeDiscount(_Probe):
    """``CA14/ProbeDiscount-v0``: see :class:`ProbeDiscountVector`."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ProbeDiscountVector(1, **parameters))


class ProbeAction(_Probe):
    """``CA14/ProbeAction-v0``: see :class:`ProbeActionVector`."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ProbeActionVector(1, **parameters))


class ProbeTruncation(_Probe):
    """``CA14/ProbeTruncation-v0``: see :class:`ProbeTruncationVector`."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ProbeTruncationVector(1, **parameters))
