"""From a trained agent to something that runs: programs, latency, a runtime monitor, a model card.

Book: evaluation/deployment.
"""

from ca14lib.deployment.detection import (
    Detector,
    Disagreement,
    Mahalanobis,
    Neighbours,
    Ranges,
    conformal_threshold,
    persistent_peak,
)
from ca14lib.deployment.export import (
    ExportedPolicy,
    export_policy,
    exportable_agents,
    load_exported,
    parity_error,
    policy_module,
    why_not_exportable,
)
from ca14lib.deployment.latency import Latency, measure_latency
from ca14lib.deployment.model_card import Evidence, checklist, model_card
from ca14lib.deployment.monitor import (
    Alarm,
    Hysteresis,
    RuntimeMonitor,
    Watchdog,
    critic_cost,
    shield_cost,
    worst_cost_of,
)

__all__ = [
    "Alarm",
    "Detector",
    "Disagreement",
    "Evidence",
    "ExportedPolicy",
    "Hysteresis",
    "Latency",
    "Mahalanobis",
    "Neighbours",
    "Ranges",
    "RuntimeMonitor",
    "Watchdog",
    "checklist",
    "conformal_threshold",
    "critic_cost",
    "export_policy",
    "exportable_agents",
    "load_exported",
    "measure_latency",
    "model_card",
    "parity_error",
    "persistent_peak",
    "policy_module",
    "shield_cost",
    "why_not_exportable",
    "worst_cost_of",
]
