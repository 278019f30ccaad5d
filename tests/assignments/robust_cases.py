"""Wrong and right solutions of the assignment `robust`: every mutant must lose its task, every alternative keep it.

A mutant is the solution of the notebook with one mistake of the kind that students make.
"""

from __future__ import annotations

from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
NOTEBOOK = SOURCES / "robust.ipynb"
SOLUTIONS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}


def with_fault(task: str, *replacements: tuple[str, str]) -> str:
    """The task's solution with pieces replaced; every piece has to be there exactly once."""
    source = SOLUTIONS[task]
    for right, wrong in replacements:
        if source.count(right) != 1:
            raise ValueError(f"{task}: {right!r} occurs {source.count(right)} times in the solution")
        source = source.replace(right, wrong)
    return source


WORST, ATTACK, QUANTILE = "robust-worst-case", "robust-attack", "robust-quantile"
POSTERIOR, CALIBRATION, RATIO, POLICY = (
    "robust-posterior",
    "robust-calibration",
    "robust-silent-bug",
    "robust-policy",
)

MUTANTS: dict[str, dict[str, str]] = {
    WORST: {
        "ignores the caps, as the book's ball does": with_fault(
            WORST, ("np.asarray(cap, dtype=float) - q", "np.ones(len(q)) - q")
        ),
        "moves the whole radius, not half of it": with_fault(WORST, ("radius / 2", "radius")),
        "stops at the worst successor's cap instead of going on to the next": with_fault(
            WORST, ("low + (room[worst] <= 0)", "low + len(q) * (room[worst] <= 0)")
        ),
        "helps: gives to the best": with_fault(WORST, ("np.argsort(values)", "np.argsort(-values)")),
        "takes from the worst but one first": with_fault(
            WORST, ("best = order[low], order[high]", "best = order[low], order[low + 1 + len(q) - 1 - high]")
        ),
        "goes on where givers and takers have met": """
def capped_worst_case(probabilities, values, radius, cap):
    order = np.argsort(values)
    p, room = probabilities[order], (cap - probabilities)[order]
    moved = min(radius / 2, room.sum())
    taken = np.diff(np.minimum(np.cumsum(p[::-1]), moved), prepend=0.0)[::-1]
    given = np.diff(np.minimum(np.cumsum(room), moved), prepend=0.0)
    q = np.empty(len(p))
    q[order] = p - taken + given
    return q
""",
        "cuts the book's answer at the cap and normalises": """
def capped_worst_case(probabilities, values, radius, cap):
    q, order = probabilities.copy(), np.argsort(values)
    left = min(radius / 2, 1 - q[order[0]])
    q[order[0]] += left
    for best in order[:0:-1]:
        taken = min(left, q[best])
        q[best], left = q[best] - taken, left - taken
    q = np.minimum(q, cap)
    return q / q.sum()
""",
        "takes the same share from everybody": """
def capped_worst_case(probabilities, values, radius, cap):
    q, worst = probabilities.copy(), int(np.argmin(values))
    moved = min(radius / 2, cap[worst] - q[worst], 1 - q[worst])
    others = np.arange(len(q)) != worst
    if moved > 0:
        q[others] *= 1 - moved / q[others].sum()
        q[worst] += moved
    return q
""",
        "a box of half the radius around every share": """
def capped_worst_case(probabilities, values, radius, cap):
    least, most = np.maximum(probabilities - radius / 2, 0), np.minimum(probabilities + radius / 2, cap)
    q, left = least.copy(), 1 - least.sum()
    for successor in np.argsort(values):
        more = min(left, most[successor] - least[successor])
        q[successor], left = q[successor] + more, left - more
    return q
""",
    },
    ATTACK: {
        "the sign of every reading": with_fault(
            ATTACK,
            (
                "moved[rows, reading] += step_size * np.sign(gradient[rows, reading])",
                "moved += step_size * np.sign(gradient)",
            ),
        ),
        "the gradient over its Euclidean length": with_fault(
            ATTACK,
            (
                "moved[rows, reading] += step_size * np.sign(gradient[rows, reading])",
                "moved += step_size * gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)",
            ),
        ),
        "the largest derivative, not the largest in size": with_fault(
            ATTACK, ("abs(gradient).argmax(axis=1)", "gradient.argmax(axis=1)")
        ),
        "always upwards": with_fault(ATTACK, ("step_size * np.sign(gradient[rows, reading])", "step_size")),
        "descends": with_fault(ATTACK, ("moved[rows, reading] += ", "moved[rows, reading] -= ")),
        "shortens the row instead of the nearest point": with_fault(
            ATTACK,
            (
                "return np.sign(moved) * np.maximum(abs(moved) - threshold, 0.0)",
                "return moved * np.minimum(1, epsilon / np.maximum(abs(moved).sum(axis=1, keepdims=True), 1e-12))",
            ),
        ),
        "the nearest point of the Euclidean ball": with_fault(
            ATTACK,
            (
                "return np.sign(moved) * np.maximum(abs(moved) - threshold, 0.0)",
                "return moved * np.minimum(1, epsilon / np.maximum((moved**2).sum(1, keepdims=True) ** 0.5, 1e-9))",
            ),
        ),
        "grows rows that lie inside to the border": with_fault(
            ATTACK, ("np.maximum(excess.max(axis=1, keepdims=True), 0.0)", "excess.max(axis=1, keepdims=True)")
        ),
        "takes the same off all readings, also those that reach 0 first": with_fault(
            ATTACK, ("excess.max(axis=1, keepdims=True)", "excess[:, -1:]")
        ),
        "one ball for the whole batch": with_fault(
            ATTACK, ("excess.max(axis=1, keepdims=True)", "excess.max(keepdims=True)")
        ),
        "changes the array that it was given and clips it": """
def l1_attack_step(perturbation, gradient, epsilon, step_size):
    reading = abs(gradient).argmax(axis=1)
    perturbation[np.arange(len(gradient)), reading] += step_size
    return np.clip(perturbation, -epsilon, epsilon)
""",
    },
    QUANTILE: {
        "fractions at the end of the mass": with_fault(QUANTILE, ("np.cumsum(mass) - mass / 2", "np.cumsum(mass)")),
        "fractions of equal masses": with_fault(
            QUANTILE, ("np.cumsum(mass) - mass / 2", "(np.arange(len(mass)) + 0.5) / len(mass)")
        ),
        "targets count alike": with_fault(
            QUANTILE, ("* weight[:, None, :]", "* np.ones_like(weight[:, None, :]) / weight.shape[1]")
        ),
        "quantiles count alike": with_fault(QUANTILE, ("share = mass[:, None] * weight", "share = weight")),
        "the mean of the quantiles": with_fault(
            QUANTILE, ("share = mass[:, None] * weight[:, None, :]", "share = weight[:, None, :] / len(mass)")
        ),
        "over- and underestimates exchanged": with_fault(QUANTILE, ("(u < 0)", "(u > 0)")),
        "not divided by κ": with_fault(
            QUANTILE, ("tilt * huber / kappa", "tilt * huber"), ("-kappa, kappa) / kappa", "-kappa, kappa)")
        ),
        "gradient of the other sign": with_fault(QUANTILE, ("gradient = -(", "gradient = (")),
        "a sum over the batch": with_fault(
            QUANTILE, ("* weight[:, None, :] / len(prediction)", "* weight[:, None, :]")
        ),
        "square everywhere": with_fault(
            QUANTILE,
            ("np.where(abs(u) <= kappa, u**2 / 2, kappa * (abs(u) - kappa / 2))", "u**2 / 2"),
            ("np.clip(u, -kappa, kappa)", "u"),
        ),
        "fractions of the sorted masses": with_fault(
            QUANTILE, ("np.cumsum(mass) - mass / 2", "np.cumsum(np.sort(mass)) - np.sort(mass) / 2")
        ),
    },
    POSTERIOR: {
        "multiplies probabilities until they vanish": with_fault(
            POSTERIOR,
            ("score = np.log(prior) + np.log(chance) @ fading", "score = prior * np.prod(chance**fading, axis=1)"),
            ("weight = np.exp(score - score.max())", "weight = score"),
        ),
        "exponentials without a shift": with_fault(POSTERIOR, ("np.exp(score - score.max())", "np.exp(score)")),
        "the newest steps fade": with_fault(POSTERIOR, ("np.arange(len(state))[::-1]", "np.arange(len(state))")),
        "the newest step has faded once": with_fault(
            POSTERIOR, ("np.arange(len(state))[::-1]", "(np.arange(len(state))[::-1] + 1)")
        ),
        "nothing fades": with_fault(POSTERIOR, ("memory ** np.arange", "1.0 ** np.arange")),
        "the prior fades too": with_fault(POSTERIOR, ("np.log(prior) +", "memory ** len(state) * np.log(prior) +")),
        "the prior is forgotten": with_fault(POSTERIOR, ("np.log(prior) +", "0 * np.log(np.maximum(prior, 1e-9)) +")),
        "candidates are taken as exact": with_fault(
            POSTERIOR,
            ("(1 - contamination) * transition", "transition"),
            (" + contamination / transition.shape[-1]", ""),
        ),
        "mixed with ε instead of ε/S": with_fault(POSTERIOR, ("contamination / transition.shape[-1]", "contamination")),
        "mixes without taking from the candidate": with_fault(
            POSTERIOR, ("(1 - contamination) * transition", "transition")
        ),
        "the most probable candidate, always": with_fault(
            POSTERIOR, ('np.searchsorted(np.cumsum(weights), uniform, side="right")', "np.argmax(weights)")
        ),
        "a draw without weights": with_fault(
            POSTERIOR, ('np.searchsorted(np.cumsum(weights), uniform, side="right")', "uniform * len(weights)")
        ),
        "borders belong to the wrong candidate": with_fault(POSTERIOR, ('side="right"', 'side="left"')),
    },
    CALIBRATION: {
        "ties count as under": with_fault(
            CALIBRATION, ("(outcome < quantiles) + (outcome == quantiles) / 2", "(outcome <= quantiles) * 1.0")
        ),
        "ties count as over": with_fault(
            CALIBRATION, ("(outcome < quantiles) + (outcome == quantiles) / 2", "(outcome < quantiles) * 1.0")
        ),
        "outcomes over the quantile": with_fault(CALIBRATION, ("(outcome < quantiles)", "(outcome > quantiles)")),
        "the mean over the groups": with_fault(CALIBRATION, (".mean(axis=1).max()", ".mean(axis=1).mean()")),
        "the error of all cases together": with_fault(
            CALIBRATION, ("abs(observed - fractions).mean(axis=1).max()", "abs(under.mean(axis=0) - fractions).mean()")
        ),
        "the worst fraction": with_fault(CALIBRATION, (".mean(axis=1).max()", ".max(axis=1).max()")),
        "errors that cancel": with_fault(
            CALIBRATION, ("abs(observed - fractions).mean(axis=1)", "abs((observed - fractions).mean(axis=1))")
        ),
        "squared distances": with_fault(
            CALIBRATION, ("abs(observed - fractions).mean", "((observed - fractions) ** 2).mean")
        ),
        "shares of all cases": with_fault(
            CALIBRATION, ("under[groups == group].mean(axis=0)", "under[groups == group].sum(axis=0) / len(outcomes)")
        ),
        "central intervals, as the book has them": with_fault(
            CALIBRATION,
            (
                "(outcome < quantiles) + (outcome == quantiles) / 2",
                "abs(outcome - quantiles.mean(axis=1)[:, None]) < abs(quantiles - quantiles.mean(axis=1)[:, None])",
            ),
        ),
    },
    RATIO: {
        "the given function as it is": with_fault(
            RATIO,
            ("policy_network(old).eval()", "policy_network(old)"),
            ("policy_network(new).eval()", "policy_network(new)"),
        ),
        "mends the old policy only": with_fault(RATIO, ("policy_network(new).eval()", "policy_network(new)")),
        "mends the new policy only": with_fault(RATIO, ("policy_network(old).eval()", "policy_network(old)")),
        "the same mask for both, from one seed": with_fault(
            RATIO,
            ("before = taken", "torch.manual_seed(0)\n    before = taken"),
            ("after = taken", "torch.manual_seed(0)\n    after = taken"),
            ("policy_network(old).eval()", "policy_network(old)"),
            ("policy_network(new).eval()", "policy_network(new)"),
        ),
        "the mean of many masks": with_fault(
            RATIO,
            (
                "taken_log_prob(policy_network(old).eval(), observations, actions)",
                "sum(taken_log_prob(policy_network(old), observations, actions) for _ in range(50)) / 50",
            ),
            (
                "taken_log_prob(policy_network(new).eval(), observations, actions)",
                "sum(taken_log_prob(policy_network(new), observations, actions) for _ in range(50)) / 50",
            ),
        ),
        "one network for both": with_fault(RATIO, ("policy_network(new).eval()", "policy_network(old).eval()")),
        "old over new": with_fault(RATIO, ("(after - before).exp()", "(before - after).exp()")),
        "difference in place of the ratio": with_fault(RATIO, ("(after - before).exp()", "1 + after - before")),
        "reports the clipped ratios": with_fault(RATIO, ("ratio.detach().numpy()", "clipped.detach().numpy()")),
        "the larger of the two gains": with_fault(RATIO, ("torch.minimum", "torch.maximum")),
        "shrinks the hidden layer by the dropout rate as well": """
def clipped_loss(old, new, observations, actions, advantages, clip):
    old, new = ({**weights, "w2": 0.9 * weights["w2"]} for weights in (old, new))
    before = taken_log_prob(policy_network(old).eval(), observations, actions)
    after = taken_log_prob(policy_network(new).eval(), observations, actions)
    ratio, gain = (after - before).exp(), torch.as_tensor(advantages)
    loss = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean()
    return loss.item(), ratio.detach().numpy()
""",
    },
    POLICY: {
        "plans for the measured wind": with_fault(POLICY, ("row, worth, radius, problem", "row, worth, 0.0, problem")),
        "forgets the ball": with_fault(POLICY, ("row, worth, radius, problem", "row, worth, 2.0, problem")),
        "forgets the caps": with_fault(POLICY, ('problem["cap"][s, a]) @ worth', "np.ones(states)) @ worth")),
        "an optimistic nature": with_fault(
            POLICY,
            (
                'capped_worst_case(row, worth, radius, problem["cap"][s, a]) @ worth',
                'capped_worst_case(row, -worth, radius, problem["cap"][s, a]) @ worth',
            ),
        ),
        "the least action": with_fault(POLICY, ("q.argmax(axis=1)}", "q.argmin(axis=1)}")),
        "forgets what entering pays": with_fault(
            POLICY,
            ('worth, q = problem["entry"] + problem["discount"] * value', 'worth, q = problem["discount"] * value'),
        ),
        "stops after three sweeps": with_fault(POLICY, ("range(100)", "range(3)")),
        "one action everywhere": with_fault(POLICY, ("q.argmax(axis=1)}", "q.argmax(axis=1) * 0}")),
        "rows and columns exchanged": with_fault(
            POLICY, ("np.asarray(observation)[:, None]", "np.asarray(observation)[:, None, ::-1]")
        ),
        "acts at random": with_fault(
            POLICY,
            ('return policy["action"][nearest]', "return np.random.default_rng(0).integers(4, size=len(nearest))"),
        ),
    },
}

