"""Personal instances of the assignment `evaluation`: runs of two agents, a mesh of domains, a table of scores, a shop.

In the shop a policy orders goods for customers whose mean number is the domain: it is scored on domains that no
training has seen, against the exact optimum of each.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments import TabularModel, uniform_policy
from ca14lib.solvers import policy_return, value_iteration

TASKS, DOMAINS, RUNS = 4, 6, 5
SHELF, ORDERS, CUSTOMERS = 10, 6, 29  # places on the shelf, sizes of an order (0 to 5), largest number of customers
QUIET, BUSY = 0.5, 5.0  # mean number of customers a day in the domains 0 and 1
SHOP_DISCOUNT = 0.95
DIMENSIONS = ("performance", "robustness", "cost", "coordination")


def draw(generator: np.random.Generator) -> dict[str, Any]:
    """One student's numbers, JSON only."""
    return {
        "agents": {name: _runs(generator) for name in ("ash", "elm")},
        "margin": float(generator.integers(1, 5)) / 32,
        "shift": _mesh(generator),
        "table": _table(generator),
        "shop": _shop(generator),
    }


def shop_model(shop: dict[str, float], domain: float) -> TabularModel:
    """The exact model of the shop in one domain: states are goods on the shelf, actions the sizes of an order.

    Args:
        shop: The part ``shop`` of an instance.
        domain: From 0, the quietest, to 1, the busiest.
    """
    mean, customers = QUIET + domain * (BUSY - QUIET), np.arange(CUSTOMERS + 1)
    probability = np.exp(customers * np.log(mean) - mean - np.cumsum(np.log(np.maximum(customers, 1))))
    probability[-1] += 1.0 - probability.sum()
    transition = np.zeros((SHELF + 1, ORDERS, SHELF + 1))
    reward = np.zeros((SHELF + 1, ORDERS))
    for goods, order in np.ndindex(reward.shape):
        offered = min(goods + order, SHELF)
        sold = np.minimum(customers, offered)
        np.add.at(transition[goods, order], offered - sold, probability)
        daily = shop["price"] * sold - shop["storage"] * (offered - sold) - shop["turned_away"] * (customers - sold)
        reward[goods, order] = probability @ daily - shop["purchase"] * order - shop["delivery"] * (order > 0)
    return TabularModel(
        transition=transition,
        reward=reward,
        terminal=np.zeros(SHELF + 1, dtype=bool),
        initial=np.eye(SHELF + 1)[0],
    )


def shop_shares(shop: dict[str, float], domains: ArrayLike, orders: ArrayLike) -> NDArray[np.float64]:
    """How much of the way from the uniform policy to the optimum a policy goes in each domain, exactly.

    Args:
        shop: The part ``shop`` of an instance.
        domains: ``[P]``.
        orders: What the policy orders, whole numbers ``[P, S]``.
    Returns:
        ``[P]``, 1 at the optimum, 0 at the uniform policy, negative under it.
    """
    shares = []
    for domain, rows in zip(np.asarray(domains, dtype=float), np.asarray(orders), strict=True):
        model = shop_model(shop, float(domain))
        zero = policy_return(model, uniform_policy(model), SHOP_DISCOUNT)
        one = value_iteration(model, SHOP_DISCOUNT).optimal_return
        shares.append((policy_return(model, np.eye(ORDERS)[rows], SHOP_DISCOUNT) - zero) / (one - zero))
    return np.array(shares)


def _shop(generator: np.random.Generator) -> dict[str, float]:
    """What a day in the shop pays and costs."""
    ranges = {
        "price": (6.0, 9.0),
        "purchase": (1.5, 3.0),
        "delivery": (3.0, 6.0),
        "storage": (0.4, 0.9),
        "turned_away": (1.0, 3.0),
    }
    return {name: round(float(generator.uniform(low, high)), 2) for name, (low, high) in ranges.items()}


def _runs(generator: np.random.Generator) -> list[list[float]]:
    """Shares of the optimum, one list for each task, of unequal length; one run in eight has failed."""
    runs = []
    for count in generator.choice(np.arange(5, 12), TASKS, replace=False):
        scores = generator.beta(8.0, 3.0, count)
        failed = generator.random(count) < 0.125
        scores[failed] = generator.uniform(-0.6, 0.1, int(failed.sum()))
        runs.append((np.round(scores * 64) / 64).tolist())
    return runs


def _mesh(generator: np.random.Generator) -> dict[str, Any]:
    """Returns over a mesh of domains, negative ones among them; in one domain nothing can be won."""
    random = np.round(generator.uniform(-80.0, -20.0, DOMAINS), 1)
    best = np.round(random + generator.uniform(10.0, 90.0, DOMAINS), 1)
    hopeless = int(generator.integers(DOMAINS))
    best[hopeless] = random[hopeless]
    share = generator.uniform(-0.3, 1.0, (RUNS, DOMAINS))
    probability = np.round(generator.dirichlet(np.full(DOMAINS, 4.0)), 3)
    probability[probability.argmax()] += 1.0 - probability.sum()
    return {
        "returns": np.round(random + share * (best - random), 2).tolist(),
        "random": random.tolist(),
        "best": best.tolist(),
        "probability": np.round(probability, 3).tolist(),
        "tail": float(np.round(generator.uniform(0.2, 0.5), 2)),
    }


def _table(generator: np.random.Generator) -> dict[str, Any]:
    """What three agents measured on four dimensions; a missing entry was not reported, None does not apply."""
    values: dict[str, dict[str, float | None]] = {}
    for number, agent in enumerate(("ash", "elm", "oak")):
        measured = np.round(generator.uniform([-40.0, -60.0, 0.0, 0.0], [10.0, 0.0, 20.0, 5.0]), 1)
        values[agent] = dict(zip(DIMENSIONS, measured.tolist(), strict=True))
        if number == 1:
            del values[agent][str(generator.choice(["robustness", "cost"]))]
        if number == 2:
            values[agent]["coordination"] = None
    weights = np.round(generator.uniform(0.5, 3.0, len(DIMENSIONS)), 1)
    return {
        "values": values,
        "zero": {"performance": -50.0, "robustness": -70.0, "cost": 25.0, "coordination": 0.0},
        "one": {"performance": 20.0, "robustness": 5.0, "cost": 5.0, "coordination": 6.0},
        "weights": dict(zip(DIMENSIONS, weights.tolist(), strict=True)),
    }
