"""Wrong and right solutions of the assignment `safe`: every mutant loses its task, every alternative keeps it."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
NOTEBOOK = SOURCES / "safe.ipynb"
CELLS = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}


def edited(task: str, *changes: tuple[str, str]) -> str:
    """The reference solution of a task with each first text replaced by the second; the first has to be there."""
    source = CELLS[f"safe-{task}"]
    for old, new in changes:
        assert old in source, f"{task}: {old!r} is not in the solution"
        source = source.replace(old, new)
    return source


STANDARDISE = "    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)\n"

MUTANTS: dict[str, dict[str, str]] = {
    "cost-advantage": {
        "every step lasts one unit": edited("cost-advantage", ("discount ** duration[..., None]", "discount")),
        "the trace fades with the duration too": edited(
            "cost-advantage", ("faded * trace *", "faded * trace ** duration[..., None] *")
        ),
        "a time limit ends the bootstrap": edited("cost-advantage", ("~terminated[..., None]", "~last[..., None]")),
        "the sum runs through time limits": edited("cost-advantage", ("~last[..., None]", "~terminated[..., None]")),
        "the sum never stops": edited("cost-advantage", (" * ~last[..., None]", "")),
        "terminated states have a value": edited("cost-advantage", (" * ~terminated[..., None]", "")),
        "the next row is the successor": edited(
            "cost-advantage",
            ("faded * next_value", "faded * np.concatenate([value[1:], next_value[-1:]])"),
        ),
        "one discount for all costs": edited("cost-advantage", ("faded = discount **", "faded = discount[0] **")),
        "no trace": edited("cost-advantage", ("faded * trace *", "faded *")),
        "centred": edited("cost-advantage", ("return advantage", "return advantage - advantage.mean(axis=(0, 1))")),
    },
    "conjugate-gradient": {
        "without preconditioner": edited("conjugate-gradient", ("residual / diagonal", "residual.copy()")),
        "preconditioned only at the start": edited(
            "conjugate-gradient", ("        scaled = residual / diagonal\n", "        scaled = residual\n")
        ),
        "residuals measured without the diagonal": edited(
            "conjugate-gradient",
            ("residual @ scaled", "residual @ residual"),
        ),
        "the diagonal multiplies": edited("conjugate-gradient", ("residual / diagonal", "residual * diagonal")),
        "the square root of the diagonal": edited(
            "conjugate-gradient", ("residual / diagonal", "residual / np.sqrt(diagonal)")
        ),
        "no damping in the product": edited("conjugate-gradient", (" + damping * vector", "")),
        "no damping in the diagonal": edited("conjugate-gradient", (".mean(axis=0) + damping", ".mean(axis=0)")),
        "a sum in place of the mean": edited(
            "conjugate-gradient", (" / len(scores)", ""), (".mean(axis=0)", ".sum(axis=0)")
        ),
        "centred scores": edited(
            "conjugate-gradient",
            ("    def product", "    scores = scores - scores.mean(axis=0)\n\n    def product"),
        ),
        "goes on after the solution": edited(
            "conjugate-gradient", ("        if size <= enough:\n            break\n", "")
        ),
        "solved to the end": """
def natural_direction(scores, target, damping, steps):
    return np.linalg.solve(scores.T @ scores / len(scores) + damping * np.eye(scores.shape[1]), target)
""",
        "steepest descent": edited("conjugate-gradient", ("scaled + smaller / size * direction", "scaled")),
    },
    "two-limits": {
        "one limit at a time": edited(
            "two-limits",
            ("([], [0], [1], [0, 1])", "([], [0], [1])"),
        ),
        "the first candidate with prices of at least 0": edited(
            "two-limits", (" and (reached <= 1e-9 * (1 + abs(c))).all()", "")
        ),
        "prices may be negative": edited("two-limits", ("(prices >= 0).all() and ", "")),
        "both limits bind, prices cut at zero": """
def two_limit_dual(q, r, S, c, delta):
    inverse = np.linalg.inv(S)
    room = 2 * delta - c @ inverse @ c
    if room <= 0:
        return None
    trust = np.sqrt((q - r @ inverse @ r) / room)
    return float(trust), np.maximum(inverse @ (trust * c - r), 0.0)