ALTERNATIVES: dict[str, dict[str, str]] = {
    WORST: {
        "overlaps of sorted masses, vectorised": """
def capped_worst_case(probabilities, values, radius, cap):
    order = np.argsort(values)
    p, v, room = probabilities[order], values[order], (cap - probabilities)[order]
    top, up = np.cumsum(p[::-1])[::-1], np.cumsum(room)
    moved = np.minimum(np.minimum(top[:, None], up), radius / 2) - np.maximum((top - p)[:, None], up - room)
    moved = np.clip(moved, 0.0, None) * (v[:, None] > v)
    q = np.empty(len(p))
    q[order] = p - moved.sum(axis=1) + moved.sum(axis=0)
    return q
""",
        "pairs of giver and taker, the largest gain first, torch": """
def capped_worst_case(probabilities, values, radius, cap):
    q, v, c = (torch.tensor(array, dtype=torch.float64) for array in (probabilities, values, cap))
    room, left = c - q, radius / 2
    mass = q.clone()
    for best in torch.argsort(v, descending=True).tolist():
        for worst in torch.argsort(v).tolist():
            if v[worst] >= v[best]:
                break
            moved = min(left, float(mass[best]), float(room[worst]))
            q[best], q[worst] = q[best] - moved, q[worst] + moved
            mass[best], room[worst], left = mass[best] - moved, room[worst] - moved, left - moved
    return q
""",
        "a linear programme": """
from scipy.optimize import linprog


def capped_worst_case(probabilities, values, radius, cap):
    n, eye = len(values), np.eye(len(values))
    ball = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, n)), np.ones((1, n))]])
    bound = np.concatenate([probabilities, -probabilities, [radius]])
    total = np.concatenate([np.ones(n), np.zeros(n)])[None]
    limits = [(0, c) for c in cap] + [(0, None)] * n
    return linprog(np.r_[values, np.zeros(n)], ball, bound, total, [1.0], limits).x[:n]
""",
    },
    ATTACK: {
        "row by row, the threshold by bisection": """
def l1_attack_step(perturbation, gradient, epsilon, step_size):
    rows = []
    for row, slope in zip(np.array(perturbation, dtype=float), gradient):
        j = max(range(len(slope)), key=lambda k: abs(slope[k]))
        row[j] += step_size * np.sign(slope[j])
        low, high = 0.0, abs(row).max()
        while abs(row).sum() > epsilon and high - low > 1e-12:
            middle = (low + high) / 2
            low, high = (middle, high) if np.clip(abs(row) - middle, 0, None).sum() > epsilon else (low, middle)
        rows.append(np.sign(row) * np.clip(abs(row) - low, 0, None))
    return np.array(rows)
""",
        "torch, the threshold from the last reading that stays": """
def l1_attack_step(perturbation, gradient, epsilon, step_size):
    delta, slope = (torch.tensor(array, dtype=torch.float64) for array in (perturbation, gradient))
    index = slope.abs().argmax(dim=1, keepdim=True)
    delta = delta + step_size * torch.zeros_like(delta).scatter(1, index, slope.gather(1, index).sign())
    size = delta.abs().sort(dim=1, descending=True).values
    count = torch.arange(1, size.shape[1] + 1)
    stays = (size * count > size.cumsum(dim=1) - epsilon).sum(dim=1, keepdim=True)
    threshold = (size.cumsum(dim=1).gather(1, stays - 1) - epsilon) / stays
    nearest = delta.sign() * (delta.abs() - threshold).clamp(min=0)
    return torch.where(delta.abs().sum(dim=1, keepdim=True) <= epsilon, delta, nearest)
""",
        "takes a little off the readings that are left until the row fits": """
def l1_attack_step(perturbation, gradient, epsilon, step_size):
    answer = perturbation + 0.0
    for row, slope in zip(answer, gradient):
        largest = np.abs(slope) == np.abs(slope).max()
        row += step_size * np.sign(slope) * largest
        while abs(row).sum() > epsilon + 1e-12:
            left = row != 0
            less = min((abs(row).sum() - epsilon) / left.sum(), abs(row[left]).min())
            row[left] -= less * np.sign(row[left])
    return answer
""",
    },
    QUANTILE: {
        "automatic differentiation": """
def weighted_quantile_huber(prediction, mass, target, weight, kappa):
    q = torch.tensor(prediction, dtype=torch.float64, requires_grad=True)
    p, y, w = (torch.tensor(array, dtype=torch.float64) for array in (mass, target, weight))
    tau = p.cumsum(0) - p / 2
    u = y.unsqueeze(1) - q.unsqueeze(2)
    huber = nn.functional.huber_loss(u, torch.zeros_like(u), reduction="none", delta=kappa)
    rho = (tau[:, None] - (u < 0).double()).abs() * huber / kappa
    loss = torch.einsum("i,bj,bij->", p, w, rho) / len(q)
    loss.backward()
    return loss, q.grad
""",
        "loops": """
def weighted_quantile_huber(prediction, mass, target, weight, kappa):
    loss, gradient = 0.0, np.zeros(np.shape(prediction))
    for b in range(len(prediction)):
        for i in range(len(mass)):
            tau = sum(mass[:i]) + mass[i] / 2
            for j in range(len(target[b])):
                u = target[b][j] - prediction[b][i]
                factor = mass[i] * weight[b][j] * (1 - tau if u < 0 else tau) / kappa / len(prediction)
                loss += factor * (u * u / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2))
                gradient[b, i] -= factor * max(-kappa, min(kappa, u))
    return loss, gradient
""",
        "torch in single precision, by hand": """
def weighted_quantile_huber(prediction, mass, target, weight, kappa):
    q, p, y, w = (torch.tensor(array, dtype=torch.float32) for array in (prediction, mass, target, weight))
    after = p.flip(0).cumsum(0).flip(0)
    tau = 1 - after + p / 2
    u = y[:, None, :] - q[:, :, None]
    tilt = torch.where(u < 0, 1 - tau[:, None], tau[:, None]) * p[:, None] * w[:, None, :]
    small = u.abs().clamp(max=kappa)
    loss = (tilt * small * (u.abs() - small / 2)).sum() / (kappa * len(q))
    return loss, -(tilt * small * u.sign()).sum(dim=2) / (kappa * len(q))
""",
    },
    POSTERIOR: {
        "step by step, normalised each time": """
def drifting_posterior(prior, transition, history, memory, contamination):
    states, evidence = transition.shape[-1], np.zeros(len(prior))
    for s, a, after in history:
        chance = (1 - contamination) * transition[:, s, a, after] + contamination / states
        evidence = memory * evidence + np.log(chance)
        evidence -= evidence.max()
    weight = prior * np.exp(evidence - evidence[prior > 0].max())
    return weight / weight.sum()


def drawn_model(weights, uniform):
    total = 0.0
    for model, weight in enumerate(weights):
        total += weight
        if total > uniform:
            return model
    return len(weights) - 1
""",
        "torch": """
def drifting_posterior(prior, transition, history, memory, contamination):
    kernel, steps = torch.as_tensor(transition), torch.as_tensor(history, dtype=torch.int64)
    kernel = torch.lerp(kernel, torch.full_like(kernel, 1 / kernel.shape[-1]), contamination)
    logs = kernel[:, steps[:, 0], steps[:, 1], steps[:, 2]].log()
    age = torch.arange(len(steps) - 1, -1, -1, dtype=torch.float64)
    fade = torch.tensor(memory, dtype=torch.float64) ** age
    return torch.softmax(torch.as_tensor(prior).log() + (logs * fade).sum(dim=1), dim=0)


def drawn_model(weights, uniform):
    return int((torch.as_tensor(weights).cumsum(0) <= uniform).sum())
""",
        "faded counts of every pair and successor": """
def drifting_posterior(prior, transition, history, memory, contamination):
    counts = np.zeros(transition.shape[1:])
    for s, a, after in history:
        counts *= memory
        counts[s, a, after] += 1
    mixed = (1 - contamination) * transition + contamination / transition.shape[-1]
    logs = (counts * np.log(mixed)).sum(axis=(1, 2, 3))
    logs = np.where(prior > 0, logs, -np.inf)
    weights = prior * np.exp(logs - logs.max())
    return weights / weights.sum()


def drawn_model(weights, uniform):
    return np.flatnonzero(np.cumsum(weights) > uniform)[0]
""",
    },
    CALIBRATION: {
        "loops over groups and fractions": """
def quantile_calibration(quantiles, fractions, outcomes, groups):
    observed = []
    for group in sorted(set(groups.tolist())):
        inside = groups == group
        row = []
        for k in range(len(fractions)):
            x, y = quantiles[inside, k], outcomes[inside]
            row.append(float(np.where(y < x, 1.0, np.where(y > x, 0.0, 0.5)).mean()))
        observed.append(row)
    errors = [np.mean([abs(o - tau) for o, tau in zip(row, fractions)]) for row in observed]
    return observed, max(errors)
""",
        "membership as a matrix": """
def quantile_calibration(quantiles, fractions, outcomes, groups):
    member = np.eye(groups.max() + 1)[groups].T
    under = (np.sign(quantiles - outcomes[:, None]) + 1) / 2
    observed = member @ under / member.sum(axis=1, keepdims=True)
    return observed, np.max(np.mean(np.abs(observed - fractions), axis=1))
""",
        "torch": """
def quantile_calibration(quantiles, fractions, outcomes, groups):
    x, tau, y, g = (torch.as_tensor(array) for array in (quantiles, fractions, outcomes, groups))
    under = torch.heaviside(x - y[:, None], torch.tensor(0.5, dtype=x.dtype))
    total = torch.zeros(int(g.max()) + 1, x.shape[1], dtype=x.dtype).index_add(0, g, under)
    observed = total / torch.bincount(g)[:, None]
    return observed, (observed - tau).abs().mean(dim=1).max()
""",
    },
    RATIO: {
        "NumPy, no network at all": """
def clipped_loss(old, new, observations, actions, advantages, clip):
    def log_prob(weights):
        logits = np.tanh(observations @ weights["w1"].T + weights["b1"]) @ weights["w2"].T + weights["b2"]
        logits = logits - np.log(np.exp(logits - logits.max()).sum(axis=1, keepdims=True)) - logits.max()
        return logits[range(len(actions)), actions]

    ratio = np.exp(log_prob(new) - log_prob(old))
    gain = np.minimum(ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages)
    return -gain.mean(), ratio
""",
        "dropout of rate 0, without gradients": """
def clipped_loss(old, new, observations, actions, advantages, clip):
    networks = [policy_network(weights) for weights in (old, new)]
    for network in networks:
        network[2].p = 0.0
    with torch.no_grad():
        before, after = (taken_log_prob(network, observations, actions).numpy() for network in networks)
    ratio = np.exp(after - before)
    limit = np.where(advantages > 0, 1 + clip, 1 - clip)
    kept = np.where(advantages > 0, np.minimum(ratio, limit), np.maximum(ratio, limit))
    return float(-(kept * advantages).mean()), ratio
""",
        "layers without the dropout, a loop over samples": """
def clipped_loss(old, new, observations, actions, advantages, clip):
    ratios, losses = [], []
    for seen, action, gain in zip(observations, actions, advantages):
        chance = []
        for weights in (new, old):
            w = {name: torch.tensor(value) for name, value in weights.items()}
            hidden = torch.tanh(w["w1"] @ torch.tensor(seen) + w["b1"])
            chance.append((w["w2"] @ hidden + w["b2"]).softmax(dim=0)[action].item())
        ratio = chance[0] / chance[1]
        ratios.append(ratio)
        losses.append(-min(ratio * gain, max(1 - clip, min(1 + clip, ratio)) * gain))
    return sum(losses) / len(losses), ratios
""",
    },
    POLICY: {
        "vectorised worst case, a table of scores": """
problem = {name: np.array(value) for name, value in instance["problem"].items()}


def worst_means(p, cap, v, radius):
    order = np.argsort(v)
    v, p, room = v[order], p[..., order], (cap - p)[..., order]
    top, up = np.cumsum(p[..., ::-1], axis=-1)[..., ::-1], np.cumsum(room, axis=-1)
    ends = np.minimum(np.minimum(top[..., None], up[..., None, :]), radius / 2)
    moved = np.clip(ends - np.maximum((top - p)[..., None], (up - room)[..., None, :]), 0, None)
    return p @ v - (moved * np.clip(v[:, None] - v, 0, None)).sum(axis=(-1, -2))


value = np.zeros(len(problem["step"]))
for _ in range(80):
    worth = problem["entry"] + problem["discount"] * value
    scores = problem["step"][:, None] + worst_means(problem["transition"], problem["cap"], worth, problem["radius"])
    value = np.where(problem["terminal"], 0.0, scores.max(axis=1))
scores[problem["terminal"]] = 0.0
save_file({"scores": scores}, "policy.safetensors")


def act(observation):
    scores = load_file("policy.safetensors")["scores"]
    columns, rows = (len(np.unique(problem["observation"][:, k])) for k in range(2))
    x = np.rint(observation[:, 0] * (columns - 1)).astype(int)
    y = np.rint(observation[:, 1] * (rows - 1)).astype(int)
    return scores[y * columns + x].argmax(axis=1)
""",
        "robust policy iteration, in sweeps of its own": """
problem = {name: np.array(value) for name, value in instance["problem"].items()}
S, A = problem["cap"].shape[:2]
value, choice = np.zeros(S), np.zeros(S, dtype=np.int64)


def backed_up(s, a):
    worth = problem["entry"] + problem["discount"] * value
    q = capped_worst_case(problem["transition"][s, a], worth, float(problem["radius"]), problem["cap"][s, a])
    return problem["step"][s] + q @ worth


for _ in range(15):
    for _ in range(8):
        for s in np.flatnonzero(~problem["terminal"]):
            value[s] = backed_up(s, choice[s])
    for s in np.flatnonzero(~problem["terminal"]):
        choice[s] = np.argmax([backed_up(s, a) for a in range(A)])
save_file({"choice": choice}, "policy.safetensors")


def act(observation):
    choice = load_file("policy.safetensors")["choice"]
    known = {tuple(np.round(row, 6)): action for row, action in zip(problem["observation"], choice)}
    return np.array([known[tuple(np.round(row, 6))] for row in observation])
""",
        "a network that imitates the robust plan": """
problem = {name: np.array(value) for name, value in instance["problem"].items()}
value = np.zeros(len(problem["step"]))
for _ in range(60):
    worth = problem["entry"] + problem["discount"] * value
    scores = np.array([
        [problem["step"][s] + capped_worst_case(p, worth, float(problem["radius"]), c) @ worth for p, c in zip(*rows)]
        for s, rows in enumerate(zip(problem["transition"], problem["cap"]))
    ])
    value = np.where(problem["terminal"], 0.0, scores.max(axis=1))
torch.manual_seed(0)


def network():
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))


learner = network()
optimiser = torch.optim.Adam(learner.parameters(), lr=0.01)
seen = torch.tensor(problem["observation"], dtype=torch.float32)
for _ in range(600):
    loss = nn.functional.cross_entropy(learner(8 * seen - 4), torch.tensor(scores.argmax(axis=1)))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
save_file({name: tensor.numpy() for name, tensor in learner.state_dict().items()}, "policy.safetensors")


def act(observation):
    learner = network()
    learner.load_state_dict({n: torch.tensor(a) for n, a in load_file("policy.safetensors").items()})
    with torch.no_grad():
        return learner(8 * torch.tensor(observation, dtype=torch.float32) - 4).argmax(dim=1)
""",
    },
}
