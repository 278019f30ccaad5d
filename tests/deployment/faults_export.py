"""Faults planted in the export. Each names the properties of ``test_export.py`` that must catch it."""

import torch

from ca14lib.deployment import export
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()

SAME = "the-module-of-every-agent-gives-what-the-agent-gives"
SUPPORT = "actions-outside-the-support-of-bcq-have-no-score"
CLIPPED = "a-mean-beyond-the-bounds-is-clipped-to-them"
CHANGED = "a-changed-program-is-noticed"
NOT_WRITTEN = "a-program-that-differs-from-its-agent-is-not-written"


@fault(SAME)
def export_forgets_the_normalizer(patch):
    healthy = export._without_training

    def without(agent):
        made = healthy(agent)
        made.normalizer = None
        return made

    patch.setattr(export, "_without_training", without)


@fault(SAME)
def export_ignores_the_mask(patch):
    healthy = export.DiscretePolicyModule.scores
    patch.setattr(
        export.DiscretePolicyModule, "scores",
        lambda self, observation, mask: healthy(self, observation, torch.ones_like(mask)),
    )  # fmt: skip


@fault(SAME)
def export_gives_actions_in_units_of_the_network(patch):
    def unclipped(self, observation):
        return self.agent._unit_action(observation, True) if hasattr(self.agent, "_unit_action") else observation

    patch.setattr(export.ContinuousPolicyModule, "unclipped", unclipped)


@fault(SUPPORT)
def export_takes_bcq_for_a_greedy_agent(patch):
    patch.setattr(export, "supported_actions", lambda logits, threshold, mask: mask)


@fault(CLIPPED)
def export_does_not_clip(patch):
    patch.setattr(export.ContinuousPolicyModule, "forward", lambda self, observation: (self.unclipped(observation),))


@fault(CHANGED)
def export_compares_names_in_the_place_of_bytes(patch):
    patch.setattr(export, "_sha256", lambda path: "0" * 64)
    patch.setattr(export, "_runner", lambda path, format: lambda inputs: [])
    patch.setattr(export, "parity_error", lambda agent, run: 0.0)


@fault(NOT_WRITTEN)
def export_compares_a_program_with_itself(patch):
    patch.setattr(export, "parity_error", lambda agent, run: 0.0)
