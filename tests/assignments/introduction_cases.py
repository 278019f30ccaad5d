"""Wrong and right solutions of the assignment `introduction`: mutants lose their task, alternatives keep it.

Wrong ones that differ from the reference in one place are made from it, so that they stay one mistake away from it.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
NOTEBOOK = SOURCES / "introduction.ipynb"
CELLS = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}


def changed(source: str, old: str, new: str) -> str:
    """The source with every ``old`` replaced by ``new``; ``old`` has to be there."""
    assert old in source, f"{old!r} is not in the solution"
    return source.replace(old, new)


PROBABILITY, LINEAR, BELLMAN, NUMPY, TORCH = (
    CELLS[f"introduction-{task}"] for task in ("probability", "linear-algebra", "bellman", "numpy", "torch")
)

MUTANTS: dict[str, dict[str, str]] = {
    "probability": {
        "prior left out": changed(PROBABILITY, "np.log(prior) + ", ""),
        "only the last signal": changed(PROBABILITY, ".sum(axis=1)", "[:, -1:].sum(axis=1)"),
        "a product that underflows": changed(PROBABILITY, "np.exp(score - score.max())", "np.exp(score)"),
        "mean under the prior": changed(PROBABILITY, "posterior @ value", "prior @ value"),
        "not normalised": changed(PROBABILITY, "    posterior /= posterior.sum()\n", ""),
        "zeros lifted to a hundredth": changed(
            PROBABILITY, "likelihood[:, observed]", "likelihood[:, observed].clip(0.01)"
        ),
        "the most probable source alone": changed(
            PROBABILITY, "posterior /= posterior.sum()", "posterior = 1.0 * (posterior == posterior.max())"
        ),
        "prior counted for every signal": changed(
            PROBABILITY,
            "np.log(prior) + np.log(likelihood[:, observed])",
            "(np.log(prior)[:, None] + np.log(likelihood[:, observed]))",
        ),
        "each signal once": changed(PROBABILITY, "likelihood[:, observed]", "likelihood[:, np.unique(observed)]"),
    },
    "linear-algebra": {
        "right eigenvector": changed(LINEAR, "laplacian.T", "laplacian"),
        "uniform distribution": changed(
            LINEAR, "    gain =", "    stationary = np.full(states, 1 / states)\n    gain ="
        ),
        "powers of the matrix": changed(
            LINEAR, "    gain =", "    stationary = np.linalg.matrix_power(transition, 1000)[0]\n    gain ="
        ),
        "bias with a plain mean of zero": changed(
            LINEAR, "np.vstack([laplacian, stationary])", "np.vstack([laplacian, np.ones(states)])"
        ),
        "bias of least norm": changed(
            LINEAR,
            """    system = np.vstack([laplacian, stationary])
    bias = np.linalg.lstsq(system, np.append(reward - gain, 0.0), rcond=None)[0]""",
            "    bias = np.linalg.pinv(laplacian) @ (reward - gain)",
        ),
        "discount in place of the limit": changed(
            LINEAR,
            "    return stationary",
            "    bias = np.linalg.solve(np.eye(states) - 0.99 * transition, reward - gain)\n    return stationary",
        ),
        "reward not centred": changed(LINEAR, "np.append(reward - gain, 0.0)", "np.append(reward, 0.0)"),
        "plain mean of the rewards": changed(LINEAR, "gain = stationary @ reward", "gain = reward.mean()"),
        "sign of the bias": changed(LINEAR, "return stationary, gain, bias", "return stationary, gain, -bias"),
    },
    "bellman": {
        "discount averaged over successors": changed(
            BELLMAN,
            "weight = transition * discount",
            "weight = transition * (transition * discount).sum(axis=2, keepdims=True)",
        ),
        "one discount for all": changed(
            BELLMAN, "weight = transition * discount", "weight = transition * discount.max()"
        ),
        "reward not weighted": changed(BELLMAN, "(transition * reward).sum(axis=2)", "reward.mean(axis=2)"),
        "reward discounted": changed(BELLMAN, "(transition * reward)", "(transition * reward * discount)"),
        "transposed chain": changed(BELLMAN, '"sa,sat->st"', '"sa,sat->ts"'),
        "uniform policy": changed(
            BELLMAN, "    kernel =", "    policy = np.full_like(policy, 1 / policy.shape[1])\n    kernel ="
        ),
        "greedy on the policy's values": changed(
            BELLMAN,
            "return expected + weight @ value, best",
            "q = expected + weight @ value\n    return q, expected + weight @ q.max(axis=1)",
        ),
        "too few sweeps": changed(BELLMAN, "range(5000)", "range(5)"),
        "mean in place of the maximum": changed(BELLMAN, "best.max(axis=1)", "best.mean(axis=1)"),
        "values of states": changed(
            BELLMAN, "return expected + weight @ value, best", "return value, best.max(axis=1)"
        ),
    },
    "numpy": {
        "an end does not stop the sum": changed(NUMPY, "weight * discount * ~ended[step]", "weight * discount"),
        "no value at the end of the record": changed(
            NUMPY, "result[start] = total +", "result[start] = total + (start + steps <= len(reward)) *"
        ),
        "value after an end": changed(NUMPY, "np.where(weight != 0, value[stop - 1], 0.0)", "value[stop - 1]").replace(
            "total + weight *", "total + discount ** (stop - start) *"
        ),
        "value one row late": changed(NUMPY, "value[stop - 1]", "value[min(stop, len(reward) - 1)]"),
        "value not discounted": changed(NUMPY, "total + weight *", "total + (weight != 0) *"),
        "one step too few": changed(NUMPY, "start + steps, len", "start + max(steps - 1, 1), len"),
        "rewards not discounted": changed(
            NUMPY, "total += weight * reward[step]", "total += (weight != 0) * reward[step]"
        ),
        "reward of the last step lost": changed(
            NUMPY,
            """            total += weight * reward[step]
            weight = weight * discount * ~ended[step]""",
            """            weight = weight * ~ended[step]
            total += weight * reward[step]
            weight = weight * discount""",
        ),
        "an end in one environment ends all": changed(NUMPY, "~ended[step]", "(not ended[step].any())"),
    },
    "torch": {
        "both held constant": changed(TORCH, "gradient(True), gradient(False)", "gradient(True), gradient(True)"),
        "exchanged": changed(TORCH, "gradient(True), gradient(False)", "gradient(False), gradient(True)"),
        "value held in place of the target": changed(
            TORCH, "(target - value).square()", "(target - (value.detach() if hold else value)).square()"
        ).replace("(next_value.detach() if hold else next_value)", "next_value"),
        "without the half": changed(TORCH, "0.5 * (target", "(target"),
        "sum in place of the mean": changed(TORCH, ".square().mean()", ".square().sum()"),
        "an end is bootstrapped": changed(TORCH, "discount * going_on *", "discount *"),
        "ends and steps exchanged": changed(TORCH, "~torch.as_tensor(terminated)", "torch.as_tensor(terminated)"),
        "no discount": changed(TORCH, "discount * going_on", "going_on"),
        "direction of descent": changed(TORCH, "return result\n", "return -result\n"),
        "sigmoid": changed(TORCH, "torch.tanh(", "torch.sigmoid("),
    },
}

ALTERNATIVES: dict[str, dict[str, str]] = {
    "probability": {
        "one signal after the other": """