""",
        "ascent gradient": edited("two-limits", ("    for binding in", "    r = -r\n    for binding in")),
        "half the trust region": edited("two-limits", ("2 * delta", "delta")),
        "limits do not interact": edited(
            "two-limits", ("    for binding in", "    S = np.diag(np.diag(S))\n    for binding in")
        ),
        "never infeasible": edited(
            "two-limits", ("    return None", "    return float(np.sqrt(q / (2 * delta))), np.zeros(2)")
        ),
        "infeasible as soon as a limit is broken": edited(
            "two-limits", ("    for binding in", "    if (c > 0).any():\n        return None\n    for binding in")
        ),
        "prices not scaled by the trust region": edited("two-limits", ("trust * excess - least", "excess - least")),
    },
    "multiplier": {
        "additive": edited(
            "multiplier",
            (
                "    shares = ",
                "    excess = episode_cost.mean(axis=0) - limit\n"
                "    return np.maximum(multiplier + learning_rate * excess, 0.0)\n    shares = ",
            ),
        ),
        "no reserve": edited(
            "multiplier",
            ("return budget * weight[:-1] / weight.sum()", "return budget * weight[:-1] / weight[:-1].sum()"),
        ),
        "wrong sign": edited("multiplier", ("episode_cost.mean(axis=0) - limit", "limit - episode_cost.mean(axis=0)")),
        "overflows": edited("multiplier", ("exponent - exponent[shares > 0].max()", "exponent")),
        "exponent cut at 10": edited(
            "multiplier", ("exponent - exponent[shares > 0].max()", "np.clip(exponent, -10, 10)")
        ),
        "the sum of the costs": edited("multiplier", ("episode_cost.mean(axis=0)", "episode_cost.sum(axis=0)")),
        "the mean of nothing": edited("multiplier", ("len(episode_cost) == 0", "False")),
        "no episode counts as no cost": edited(
            "multiplier", ("        return multiplier", "        episode_cost = np.zeros((1, len(limit)))")
        ),
        "not scaled back to the budget": edited(
            "multiplier",
            (
                "return budget * weight[:-1] / weight.sum()",
                "return np.minimum((shares * np.exp(np.minimum(exponent, 600)))[:-1], budget)",
            ),
        ),
        "a reserve of the whole budget": edited("multiplier", ("max(budget - multiplier.sum(), 0.0)", "budget")),
        "relative excess": edited(
            "multiplier",
            ("(episode_cost.mean(axis=0) - limit)", "(episode_cost.mean(axis=0) - limit) / (limit + 1e-8)"),
        ),
    },
    "tail": {
        "atoms are not split": edited(
            "tail",
            (
                "np.clip(np.minimum(end, high) - np.maximum(end - share, low), 0.0, None)",
                "share * ((end > low) & (end <= high + 1e-12))",
            ),
        ),
        "mean of whole losses in the band": edited(
            "tail",
            (
                "np.clip(np.minimum(end, high) - np.maximum(end - share, low), 0.0, None)",
                "share * ((end > low) & (end - share < high))",
            ),
            ("/ (high - low)", "/ inside.sum()"),
        ),
        "weights are not normalised": edited("tail", (" / weights.sum()", "")),
        "weights are not sorted along": edited("tail", ("weights[order] / ", "weights / ")),
        "weights are ignored": edited(
            "tail", ("weights[order] / weights.sum()", "np.full(len(losses), 1 / len(losses))")
        ),
        "the lower tail": edited("tail", ("np.argsort(losses)", "np.argsort(-losses)")),
        "the upper level is ignored": edited("tail", ("np.minimum(end, high)", "end"), ("(high - low)", "(1 - low)")),
        "not divided by the width": edited("tail", (" / (high - low)", "")),
        "interpolated quantiles": """
def tail_band(losses, weights, low, high):
    return float(np.quantile(np.repeat(losses, 1), np.linspace(low, high, 2001)).mean())
