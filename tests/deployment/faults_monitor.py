"""Faults planted in detectors and monitor. Each names the properties of ``test_monitor.py`` that must catch it."""

import math

import numpy as np

from ca14lib.deployment import detection, monitor
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()

RATE = "false-alarms-are-as-frequent-as-stated"
PEAK = "an-episode-raises-the-alarm-exactly-if-its-peak-exceeds-the-threshold"
CHI = "the-distance-of-normal-observations-is-chi-squared"
NEAREST = "the-kth-neighbour-of-a-line-of-points-is-k-steps-away"
FINITE = "what-is-not-finite-is-strange-to-every-detector"
SWITCH = "a-switch-waits-on-both-sides-and-every-copy-for-itself"
LOG = "copies-are-handed-over-one-by-one-and-every-time-is-logged"
LIMIT = "a-watchdog-that-looks-ahead-never-exceeds-its-limit"
WORST = "the-worst-cost-of-a-policy-is-that-of-all-its-paths"


@fault(RATE)
def threshold_is_the_plain_quantile(patch):
    patch.setattr(detection, "conformal_threshold", lambda scores, rate: float(np.quantile(scores, 1 - rate)))


@fault(RATE)
def threshold_is_one_rank_too_low(patch):
    healthy = detection.conformal_threshold
    patch.setattr(detection, "conformal_threshold", lambda scores, rate: healthy(scores, rate + 1 / (len(scores) + 1)))


@fault(PEAK)
def peak_ignores_the_patience(patch):
    patch.setattr(detection, "persistent_peak", lambda scores, patience=1: float(np.max(scores)))


@fault(CHI)
def mahalanobis_takes_numbers_one_by_one(patch):
    healthy = detection.Mahalanobis.__init__
    patch.setattr(
        detection.Mahalanobis, "__init__",
        lambda self, mean, covariance: healthy(self, mean, np.diag(np.diag(np.asarray(covariance)))),
    )  # fmt: skip


@fault(CHI)
def mahalanobis_whitens_with_the_transposed_factor(patch):
    healthy = detection.Mahalanobis.__init__

    def begin(self, mean, covariance):
        healthy(self, mean, covariance)
        self.whiten = self.whiten.T

    patch.setattr(detection.Mahalanobis, "__init__", begin)


@fault(NEAREST)
def neighbours_take_the_nearest_whatever_k(patch):
    healthy = detection.Neighbours.__init__
    patch.setattr(detection.Neighbours, "__init__", lambda self, points, unit, k=10: healthy(self, points, unit, 1))


@fault(FINITE)
def detectors_take_nan_for_zero(patch):
    healthy = detection._rows
    patch.setattr(detection, "_rows", lambda observation, features: np.nan_to_num(healthy(observation, features)))


@fault(SWITCH)
def switch_counts_steps_that_are_not_in_a_row(patch):
    def step(self, value):
        self._streak = self._streak + np.where(self.on, value <= self.leave, ~(value <= self.enter))
        changes = self._streak >= np.where(self.on, math.inf if self.release is None else self.release, self.patience)
        self.on = self.on ^ changes
        self._streak[changes] = 0
        return self.on.copy()

    patch.setattr(monitor.Hysteresis, "step", step)


@fault(SWITCH, LOG)
def switch_turns_all_copies_at_once(patch):
    healthy = monitor.Hysteresis.step
    patch.setattr(monitor.Hysteresis, "step", lambda self, value: healthy(self, np.full(len(value), np.max(value))))


@fault(LOG)
def monitor_logs_no_hand_back(patch):
    healthy = monitor.RuntimeMonitor._note
    patch.setattr(
        monitor.RuntimeMonitor, "_note",
        lambda self, over, *rest: healthy(self, over | self.handed_over, *rest),
    )  # fmt: skip


@fault(LIMIT)
def watchdog_forgets_what_was_spent(patch):
    healthy = monitor.RuntimeMonitor.observe

    def observe(self, cost=None, ended=None):
        healthy(self, cost, ended)
        self.spent[:] = 0

    patch.setattr(monitor.RuntimeMonitor, "observe", observe)


@fault(LIMIT)
def watchdog_waits_a_step(patch):
    healthy = monitor.Hysteresis.__init__
    patch.setattr(
        monitor.Hysteresis, "__init__", lambda self, *rest, **keywords: healthy(self, *rest, patience=2, release=1)
    )


@fault(WORST)
def worst_cost_is_an_average_over_the_policy(patch):
    def average(model, policy, horizon, constraint=0):
        after = np.zeros((model.num_states, model.num_actions))
        steps = [after]
        for _ in range(horizon):
            value = (policy * after).sum(axis=1)
            after = model.cost[constraint] + model.transition @ value
            steps.append(after)
        return np.stack(steps)

    patch.setattr(monitor, "worst_cost_of", average)
