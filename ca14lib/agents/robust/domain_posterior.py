"""Which domains agree with a few episodes of the target. Book: robust/domain_adaptation.

Candidates are drawn from the ranges of randomisation, and Bayes' rule weighs each by how well it predicts the target's
steps; the environment itself is the simulator. What is left of the ranges is what an environment takes as ``ranges``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents.base import require
from ca14lib.agents.robust.dynamics_posterior import CandidateModels, gaussian_log_likelihood
from ca14lib.environments.batched import require_integer
from ca14lib.environments.domains import (
    CartPoleDomainVector,
    DomainVector,
    PendulumDomainVector,
    Range,
    Ranges,
    checked_range,
)

Array = NDArray[np.float64]

ROUNDING = 1e-6  # by what share a float32 observation may lie beyond where an episode may begin
ROWS = 20_000  # steps that are simulated at a time
WIDENING = 1.5  # of the covariance from which candidates are drawn anew
KEPT = 0.05  # share of the draws of a whole number that are uniform


class Episode(NamedTuple):
    """One whole episode of the target, from its start: what was seen, done, and seen next.

    ``observation`` and ``next_observation`` are ``[T, O]``, ``action`` is ``[T]`` or ``[T, A]``. Rows are in order:
    with a delay, what a step did was chosen some rows before.
    """

    observation: Array
    action: NDArray
    next_observation: Array


def states_of(domain: type[DomainVector], observation: Array) -> Array:
    """The states ``[T, D]`` that observations ``[T, O]`` show; both domains show all of it.

    Raises:
        ValueError: If a state lies where no step begins.
    """
    if issubclass(domain, PendulumDomainVector):
        cosine, sine, turning = observation.T
        state = np.stack([np.arctan2(sine, cosine), turning], axis=-1)
    else:
        state = observation
    bound = domain.START_BOUND
    outside = abs(state) > bound * (1 + ROUNDING)
    if outside.any():
        raise ValueError(
            f"steps begin within ±{bound.tolist()}, got the state {state[outside.any(axis=1)][0].tolist()}"
        )
    return np.clip(state, -bound, bound)


def arriving(steps: int, delay: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which action reaches the actuator in every step of an episode (book eq. adapt-arrival).

    Args:
        steps: T.
        delay: Steps by which each candidate delays, ``[C]``.
    Returns:
        The row of the action, and whether the actuator still rests because none has arrived; ``[C, T]`` each.
    """
    row = np.arange(steps) - delay.astype(np.intp)[:, None]
    return np.maximum(row, 0), row < 0


def predictions(domain: type[DomainVector], parameters: dict[str, Array], episode: Episode) -> Array:
    """What each candidate says follows each step, from where the target was (book eq. adapt-prediction).

    All steps of all candidates are copies of one environment. A step that feels the action of ``delay`` rows before is
    the first step of an undelayed copy that takes that action; where nothing has arrived yet, a delayed copy rests in
    its first step as the target does.

    Args:
        domain: The environment's class.
        parameters: ``[C]`` for every parameter.
        episode: T steps.
    Returns:
        Observations ``[C, T, O]``.
    """
    delay, steps = parameters["delay"], len(episode.action)
    row, rests = arriving(steps, delay)
    simulated = {name: np.repeat(values, steps) for name, values in parameters.items()}
    simulated["delay"] = np.where(rests, delay[:, None], 0.0).reshape(-1)
    state = np.tile(states_of(domain, episode.observation), (len(delay), 1))
    environment = domain(len(state), time_limit=None)  # type: ignore[call-arg]
    environment.reset(seed=0, options={"state": state, "parameters": simulated})
    following, *_, info = environment.step(episode.action[row.reshape(-1)])
    before_reset = info.get("final_obs", following)  # what a copy showed whose episode ends in its step
    return before_reset.reshape(len(delay), steps, -1).astype(np.float64)


def central_range(values: Array, probability: Array, level: float) -> Range:
    """The central credible range of one parameter (book eq. adapt-range).

    Args:
        values: Of the candidates, ``[C]``.
        probability: Of the candidates, ``[C]``.
        level: Probability inside, in (0, 1); at most half of the rest is left out on either side.
    """
    order = values.argsort()
    below = probability[order].cumsum()
    tail = (1 - level) / 2 * below[-1]
    low, high = np.searchsorted(below, tail, side="right"), np.searchsorted(below, below[-1] - tail)
    return float(values[order[low]]), float(values[order[min(high, len(order) - 1)]])


def effective_number(probability: Array) -> float:
    """How many equally probable candidates would be as concentrated (book eq. adapt-effective)."""
    return float(1 / np.square(probability).sum())