""",
        "difference of two tail means": edited(
            "tail",
            (
                "return float(inside @ losses[order] / (high - low))",
                "mean = [np.clip(end - np.maximum(end - share, a), 0, None) @ losses[order] / max(1 - a, 1e-12) "
                "for a in (low, high)]\n    return float((mean[0] - mean[1]) / (high - low))",
            ),
        ),
    },
    "shield": {
        "chosen after the successor is seen": edited(
            "shield",
            ("(terminal[:, None] | safe)", "(terminal[:, None] | (safe | safe.any(axis=1, keepdims=True)))"),
        ),
        "no delay": """
def delayed_shield(transition, unsafe, terminal):
    safe = np.ones(len(transition), dtype=bool)
    for _ in range(len(transition) + 1):
        allowed = (transition * (unsafe | ~safe)).sum(axis=2) == 0
        allowed[terminal] = True
        safe = allowed.any(axis=1)
    return np.repeat(allowed[:, None], transition.shape[1], axis=1)
""",
        "one round": edited("shield", ("if (kept == safe).all():", "if True:")),
        "two rounds": edited(
            "shield",
            ("    while True:", "    for turn in range(2):"),
            ("if (kept == safe).all():", "if turn == 1:"),
        ),
        "terminal states are dangerous": edited(
            "shield", ("(terminal[:, None] | safe)", "safe"), ("        allowed[terminal] = True\n", "")
        ),
        "terminal states are never unsafe": edited(
            "shield", ("~unsafe[:, None] & (terminal[:, None] | safe)", "terminal[:, None] | (~unsafe[:, None] & safe)")
        ),
        "rare successors are forgotten": edited("shield", ("transition > 0", "transition > 0.05")),
        "likeliest successor only": edited(
            "shield", ("(transition > 0)", "(transition == transition.max(axis=2, keepdims=True))")
        ),
        "being in an unsafe state": edited(
            "shield",
            ("~unsafe[:, None] & (terminal[:, None] | safe)", "(terminal[:, None] | safe)"),
            ("allowed[terminal] = True", "allowed[unsafe] = False\n        allowed[terminal] = True"),
        ),
        "everything is allowed where nothing is safe": edited(
            "shield", ("            return allowed", "            return allowed | ~allowed.any(axis=2, keepdims=True)")
        ),
        "grown from the empty set": edited("shield", ("np.ones((states, actions)", "np.zeros((states, actions)")),
        "pending and new action swapped": edited(
            "shield", ("            return allowed", "            return allowed.transpose(0, 2, 1)")
        ),
    },
    "silent-bug": {
        "nothing mended": "mended_update = original_update",
        "only the time limit": edited(
            "silent-bug",
            (
                "    target = advantage + value\n" + STANDARDISE,
                STANDARDISE + "    target = advantage + value\n",
            ),
        ),
        "the time limit ends the bootstrap": edited("silent-bug", ("~terminated[step] - value", "~done[step] - value")),
        "the sum runs through time limits": edited("silent-bug", ("trace * ~done[step]", "trace * ~terminated[step]")),
        "discounted cost of an episode": edited(
            "silent-bug", ("spent = spent + cost[step]", "spent = 0.99 * spent + cost[step]")
        ),
        "mean cost of a step": edited("silent-bug", ("np.mean(episodes) - limit", "cost.mean() - limit")),
        "total cost over copies": edited(
            "silent-bug", ("np.mean(episodes) - limit", "cost.sum(axis=0).mean() - limit")
        ),
        "mean discounted cost-to-go": edited(
            "silent-bug",
            (
                "    if episodes:\n",
                "    _, _, multiplier = original_update(reward, cost, value, next_value, terminated, "
                "truncated, multiplier, limit, rate)\n    if False:\n",
            ),
        ),
        "open episodes count": edited(
            "silent-bug", ("    if episodes:", "    episodes += spent[~done[-1]].tolist()\n    if episodes:")
        ),
        "only terminated episodes count": edited(
            "silent-bug", ("episodes += spent[done[step]]", "episodes += spent[terminated[step]]")
        ),
        "the cost is not reset": edited("silent-bug", ("np.where(done[step], 0.0, spent)", "spent")),
        "the multiplier goes under zero": edited(
            "silent-bug",
            (
                "multiplier = max(0.0, multiplier + rate * (np.mean(episodes) - limit))",
                "multiplier = multiplier + rate * (np.mean(episodes) - limit)",
            ),
        ),
        "the multiplier falls without episodes": edited(
            "silent-bug", ("    if episodes:", "    episodes = episodes or [0.0]\n    if episodes:")
        ),
        "the advantages stay as they are": edited(
            "silent-bug", ("    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)\n", "")
        ),
    },
    "training": {
        "uniform": """
