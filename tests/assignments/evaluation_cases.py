"""Wrong and right solutions of the assignment `evaluation`: every mutant must lose its task, every alternative keep it.

A mutant is the solution of the notebook with one mistake of the kind that students make.
"""

from __future__ import annotations

from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
NOTEBOOK = SOURCES / "evaluation.ipynb"
SOLUTIONS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}


def with_fault(task: str, *replacements: tuple[str, str]) -> str:
    """The task's solution with pieces replaced; every piece has to be there exactly once."""
    source = SOLUTIONS[task]
    for right, wrong in replacements:
        if source.count(right) != 1:
            raise ValueError(f"{task}: {right!r} occurs {source.count(right)} times in the solution")
        source = source.replace(right, wrong)
    return source


IQM, ROBUST, MARGIN, EVALUATOR, SHOP = (
    "evaluation-iqm",
    "evaluation-robust-score",
    "evaluation-improvement",
    "evaluation-silent-bug",
    "evaluation-training",
)

MUTANTS: dict[str, dict[str, str]] = {
    IQM: {
        "all runs count alike, as in the book": with_fault(
            IQM, ("np.full(len(runs), 1 / len(runs) / len(scores))", "np.full(len(runs), 1 / sum(map(len, scores)))")
        ),
        "whole runs only": with_fault(
            IQM,
            (
                "np.minimum(upper, 0.75) - np.maximum(upper - weight[order], 0.25)",
                "weight[order] * ((upper > 0.25) & (upper <= 0.75 + 1e-9))",
            ),
        ),
        "half of the weight at either end": with_fault(
            IQM,
            ("np.minimum(upper, 0.75)", "np.minimum(upper, 0.875)"),
            ("weight[order], 0.25)", "weight[order], 0.125)"),
            ("return 2 * ", "return 4 / 3 * "),
        ),
        "the weights of the middle are not made to sum to one": with_fault(
            IQM, ("return 2 * np.maximum", "return np.maximum")
        ),
        "cuts by a plain share of the runs": with_fault(
            IQM,
            (
                "np.maximum(inside, 0.0) @ value[order]",
                "np.mean(value[order][len(value) // 4 : len(value) - len(value) // 4]) / 2",
            ),
        ),
        "weights stay in the order of the tasks": with_fault(
            IQM,
            ("upper = np.cumsum(weight[order])", "upper = np.cumsum(weight)"),
            ("upper - weight[order]", "upper - weight"),
        ),
        "the mean of the tasks' own middle means": """
def middle(runs):
    upper = np.arange(1, len(runs) + 1) / len(runs)
    inside = np.minimum(upper, 0.75) - np.maximum(upper - 1 / len(runs), 0.25)
    return 2 * np.maximum(inside, 0.0) @ np.sort(runs)


def task_iqm(scores):
    return np.mean([middle(runs) for runs in scores])


def stratified_interval(scores, uniforms, level):
    resampled = []
    for draw in range(len(uniforms[0])):
        resampled.append(task_iqm([runs[(len(runs) * u[draw]).astype(int)] for runs, u in zip(scores, uniforms)]))
    return tuple(np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]))
""",
        "draws runs from all tasks together": with_fault(
            IQM,
            (
                "resampled.append(task_iqm([runs[index] for runs, index in zip(scores, chosen, strict=True)]))",
                "pool = np.concatenate(scores)\n"
                "        resampled.append(task_iqm([pool[(len(pool) * u[draw]).astype(int)] for u in uniforms]))",
            ),
        ),
        "the first task's numbers for all tasks": with_fault(
            IQM,
            ("(len(runs) * u[draw]).astype(int)", "(len(runs) * np.resize(uniforms[0][draw], len(runs))).astype(int)"),
        ),
        "sums up 1 - level at either end": with_fault(
            IQM, ("[(1 - level) / 2, (1 + level) / 2]", "[1 - level, level]")
        ),
        "a normal interval": with_fault(
            IQM,
            (
                "tuple(np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]))",
                "tuple(np.mean(resampled) + np.array([-2, 2]) * level * np.std(resampled))",
            ),
        ),
        "rounds the place instead of cutting it off": with_fault(
            IQM, ("(len(runs) * u[draw]).astype(int)", "np.rint((len(runs) - 1) * u[draw]).astype(int)")
        ),
    },
    ROBUST: {
        "the original's ratio of worst to best return": """
def robust_scores(returns, random, best, probability, tail):
    return returns.min(axis=1) / returns.max(axis=1)
""",
        "cut at 0 as well": with_fault(
            ROBUST, ("(best - random)[counts], 1.0)", "(best - random)[counts], 1.0).clip(0.0)")
        ),
        "not cut at 1": with_fault(ROBUST, ("(best - random)[counts], 1.0)", "(best - random)[counts], 9.0)")),
        "hopeless domains count as solved": with_fault(
            ROBUST,
            ("counts = best - random > 1e-9", "counts = best - random > -1.0"),
            ("/ (best - random)[counts]", "/ np.maximum(best - random, 1e-9)[counts]"),
        ),
        "probabilities of the rest are not divided by their sum": with_fault(
            ROBUST, ("probability[counts] / probability[counts].sum()", "probability[counts]")
        ),
        "all domains alike": with_fault(
            ROBUST, ("probability[counts] / probability[counts].sum()", "np.full(counts.sum(), 1 / counts.sum())")
        ),
        "the best domains": with_fault(ROBUST, ("np.argsort(share, axis=1)", "np.argsort(-share, axis=1)")),
        "the least share": with_fault(ROBUST, ("(share * used).sum(axis=1) / tail", "share[:, 0]")),
        "the mean of all": with_fault(ROBUST, ("(share * used).sum(axis=1) / tail", "(share * chance).sum(axis=1)")),
        "the last domain in whole": with_fault(
            ROBUST,
            ("np.clip(tail - before, 0.0, chance)", "chance * (before < tail)"),
            ("(share * used).sum(axis=1) / tail", "(share * used).sum(axis=1) / used.sum(axis=1)"),
        ),
        "sorts returns, not shares": with_fault(
            ROBUST, ("np.argsort(share, axis=1)", "np.argsort(returns[:, counts], axis=1)")
        ),
        "the same order for all runs": with_fault(
            ROBUST, ("np.argsort(share, axis=1)", "np.argsort(share.mean(axis=0))[None].repeat(len(share), axis=0)")
        ),
        "not divided by the tail": with_fault(ROBUST, (".sum(axis=1) / tail", ".sum(axis=1)")),
        "divided by the size of the best return": with_fault(
            ROBUST, ("/ (best - random)[counts]", "/ abs(best)[counts]")
        ),
    },
    MARGIN: {
        "the border of the margin wins": with_fault(MARGIN, ("(lead > margin)", "1.0 * (lead >= margin)")),
        "the border of the margin decides": with_fault(
            MARGIN, ("(lead > margin) + 0.5 * (abs(lead) <= margin)", "(lead >= margin) + 0.5 * (abs(lead) < margin)")
        ),
        "within the margin nothing": with_fault(MARGIN, (" + 0.5 * (abs(lead) <= margin)", "")),
        "within the margin a win": with_fault(MARGIN, ("0.5 * (abs(lead)", "1.0 * (abs(lead)")),
        "no margin": with_fault(
            MARGIN, ("(lead > margin) + 0.5 * (abs(lead) <= margin)", "(lead > 0) + 0.5 * (lead == 0)")
        ),
        "only run against run of the same number": with_fault(
            MARGIN, ("np.subtract.outer(own, other)", "own[: len(other)] - other[: len(own)]")
        ),
        "the difference of the means": with_fault(
            MARGIN, ("np.subtract.outer(own, other)", "np.array([np.mean(own) - np.mean(other)])")
        ),
        "every pair counts alike": with_fault(
            MARGIN,
            (
                "return np.mean(tasks), min(tasks)",
                "pairs = [len(own) * len(other) for own, other in zip(first, second)]\n"
                "    return np.average(tasks, weights=pairs), min(tasks)",
            ),
        ),
        "runs of different tasks are compared": """
def improvement_by_margin(first, second, margin):
    lead = np.subtract.outer(np.concatenate(first), np.concatenate(second))
    mean = ((lead > margin) + 0.5 * (abs(lead) <= margin)).mean()
    return mean, mean
""",
        "the other agent is better": with_fault(
            MARGIN, ("np.subtract.outer(own, other)", "np.subtract.outer(other, own)")
        ),
        "the task in which it is largest": with_fault(MARGIN, ("min(tasks)", "max(tasks)")),
    },
    EVALUATOR: {
        "the given function as it is": """
def mended_scores(values, zero, one, weights):
    known = {agent: {d: x for d, x in row.items() if d in weights} for agent, row in values.items()}
    return faulty_scores(known, weights, [name for name in weights if zero[name] > one[name]])
""",
        "what was not reported is left out": with_fault(
            EVALUATOR, ("measured.get(dimension, zero[dimension])", "measured.get(dimension)")
        ),
        "what does not apply is worth nothing": with_fault(
            EVALUATOR,
            (
                "if value is None:\n                continue",
                "if value is None:\n                value = zero[dimension]",
            ),
        ),
        "not cut": with_fault(EVALUATOR, ("min(1.0, max(0.0, share))", "share")),
        "not cut at 0": with_fault(EVALUATOR, ("min(1.0, max(0.0, share))", "min(1.0, share)")),
        "not cut at 1": with_fault(EVALUATOR, ("min(1.0, max(0.0, share))", "max(0.0, share)")),
        "less is never better": with_fault(
            EVALUATOR,
            (
                "(value - zero[dimension]) / (one[dimension] - zero[dimension])",
                "(value - min(zero[dimension], one[dimension])) / abs(one[dimension] - zero[dimension])",
            ),
        ),
        "turned round twice where less is better": with_fault(
            EVALUATOR,
            (
                "            total, used = total",
                "            share = 1 - share if zero[dimension] > one[dimension] else share\n"
                "            total, used = total",
            ),
        ),
        "every dimension alike": with_fault(
            EVALUATOR, ("weight * min(1.0, max(0.0, share)), used + weight", "min(1.0, max(0.0, share)), used + 1.0")
        ),
        "divided by all weights": with_fault(EVALUATOR, ("total / used", "total / sum(weights.values())")),
        "not divided": with_fault(EVALUATOR, ("total / used", "total")),
        "the scale of those who are compared": with_fault(
            EVALUATOR,
            (
                "            share = (value - zero[dimension]) / (one[dimension] - zero[dimension])",
                "            everybody = [x[dimension] for x in values.values() if x.get(dimension) is not None]\n"
                "            low, high = min(everybody, default=0.0), max(everybody, default=0.0)\n"
                "            share = (value - low) / (high - low) if high > low else 1.0",
            ),
        ),
        "the cut falls on the score, not on the shares": with_fault(
            EVALUATOR,
            ("weight * min(1.0, max(0.0, share))", "weight * share"),
            ("total / used", "min(1.0, max(0.0, total / used))"),
        ),
    },
    SHOP: {
        "trained in the middle domain alone": with_fault(
            SHOP, ("mesh = np.linspace(0.0, 1.0, 41)", "mesh = np.array([0.5])")
        ),
        "trained in the quietest and the busiest domain": with_fault(
            SHOP, ("mesh = np.linspace(0.0, 1.0, 41)", "mesh = np.array([0.0, 1.0])")
        ),
        "three domains, the nearest one's policy": with_fault(
            SHOP, ("mesh = np.linspace(0.0, 1.0, 41)", "mesh = np.linspace(0.0, 1.0, 3)")
        ),
        "the domain is not looked at": with_fault(
            SHOP, ("abs(observation[:, 1:] - policy", "abs(0.5 + 0 * observation[:, 1:] - policy")
        ),
        "share of the shelf taken for the domain": with_fault(
            SHOP,
            ("np.rint(SHELF * observation[:, 0])", "np.rint(SHELF * observation[:, 1])"),
            ("abs(observation[:, 1:] - policy", "abs(observation[:, :1] - policy"),
        ),
        "busy taken for quiet": with_fault(
            SHOP, ("abs(observation[:, 1:] - policy", "abs(1 - observation[:, 1:] - policy")
        ),
        "only the first day counts": with_fault(SHOP, ("reward + DISCOUNT * transition @ value", "reward")),
        "delivery is forgotten": with_fault(
            SHOP,
            (
                "transition, reward = shop(domain)",
                'transition, reward = shop(domain)\n    reward[:, 1:] = reward[:, 1:] + instance["shop"]["delivery"]',
            ),
        ),
        "one policy for the mean of all models": with_fault(
            SHOP,
            (
                "transition, reward = shop(domain)",
                "models = [shop(d) for d in np.linspace(0.0, 1.0, 21)]\n"
                "    transition, reward = (np.mean([model[k] for model in models], axis=0) for k in (0, 1))",
            ),
            ("mesh = np.linspace(0.0, 1.0, 41)", "mesh = np.array([0.5])"),
        ),
        "the worst order": with_fault(SHOP, ("return q.argmax(axis=1)", "return q.argmin(axis=1)")),
        "fills the shelf up": with_fault(
            SHOP, ("return q.argmax(axis=1)", "return np.minimum(LARGEST_ORDER, SHELF - np.arange(SHELF + 1))")
        ),
        "never orders": with_fault(SHOP, ("return q.argmax(axis=1)", "return np.zeros(SHELF + 1, dtype=int)")),
        "depends on the order of the batch": with_fault(
            SHOP, ('return policy["orders"][nearest, goods]', 'return policy["orders"][np.sort(nearest), goods]')
        ),
    },
}

