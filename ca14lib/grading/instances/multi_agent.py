"""Personal instances of the assignment `multi-agent`: a game of two who see different things, and one message.

The speaker sees x, sends one of M messages and acts; the listener sees y and the message and acts; both share the
payoff. The game is small enough that the best team is found by looking at every pure strategy of the speaker.
"""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SPEAKER_TYPES, LISTENER_TYPES, ACTIONS, MESSAGES = 4, 3, 3, 2
SILENT_SHARE = 0.85  # the best team without message must stay under this share of the range: the message has to matter
PASSING_SHARE = 0.95  # what the assignment asks for
LUCKY_STARTS = (0.1, 0.35)  # share of random starts from which answering each other in turns gets there
STARTS = 60


def draw(generator: np.random.Generator) -> dict[str, Any]:
    """One instance, of plain numbers and lists.

    Keys: ``prior`` ``[X, Y]``, ``payoff`` ``[X, Y, A, A]`` (of speaker's type, listener's type, speaker's action,
    listener's action), ``messages``, and the numbers ``temperature`` and ``discount`` that the other tasks use.
    """
    while True:
        instance = _candidate(generator)
        game = np.array(instance["prior"]), np.array(instance["payoff"])
        uniform, best = uniform_return(*game), best_return(*game, MESSAGES)
        silent = (best_return(*game, 1) - uniform) / (best - uniform)
        if silent > SILENT_SHARE:
            continue
        mark = uniform + PASSING_SHARE * (best - uniform)
        lucky = np.mean([_alternate(*game, MESSAGES, generator) >= mark for _ in range(STARTS)])
        if LUCKY_STARTS[0] <= lucky <= LUCKY_STARTS[1]:
            return instance


def team_return(prior: Array, payoff: Array, speaker: ArrayLike, listener: ArrayLike) -> float:
    """Exact expected payoff of a pair of policies.

    Args:
        prior: ``[X, Y]``.
        payoff: ``[X, Y, A, A]``.
        speaker: Probabilities of message and action, ``[X, M, A]``.
        listener: Probabilities of actions, ``[Y, M, A]``.
    """
    says, hears = np.asarray(speaker, dtype=np.float64), np.asarray(listener, dtype=np.float64)
    return float(np.einsum("xy,xma,ymb,xyab->", prior, says, hears, payoff))


def uniform_return(prior: Array, payoff: Array) -> float:
    """Expected payoff of two who act at random."""
    return float((prior * payoff.mean(axis=(2, 3))).sum())


def best_return(prior: Array, payoff: Array, messages: int) -> float:
    """The largest expected payoff of any pair of policies.

    A pair of pure strategies is among the best, and against a pure strategy of the speaker the listener's best answer
    is found for each type and message on its own.
    """
    types = range(payoff.shape[0])
    choices = list(product(range(messages), range(payoff.shape[2])))
    worth = prior[:, :, None, None] * payoff  # [X, Y, A, B]
    best = -np.inf
    for chosen in product(choices, repeat=len(types)):
        heard = np.zeros((messages, *worth.shape[1:2], worth.shape[3]))
        for x, (message, action) in zip(types, chosen):
            heard[message] += worth[x, :, action]
        best = max(best, float(heard.max(axis=2).sum()))
    return best


def _candidate(generator: np.random.Generator) -> dict[str, Any]:
    shape = (SPEAKER_TYPES, LISTENER_TYPES, ACTIONS, ACTIONS)
    payoff = generator.integers(-6, 3, size=shape)
    for x, y in np.ndindex(shape[:2]):  # one pair of actions is good in each situation, and misses are dear
        payoff[x, y, generator.integers(ACTIONS), generator.integers(ACTIONS)] = generator.integers(6, 11)
    prior = np.round(generator.dirichlet(np.full(shape[0] * shape[1], 4.0)), 3)
    prior[prior.argmax()] += 1.0 - prior.sum()
    return {
        "prior": np.round(prior.reshape(shape[:2]), 3).tolist(),
        "payoff": payoff.astype(float).tolist(),
        "messages": MESSAGES,
        "temperature": round(float(generator.uniform(0.4, 1.5)), 2),
        "discount": round(float(generator.uniform(0.9, 0.99)), 3),
    }


def _alternate(prior: Array, payoff: Array, messages: int, generator: np.random.Generator) -> float:
    """Where two end who answer each other best in turns, from a random listener."""
    worth = prior[:, :, None, None] * payoff
    listener = np.eye(payoff.shape[3])[generator.integers(payoff.shape[3], size=(payoff.shape[1], messages))]
    value = -np.inf
    while True:
        says = np.einsum("xyab,ymb->xma", worth, listener)
        chosen = says.reshape(len(says), -1).argmax(axis=1)
        speaker = np.eye(says[0].size)[chosen].reshape(says.shape)
        hears = np.einsum("xyab,xma->ymb", worth, speaker)
        listener = np.eye(hears.shape[2])[hears.argmax(axis=2)]
        reached = float(hears.max(axis=2).sum())
        if reached <= value + 1e-12:
            return value
        value = reached