def act(observation):
    return np.full((len(observation), 4), 0.25)
""",
        "the limit is forgotten": edited(
            "training", ("share = min(", "dear = best_answer(0.0)\nshare = 1.0 + 0 * min(")
        ),
        "the safest policy": edited("training", ("share = min(", "share = 0.0 * min(")),
        "the deterministic policy over the limit": edited("training", ("share = min(", "share = 1.0 + 0 * min(")),
        "mixed half and half in every state": edited(
            "training",
            (
                "table = np.where(total > 0, occupancy / np.where(total > 0, total, 1), cheap)",
                "table = (dear + cheap) / 2",
            ),
        ),
        "the likeliest action": edited("training", ("return table[", "return np.eye(4)[table.argmax(axis=2)][")),
        "twice the limit": edited(
            "training", ("share = min(", "share = min(instance['limit'] / (cost_of(dear) - cost_of(cheap)) + ")
        ),
        "half the limit": edited("training", ("share = min(", "share = 0.5 * min(")),
        "time is read the wrong way round": edited("training", ("(1 - observation[:, 2])", "observation[:, 2]")),
        "cells are read the wrong way round": edited(
            "training", ("observation[:, 0] * size + observation[:, 1]", "observation[:, 1] * size + observation[:, 0]")
        ),
        "numbers that are no probabilities": edited("training", ("return table[", "return 2 * table[")),
        "the file is not written": edited("training", ('save_file({"table": table}, "policy.safetensors")\n', "")),
        "actions drawn by act": edited(
            "training",
            (
                "    return table[np.clip(step, 0, len(table) - 1), cell]",
                "    rows = table[np.clip(step, 0, len(table) - 1), cell]\n"
                "    drawn = np.random.default_rng().random((len(cell), 1)) > rows.cumsum(1)\n"
                "    return np.eye(4)[np.minimum(drawn.sum(1), 3)]",
            ),
        ),
    },
}

ALTERNATIVES: dict[str, dict[str, str]] = {
    "cost-advantage": {
        "loops": """
def cost_advantage(cost, value, next_value, duration, terminated, last, discount, trace):
    result = [[[0.0] * cost.shape[2] for _ in range(cost.shape[1])] for _ in range(cost.shape[0])]
    for k in range(cost.shape[2]):
        for n in range(cost.shape[1]):
            following = 0.0
            for t in range(cost.shape[0] - 1, -1, -1):
                fade = float(discount[k]) ** int(duration[t, n])
                if last[t, n]:
                    following = 0.0
                delta = cost[t, n, k] - value[t, n, k]
                if not terminated[t, n]:
                    delta += fade * next_value[t, n, k]
                following = delta + fade * trace[k] * following
                result[t][n][k] = float(following)
    return result
""",
        "torch": """
def cost_advantage(cost, value, next_value, duration, terminated, last, discount, trace):
    cost, value, next_value, discount, trace = (
        torch.as_tensor(x, dtype=torch.float64) for x in (cost, value, next_value, discount, trace)
    )
    faded = torch.exp(torch.as_tensor(duration).unsqueeze(-1) * torch.log(discount))
    error = cost + torch.where(torch.as_tensor(terminated).unsqueeze(-1), 0.0, faded * next_value) - value
    running, rows = torch.zeros_like(error[0]), []
    for step in range(len(error) - 1, -1, -1):
        keep = torch.where(torch.as_tensor(last[step]).unsqueeze(-1), 0.0, faded[step] * trace)
        running = error[step] + keep * running
        rows.append(running)
    return torch.stack(rows[::-1])
""",
        "a triangular matrix of weights": """