def tempered(log_weight: Array, least: float) -> Array:
    """Probabilities ``[C]`` by the largest power up to 1 of the weights that leaves enough candidates.

    Args:
        log_weight: ``[C]``.
        least: Effective number that is to be left, at most C.
    """

    def belief(power: float) -> Array:
        weight = np.exp(power * (log_weight - log_weight.max()))
        return weight / weight.sum()

    low, high = 0.0, 1.0  # the effective number falls with the power
    for _ in range(60 if effective_number(belief(high)) < least else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if effective_number(belief(middle)) >= least else (low, middle)
    return belief(low) if low else belief(high)


class Proposal(NamedTuple):
    """Where candidates are drawn anew: a normal distribution within the ranges, and probabilities of whole numbers.

    The density needs no normaliser: the weights of the candidates are normalised in any case.
    """

    ranges: dict[str, Range]
    smooth: list[str]  # parameters that are drawn from the normal distribution
    mean: Array  # [P]
    root: Array  # Cholesky factor of the covariance, [P, P]
    whole: dict[str, tuple[Array, Array]]  # values and their probabilities

    @classmethod
    def fit(
        cls, domain: type[DomainVector], ranges: dict[str, Range], parameters: dict[str, Array], belief: Array
    ) -> "Proposal":
        """Mean and covariance of a belief over candidates, the covariance widened (book eq. adapt-proposal)."""
        free = [name for name, (low, high) in ranges.items() if low < high]
        smooth = [name for name in free if not domain.PARAMETERS[name].whole]
        points = np.stack([parameters[name] for name in smooth], axis=-1) if smooth else np.zeros((len(belief), 0))
        mean = belief @ points
        covariance = WIDENING * (belief[:, None] * (points - mean)).T @ (points - mean)
        width = np.array([ranges[name][1] - ranges[name][0] for name in smooth])
        root = np.linalg.cholesky(covariance + np.diag(np.square(1e-6 * width)))
        whole = {}
        for name in free:
            if domain.PARAMETERS[name].whole:
                values = np.arange(ranges[name][0], ranges[name][1] + 1)
                share = np.array([belief[parameters[name] == value].sum() for value in values])
                whole[name] = values, (1 - KEPT) * share / share.sum() + KEPT / len(values)
        return cls(ranges, smooth, mean, root, whole)

    def draw(self, count: int, generator: np.random.Generator) -> tuple[dict[str, Array], Array]:
        """``count`` points within the ranges, and the logarithm of their density up to a constant, ``[count]``."""
        low, high = (np.array([self.ranges[name][side] for name in self.smooth]) for side in (0, 1))
        points, normal = np.zeros((0, len(low))), np.zeros((0, len(low)))
        while len(points) < count:
            drawn = generator.standard_normal((count, len(low)))
            moved = self.mean + drawn @ self.root.T
            inside = ((moved >= low) & (moved <= high)).all(axis=1)
            points, normal = np.concatenate([points, moved[inside]]), np.concatenate([normal, drawn[inside]])
        log_density = -0.5 * np.square(normal[:count]).sum(axis=1)
        values = dict(zip(self.smooth, points[:count].T))
        for name, (steps, share) in self.whole.items():
            index = generator.choice(len(steps), size=count, p=share)
            values[name] = steps[index]
            log_density = log_density + np.log(share[index])
        return values, log_density


class DomainPosterior:
    """The belief about a target's parameters after some of its episodes (book eq. adapt-posterior).

    The prior is uniform on ranges, the noise of what is seen after a step normal.

    Args:
        domain: ``CartPoleDomainVector`` or ``PendulumDomainVector``, or a subclass.
        ranges: A number, or ``(low, high)``, for each parameter that may differ from its nominal value.
        deviation: σ of the noise, a number or ``[O]``; where nothing is measured with noise, how far a candidate may be
            from the truth.
        candidates: C, domains drawn from the ranges, at least 2.
        seed: Seeds these draws.

    Raises:
        ValueError: Naming the value, if the class is another one, there are no ranges, or a number is out of range.
    """

    def __init__(
        self,
        domain: type[DomainVector],
        ranges: Ranges,
        deviation: ArrayLike,
        candidates: int = 1_000,
        *,
        seed: int = 0,
    ) -> None:
        if not (isinstance(domain, type) and issubclass(domain, CartPoleDomainVector | PendulumDomainVector)):
            raise ValueError(f"domain must be CartPoleDomainVector or PendulumDomainVector, got {domain!r}")
        if not ranges:
            raise ValueError("a posterior needs the range of at least one parameter, got none")
        require_integer("candidates", candidates, 2)
        self.domain, self.candidates = domain, candidates
        self.ranges = {name: checked_range(name, given, domain.PARAMETERS) for name, given in ranges.items()}
        self.deviation = np.asarray(deviation, dtype=np.float64)
        self._size = domain(1).single_observation_space.shape[0]  # type: ignore[index]
        fits = self.deviation.shape in ((), (self._size,))
        if not (fits and np.isfinite(self.deviation).all() and (self.deviation > 0).all()):
            raise ValueError(f"deviation must be a number or [{self._size}], positive and finite, got {deviation!r}")
        self.episodes: list[Episode] = []
        self.generator = np.random.default_rng(seed)
        environment = domain(candidates, ranges=self.ranges)
        environment.reset(seed=int(self.generator.integers(2**31)))
        self._take(environment.parameters, np.zeros(candidates))

    def _take(self, parameters: dict[str, Array], log_density: Array) -> None:
        """Candidates with the density that they were drawn from in place of the prior's; all episodes are weighed."""
        self.parameters = parameters
        self.log_weight = log_density.min() - log_density  # the prior is constant
        prior = np.exp(self.log_weight)
        self.models = CandidateModels(prior / prior.sum())
        for episode in self.episodes:
            self._weigh(episode)

    def observe(self, observation: ArrayLike, action: ArrayLike, next_observation: ArrayLike) -> None:
        """Learn from a whole episode; in which order episodes come does not matter.

        Args:
            observation: ``[T, O]``, from the episode's first step on.
            action: ``[T]`` or ``[T, A]``, as they were chosen.
            next_observation: ``[T, O]``, what followed each step, before any reset.
        Raises:
            ValueError: If shapes disagree, a number is not finite, or a step begins where none can; the belief is then
                unchanged.
        """
        seen, chosen, followed = np.asarray(observation, float), np.asarray(action), np.asarray(next_observation, float)
        steps = len(chosen) if chosen.ndim else 0
        if steps == 0 or seen.shape != (steps, self._size) or followed.shape != seen.shape:
            raise ValueError(
                f"an episode has observations [T, {self._size}] before and after each of T actions, T at least 1, got "
                f"shapes {seen.shape}, {followed.shape} and {chosen.shape}"
            )
        if not (np.isfinite(seen).all() and np.isfinite(followed).all()):
            raise ValueError("observations must be finite, got NaN or infinity")
        episode = Episode(seen, chosen, followed)
        self._weigh(episode)
        self.episodes.append(episode)

    def _weigh(self, episode: Episode) -> None:
        """Add an episode's log likelihood to the weight of every candidate (book eq. adapt-weight)."""
        parts = []
        at_once = max(1, ROWS // len(episode.action))
        for first in range(0, self.candidates, at_once):
            chosen = {name: values[first : first + at_once] for name, values in self.parameters.items()}
            predicted = predictions(self.domain, chosen, episode)
            parts.append(gaussian_log_likelihood(predicted, episode.next_observation, self.deviation))
        gain = np.concatenate(parts)
        self.models.observe(gain)
        self.log_weight = self.log_weight + gain

    def refine(self, share: float = 0.2, rounds: int = 20) -> None:
        """Draw candidates anew where the belief is, until enough of them count (book eq. adapt-proposal).

        All episodes are weighed again, none twice, and the prior stays what it was. If the rounds do not suffice,
        :attr:`effective_candidates` stays small.

        Args:
            share: Of the candidates, to be reached by their effective number, in (0, 1).
            rounds: Most draws.
        """
        require(0 < share < 1, "share", share, "in (0, 1)")
        require_integer("rounds", rounds, 1)
        least = share * self.candidates
        for _ in range(rounds):
            if self.effective_candidates >= least:
                return
            belief = tempered(self.log_weight, least)
            proposal = Proposal.fit(self.domain, self.ranges, self.parameters, belief)
            drawn, log_density = proposal.draw(self.candidates, self.generator)
            self._take(self.parameters | drawn, log_density)

    @property
    def probability(self) -> Array:
        """Of every candidate, ``[C]``."""
        return self.models.probability

    @property
    def effective_candidates(self) -> float:
        """Between 1 and C; near 1 the ranges say where the best candidate is and not how uncertain the belief is."""
        return effective_number(self.probability)

    def mean(self) -> dict[str, float]:
        """The posterior mean of every parameter with a range; that of a delay need not be whole."""
        return {name: float(self.probability @ self.parameters[name]) for name in self.ranges}

    def deviations(self) -> dict[str, float]:
        """The posterior standard deviation of every parameter with a range."""
        centre = self.mean()
        return {
            name: float(np.sqrt(self.probability @ np.square(self.parameters[name] - centre[name])))
            for name in self.ranges
        }

    def sample(self, generator: np.random.Generator) -> dict[str, float]:
        """One domain drawn from the belief, all its parameters together, as ``ranges`` or ``parameters`` take it."""
        index = self.models.sample(generator)
        return {name: float(self.parameters[name][index]) for name in self.ranges}

    def credible_ranges(self, level: float = 0.9) -> dict[str, Range]:
        """A central credible range for each parameter, as an environment takes it as ``ranges`` (book eq. adapt-range).

        Args:
            level: Probability inside for each parameter by itself, in (0, 1); for all together it may be less.
        """
        require(0 < level < 1, "level", level, "in (0, 1)")
        return {name: central_range(self.parameters[name], self.probability, level) for name in self.ranges}
