"""A referential game: one agent sees a meaning, the other has to name it, and all between them is a message.

Book: multi_agent/communication.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.matrix_games import action_picture
from ca14lib.environments.multi_agent import MultiAgentEnvironment

CHANNELS = ("open", "cut", "scrambled")
SPEAKER, LISTENER = 0, 1


class ReferentialGame(MultiAgentEnvironment):
    """A speaker describes a meaning in ``length`` symbols, then a listener names its ``attributes`` one by one.

    A meaning has K attributes with V values each, all drawn uniformly. In the first L steps the speaker's action is the
    next symbol and the listener's has no effect; in the following K steps the listener's action is its answer for
    attribute 1, 2, …, K, and the speaker's has no effect. A right answer pays the team 1/K, half to each agent, so the
    return of the team is the share of attributes named rightly. With at least as many messages as meanings,
    :math:`M^L \\ge V^K`, the best return is 1; a listener that hears nothing gets 1/V, as does uniform play.

    Both agents have the same spaces. Observation, float32: one-hot role (speaker, listener); one-hot step (zeros when
    the game is over); the meaning, K one-hot vectors, zeros for the listener; the message so far, L one-hot vectors,
    zeros where nothing was said: what was said for the speaker, what came through the channel for the listener. State:
    step, meaning, message as said and message as heard. ``info["action_mask"]`` leaves symbols to the speaker, values
    to the listener and only action 0 to who has no say; a symbol outside the mask says nothing, a value outside it is
    wrong.

    Args:
        num_envs: Number of copies.
        attributes: K, at least 1.
        values: V, at least 2.
        symbols: M, at least 2.
        length: L, at least 1.
        channel: ``"open"``; ``"cut"``, the listener hears nothing; ``"scrambled"``, it hears uniformly drawn symbols.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If a number is out of range or the channel is unknown. :meth:`reset` takes the option ``meanings``,
            integers ``[num_envs, K]`` in 0…V − 1, for the first episodes, and raises if they are not that.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        attributes: int = 2,
        values: int = 3,
        symbols: int = 3,
        length: int = 2,
        channel: str = "open",
        render_mode: str | None = None,
    ) -> None:
        for name, value, least in (
            ("num_envs", num_envs, 1), ("attributes", attributes, 1), ("values", values, 2), ("symbols", symbols, 2),
            ("length", length, 1),
        ):  # fmt: skip
            require_integer(name, value, least)
        if channel not in CHANNELS:
            raise ValueError(f"channel must be one of {', '.join(CHANNELS)}, got {channel!r}")
        self.attributes, self.values, self.symbols, self.length = attributes, values, symbols, length
        self.channel, self.num_actions = channel, max(symbols, values)
        self._steps = length + attributes
        meaning, message = attributes * values, length * symbols
        super().__init__(
            num_envs,
            2,
            gym.spaces.Box(0.0, 1.0, (2 + self._steps + meaning + message,), np.float32),
            gym.spaces.Discrete(self.num_actions),
            gym.spaces.Box(0.0, 1.0, (self._steps + meaning + 2 * message,), np.float32),
            time_limit=None,
            horizon=self._steps,
            render_mode=render_mode,
        )
        self._step_shown = _one_hot(self._steps)
        self._value_shown, self._symbol_shown = _one_hot(values), _one_hot(symbols)
        self._masks = self._action_masks()
        self._meaning = np.zeros((num_envs, attributes), dtype=np.int64)
        self._said = np.full((num_envs, length), -1, dtype=np.int64)
        self._heard = self._said.copy()
        self._time = np.zeros(num_envs, dtype=np.intp)
        self._last = np.full((num_envs, 2), -1, dtype=np.int64)

    @property
    def optimum(self) -> float | None:
        """Largest expected return of the team; None where an open channel has fewer messages than meanings."""
        if self.channel != "open":
            return 1.0 / self.values
        return 1.0 if self.symbols**self.length >= self.values**self.attributes else None

    def spawn(self, num_envs: int) -> "ReferentialGame":
        return type(self)(
            num_envs, attributes=self.attributes, values=self.values, symbols=self.symbols, length=self.length,
            channel=self.channel,
        )  # fmt: skip

    def decoded(self, state: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Meanings ``[…, K]`` and messages as said ``[…, L]`` of states ``[…, d]``; −1 for what was not said.

        Raises:
            ValueError: If the last axis is not that of a state of this game.
        """
        rows = np.asarray(state)
        if rows.ndim < 1 or rows.shape[-1] != self.state_space.shape[0]:
            raise ValueError(f"states must have shape […, {self.state_space.shape[0]}], got {rows.shape}")
        first, second = self._steps, self._steps + self.attributes * self.values
        meaning = rows[..., first:second].reshape(*rows.shape[:-1], self.attributes, self.values)
        said = rows[..., second : second + self.length * self.symbols]
        said = said.reshape(*rows.shape[:-1], self.length, self.symbols)
        return meaning.argmax(-1), np.where(said.any(-1), said.argmax(-1), -1)

    def _action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions at every step, ``[steps + 1, 2, A]``; the last row is for the end."""
        masks = np.zeros((self._steps + 1, 2, self.num_actions), dtype=np.bool_)
        masks[:, :, 0] = True
        masks[: self.length, SPEAKER, : self.symbols] = True
        masks[self.length : self._steps, LISTENER, : self.values] = True
        return masks

    def _restart(self, count: int, options: dict[str, Any] | None) -> NDArray[np.int64]:
        drawn = self.np_random.integers(self.values, size=(count, self.attributes))
        if not options or "meanings" not in options:
            return drawn
        given = np.asarray(options["meanings"])
        if given.shape != drawn.shape or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= self.values:
            raise ValueError(f"meanings must be integers {drawn.shape} in 0…{self.values - 1}, got {given}")
        return given.astype(np.int64)

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.int64]) -> None:
        self._meaning[where] = states
        self._said[where] = self._heard[where] = self._last[where] = -1
        self._time[where] = 0

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        copies, time = np.arange(self.num_envs), self._time
        speaks = time < self.length
        symbol = np.where(action[:, SPEAKER] < self.symbols, action[:, SPEAKER], -1)
        self._said[copies[speaks], time[speaks]] = symbol[speaks]
        if self.channel != "cut":
            if self.channel == "scrambled":
                symbol = self.np_random.integers(self.symbols, size=self.num_envs)
            self._heard[copies[speaks], time[speaks]] = symbol[speaks]
        asked = np.clip(time - self.length, 0, self.attributes - 1)
        right = ~speaks & (action[:, LISTENER] == self._meaning[copies, asked])
        self._time = np.minimum(time + 1, self._steps)
        self._last = action.copy()
        reward = np.where(right, 0.5 / self.attributes, 0.0)
        return np.repeat(reward[:, None], 2, axis=1), np.zeros(self.num_envs, dtype=np.bool_)

    def _observe(self) -> NDArray[np.float32]:
        copies = self.num_envs
        step = self._step_shown[np.where(self._time < self._steps, self._time, -1)]
        meaning = self._value_shown[self._meaning].reshape(copies, -1)
        said, heard = (self._symbol_shown[message].reshape(copies, -1) for message in (self._said, self._heard))
        role = np.eye(2, dtype=np.float32)[:, None].repeat(copies, axis=1)
        speaker = np.concatenate([role[SPEAKER], step, meaning, said], axis=1)
        listener = np.concatenate([role[LISTENER], step, np.zeros_like(meaning), heard], axis=1)
        return np.stack([speaker, listener], axis=1)

    def _state(self) -> NDArray[np.float32]:
        shown = (self._value_shown[self._meaning], self._symbol_shown[self._said], self._symbol_shown[self._heard])
        step = self._step_shown[np.where(self._time < self._steps, self._time, -1)]
        return np.concatenate([step, *(rows.reshape(self.num_envs, -1) for rows in shown)], axis=1)

    def _report(self) -> dict[str, Any]:
        return {"action_mask": self._masks[self._time].copy()}

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return action_picture(self._last[index], self.num_actions)


def _one_hot(count: int) -> NDArray[np.float32]:
    """One-hot rows for 0…count − 1, and a row of zeros at index −1."""
    return np.vstack([np.eye(count, dtype=np.float32), np.zeros((1, count), dtype=np.float32)])