def cost_advantage(cost, value, next_value, duration, terminated, last, discount, trace):
    steps, copies, costs = cost.shape
    result = np.zeros_like(cost)
    for n in range(copies):
        for k in range(costs):
            fade = discount[k] ** duration[:, n]
            delta = cost[:, n, k] + np.where(terminated[:, n], 0, fade * next_value[:, n, k]) - value[:, n, k]
            onward = np.where(last[:, n], 0, fade * trace[k])
            result[:, n, k] = np.linalg.solve(np.eye(steps) - np.diag(onward[:-1], 1), delta)
    return result
""",
    },
    "conjugate-gradient": {
        "in scaled coordinates": """
def natural_direction(scores, target, damping, steps):
    scale = np.sqrt((scores**2).mean(axis=0) + damping)
    H = (scores.T @ scores / len(scores) + damping * np.eye(len(target))) / np.outer(scale, scale)
    x, residual = np.zeros(len(target)), target / scale
    direction, first = residual, residual @ residual
    for _ in range(steps):
        size = residual @ residual
        if size <= 1e-26 * first or first == 0:
            break
        length = size / (direction @ H @ direction)
        x, residual = x + length * direction, residual - length * (H @ direction)
        direction = residual + residual @ residual / size * direction
    return x / scale
""",
        "torch": """
def natural_direction(scores, target, damping, steps):
    scores, target = torch.as_tensor(scores), torch.as_tensor(target)
    diagonal = scores.square().mean(0) + damping
    x, residual, direction, before = torch.zeros_like(target), target.clone(), torch.zeros_like(target), None
    start = float(residual @ (residual / diagonal))
    for _ in range(steps):
        scaled = residual / diagonal
        size = residual @ scaled
        if float(size) <= 1e-26 * start:
            break
        direction = scaled if before is None else scaled + size / before * direction
        image = scores.T @ (scores @ direction) / scores.shape[0] + damping * direction
        length = size / (direction @ image)
        x, residual, before = x + length * direction, residual - length * image, size
    return x
""",
        "projection onto the span": """
def natural_direction(scores, target, damping, steps):
    H = scores.T @ scores / len(scores) + damping * np.eye(len(target))
    if not target.any():
        return np.zeros(len(target))
    diagonal, basis, vector = np.diag(H), [], target / np.diag(H)
    for _ in range(min(steps, len(target))):
        for _ in range(2):  # H-orthogonal, twice for the rounding
            for other in basis:
                vector = vector - (other @ H @ vector) * other
        length = np.sqrt(vector @ H @ vector)
        if length < 1e-13:
            break
        basis.append(vector / length)
        vector = H @ basis[-1] / diagonal
    return sum((other @ target) * other for other in basis)
""",
    },
    "two-limits": {
        "scalars by hand": """
def two_limit_dual(q, r, S, c, delta):
    def fine(trust, first, second):
        inside = [c[k] - (r[k] + S[k, 0] * first + S[k, 1] * second) / trust <= 1e-9 for k in (0, 1)]
        return first >= 0 and second >= 0 and all(inside)

    trust = (q / (2 * delta)) ** 0.5
    if fine(trust, 0.0, 0.0):
        return trust, [0.0, 0.0]
    for k in (0, 1):
        room = 2 * delta - c[k] ** 2 / S[k, k]
        if room > 0:
            trust = ((q - r[k] ** 2 / S[k, k]) / room) ** 0.5
            prices = [0.0, 0.0]
            prices[k] = (trust * c[k] - r[k]) / S[k, k]
            if fine(trust, *prices):
                return trust, prices
    a, b, d = S[0, 0], S[0, 1], S[1, 1]
    area = a * d - b * b

    def form(u, v):
        return (d * u[0] * v[0] - b * (u[0] * v[1] + u[1] * v[0]) + a * u[1] * v[1]) / area

    room = 2 * delta - form(c, c)
    if room <= 0:
        return None
    trust = ((q - form(r, r)) / room) ** 0.5
    wanted = [trust * c[k] - r[k] for k in (0, 1)]
    prices = [(d * wanted[0] - b * wanted[1]) / area, (a * wanted[1] - b * wanted[0]) / area]
    return (trust, prices) if fine(trust, *prices) else None
""",
        "torch, from the largest set down": """
