"""Faults planted in continual Q-learning and its memory, and what must catch them: see ``planting.py``."""

import torch

import ca14lib.agents.hybrid.continual as continual
import ca14lib.data.reservoir as reservoir
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()

FISHER = "importance-of-a-linear-network-is-its-mean-squared-input"
SUM = "two-merged-penalties-slope-like-their-sum"
MINIMUM = "a-penalised-quadratic-rests-at-the-weighted-mean"
PLAIN = "without-weights-it-is-dqn"
HELD = "a-heavy-penalty-holds-what-matters-and-frees-what-does-not"
CLONED = "only-replayed-rows-are-cloned"
OLD = "the-teacher-is-the-network-after-the-last-task"
UNIFORM = "every-item-of-a-stream-is-kept-equally"
ORDER = "rows-of-an-item-stay-together"


@fault(FISHER)
def elastic_square_of_the_mean_gradient(patch):
    """The gradient of the batch's mean, squared: slopes of different signs cancel."""

    def fisher(network, observation, action):
        network.zero_grad()
        network(observation).gather(1, action.unsqueeze(1)).mean().backward()
        return torch.cat([parameter.grad.square().flatten() for parameter in network.parameters()])

    patch.setattr(continual, "diagonal_fisher", fisher)


@fault(FISHER)
def elastic_importance_of_all_actions(patch):
    healthy = continual.diagonal_fisher

    def fisher(network, observation, action):
        actions = network(observation[:1]).shape[1]
        return sum(healthy(network, observation, torch.full_like(action, a)) for a in range(actions))

    patch.setattr(continual, "diagonal_fisher", fisher)


@fault(SUM)
def elastic_last_task_replaces_the_others(patch):
    patch.setattr(continual, "merged_penalty", lambda anchor, importance, new_anchor, new: (new_anchor, new))


@fault(SUM)
def elastic_anchor_moves_with_all_its_importance(patch):
    patch.setattr(continual, "merged_penalty", lambda anchor, old, new_anchor, new: (new_anchor, old + new))


@fault(MINIMUM, HELD)
def elastic_without_importance(patch):
    """Every weight is held alike."""
    patch.setattr(
        continual, "elastic_penalty", lambda weights, anchor, importance: 0.5 * (weights - anchor).square().sum()
    )


@fault(PLAIN)
def elastic_penalty_without_its_weight(patch):
    healthy = continual.ContinualDQN._loss

    def loss(self, batch, q_all, q, target):
        weights = continual.parameters_to_vector(self.q_network.parameters())
        value, logs = healthy(self, batch, q_all, q, target)
        return value + continual.elastic_penalty(weights, self.anchor, self.importance + 1), logs

    patch.setattr(continual.ContinualDQN, "_loss", loss)


@fault(CLONED)
def elastic_new_rows_cloned_as_well(patch):
    healthy = continual.clone_loss
    patch.setattr(continual, "clone_loss", lambda q, old, replayed: healthy(q, old, torch.ones_like(replayed)))


@fault(OLD)
def elastic_teacher_never_renewed(patch):
    healthy = continual.ContinualDQN.consolidate

    def consolidate(self, batch):
        before = {name: value.clone() for name, value in self.old_network.state_dict().items()}
        healthy(self, batch)
        self.old_network.load_state_dict(before)

    patch.setattr(continual.ContinualDQN, "consolidate", consolidate)


@fault(UNIFORM)
def reservoir_keeps_the_newest(patch):
    patch.setattr(
        reservoir,
        "reservoir_slots",
        lambda seen, count, capacity, generator: torch.arange(seen, seen + count) % capacity,
    )


@fault(UNIFORM)
def reservoir_keeps_the_oldest(patch):
    def slots(seen, count, capacity, generator):
        number = torch.arange(seen, seen + count)
        return torch.where(number < capacity, number, -1)

    patch.setattr(reservoir, "reservoir_slots", slots)


@fault(UNIFORM)
def reservoir_replaces_with_a_constant_probability(patch):
    """Every new item enters: what came early is gone after a while."""
    patch.setattr(
        reservoir,
        "reservoir_slots",
        lambda seen, count, capacity, generator: torch.where(
            torch.arange(seen, seen + count) < capacity,
            torch.arange(seen, seen + count),
            torch.randint(capacity, (count,), generator=generator),
        ),
    )


@fault(ORDER)
def reservoir_columns_drawn_apart(patch):
    healthy = reservoir.Reservoir.sample

    def sample(self, batch_size, generator):
        batch = healthy(self, batch_size, generator)
        return reservoir.Transitions(
            **{item.name: getattr(batch, item.name) for item in reservoir.fields(batch) if item.name != "reward"},
            reward=batch.reward.flip(0),
        )

    patch.setattr(reservoir.Reservoir, "sample", sample)
