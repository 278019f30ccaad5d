"""ICU-Sepsis (Choudhary et al., 2024) behind the course's interface. Book: notebook offline/sepsis.

The PyPI package ``icu-sepsis`` ships the model estimated from intensive-care records; nothing is downloaded.
"""

import contextlib
import functools
import io
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment
from ca14lib.environments.tabular import TabularEnvironment
from ca14lib.environments.tabular_model import TabularModel

SOURCE_ID = "Sepsis/ICU-Sepsis-v2"
DEATH, SURVIVAL, ABSORBING = 713, 714, 715


def source_environment() -> gym.Env:
    """The package's own environment, with inadmissible actions as the mean of the admissible ones.

    The package still imports the abandoned ``gym``, which greets every process with a notice on standard error;
    that one notice is dropped, anything else written during the import passes through.
    """
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        import icu_sepsis  # noqa: F401  (registers the id)
    rest = [line for line in written.getvalue().splitlines() if not _is_gym_notice(line)]
    if any(line.strip() for line in rest):
        import sys

        sys.stderr.write("\n".join(rest) + "\n")
    return gym.make(SOURCE_ID, inadmissible_action_strategy="mean", disable_env_checker=True)


def _is_gym_notice(line: str) -> bool:
    return line.startswith(
        (
            "Gym has been unmaintained since 2022",
            "Please upgrade to Gymnasium, the maintained drop-in replacement",
            "Users of this version of Gym should be able to simply replace",
            "See the migration guide at https://gymnasium.farama.org",
        )
    )


@functools.cache
def _source() -> tuple[TabularModel, NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Model, clinicians' policy ``[S, A]``, admissible actions ``[S, A]`` and SOFA scores ``[S]``."""
    source = source_environment().unwrapped
    dynamics = source.dynamics  # type: ignore[attr-defined]
    states, actions = dynamics["tx_mat"].shape[:2]
    terminal = np.isin(np.arange(states), (DEATH, SURVIVAL, ABSORBING))
    transition = np.array(dynamics["tx_mat"], dtype=np.float64)
    transition /= transition.sum(axis=2, keepdims=True)  # the shipped rows sum to 1 within single precision only
    initial = np.array(dynamics["d_0"], dtype=np.float64)
    model = TabularModel(
        transition=transition, reward=dynamics["r_mat"], terminal=terminal, initial=initial / initial.sum()
    )
    clinician = np.array(source.expert_policy, dtype=np.float64)  # type: ignore[attr-defined]
    clinician[terminal] = 1.0 / actions
    clinician /= clinician.sum(axis=1, keepdims=True)
    admissible = np.zeros((states, actions), dtype=bool)
    for state, allowed in enumerate(dynamics["admissible_actions"]):
        admissible[state, list(allowed)] = True
    for array in (clinician, admissible):
        array.flags.writeable = False
    return model, clinician, admissible, np.array(source.sofa_scores, dtype=np.float64)  # type: ignore[attr-defined]


class ICUSepsisVector(TabularEnvironment):
    """``CA14/ICUSepsis-v0``, batched: treat a patient with sepsis, one decision every four hours.

    716 states (clusters of vital signs and laboratory values, then death, survival and an absorbing state),
    25 actions (5 levels of fluids × 5 of vasopressors), reward 1 on survival, 0 otherwise, undiscounted.
    An action that clinicians hardly ever took in a state is inadmissible there and acts as the mean of the
    admissible ones, as in version 2 of the benchmark; other strategies are refused.

    Args:
        num_envs: Number of copies.
        inadmissible_action_strategy: Must be ``"mean"``.
        time_limit: Artificial limit on the steps of an episode, or None; the package uses 500.
        render_mode: Must be None; a patient has no picture.

    Raises:
        ValueError: If another strategy or a render mode is asked for.
    """

    metadata = TabularEnvironment.metadata | {"render_modes": []}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        inadmissible_action_strategy: str = "mean",
        time_limit: int | None = 500,
        render_mode: str | None = None,
    ) -> None:
        if inadmissible_action_strategy != "mean":
            raise ValueError(
                "inadmissible_action_strategy must be 'mean' (the yardsticks of this course are computed for it), "
                f"got {inadmissible_action_strategy!r}"
            )
        model, self.clinician_policy, self.admissible, self.sofa = _source()
        super().__init__(model, num_envs, time_limit=time_limit, render_mode=render_mode)

    def spawn(self, num_envs: int) -> "ICUSepsisVector":
        return type(self)(num_envs, time_limit=self.time_limit)

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """``clinician``, the policy estimated from the records, and ``random``, uniform over all 25 actions."""
        return {"clinician": self.clinician_policy} | super().behaviours()

    def _information(self) -> dict[str, Any]:
        return {"admissible": self.admissible[self._state], "sofa": self.sofa[self._state]}


class ICUSepsis(SingleEnvironment):
    """``CA14/ICUSepsis-v0``; takes the arguments of :class:`ICUSepsisVector` but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ICUSepsisVector(1, **parameters))