def two_limit_dual(q, r, S, c, delta):
    r, S, c = (torch.as_tensor(x, dtype=torch.float64) for x in (r, S, c))
    for binding in ([0, 1], [1], [0], []):
        prices = torch.zeros(2, dtype=torch.float64)
        room, left = torch.tensor(2.0 * delta, dtype=torch.float64), torch.tensor(float(q), dtype=torch.float64)
        if binding:
            within = S[binding][:, binding]
            room = room - c[binding] @ torch.linalg.solve(within, c[binding])
            left = left - r[binding] @ torch.linalg.solve(within, r[binding])
        if room <= 0:
            continue
        trust = (left / room).sqrt()
        if binding:
            prices[binding] = torch.linalg.solve(within, trust * c[binding] - r[binding])
        if (prices >= 0).all() and (c - (r + S @ prices) / trust <= 1e-9).all():
            return trust, prices
    return None
""",
        "bisection of the trust region's price": """
def two_limit_dual(q, r, S, c, delta):
    def prices(trust):  # the best prices for one λ: a small quadratic programme, by its four cases
        for binding in ([], [0], [1], [0, 1]):
            nu = np.zeros(2)
            nu[binding] = np.linalg.solve(S[np.ix_(binding, binding)], trust * c[binding] - r[binding])
            if (nu >= 0).all() and (trust * c - r - S @ nu <= 1e-9 * trust).all():
                return nu

    def length(trust):  # xᵀHx
        nu = prices(trust)
        return (q + 2 * r @ nu + nu @ S @ nu) / trust**2

    low, high = 1e-12, 1e9
    if length(high) > 2 * delta:
        return None
    for _ in range(300):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if length(middle) > 2 * delta else (low, middle)
    return high, prices(high)
""",
    },
    "multiplier": {
        "logarithms": """
def price_step(multiplier, episode_cost, limit, learning_rate, budget):
    if episode_cost.shape[0] == 0:
        return multiplier.copy()
    with np.errstate(divide="ignore"):
        logs = np.log(multiplier) + learning_rate * (episode_cost.mean(0) - limit)
        total = np.logaddexp.reduce(np.append(logs, np.log(max(budget - multiplier.sum(), 0.0))))
    return np.exp(np.log(budget) + logs - total)
""",
        "torch softmax": """
def price_step(multiplier, episode_cost, limit, learning_rate, budget):
    if not len(episode_cost):
        return torch.as_tensor(multiplier)
    price, excess = torch.as_tensor(multiplier), torch.as_tensor(episode_cost).mean(0) - torch.as_tensor(limit)
    rest = (budget - price.sum()).clamp(min=0).reshape(1)
    logits = torch.cat([price, rest]).log() + torch.cat([learning_rate * excess, torch.zeros(1, dtype=price.dtype)])
    return budget * logits.softmax(0)[:-1]
""",
        "loops": """
def price_step(multiplier, episode_cost, limit, learning_rate, budget):
    if len(episode_cost) == 0:
        return list(multiplier)
    exponents = []
    for k in range(len(multiplier)):
        mean = sum(float(row[k]) for row in episode_cost) / len(episode_cost)
        exponents.append(learning_rate * (mean - float(limit[k])))
    top = max(exponents + [0.0])
    parts = [float(m) * np.exp(e - top) for m, e in zip(multiplier, exponents)]
    total = sum(parts) + (budget - float(sum(multiplier))) * np.exp(-top)
    return [budget * part / total for part in parts]
""",
    },
    "tail": {
        "an integral that is piecewise linear": """
def tail_band(losses, weights, low, high):
    order = np.argsort(losses, kind="stable")
    share = weights[order] / weights.sum()
    level, area = np.append(0.0, np.cumsum(share)), np.append(0.0, np.cumsum(share * losses[order]))
    return (np.interp(high, level, area) - np.interp(low, level, area)) / (high - low)
""",
        "loops": """
def tail_band(losses, weights, low, high):
    pairs = sorted((float(x), float(w)) for x, w in zip(losses, weights))
    total, begin, result = sum(w for _, w in pairs), 0.0, 0.0
    for loss, weight in pairs:
        end = begin + weight / total
        result += max(0.0, min(end, high) - max(begin, low)) * loss
        begin = end
    return result / (high - low)
