"""Faults planted in the posterior over domains.

Each names the properties of ``test_domain_posterior.py`` that must catch it.
"""

import numpy as np

import ca14lib.agents.robust.domain_posterior as posterior
from ca14lib.agents.robust.domain_posterior import DomainPosterior, Proposal
from ca14lib.environments.domains import DomainVector
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()

ARRIVES = "each-step-is-predicted-from-where-the-target-was-with-what-reaches-its-actuator"
CLOSED = "the-belief-about-a-gain-is-a-truncated-normal"
REFINED = "refining-finds-a-narrow-belief-and-counts-no-episode-twice"
GRID = "three-parameters-have-the-belief-of-a-fine-grid"
COVERS = "credible-ranges-cover-what-was-drawn-from-the-prior"
JOINT = "a-sampled-domain-is-one-candidate-with-its-probability"


@fault(ARRIVES)
def posterior_delay_ignored(patch):
    def arriving(steps, delay):
        row = np.tile(np.arange(steps), (len(delay), 1))
        return row, row < 0

    patch.setattr(posterior, "arriving", arriving)


@fault(ARRIVES)
def posterior_first_action_before_it_arrives(patch):
    healthy = posterior.arriving

    def arriving(steps, delay):
        row, rests = healthy(steps, delay)
        return row, np.zeros_like(rests)

    patch.setattr(posterior, "arriving", arriving)


@fault(ARRIVES)
def posterior_next_episode_for_the_fall(patch):
    healthy = DomainVector.step
    patch.setattr(DomainVector, "step", lambda self, actions: (*healthy(self, actions)[:4], {}))


@fault(ARRIVES)
def posterior_candidate_goes_on_from_its_own_state(patch):
    """Errors of many steps are compared in place of those of one."""
    healthy = posterior.states_of

    def states_of(domain, observation):
        states = healthy(domain, observation)
        states[1:] = states[:1]
        return states

    patch.setattr(posterior, "states_of", states_of)


@fault(CLOSED, REFINED)
def posterior_last_episode_alone(patch):
    healthy = DomainPosterior._weigh

    def weigh(self, episode):
        count = self.candidates
        self.models, self.log_weight = posterior.CandidateModels(np.full(count, 1 / count)), np.zeros(count)
        healthy(self, episode)

    patch.setattr(DomainPosterior, "_weigh", weigh)


@fault(CLOSED, COVERS)
def posterior_mean_error_in_place_of_the_sum(patch):
    healthy = posterior.gaussian_log_likelihood
    patch.setattr(posterior, "gaussian_log_likelihood", lambda *given: healthy(*given) / len(given[1]))


@fault(CLOSED, COVERS)
def posterior_range_of_all_candidates(patch):
    healthy = posterior.central_range
    patch.setattr(
        posterior, "central_range", lambda values, belief, level: healthy(values, np.ones_like(belief), level)
    )


@fault(CLOSED)
def posterior_both_tails_on_either_side(patch):
    healthy = posterior.central_range
    patch.setattr(posterior, "central_range", lambda values, belief, level: healthy(values, belief, 2 * level - 1))


@fault(REFINED, GRID)
def posterior_where_candidates_were_drawn_is_forgotten(patch):
    healthy = Proposal.draw

    def draw(self, count, generator):
        values, log_density = healthy(self, count, generator)
        return values, np.zeros_like(log_density)

    patch.setattr(Proposal, "draw", draw)


@fault(REFINED)
def posterior_episodes_weighed_twice_when_candidates_are_new(patch):
    healthy = DomainPosterior._take

    def take(self, parameters, log_density):
        healthy(self, parameters, log_density)
        for episode in self.episodes:
            self._weigh(episode)

    patch.setattr(DomainPosterior, "_take", take)


@fault(JOINT)
def posterior_every_parameter_from_another_candidate(patch):
    def sample(self, generator):
        return {name: float(self.parameters[name][self.models.sample(generator)]) for name in self.ranges}

    patch.setattr(DomainPosterior, "sample", sample)
