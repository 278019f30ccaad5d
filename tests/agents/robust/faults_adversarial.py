"""Faults planted in attacks, bounds and games against adversaries, and the properties that must catch them."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import ca14lib.agents.robust.adversarial_ppo as adversarial_ppo
import ca14lib.agents.robust.atla as atla
import ca14lib.agents.robust.certified as certified
import ca14lib.agents.robust.perturbations as perturbations
import ca14lib.training.adversarial as training
from ca14lib.agents.check import random_rollout
from ca14lib.agents.ppo import PPO
from ca14lib.agents.robust.adversarial_ppo import AdversarialPPO, AdversarialPPOConfig
from ca14lib.data import Normalizer
from ca14lib.environments.pushed_cart_pole import PushedCartPoleVector
from ca14lib.networks import CategoricalPolicy
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()
PROPERTIES: dict[str, Callable[[], None]] = {}

OBSERVATIONS = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(3)
SMALL = {"hidden_sizes": (16,), "epochs": 2, "minibatches": 2}


def property_of(function: Callable[[], None]) -> Callable[[], None]:
    PROPERTIES[function.__name__.replace("_", "-")] = function
    return function


def sharp_policy(seed: int = 0) -> CategoricalPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = CategoricalPolicy(OBSERVATIONS, 3, (16,))
    with torch.no_grad():
        policy.network[-1].weight.mul_(200)
    return policy


def cart_pole_agent(agent_class: type = PPO, seed: int = 0, **settings: object) -> PPO:
    vector = PushedCartPoleVector(1)
    normalizer = Normalizer(torch.zeros(4), torch.tensor([1.0, 2.0, 0.2, 2.0]))
    config = agent_class.config_class(**SMALL | settings)
    return agent_class(
        vector.single_observation_space, vector.single_action_space, config, normalizer=normalizer, seed=seed
    )


# Properties


@property_of
def projections_are_the_nearest_points_of_the_ball() -> None:
    rows = 2 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    for norm, order in (("linf", float("inf")), ("l2", 2.0)):
        found = perturbations.project(rows, 0.7, norm)
        assert (found.norm(order, dim=-1) <= 0.7 + 1e-5).all()
        inside = rows.norm(order, dim=-1) <= 0.7
        assert torch.equal(found[inside], rows[inside])
        others = perturbations.random_perturbation(rows, 0.7, torch.Generator().manual_seed(1), norm)
        assert ((others - rows).norm(dim=-1) >= (found - rows).norm(dim=-1) - 1e-5).all()


@property_of
def ascent_never_leaves_the_ball() -> None:
    centre = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    policy, generator = sharp_policy(), torch.Generator().manual_seed(1)
    clean = policy(centre)

    def loss(x):
        return policy.kl(clean, policy(x))

    for norm, order in (("linf", float("inf")), ("l2", 2.0)):
        for best in (True, False):
            found = perturbations.pgd(loss, centre, 0.2, 5, 0.3, generator, norm=norm, best=best)
            assert ((found - centre).norm(order, dim=-1) <= 0.2 * (1 + 1e-4)).all()
        found = perturbations.fgsm(loss, centre, 0.2, generator, norm=norm)
        assert ((found - centre).norm(order, dim=-1) <= 0.2 * (1 + 1e-4)).all()


@property_of
def the_search_for_the_largest_divergence_finds_one() -> None:
    """At least three quarters of what a dense grid finds, on average; from the centre nothing would move."""
    policy, inputs = sharp_policy(), torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean = policy(inputs)
        axis = torch.linspace(-0.2, 0.2, 9)
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        most = torch.stack([policy.kl(clean, policy(inputs + point)) for point in grid]).max(dim=0).values.mean()
    for attack, share in (("pgd", 0.75), ("fgsm", 0.6)):
        generator = torch.Generator().manual_seed(1)
        found = adversarial_ppo.worst_divergence(policy, inputs, 0.2, generator, attack=attack, steps=10)
        with torch.no_grad():
            reached = policy.kl(clean, policy(found)).mean()
        assert share * most <= reached <= most * 1.001


@property_of
def the_divergence_is_from_the_true_to_the_perturbed_observation() -> None:
    policy, inputs = sharp_policy(), torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    moved = inputs + 0.3
    first, second = (policy(x)[0].detach() for x in (inputs, moved))
    expected = (first.exp() * (first - second)).sum(-1).mean()
    torch.testing.assert_close(adversarial_ppo.robust_regulariser(policy, inputs, moved).detach(), expected)


@property_of
def the_gradient_is_that_of_the_divergence_at_a_fixed_perturbation() -> None:
    """By Danskin; against central differences of the divergence with the perturbation held."""
    policy, inputs = sharp_policy().double(), torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    found = adversarial_ppo.worst_divergence(policy, inputs, 0.2, torch.Generator().manual_seed(1))
    assert not found.requires_grad
    adversarial_ppo.robust_regulariser(policy, inputs, found).backward()
    weight = policy.network[0].weight
    held, size = found.detach().clone(), 1e-6
    with torch.no_grad():
        ends = []
        for step in (size, -size):
            weight[0, 0] += step
            ends.append(policy.kl(policy(inputs), policy(held)).mean())
            weight[0, 0] -= step
    torch.testing.assert_close(weight.grad[0, 0], (ends[0] - ends[1]) / (2 * size), rtol=1e-4, atol=1e-8)


@property_of
def the_radius_climbs_from_zero() -> None:
    agent = AdversarialPPO(
        OBSERVATIONS, ACTIONS, AdversarialPPOConfig(**SMALL, epsilon=0.4, ramp_delay=1, ramp_updates=2)
    )
    rollout = random_rollout(OBSERVATIONS, ACTIONS, 0)
    logs = [agent.update(rollout) for _ in range(5)]
    assert [round(float(log["epsilon"]), 6) for log in logs] == [0.0, 0.0, 0.2, 0.4, 0.4]
    assert float(logs[1]["regulariser"]) == 0
    assert float(logs[3]["regulariser"]) > 0


@property_of
def the_regulariser_is_minimised() -> None:
    rollout, found = random_rollout(OBSERVATIONS, ACTIONS, 0), []
    for weight in (0.0, 30.0):
        config = AdversarialPPOConfig(
            hidden_sizes=(16,),
            epochs=5,
            minibatches=1,
            epsilon=0.3,
            regulariser=weight,
            ramp_updates=1,
            learning_rate=3e-3,
            attack="fgsm",
        )
        agent = AdversarialPPO(OBSERVATIONS, ACTIONS, config, seed=1)
        with torch.no_grad():
            agent.policy.network[-1].weight.mul_(600)
        for _ in range(2):
            agent.update(rollout)
        inputs = rollout.flat("observation")
        moved = adversarial_ppo.worst_divergence(agent.policy, inputs, 0.3, torch.Generator().manual_seed(0))
        found.append(float(policy_divergence(agent, inputs, moved)))
    assert found[1] < 0.95 * found[0]


def policy_divergence(agent: AdversarialPPO, inputs: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return agent.policy.kl(agent.policy(inputs), agent.policy(moved)).mean()


class Recorder:
    """An agent that notes what it is shown and always pushes to the right."""

    def __init__(self) -> None:
        vector = PushedCartPoleVector(1)
        self.observation_space, self.action_space = vector.single_observation_space, vector.single_action_space
        self.device, self.shown = torch.device("cpu"), []
        self.normalizer = Normalizer(torch.zeros(4), torch.tensor([1.0, 2.0, 0.2, 2.0]), 0.0)

    def act(self, observation: np.ndarray, *, deterministic: bool = False) -> np.ndarray:
        self.shown.append(np.array(observation))
        return np.ones(len(observation), np.int64)


@property_of
def the_adversary_sees_the_truth_and_the_agent_what_it_makes_of_it() -> None:
    """Through ends of episodes; the environment itself goes on as without an adversary, and pays the other side."""
    agent, vector, twin = Recorder(), PushedCartPoleVector(5), PushedCartPoleVector(5)
    view = training.ObservationAdversaryView(vector, agent, 0.1)  # type: ignore[arg-type]
    truth, _ = view.reset(seed=3)
    real, _ = twin.reset(seed=3)
    generator = np.random.default_rng(0)
    for _ in range(40):
        np.testing.assert_array_equal(truth, real)
        action = generator.uniform(-0.1, 0.1, (5, 4)).astype(np.float32)
        seen = truth
        truth, reward, *_, info = view.step(action)
        real, paid, *_, expected = twin.step(np.ones(5, np.int64))
        np.testing.assert_allclose(
            agent.shown[-1], seen + action * np.array([1.0, 2.0, 0.2, 2.0]), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(reward, -paid)
        if "final_obs" in info:
            np.testing.assert_array_equal(info["final_obs"], expected["final_obs"])


@property_of
def the_agent_is_shown_every_observation_perturbed_once() -> None:
    """A perturbation that adds 1: what is observed is the truth plus 1, before and after ends, and never plus 2."""
    vector, twin = PushedCartPoleVector(5), PushedCartPoleVector(5)
    view = training.PerturbedObservations(vector, lambda observation: observation + np.float32(1))
    shown, _ = view.reset(seed=3)
    real, _ = twin.reset(seed=3)
    ended = 0
    for _ in range(40):
        np.testing.assert_array_equal(shown, real + np.float32(1))
        shown, _, terminated, _, info = view.step(np.ones(5, np.int64))
        real, _, _, _, expected = twin.step(np.ones(5, np.int64))
        for index in np.flatnonzero(terminated):
            np.testing.assert_array_equal(info["final_obs"][index], expected["final_obs"][index] + np.float32(1))
            ended += 1
    assert ended > 5


@property_of
def each_side_learns_from_its_own_view() -> None:
    """In ATLA the adversary's data hold true states of CartPole, the agent's hold perturbed ones."""
    rollouts: dict[str, list[np.ndarray]] = {"agent": [], "adversary": []}
    agent = cart_pole_agent()
    healthy_agent, healthy_adversary = PPO.update, atla.ObservationAdversary.update

    def of(name: str, healthy: Callable) -> Callable:
        def update(self, rollout):
            rollouts[name].append(rollout.observation[0].numpy())
            return healthy(self, rollout)

        return update

    PPO.update = of("agent", healthy_agent)  # type: ignore[method-assign]
    atla.ObservationAdversary.update = of("adversary", healthy_agent)  # type: ignore[method-assign]
    try:
        training.train_atla(agent, PushedCartPoleVector, 2 * 8 * 4, epsilon=0.5, num_envs=8, rollout_steps=4, seed=1)
    finally:
        PPO.update = healthy_agent  # type: ignore[method-assign]
        if "update" in vars(atla.ObservationAdversary):
            del atla.ObservationAdversary.update
    del healthy_adversary
    # an episode starts with all four numbers within 0.05; a perturbation of up to 0.5 units takes them out of that
    assert np.abs(rollouts["adversary"][0]).max() <= 0.05
    assert np.abs(rollouts["agent"][0]).max() > 0.1


@property_of
def the_normalizers_stay_as_they_are() -> None:
    agent = cart_pole_agent()
    before = {name: value.clone() for name, value in agent.normalizer.state_dict().items()}
    adversary, _ = training.train_atla(agent, PushedCartPoleVector, 64, epsilon=0.1, num_envs=4, rollout_steps=4)
    for owner in (agent, adversary):
        for name, value in owner.normalizer.state_dict().items():
            assert torch.equal(value, before[name])


def random_network(width: int = 12, activation: type[nn.Module] = nn.Tanh, seed: int = 0) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(2, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 3)]
    return [layer.double().requires_grad_(False) for layer in layers]


def grid_values(layers: list[nn.Module], centre: torch.Tensor, radius: float) -> torch.Tensor:
    """Outputs on a dense grid over each box, ``[B, points, outputs]``."""
    axis = torch.linspace(-radius, radius, 41, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return nn.Sequential(*layers)(centre.unsqueeze(1) + grid)


@property_of
def bounds_hold_everywhere_in_the_box() -> None:
    """Against dense grids, for intervals and linear bounds, both activations, small boxes and large ones."""
    centre = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for activation in (nn.Tanh, nn.ReLU):
        layers = random_network(activation=activation)
        for radius in (0.05, 0.5, 3.0):
            values = grid_values(layers, centre, radius)
            box = certified.Bounds(centre - radius, centre + radius)
            plain, lines = certified.interval_bounds(layers, box), certified.linear_bounds(layers, box)
            for found in (plain, lines):
                assert (found.low <= values.amin(1) + 1e-9).all()
                assert (found.high >= values.amax(1) - 1e-9).all()
            assert (lines.low >= plain.low - 1e-9).all()
            assert (lines.high <= plain.high + 1e-9).all()


@property_of
def linear_bounds_are_nearly_exact_on_small_boxes() -> None:
    centre, layers = torch.zeros(1, 2, dtype=torch.float64), random_network()
    values = grid_values(layers, centre, 0.02)
    box = certified.Bounds(centre - 0.02, centre + 0.02)
    found, plain = certified.linear_bounds(layers, box), certified.interval_bounds(layers, box)
    width = values.amax(1) - values.amin(1)
    assert ((found.high - found.low) < 1.05 * width).all()
    assert ((plain.high - plain.low) > 1.5 * width).any()


# Faults: attacks and regulariser


@fault("projections-are-the-nearest-points-of-the-ball", "ascent-never-leaves-the-ball")
def attack_outside_the_ball_after_a_step(patch):
    patch.setattr(perturbations, "project", lambda perturbation, epsilon, norm="linf": perturbation)


@fault("projections-are-the-nearest-points-of-the-ball", "ascent-never-leaves-the-ball")
def attack_l2_ball_cut_elementwise(patch):
    patch.setattr(
        perturbations, "project", lambda perturbation, epsilon, norm="linf": perturbation.clamp(-epsilon, epsilon)
    )


@fault("the-search-for-the-largest-divergence-finds-one")
def attack_starts_where_the_gradient_is_zero(patch):
    patch.setattr(
        perturbations, "random_perturbation", lambda like, epsilon, generator, norm="linf": torch.zeros_like(like)
    )


@fault("the-search-for-the-largest-divergence-finds-one")
def attack_descends(patch):
    healthy = perturbations.steepest
    patch.setattr(perturbations, "steepest", lambda gradient, norm="linf": -healthy(gradient, norm))


@fault("the-divergence-is-from-the-true-to-the-perturbed-observation")
def regulariser_divergence_reversed(patch):
    healthy = adversarial_ppo.robust_regulariser
    patch.setattr(
        adversarial_ppo, "robust_regulariser", lambda policy, inputs, moved, mask=None: healthy(policy, moved, inputs)
    )


@fault("the-gradient-is-that-of-the-divergence-at-a-fixed-perturbation")
def regulariser_inner_maximum_differentiated(patch):
    """The perturbation is computed from the parameters with its graph, along the gradient instead of its sign."""
    kept = {}

    def worst(policy, inputs, epsilon, generator, **rest):
        start = perturbations.random_perturbation(inputs, epsilon, generator)
        point = (inputs + start).requires_grad_()
        value = policy.kl(policy(inputs), policy(point)).sum()
        (gradient,) = torch.autograd.grad(value, point, create_graph=True)
        kept["moved"] = inputs + epsilon * torch.tanh(gradient)
        return kept["moved"].detach()

    def regulariser(policy, inputs, moved, mask=None):
        return policy.kl(policy(inputs), policy(kept["moved"])).mean()

    patch.setattr(adversarial_ppo, "worst_divergence", worst)
    patch.setattr(adversarial_ppo, "robust_regulariser", regulariser)


@fault("the-gradient-is-that-of-the-divergence-at-a-fixed-perturbation")
def regulariser_gradient_through_one_policy_alone(patch):
    def regulariser(policy, inputs, moved, mask=None):
        return policy.kl(tuple(part.detach() for part in policy(inputs)), policy(moved)).mean()

    patch.setattr(adversarial_ppo, "robust_regulariser", regulariser)


@fault("the-radius-climbs-from-zero")
def ramp_left_out(patch):
    patch.setattr(adversarial_ppo, "ramped_epsilon", lambda update, epsilon, delay, ramp: epsilon)


@fault("the-radius-climbs-from-zero")
def ramp_never_ends(patch):
    patch.setattr(
        adversarial_ppo, "ramped_epsilon", lambda update, epsilon, delay, ramp: epsilon * max(0, update - delay) / ramp
    )


@fault("the-regulariser-is-minimised")
def regulariser_sign(patch):
    healthy = adversarial_ppo.robust_regulariser
    patch.setattr(adversarial_ppo, "robust_regulariser", lambda *arguments: -healthy(*arguments))


@fault("the-regulariser-is-minimised")
def regulariser_computed_and_thrown_away(patch):
    healthy = adversarial_ppo.robust_regulariser
    patch.setattr(adversarial_ppo, "robust_regulariser", lambda *arguments: healthy(*arguments).detach())


# Faults: games


@fault("the-adversary-sees-the-truth-and-the-agent-what-it-makes-of-it", "each-side-learns-from-its-own-view")
def atla_adversary_sees_its_own_perturbation(patch):
    healthy = training.ObservationAdversaryView.reset, training.ObservationAdversaryView.step
    noise = np.float32(0.07)

    def reset(self, **arguments):
        observation, info = healthy[0](self, **arguments)
        return observation + noise, info

    def step(self, actions):
        observation, *rest = healthy[1](self, actions)
        return observation + noise, *rest

    patch.setattr(training.ObservationAdversaryView, "reset", reset)
    patch.setattr(training.ObservationAdversaryView, "step", step)


@fault("the-agent-is-shown-every-observation-perturbed-once")
def atla_data_perturbed_twice(patch):
    healthy = training.PerturbedObservations.step

    def step(self, actions):
        observation, *rest = healthy(self, actions)
        return self.perturb(observation), *rest

    patch.setattr(training.PerturbedObservations, "step", step)


@fault("the-agent-is-shown-every-observation-perturbed-once")
def atla_last_observation_of_an_episode_unperturbed(patch):
    healthy = training.PerturbedObservations.step

    def step(self, actions):
        *rest, info = healthy(self, actions)
        if "final_obs" in info:
            info = info | {"final_obs": info["final_obs"] - np.float32(1)}
        return *rest, info

    patch.setattr(training.PerturbedObservations, "step", step)


@fault("the-adversary-sees-the-truth-and-the-agent-what-it-makes-of-it")
def atla_adversary_is_paid_as_the_agent(patch):
    patch.setattr(training, "adversary_reward", lambda reward: reward)


@fault("the-adversary-sees-the-truth-and-the-agent-what-it-makes-of-it")
def atla_perturbation_in_the_environments_units(patch):
    patch.setattr(training, "perturbed_observation", lambda observation, moved, unit, epsilon: observation + moved)


@fault("the-adversary-sees-the-truth-and-the-agent-what-it-makes-of-it")
def atla_state_of_the_environment_is_moved(patch):
    healthy = training.ObservationAdversaryView.step

    def step(self, actions):
        self.vector.states = self.vector.states + 0.01
        return healthy(self, actions)

    patch.setattr(training.ObservationAdversaryView, "step", step)


@fault("the-normalizers-stay-as-they-are")
def atla_normalizer_moves(patch):
    healthy = PPO.update

    def update(self, rollout):
        self.normalizer.mean += 0.1 * (rollout.flat("observation").mean(0) - self.normalizer.mean)
        return healthy(self, rollout)

    patch.setattr(PPO, "update", update)


# Faults: bounds


@fault("bounds-hold-everywhere-in-the-box")
def certified_ends_not_swapped_for_negative_weights(patch):
    def linear(bounds, weight, bias):
        return certified.Bounds(bounds.low @ weight.T + bias, bounds.high @ weight.T + bias)

    patch.setattr(certified, "interval_linear", linear)


@fault("bounds-hold-everywhere-in-the-box")
def certified_lines_not_swapped_for_negative_slopes(patch):
    healthy = certified.tanh_relaxation

    def relaxation(bounds):
        lines = healthy(bounds)
        return certified.Relaxation(lines.high_slope, lines.high_offset, lines.low_slope, lines.low_offset)

    patch.setattr(certified, "tanh_relaxation", relaxation)


@fault("bounds-hold-everywhere-in-the-box")
def certified_slope_of_the_middle(patch):
    """The tangent in the middle in place of the smallest slope: right on small boxes only."""

    def relaxation(bounds):
        middle = (bounds.low + bounds.high) / 2
        slope = 1 - middle.tanh().square()
        low, high = bounds.low.tanh(), bounds.high.tanh()
        return certified.Relaxation(slope, low - slope * bounds.low, slope, high - slope * bounds.high)

    patch.setattr(certified, "tanh_relaxation", relaxation)


@fault("linear-bounds-are-nearly-exact-on-small-boxes")
def certified_lines_ignored(patch):
    def bounds(layers, inputs, target=None):
        return certified.interval_bounds(layers, inputs)

    patch.setattr(certified, "linear_bounds", bounds)