def belief(prior, likelihood, value, observed):
    posterior = list(prior)
    for signal in observed:
        posterior = [p * likelihood[k, signal] for k, p in enumerate(posterior)]
        total = sum(posterior)
        posterior = [p / total for p in posterior]
    return np.array(posterior), sum(p * v for p, v in zip(posterior, value))
""",
        "counts": """
from scipy.special import softmax, xlogy


def belief(prior, likelihood, value, observed):
    counts = np.bincount(observed, minlength=likelihood.shape[1])
    posterior = softmax(np.log(prior) + xlogy(counts, likelihood).sum(axis=1))
    return posterior, (posterior * value).sum()
""",
        "torch": """
def belief(prior, likelihood, value, observed):
    prior, table, value = torch.as_tensor(prior), torch.as_tensor(likelihood), torch.as_tensor(value)
    score = prior.log() + table[:, torch.as_tensor(observed)].log().sum(dim=1)
    posterior = torch.softmax(score, dim=0)
    return posterior, posterior.dot(value)
""",
    },
    "linear-algebra": {
        "an equation replaced": """
def long_run(transition, reward):
    n = len(reward)
    system = (np.eye(n) - transition).T
    system[-1] = 1.0
    stationary = np.linalg.solve(system, np.eye(n)[-1])
    gain = stationary @ reward
    system = np.eye(n) - transition
    system[-1] = stationary
    right = reward - gain
    right[-1] = 0.0
    return stationary, gain, np.linalg.solve(system, right)
""",
        "fundamental matrix": """
def long_run(transition, reward):
    n = len(reward)
    stationary = np.linalg.solve((np.eye(n) - transition + np.ones((n, n))).T, np.ones(n))
    limit = np.outer(np.ones(n), stationary)
    gain = float(stationary @ reward)
    return stationary, gain, np.linalg.inv(np.eye(n) - transition + limit) @ (reward - gain)
""",
        "eigenvectors in torch": """
def long_run(transition, reward):
    matrix, reward = torch.as_tensor(transition), torch.as_tensor(reward)
    values, vectors = torch.linalg.eig(matrix.T)
    stationary = vectors[:, (values - 1).abs().argmin()].real
    stationary = stationary / stationary.sum()
    gain = stationary @ reward
    bias = torch.linalg.pinv(torch.eye(len(reward)).double() - matrix) @ (reward - gain)
    return stationary, gain, bias - stationary @ bias
""",
    },
    "bellman": {
        "loops until nothing changes": """
