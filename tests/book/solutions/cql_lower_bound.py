"""CQL's identity and lower bounds, checked on random finite problems."""

import numpy as np

STATES, ACTIONS, DISCOUNT = 6, 3, 0.5


def problem(generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Transition probabilities, rewards in [0, 1], an evaluated policy and a behaviour that tries everything."""
    return (
        generator.dirichlet(np.ones(STATES), (STATES, ACTIONS)),
        generator.random((STATES, ACTIONS)),
        generator.dirichlet(np.ones(ACTIONS), STATES),
        0.7 * generator.dirichlet(np.ones(ACTIONS), STATES) + 0.3 / ACTIONS,
    )


def evaluate(transition: np.ndarray, reward: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """Solve Q = reward + γ P Π Q."""
    onward = np.einsum("ijk,kl->ijkl", transition, policy).reshape(STATES * ACTIONS, -1)
    return np.linalg.solve(np.eye(STATES * ACTIONS) - DISCOUNT * onward, reward.reshape(-1)).reshape(STATES, ACTIONS)


def cql(transition, reward, policy, behaviour, weight: float, data_term: bool) -> np.ndarray:
    """The limit of the iteration: the penalty is taken off the reward."""
    nu = policy - behaviour if data_term else policy
    return evaluate(transition, reward - weight * nu / behaviour, policy)


def excess(seed: int, weight: float, data_term: bool) -> tuple[float, float]:
    """The largest Q − Q^π over pairs and the largest V − V^π over states, without sampling error."""
    transition, reward, policy, behaviour = problem(np.random.default_rng(seed))
    error = cql(transition, reward, policy, behaviour, weight, data_term) - evaluate(transition, reward, policy)
    return float(error.max()), float((policy * error).sum(axis=1).max())


def excess_with_sampling(seed: int, visits: int, failure: float = 0.05) -> tuple[float, float]:
    """The same for transitions estimated from ``visits`` draws a pair: with α = 0, and with the α of the theorem."""
    generator = np.random.default_rng(seed)
    transition, reward, policy, behaviour = problem(generator)
    empirical = generator.multinomial(visits, transition) / visits
    total = visits * STATES * ACTIONS
    bound = np.sqrt(np.log(total * STATES * ACTIONS / failure) / (2 * visits)) / (1 - DISCOUNT)
    weight = bound / ((policy - behaviour) ** 2 / behaviour).sum(axis=1).min()  # α χ² ≥ b̄ in every state
    truth = evaluate(transition, reward, policy)
    errors = [cql(empirical, reward, policy, behaviour, alpha, True) - truth for alpha in (0.0, weight)]
    return tuple(float((policy * error).sum(axis=1).max()) for error in errors)


if __name__ == "__main__":
    for data_term in (False, True):
        above = np.array([excess(seed, 0.1, data_term) for seed in range(500)]) > 1e-12
        in_q, in_v = above.sum(axis=0)
        print(f"data term {data_term!s:5}: Q exceeds Q^π somewhere in {in_q} of 500 problems, V exceeds V^π in {in_v}")
    above = np.array([excess_with_sampling(seed, visits=20) for seed in range(500)]) > 1e-12
    without, with_weight = above.sum(axis=0)
    print(f"20 draws a pair: V too high somewhere in {without} with α = 0, in {with_weight} with the α of the theorem")