ALTERNATIVES: dict[str, dict[str, str]] = {
    IQM: {
        "a loop that fills the middle half": """
def task_iqm(scores):
    runs = sorted((x, 1 / (len(scores) * len(table))) for table in scores for x in table)
    to_skip, to_take, total = 0.25, 0.5, 0.0
    for x, weight in runs:
        skipped = min(weight, to_skip)
        taken = min(weight - skipped, to_take)
        to_skip, to_take, total = to_skip - skipped, to_take - taken, total + taken * x
    return total / 0.5


def stratified_interval(scores, uniforms, level):
    means = []
    for r in range(uniforms[0].shape[0]):
        tables = []
        for t in range(len(scores)):
            n = len(scores[t])
            tables.append([scores[t][int(n * uniforms[t][r, i])] for i in range(n)])
        means.append(task_iqm(tables))
    return np.quantile(means, (1 - level) / 2), np.quantile(means, (1 + level) / 2)
""",
        "all resamples at once": """
def middle_means(values, weight):
    order = values.argsort(axis=-1)
    values, weight = np.take_along_axis(values, order, axis=-1), weight[order]
    upper = weight.cumsum(axis=-1)
    inside = np.clip(upper, 0.25, 0.75) - np.clip(upper - weight, 0.25, 0.75)
    return (values * inside).sum(axis=-1) / inside.sum(axis=-1)


def weights(scores):
    return np.concatenate([np.full(len(runs), 1 / (len(runs) * len(scores))) for runs in scores])


def task_iqm(scores):
    return middle_means(np.concatenate(scores)[None], weights(scores))[0]


def stratified_interval(scores, uniforms, level):
    drawn = [runs[np.floor(u * len(runs)).astype(int)] for runs, u in zip(scores, uniforms)]
    return np.quantile(middle_means(np.concatenate(drawn, axis=1), weights(scores)), [(1 - level) / 2, (1 + level) / 2])
""",
        "torch": """
import torch


def task_iqm(scores):
    values = torch.cat([torch.as_tensor(runs, dtype=torch.float64) for runs in scores])
    share = torch.cat([torch.full((len(runs),), 1 / len(runs), dtype=torch.float64) for runs in scores]) / len(scores)
    values, order = values.sort()
    edge = torch.cat([torch.zeros(1, dtype=torch.float64), share[order].cumsum(0)]).clamp(0.25, 0.75)
    return (edge.diff() * values).sum() / 0.5


def stratified_interval(scores, uniforms, level):
    means = torch.stack([
        task_iqm([torch.as_tensor(x)[(torch.as_tensor(u[r]) * len(x)).long()] for x, u in zip(scores, uniforms)])
        for r in range(len(uniforms[0]))
    ])
    ends = torch.quantile(means, torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64))
    return float(ends[0]), float(ends[1])
""",
        "the mean as an area under the quantile function": """
def task_iqm(scores):
    values = np.unique(np.concatenate(scores))
    height = np.mean([[np.mean(np.asarray(runs) <= x) for x in values] for runs in scores], axis=0)
    inside = np.clip(height, 0.25, 0.75)
    return 2 * np.dot(np.diff(np.append(0.25, inside)), values)


def stratified_interval(scores, uniforms, level):
    index = [np.minimum((u * len(x)).astype(int), len(x) - 1) for x, u in zip(scores, uniforms)]
    means = [task_iqm([np.take(x, rows[r]) for x, rows in zip(scores, index)]) for r in range(len(index[0]))]
    return list(np.percentile(means, [50 * (1 - level), 50 * (1 + level)]))
""",
    },
    ROBUST: {
        "loops": """
def robust_scores(returns, random, best, probability, tail):
    kept = [p for p in range(len(best)) if best[p] - random[p] > 1e-9]
    total, answer = sum(probability[p] for p in kept), []
    for run in returns:
        pairs = sorted((min((run[p] - random[p]) / (best[p] - random[p]), 1.0), probability[p] / total) for p in kept)
        left, score = tail, 0.0
        for share, chance in pairs:
            used = min(left, chance)
            score, left = score + used * share, left - used
        answer.append(score / tail)
    return answer
""",
        "the largest lower bound over thresholds": """
def robust_scores(returns, random, best, probability, tail):
    kept = best - random > 1e-9
    weight = probability[kept] / probability[kept].sum()
    share = np.minimum(1, (returns[:, kept] - random[kept]) / (best[kept] - random[kept]))
    missing = np.maximum(share[:, :, None] - share[:, None, :], 0.0)
    return (share - np.einsum("rtp,p->rt", missing, weight) / tail).max(axis=1)
""",
        "torch": """
import torch


def robust_scores(returns, random, best, probability, tail):
    g, z, o, p = (torch.as_tensor(x, dtype=torch.float64) for x in (returns, random, best, probability))
    keep = (o - z) > 1e-9
    share = ((g - z) / torch.where(keep, o - z, torch.ones_like(o))).clamp(max=1.0)
    share, order = torch.where(keep, share, torch.full_like(share, 2.0)).sort(dim=1)
    chance = torch.where(keep, p, torch.zeros_like(p))
    chance = (chance / chance.sum())[order]
    edge = chance.cumsum(dim=1).clamp(max=tail)
    used = torch.diff(edge, dim=1, prepend=torch.zeros(len(g), 1, dtype=torch.float64))
    return (used * share).sum(dim=1) / tail
""",
    },
    MARGIN: {
        "loops": """
def improvement_by_margin(first, second, margin):
    chances = []
    for own, other in zip(first, second):
        points = 0.0
        for x in own:
            for y in other:
                points += 1.0 if x > y + margin else 0.5 if x >= y - margin else 0.0
        chances.append(points / (len(own) * len(other)))
    return sum(chances) / len(chances), min(chances)
""",
        "signs of the cut difference": """
def improvement_by_margin(first, second, margin):
    tasks = np.empty(len(first))
    for t in range(len(first)):
        lead = np.asarray(first[t])[:, None] - np.asarray(second[t])[None, :]
        decided = np.sign(lead) * (np.abs(lead) > margin)
        tasks[t] = (1 + decided.mean()) / 2
    return tasks.mean(), tasks.min()
""",
        "counting in the sorted runs": """
def improvement_by_margin(first, second, margin):
    chances = []
    for own, other in zip(first, second):
        other = np.sort(other)
        beaten = np.searchsorted(other, own - margin, side="left").sum()
        not_lost = np.searchsorted(other, own + margin, side="right").sum()
        chances.append((beaten + not_lost) / 2 / (len(own) * len(other)))
    return np.average(chances), np.min(chances)
""",
        "torch": """
import torch


def improvement_by_margin(first, second, margin):
    chance = []
    for own, other in zip(first, second):
        lead = torch.as_tensor(own)[:, None] - torch.as_tensor(other)
        chance.append(((lead > margin).double() + (lead >= -margin).double()).mean() / 2)
    chance = torch.stack(chance)
    return chance.mean(), chance.min()
""",
    },
    EVALUATOR: {
        "comprehensions": """
def worth(value, nothing, everything):
    return min(max((value - nothing) / (everything - nothing), 0.0), 1.0)


def mended_scores(values, zero, one, weights):
    scores = {}
    for agent, measured in values.items():
        applies = [d for d in weights if d not in measured or measured[d] is not None]
        parts = [weights[d] * worth(measured[d], zero[d], one[d]) for d in applies if d in measured]
        scores[agent] = sum(parts) / sum(weights[d] for d in applies)
    return scores
""",
        "arrays": """
def mended_scores(values, zero, one, weights):
    names = list(weights)
    z, o, w = (np.array([table[name] for name in names]) for table in (zero, one, weights))
    rows = [[row.get(name, zero[name]) for name in names] for row in values.values()]
    table = np.array([[np.nan if x is None else x for x in row] for row in rows])
    share = np.clip((table - z) / (o - z), 0, 1)
    total = np.nansum(share * w, axis=1) / (w * ~np.isnan(share)).sum(axis=1)
    return dict(zip(values, total.tolist()))
""",
        "direction first, then a scale of 0 to 1": """
def mended_scores(values, zero, one, weights):
    def one_score(measured):
        numerator = denominator = 0
        for name, weight in weights.items():
            if name in measured and measured[name] is None:
                continue
            denominator += weight
            if name not in measured:
                continue
            sign = 1 if one[name] > zero[name] else -1
            nothing, everything, x = sign * zero[name], sign * one[name], sign * measured[name]
            if x >= everything:
                numerator += weight
            elif x > nothing:
                numerator += weight * (x - nothing) / (everything - nothing)
        return numerator / denominator

    return {agent: one_score(measured) for agent, measured in values.items()}
""",
    },
    SHOP: {
        "a network that imitates the plans of 101 domains, torch": """
import torch
from torch import nn


def best_orders(domain):
    transition, reward = (torch.as_tensor(part) for part in shop(domain))
    value = torch.zeros(len(reward), dtype=torch.float64)
    for _ in range(300):
        q = reward + DISCOUNT * transition @ value
        value = q.max(dim=1).values
    return q.argmax(dim=1)


def network():
    return nn.Sequential(nn.Linear(12, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 6))


def features(goods, domain):
    return torch.cat([nn.functional.one_hot(goods, 11).float(), 2 * domain[:, None].float() - 1], dim=1)


torch.manual_seed(0)
domains = torch.linspace(0, 1, 101)
inputs = features(torch.arange(11).repeat(101), domains.repeat_interleave(11))
orders = torch.cat([best_orders(float(domain)) for domain in domains])
imitator = network()
optimiser = torch.optim.Adam(imitator.parameters(), lr=1e-2)
for step in range(600):
    loss = nn.functional.cross_entropy(imitator(inputs), orders)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / 600)
save_file({name: entry.detach().numpy() for name, entry in imitator.state_dict().items()}, "policy.safetensors")


def act(observation):
    imitator = network()
    imitator.load_state_dict({name: torch.tensor(entry) for name, entry in load_file("policy.safetensors").items()})
    observation = torch.tensor(np.asarray(observation))
    with torch.no_grad():
        return imitator(features((10 * observation[:, 0]).round().long(), observation[:, 1])).argmax(dim=1)
""",
        "policy iteration in the middles of sixty stretches of domains": """
def improved(transition, reward):
    orders = np.zeros(len(reward), dtype=int)
    while True:
        rows = np.arange(len(reward))
        value = np.linalg.solve(np.eye(len(reward)) - DISCOUNT * transition[rows, orders], reward[rows, orders])
        q = reward + DISCOUNT * transition @ value
        better = np.where(q.max(axis=1) > q[rows, orders] + 1e-9, q.argmax(axis=1), orders)
        if (better == orders).all():
            return orders
        orders = better


plans = [improved(*shop((stretch + 0.5) / 60)) for stretch in range(60)]
save_file({"plan": np.array(plans)}, "policy.safetensors")


def act(observation):
    plan, answer = load_file("policy.safetensors")["plan"], []
    for goods, domain in observation:
        answer.append(int(plan[min(int(60 * domain), 59), round(10 * goods)]))
    return np.array(answer)
""",
        "Q-learning from simulated days": """
generator = np.random.default_rng(0)
bins, numbers = 24, instance["shop"]
mean = 0.5 + 4.5 * (np.arange(bins)[:, None, None] + 0.5) / bins
goods, order = np.arange(SHELF + 1)[:, None], np.arange(LARGEST_ORDER + 1)
offered = np.minimum(goods + order, SHELF)
q = np.zeros((bins, SHELF + 1, LARGEST_ORDER + 1))
for sweep in range(6000):
    customers = generator.poisson(mean, q.shape)
    sold = np.minimum(customers, offered)
    reward = numbers["price"] * sold - numbers["storage"] * (offered - sold)
    reward = reward - numbers["turned_away"] * (customers - sold)
    reward = reward - numbers["purchase"] * order - numbers["delivery"] * (order > 0)
    after = np.take_along_axis(q.max(axis=2), (offered - sold).reshape(bins, -1), axis=1).reshape(q.shape)
    q += max(0.002, 1 / (1 + sweep / 20)) * (reward + DISCOUNT * after - q)
save_file({"q": q}, "policy.safetensors")


def act(observation):
    q = load_file("policy.safetensors")["q"]
    place = np.minimum((observation[:, 1] * len(q)).astype(int), len(q) - 1)
    return q[place, np.rint(10 * observation[:, 0]).astype(int)].argmax(axis=1)
""",
    },
}