def action_values(transition, reward, discount, policy):
    states, actions = policy.shape
    results = []
    for best in (False, True):
        q = np.zeros((states, actions))
        for _ in range(2000):
            value = [max(q[s]) if best else float(policy[s] @ q[s]) for s in range(states)]
            q = np.einsum("sat,sat->sa", transition, reward + discount * np.array(value))
        results.append(q)
    return results[0], results[1]
""",
        "policy iteration": """
def action_values(transition, reward, discount, policy):
    expected, weight = np.einsum("sat,sat->sa", transition, reward), transition * discount

    def evaluate(table):
        matrix = np.eye(len(table)) - (table[:, :, None] * weight).sum(axis=1)
        return expected + weight @ np.linalg.solve(matrix, (table * expected).sum(axis=1))

    q, best = evaluate(policy), policy
    for _ in range(100):
        best = np.eye(policy.shape[1])[evaluate(best).argmax(axis=1)]
    return q, evaluate(best)
""",
        "a system of state-action pairs in torch": """
def action_values(transition, reward, discount, policy):
    p, r, g, pi = (torch.as_tensor(array) for array in (transition, reward, discount, policy))
    s, a = pi.shape
    kernel = ((p * g).unsqueeze(3) * pi).reshape(s * a, s * a)
    q = torch.linalg.solve(torch.eye(s * a).double() - kernel, (p * r).sum(2).reshape(-1)).reshape(s, a)
    best = torch.zeros_like(pi)
    while True:
        update = (p * (r + g * best.max(1).values)).sum(2)
        if (update - best).abs().max() < 1e-10:
            return q, update
        best = update
""",
    },
    "numpy": {
        "recursion over n": """
def n_step_returns(reward, ended, value, discount, steps):
    result = reward + discount * np.where(ended, 0.0, value)
    for _ in range(steps - 1):
        longer = result.copy()
        longer[:-1] = reward[:-1] + discount * np.where(ended[:-1], 0.0, result[1:])
        result = longer
    return result
""",
        "loops": """
def n_step_returns(reward, ended, value, discount, steps):
    length, copies = reward.shape
    result = np.empty((length, copies))
    for i in range(copies):
        for t in range(length):
            total, factor = 0.0, 1.0
            for k in range(t, min(t + steps, length)):
                total += factor * reward[k, i]
                factor *= discount
                if ended[k, i]:
                    break
            else:
                total += factor * value[k, i]
            result[t, i] = total
    return result
""",
        "torch": """
def n_step_returns(reward, ended, value, discount, steps):
    reward, ended, value = torch.as_tensor(reward), torch.as_tensor(ended), torch.as_tensor(value)
    rows = []
    for t in range(len(reward)):
        stop = min(t + steps, len(reward))
        tail = torch.where(ended[stop - 1], 0.0, value[stop - 1])
        for k in range(stop - 1, t - 1, -1):
            tail = reward[k] + discount * torch.where(ended[k], 0.0, tail)
        rows.append(tail)
    return torch.stack(rows)
""",
    },
    "torch": {
        "by hand": """
def td_gradients(weight, readout, observation, reward, next_observation, terminated, discount):
    here, there = np.tanh(observation @ weight.T), np.tanh(next_observation @ weight.T)
    keep = discount * (1.0 - terminated)
    error = reward + keep * (there @ readout) - here @ readout
    slope = np.einsum("b,bf,f,bd->fd", error, 1 - here**2, readout, observation) / len(reward)
    next_slope = np.einsum("b,bf,f,bd->fd", error * keep, 1 - there**2, readout, next_observation) / len(reward)
    return -slope, next_slope - slope
""",
        "a module and backward": """
def td_gradients(weight, readout, observation, reward, next_observation, terminated, discount):
    def tensor(array):
        return torch.tensor(np.asarray(array), dtype=torch.float64)

    results = []
    for hold in (True, False):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
        layer.weight.data = tensor(weight)
        value = layer(tensor(observation)).tanh() @ tensor(readout)
        following = layer(tensor(next_observation)).tanh() @ tensor(readout)
        target = tensor(reward) + discount * (1 - tensor(terminated)) * following
        torch.nn.functional.mse_loss(value, target.detach() if hold else target).mul(0.5).backward()
        results.append(layer.weight.grad)
    return tuple(results)
""",
        "differences": """
def td_gradients(weight, readout, observation, reward, next_observation, terminated, discount):
    def loss(moved, target_weight):
        value = np.tanh(observation @ moved.T) @ readout
        target = reward + discount * ~terminated * (np.tanh(next_observation @ target_weight.T) @ readout)
        return 0.5 * np.mean((target - value) ** 2)

    semi, full = np.zeros(weight.shape), np.zeros(weight.shape)
    for index in np.ndindex(weight.shape):
        step = np.zeros(weight.shape)
        step[index] = 1e-5
        semi[index] = (loss(weight + step, weight) - loss(weight - step, weight)) / 2e-5
        full[index] = (loss(weight + step, weight + step) - loss(weight - step, weight - step)) / 2e-5
    return semi, full
""",
    },
}
