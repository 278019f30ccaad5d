"""What is said, and whether it matters: measures of a learned protocol. Book: multi_agent/communication.

Meanings and messages are arrays with one row per utterance; they may come in any order.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from ca14lib.metrics.intervals import Interval, iqm_interval


def topographic_similarity(meanings: ArrayLike, messages: ArrayLike, *, distance: str | None = None) -> float:
    """Spearman correlation of distances between meanings and between messages (book eq. topographic-similarity).

    Distances are those of all pairs of rows: between meanings the number of attributes in which they differ (Hamming);
    between messages Hamming or edit distance for integers, Euclidean distance for real numbers. Ties take their average
    rank. If all meanings or all messages are equally far apart from each other, constant messages among them, there is
    nothing to correlate and the similarity is 0.

    Args:
        meanings: Integers ``[n, K]``, n ≥ 3.
        messages: ``[n, L]``: integers, symbols; or real numbers.
        distance: Of messages: ``"hamming"``, ``"edit"`` (integers; −1 is no symbol and is left out, so that messages
            may differ in length) or ``"euclidean"``; None takes Hamming for integers, Euclidean otherwise.
    Returns:
        In [−1, 1]: 1 when messages are ordered like their meanings, about 0 when they are unrelated.
    Raises:
        ValueError: If shapes or the distance do not fit.
    """
    first, second = _rows("meanings", meanings), _rows("messages", messages)
    if len(first) != len(second) or len(first) < 3:
        raise ValueError(f"needs as many messages as meanings and at least 3, got {len(first)} and {len(second)}")
    if first.dtype.kind not in "iub":
        raise ValueError(f"meanings must be integers, got dtype {first.dtype}")
    integers = second.dtype.kind in "iub"
    kind = distance or ("hamming" if integers else "euclidean")
    measures: dict[str, Callable[[NDArray], NDArray]] = {
        "hamming": lambda rows: pdist(rows, "hamming"), "euclidean": lambda rows: pdist(rows.astype(np.float64)),
        "edit": _edit_distances,
    }  # fmt: skip
    if kind not in measures or (kind == "edit" and not integers):
        raise ValueError(f"distance must be hamming, edit (of integers) or euclidean, got {distance!r}")
    return _spearman(pdist(first, "hamming"), measures[kind](second))


def message_entropy(messages: ArrayLike, num_symbols: int) -> float:
    """Entropy of the symbols in bits (book eq. message-entropy), from 0 to the logarithm of their number.

    Args:
        messages: Symbols in 0…``num_symbols`` − 1, any shape; not empty.
        num_symbols: Size of the alphabet, at least 1.
    Raises:
        ValueError: If a symbol is out of range or there are none.
    """
    symbols = np.asarray(messages)
    if symbols.size == 0 or symbols.dtype.kind not in "iu":
        raise ValueError(f"messages must be integers and not empty, got {symbols.size} of dtype {symbols.dtype}")
    if num_symbols < 1 or symbols.min() < 0 or symbols.max() >= num_symbols:
        raise ValueError(f"symbols must lie in 0…{num_symbols - 1}, got {symbols.min()} to {symbols.max()}")
    return _entropy(np.bincount(symbols.reshape(-1), minlength=num_symbols))


def speaker_consistency(meanings: ArrayLike, messages: ArrayLike) -> float:
    """Mutual information of meaning and message over the entropy of the meaning (book eq. speaker-consistency).

    The share of what there is to say that the message says, whole rows compared: 1 if every meaning can be told from
    its message, 0 if meaning and message are independent. Jaques et al. (2019) score how consistently a speaker uses a
    symbol in a situation; this is the information-theoretic form of it. It is estimated by counting, which is too large
    where there are few utterances for each pair of meaning and message.

    Args:
        meanings: Integers ``[n]`` or ``[n, K]``.
        messages: Integers ``[n]`` or ``[n, L]``.
    Returns:
        In [0, 1]; 0 if there is only one meaning.
    Raises:
        ValueError: If shapes or types do not fit.
    """
    indices = []
    for name, rows in (("meanings", _rows("meanings", meanings)), ("messages", _rows("messages", messages))):
        if rows.dtype.kind not in "iub":
            raise ValueError(f"{name} must be integers, got dtype {rows.dtype}")
        indices.append(np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1))
    meaning, message = indices
    if len(meaning) != len(message):
        raise ValueError(f"needs as many messages as meanings, got {len(message)} and {len(meaning)}")
    joint = np.zeros((meaning.max() + 1, message.max() + 1))
    np.add.at(joint, (meaning, message), 1)
    of_meaning, of_message = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    if of_meaning == 0.0:
        return 0.0
    # rounding must not leave the range
    return float(np.clip((of_meaning + of_message - _entropy(joint.reshape(-1))) / of_meaning, 0.0, 1.0))


def channel_value(return_open: ArrayLike, return_cut: ArrayLike, *, seed: int = 0) -> Interval:
    """What the channel is worth: return with it minus return without it (book eq. channel-value).

    Args:
        return_open: Return of each run with its channel, ``[runs]``, at least two.
        return_cut: Return of the same runs, in the same order, with the channel cut or scrambled.
        seed: Fixes the bootstrap.
    Returns:
        Interquartile mean over runs of the difference, and its interval.
    Raises:
        ValueError: If the runs are not paired, fewer than two, or a return is not finite.
    """
    with_channel, without = np.asarray(return_open, dtype=np.float64), np.asarray(return_cut, dtype=np.float64)
    if with_channel.ndim != 1 or with_channel.shape != without.shape:
        raise ValueError(f"returns must be paired by run, got shapes {with_channel.shape} and {without.shape}")
    return iqm_interval(with_channel - without, seed=seed)


def _rows(name: str, values: ArrayLike) -> NDArray:
    rows = np.asarray(values)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"{name} must have shape [n, …] and not be empty, got {rows.shape}")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise ValueError(f"{name} must be finite, got {rows[~np.isfinite(rows)][0]}")
    return rows


def _entropy(counts: NDArray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(max(-(share * np.log2(share)).sum(), 0.0))


def _spearman(first: NDArray, second: NDArray) -> float:
    ranks = [
        rankdata(np.round(values, 12)) for values in (first, second)
    ]  # equal distances must tie in spite of rounding
    centred = [rank - rank.mean() for rank in ranks]
    size = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return 0.0 if size == 0.0 else float(np.clip(centred[0] @ centred[1] / size, -1.0, 1.0))


def _edit_distances(rows: NDArray) -> NDArray[np.float64]:
    """Levenshtein distance of every pair of rows without their entries −1, in the order of ``pdist``."""
    words = [row[row != -1].tolist() for row in rows]
    return np.array([_edit_distance(words[i], words[j]) for i in range(len(words)) for j in range(i + 1, len(words))])


def _edit_distance(first: list[int], second: list[int]) -> float:
    previous = list(range(len(second) + 1))
    for row, symbol in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (symbol != other)))
        previous = current
    return float(previous[-1])