""",
        "two tail means": """
def tail_band(losses, weights, low, high):
    def over(level):  # (1 - level) CVaR, by its minimum over the losses
        share = weights / weights.sum()
        return min((1 - level) * v + share @ np.maximum(losses - v, 0.0) for v in losses)

    return (over(low) - over(high)) / (high - low)
""",
        "torch": """
def tail_band(losses, weights, low, high):
    losses, order = torch.as_tensor(losses).sort()
    share = torch.as_tensor(weights)[order] / torch.as_tensor(weights).sum()
    border = torch.cat([torch.zeros(1, dtype=share.dtype), share.cumsum(0)]).clamp(low, high)
    return (border.diff() * losses).sum() / (high - low)
""",
    },
    "shield": {
        "loops": """
def delayed_shield(transition, unsafe, terminal):
    states, actions = transition.shape[:2]
    mask = np.ones((states, actions, actions), dtype=bool)
    changed = True
    while changed:
        changed = False
        for s in range(states):
            if terminal[s]:
                continue
            for p in range(actions):
                for t in np.flatnonzero(transition[s, p] > 0):
                    for a in range(actions):
                        lost = unsafe[t] or not (terminal[t] or mask[t, a].any())
                        if lost and mask[s, p, a]:
                            mask[s, p, a], changed = False, True
    return mask
""",
        "torch": """
def delayed_shield(transition, unsafe, terminal):
    reach = torch.as_tensor(transition) > 0
    unsafe, terminal = torch.as_tensor(unsafe), torch.as_tensor(terminal)
    safe = torch.ones(reach.shape[:2], dtype=torch.bool)
    for _ in range(reach.shape[0] * reach.shape[1] + 1):
        bad = unsafe[:, None] | (~terminal[:, None] & ~safe)
        mask = ~(reach[:, :, :, None] & bad[None, None]).any(2) | terminal[:, None, None]
        safe = mask.any(2)
    return mask
""",
        "the pairs as states of a larger problem": """
def delayed_shield(transition, unsafe, terminal):
    S, A, _ = transition.shape
    lost = np.zeros(S * A, dtype=bool)  # pairs without a safe action
    step = transition.reshape(S * A, S) > 0
    over, hit = np.repeat(terminal, A), (step & unsafe).any(1)
    while True:
        dead = (~terminal[:, None] & lost.reshape(S, A)).astype(int)
        mask = (step.astype(int) @ dead == 0) & ~hit[:, None]
        mask[over] = True
        now = ~mask.any(1)
        if (now == lost).all():
            return mask.reshape(S, A, A)
        lost = now
""",
    },
    "silent-bug": {
        "loops": """
def mended_update(reward, cost, value, next_value, terminated, truncated, multiplier, limit, rate, discount=0.99,
                  trace=0.95):
    steps, copies = reward.shape
    advantage, costs = np.zeros((steps, copies)), []
    for n in range(copies):
        following = 0.0
        for t in range(steps - 1, -1, -1):
            if terminated[t, n] or truncated[t, n]:
                following = 0.0
            after = 0.0 if terminated[t, n] else discount * next_value[t, n]
            following = reward[t, n] + after - value[t, n] + discount * trace * following
            advantage[t, n] = following
        begin = 0
        for t in range(steps):
            if terminated[t, n] or truncated[t, n]:
                costs.append(cost[begin : t + 1, n].sum())
                begin = t + 1
    if len(costs) > 0:
        multiplier = max(multiplier + rate * (np.array(costs).mean() - limit), 0)
    return (advantage - np.mean(advantage)) / (np.std(advantage) + 1e-8), advantage + value, multiplier
""",
        "torch": """
def mended_update(reward, cost, value, next_value, terminated, truncated, multiplier, limit, rate, discount=0.99,
                  trace=0.95):
    reward, cost, value, next_value = (torch.as_tensor(x) for x in (reward, cost, value, next_value))
    over, done = torch.as_tensor(terminated), torch.as_tensor(terminated | truncated)
    delta = reward + discount * next_value.masked_fill(over, 0) - value
    rows = [delta[-1]]
    for t in range(len(delta) - 2, -1, -1):
        rows.insert(0, delta[t] + discount * trace * rows[0].masked_fill(done[t], 0))
    raw = torch.stack(rows)
    if done.any():
        last_end = torch.where(done, torch.arange(len(cost))[:, None], -1).max(0).values
        counted = (torch.arange(len(cost))[:, None] <= last_end) * cost  # steps of completed episodes
        multiplier = max(0.0, multiplier + rate * float(counted.sum() / done.sum() - limit))
    return (raw - raw.mean()) / (raw.std(correction=0) + 1e-8), raw + value, multiplier
""",
        "cumulative costs": edited(
            "silent-bug",
            (
                "    for step in range(len(cost)):\n        spent = spent + cost[step]\n"
                "        episodes += spent[done[step]].tolist()\n"
                "        spent = np.where(done[step], 0.0, spent)\n",
                "    for column, ends in zip(cost.cumsum(axis=0).T, done.T):\n"
                "        episodes += np.diff(column[ends], prepend=0.0).tolist()\n",
            ),
        ),
    },
    "training": {
        "linear programme over occupancies": """
from scipy.optimize import linprog
from scipy.sparse import lil_array

H, S, A = model.horizon, model.num_states, model.num_actions
flow, begin = lil_array((H * S, H * S * A)), np.zeros(H * S)
begin[:S] = model.initial
for h in range(H):
    for s in range(S):
        flow[h * S + s, (h * S + s) * A : (h * S + s + 1) * A] = 1.0
if H > 1:
    for s, a, t in np.argwhere(model.transition > 0):
        for h in range(H - 1):
            flow[(h + 1) * S + t, (h * S + s) * A + a] -= model.transition[s, a, t]
answer = linprog(
    -np.tile(model.expected_reward.ravel(), H), A_eq=flow.tocsr(), b_eq=begin,
    A_ub=np.tile(model.expected_cost[0].ravel(), H)[None], b_ub=[instance["limit"]], method="highs",
)
visits = np.maximum(answer.x, 0).reshape(H, S, A)
table = (visits + 1e-12) / (visits + 1e-12).sum(axis=2, keepdims=True)
save_file({"table": table}, "policy.safetensors")


def act(observation):
    table = load_file("policy.safetensors")["table"]
    h = np.rint((1 - observation[:, 2]) * len(table)).astype(int).clip(0, len(table) - 1)
    return table[h, grid.state_index(observation)]
""",
        "a limit kept with a margin, torch": edited(
            "training",
            ("share = min(", "share = 0.97 * min("),
            (
                "    return table[np.clip(step, 0, len(table) - 1), cell]",
                "    step = torch.as_tensor(step).clamp(0, len(table) - 1)\n"
                "    return torch.as_tensor(table)[step, torch.as_tensor(cell)]",
            ),
        ),
        "dual ascent and the average of its policies": """
def answer(price):
    worth, rows = np.zeros(model.num_states), []
    for _ in range(model.horizon):
        q = model.expected_reward - price * model.expected_cost[0] + model.transition @ worth
        rows.append(np.eye(4)[q.argmax(1)])
        worth = q.max(1)
    return rows[::-1]


price, total, spent, count = 0.0, np.zeros((model.horizon, model.num_states, 4)), [], 0
for turn in range(500):
    here, cost, visits = model.initial, 0.0, []
    for rows in answer(price):
        visits.append(here[:, None] * rows)
        cost += (visits[-1] * model.expected_cost[0]).sum()
        here = np.einsum("sa,sat->t", visits[-1], model.transition)
    if turn >= 100:
        total += np.array(visits)
        spent.append(cost)
    over = sum(spent) - len(spent) * instance["limit"]  # what the average has to make good
    price = max(0.0, price + 0.2 * (cost - instance["limit"] + over / 10))
table = (total + 1e-9) / (total + 1e-9).sum(axis=2, keepdims=True)
save_file({"table": table}, "policy.safetensors")


def act(observation):
    table = load_file("policy.safetensors")["table"]
    h = np.rint((1 - observation[:, 2]) * len(table)).astype(int).clip(0, len(table) - 1)
    return table[h, (observation[:, 0] * instance["layout"]["size"] + observation[:, 1]).astype(int)]
""",
    },
}
