"""Wrong and right solutions of the assignment `multi-agent`: mutants lose their task, alternatives keep it."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the course, or the private folder once the sources were split off
SOURCES = next(ROOT / folder for folder in ("notebooks/assignments", "sources") if (ROOT / folder).is_dir())
NOTEBOOK = SOURCES / "multi_agent.ipynb"
CELLS = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}


def edited(task: str, *changes: tuple[str, str]) -> str:
    """The reference solution of a task with each first text replaced by the second; the first has to be there."""
    source = CELLS[f"multi-agent-{task}"]
    for old, new in changes:
        assert old in source, f"{task}: {old!r} is not in the solution"
        source = source.replace(old, new)
    return source


MUTANTS: dict[str, dict[str, str]] = {
    "nash-conv": {
        "who deviates sees both types": """
def typed_nash_conv(payoffs, prior, first, second):
    of_first = np.einsum("xyab,yb->xya", payoffs[0], second)
    of_second = np.einsum("xyab,xa->xyb", payoffs[1], first)
    gain = of_first.max(axis=2) - (first[:, None] * of_first).sum(axis=2)
    return float((prior * (gain + of_second.max(axis=2) - (second[None] * of_second).sum(axis=2))).sum())
""",
        "one action for all types": edited(
            "nash-conv",
            ("of_first.max(axis=1).sum()", "of_first.sum(axis=0).max()"),
            ("of_second.max(axis=1).sum()", "of_second.sum(axis=0).max()"),
        ),
        "all types equally likely": edited(
            "nash-conv", ("worth = prior[:, :, None, None] * ", "worth = 1 / prior.size * ")
        ),
        "types taken for independent": edited(
            "nash-conv", ("worth = prior", "prior = np.outer(prior.sum(1), prior.sum(0))\n    worth = prior")
        ),
        "each type counts once": edited(
            "nash-conv",
            ("worth[0], second)", "worth[0], second) / (prior.sum(1)[:, None] + 1e-12)"),
            ("worth[1], first)", "worth[1], first) / (prior.sum(0)[:, None] + 1e-12)"),
        ),
        "only the first player": edited(
            "nash-conv", ("gain + of_second.max(axis=1).sum() - (second * of_second).sum()", "gain")
        ),
        "the larger gain in place of the sum": edited(
            "nash-conv",
            ("gain + of_second.max(axis=1).sum()", "max(gain, of_second.max(axis=1).sum()"),
            ("- (second * of_second).sum())", "- (second * of_second).sum()))"),
        ),
        "half the sum": edited("nash-conv", ("return float(", "return 0.5 * float(")),
        "one matrix for both": edited("nash-conv", ("worth[1]", "worth[0]")),
        "against the other's likeliest action": edited(
            "nash-conv",
            ("    of_first", "    second = np.eye(second.shape[1])[second.argmax(1)]\n    of_first"),
        ),
        "both deviate at once": edited(
            "nash-conv",
            ("    of_second = ", "    first_new = np.eye(first.shape[1])[of_first.argmax(1)]\n    of_second = "),
            ("worth[1], first)", "worth[1], first_new)"),
        ),
    },
    "mixer": {
        "absolute weights": edited("mixer", ("np.logaddexp(0.0, raw_weights)", "abs(raw_weights)")),
        "free signs": edited("mixer", ("np.logaddexp(0.0, raw_weights)", "raw_weights")),
        "rectified weights": edited("mixer", ("np.logaddexp(0.0, raw_weights)", "np.maximum(raw_weights, 0.0)")),
        "softplus that overflows": edited("mixer", ("np.logaddexp(0.0, raw_weights)", "np.log1p(np.exp(raw_weights))")),
        "softmax weights": edited(
            "mixer",
            (
                "np.logaddexp(0.0, raw_weights)",
                "np.exp(raw_weights - np.logaddexp.reduce(raw_weights, axis=-1, keepdims=True))",
            ),
        ),
        "minimum of maxima": edited(
            "mixer",
            (".argmin(axis=2)", ".argmax(axis=2)"),
            ("planes.min(axis=2).argmax(axis=1)", "planes.max(axis=2).argmin(axis=1)"),
        ),
        "maximum of all planes": edited(
            "mixer", (".argmin(axis=2)", ".argmax(axis=2)"), ("planes.min(axis=2)", "planes.max(axis=2)")
        ),
        "mean over groups": edited(
            "mixer", ("return planes[rows, group, unit]", "return planes.min(axis=2).mean(axis=1)")
        ),
        "no bias": edited("mixer", (" + bias", "")),
        "bias inside the softplus": edited(
            "mixer", ("(0.0, raw_weights)", "(0.0, raw_weights + bias[..., None])"), (" + bias\n", "\n")
        ),
        "credits of the raw weights": edited(
            "mixer", (", slopes[rows, group, unit]", ", raw_weights[rows, group, unit]")
        ),
        "credits are the parts of the value": edited(
            "mixer", (", slopes[rows, group, unit]", ", slopes[rows, group, unit] * utilities")
        ),
        "credits sum to 1": edited(
            "mixer",
            (
                ", slopes[rows, group, unit]",
                ", slopes[rows, group, unit] / slopes[rows, group, unit].sum(axis=1, keepdims=True)",
            ),
        ),
        "credits averaged over planes": edited("mixer", (", slopes[rows, group, unit]", ", slopes.mean(axis=(1, 2))")),
    },
    "gumbel": {
        "noise that does not know the action": edited(
            "gumbel",
            (
                "-np.log(np.exp(-largest)[:, None] - np.exp(-logits) * np.log(uniform))\n    z[rows, action] = largest",
                "logits - np.log(-np.log(uniform))",
            ),
        ),
        "the largest around its own logit": edited("gumbel", ("np.log(total)", "logits[rows, action]")),
        "the largest over forbidden actions too": edited(
            "gumbel", ("np.where(mask, np.exp(logits), 0.0)", "np.exp(logits)")
        ),
        "the others are not truncated": edited("gumbel", ("np.exp(-largest)[:, None] - ", "-")),
        "the others are cut off": edited(
            "gumbel",
            (
                "-np.log(np.exp(-largest)[:, None] - np.exp(-logits) * np.log(uniform))",
                "np.minimum(logits - np.log(-np.log(uniform)), largest[:, None])",
            ),
        ),
        "the others forget their logits": edited("gumbel", ("np.exp(-logits) * np.log(uniform)", "np.log(uniform)")),
        "logits with the wrong sign": edited("gumbel", ("np.exp(-logits) * ", "np.exp(logits) * ")),
        "multiplied by the temperature": edited("gumbel", ("-np.inf) / temperature", "-np.inf) * temperature")),
        "no temperature": edited("gumbel", ("-np.inf) / temperature", "-np.inf)")),
        "forbidden actions keep their share": edited("gumbel", ("np.where(mask, z, -np.inf)", "z")),
        "one-hot": edited("gumbel", ("weight / weight.sum(axis=1, keepdims=True)", "np.eye(logits.shape[1])[action]")),
        "the noise in place of the sum": edited(
            "gumbel", ("np.where(mask, z, -np.inf)", "np.where(mask, z - logits, -np.inf)")
        ),
        "softmax without noise": edited("gumbel", ("np.where(mask, z, -np.inf)", "np.where(mask, logits, -np.inf)")),
    },
    "baseline": {
        "single advantages added": """
def pair_advantages(q, policies, action):
    batch, agents, _ = policies.shape
    single = np.zeros((batch, agents))
    for row in range(batch):
        for i in range(agents):
            line = np.moveaxis(q[row], i, -1)[tuple(np.delete(action[row], i))]
            single[row, i] = line[action[row, i]] - policies[row, i] @ line
    both = single[:, :, None] + single[:, None]
    both[:, np.arange(agents), np.arange(agents)] = single
    return both
""",
        "only single advantages": edited("baseline", ("mean(row, (i, j))", "mean(row, (i,))")),
        "the diagonal is empty": edited("baseline", ("mean(row, (i, j))", "(mean(row, (i, j)) if i != j else value)")),
        "all agents averaged out": edited("baseline", ("mean(row, (i, j))", "mean(row, range(agents))")),
        "the others averaged out": edited("baseline", ("mean(row, (i, j))", "mean(row, set(range(agents)) - {i, j})")),
        "uniform in place of the policies": edited(
            "baseline", ("(policies if", "(np.full_like(policies, 1 / actions) if")
        ),
        "the likeliest actions": edited(
            "baseline", ("    taken = ", "    policies = np.eye(actions)[policies.argmax(2)]\n    taken = ")
        ),
        "the best in place of the mean": """
def pair_advantages(q, policies, action):
    batch, agents, _ = policies.shape
    result = np.zeros((batch, agents, agents))
    for row in range(batch):
        for i in range(agents):
            for j in range(agents):
                kept = tuple(slice(None) if k in (i, j) else action[row, k] for k in range(agents))
                result[row, i, j] = q[row][tuple(action[row])] - q[row][kept].max()
    return result
""",
        "one policy for all": edited(
            "baseline", ("taken)[row, agent]", "taken)[row, 0 if agent in averaged else agent]")
        ),
        "the sign turned round": edited(
            "baseline", ("value - mean", "mean"), ("(row, (i, j))", "(row, (i, j)) - value")
        ),
        "baselines without the value": edited("baseline", ("value - mean", "mean")),
        "agents in the wrong order": edited(
            "baseline",
            (
                "(policies if agent in averaged else taken)[row, agent]",
                "(policies if agents - 1 - agent in averaged else taken)[row, agents - 1 - agent]",
            ),
        ),
    },
    "message": {
        "nats": edited("message", ("np.log2(ratio)", "np.log(ratio)")),
        "what the listener sees is forgotten": """
def message_effect(prior, speaker, listener, payoff):
    joint = np.einsum("xy,xm,yma->ma", prior, speaker, listener)
    base = np.outer(joint.sum(1), joint.sum(0))
    influence = (joint * np.log2(np.where(joint > 0, joint, 1) / np.where(joint > 0, base, 1))).sum()
    words = np.einsum("xy,xm->m", prior, speaker)
    value = np.einsum("xy,xm,yma,xya->", prior, speaker - words, listener, payoff)
    return float(influence), float(value)
""",
        "messages independent of what the listener sees": edited(
            "message", ("  # p(y, m)\n", "\n    joint = np.outer(joint.sum(axis=1), joint.sum(axis=0))\n")
        ),
        "all messages equally likely": edited(
            "message", ("joint.sum(axis=0), listener", "np.full(speaker.shape[1], 1 / speaker.shape[1]), listener")
        ),
        "scrambled within what the listener sees": edited(
            "message",
            (
                'np.einsum("xy,m,yma,xya->", prior, joint.sum(axis=0), listener, payoff)',
                'np.einsum("xy,ym,yma,xya->", prior, joint / np.maximum(seen[..., 0], 1e-300), listener, payoff)',
            ),
        ),
        "cut in place of scrambled": edited(
            "message", ("joint.sum(axis=0), listener", "np.eye(speaker.shape[1])[0], listener")
        ),
        "value of the open channel": edited("message", ("heard - scrambled", "heard")),
        "nothing is not a number": edited(
            "message",
            (
                "np.where(happens, listener * seen, 1.0) / np.where(happens, mean, 1.0)",
                "listener * seen / mean",
            ),
        ),
        "divergence the other way round": edited(
            "message",
            (
                "influence = (with_action * np.log2(ratio)).sum()",
                "influence = -(joint[:, :, None] * (mean / np.maximum(seen, 1e-300)) * np.log2(ratio)).sum()",
            ),
        ),
        "information about the type": """
def message_effect(prior, speaker, listener, payoff):
    joint = prior.sum(1)[:, None] * speaker
    base = np.outer(joint.sum(1), joint.sum(0))
    influence = (joint * np.log2(np.where(joint > 0, joint, 1) / np.where(joint > 0, base, 1))).sum()
    value = np.einsum("xy,xm,yma,xya->", prior, speaker - joint.sum(0), listener, payoff)
    return float(influence), float(value)
""",
        "all places equally likely": edited(
            "message", ("influence = (with_action", "influence = (with_action / np.maximum(seen, 1e-300) / len(seen)")
        ),
    },
    "silent-bug": {
        "nothing mended": "mended_target = original_target",
        "soft actions": edited(
            "silent-bug",
            ("    choice = (next_logits + noise).argmax(axis=-1)\n", ""),
            ("np.eye(next_logits.shape[-1])[choice]", "softmax(next_logits + noise)"),
        ),
        "noise on probabilities": edited("silent-bug", ("(next_logits + noise)", "(softmax(next_logits) + noise)")),
        "a time limit ends the bootstrap": edited("silent-bug", ("~terminated", "~(terminated | truncated)")),
        "no noise": edited("silent-bug", ("(next_logits + noise)", "next_logits")),
        "expected actions": edited(
            "silent-bug",
            ("    choice = (next_logits + noise).argmax(axis=-1)\n", ""),
            ("np.eye(next_logits.shape[-1])[choice]", "softmax(next_logits)"),
        ),
        "only the time limit mended": """
def mended_target(next_logits, noise, reward, terminated, truncated, weights, discount):
    value = softmax(softmax(next_logits) + noise).reshape(len(reward), -1) @ weights.T
    return reward + discount * ~terminated[:, None] * value
""",
        "the game never ends": edited("silent-bug", (" * ~terminated[:, None]", "")),
        "noise of the wrong sign": edited("silent-bug", ("(next_logits + noise)", "(next_logits - noise)")),
        "one reward for all": edited("silent-bug", ("return reward +", "return reward.mean(axis=1, keepdims=True) +")),
        "one critic for all": edited("silent-bug", ("@ weights.T", "@ weights.T.mean(axis=1, keepdims=True)")),
        "noise on logarithms of logits": edited(
            "silent-bug", ("(next_logits + noise)", "(np.log(softmax(next_logits) + 0.1) + noise)")
        ),
    },
    "training": {
        "uniform": """
def act(observation, agent):
    size = MESSAGES * ACTIONS if agent == 0 else ACTIONS
    return np.full((len(observation), size), 1 / size)
""",
        "the speaker never learns": edited(
            "training", ("for _ in range(400)", "for _ in range(1)"), ("if reached <= value + 1e-12:", "if True:")
        ),
        "the worst of the runs": edited("training", ("max(runs", "min(runs")),
        "a listener that is deaf": edited(
            "training", ("observation[:, PLACES:].argmax(axis=1)", "np.zeros(len(observation), int)")
        ),
        "the best without messages": """
from itertools import product

worth = prior[:, :, None, None] * payoff
best = -np.inf
for chosen in product(range(ACTIONS), repeat=TYPES):
    table = sum(worth[x, :, a] for x, a in enumerate(chosen))
    if table.max(axis=1).sum() > best:
        best, speaker, listener = table.max(axis=1).sum(), np.array(chosen), table.argmax(axis=1)
save_file({"speaker": speaker, "listener": listener}, "policy.safetensors")


def act(observation, agent):
    tables = load_file("policy.safetensors")
    if agent == 0:
        return np.eye(MESSAGES * ACTIONS)[tables["speaker"][observation.argmax(axis=1)]]
    return np.eye(ACTIONS)[tables["listener"][observation[:, :PLACES].argmax(axis=1)]]
""",
        "words swapped for the speaker": edited(
            "training",
            ('tables["speaker"].reshape', 'tables["speaker"][:, ::-1].reshape'),
        ),
        "one answer for all types": edited(
            "training", ("[observation.argmax(axis=1)]", "[np.zeros(len(observation), int)]")
        ),
        "softened policies": edited(
            "training",
            (
                'return tables["listener"][place, message]',
                'return 0.7 * tables["listener"][place, message] + 0.3 / ACTIONS',
            ),
        ),
        "the listener trained alone": edited(
            "training", ('save_file({"speaker": speaker', 'save_file({"speaker": uniform[0]')
        ),
        "both policies of one head": edited(
            "training",
            ('tables["listener"][place, message]', 'tables["speaker"].sum(axis=1)[np.minimum(place, TYPES - 1)]'),
        ),
        "numbers that are no probabilities": edited(
            "training", ('return tables["listener"][place', 'return 3 * tables["listener"][place')
        ),
        "the file is not written": edited(
            "training", ('save_file({"speaker": speaker, "listener": listener}, "policy.safetensors")\n', "")
        ),
        "learnt from one situation": edited(
            "training",
            (
                "def answers(",
                "payoff = np.broadcast_to(payoff[:1, :1], payoff.shape)\n\n\ndef answers(",
            ),
        ),
    },
}

ALTERNATIVES: dict[str, dict[str, str]] = {
    "nash-conv": {
        "all pure policies": """
from itertools import product


def typed_nash_conv(payoffs, prior, first, second):
    def value(player, one, two):
        return np.einsum("xy,xa,yb,xyab->", prior, one, two, payoffs[player])

    def pure(types, actions):
        return (np.eye(actions)[list(choice)] for choice in product(range(actions), repeat=types))

    best_first = max(value(0, policy, second) for policy in pure(*first.shape))
    best_second = max(value(1, first, policy) for policy in pure(*second.shape))
    return best_first + best_second - value(0, first, second) - value(1, first, second)
""",
        "loops": """
def typed_nash_conv(payoffs, prior, first, second):
    X, Y, A, B = payoffs.shape[1:]
    total = 0.0
    for x in range(X):
        worth = [
            sum(prior[x, y] * second[y, b] * payoffs[0, x, y, a, b] for y in range(Y) for b in range(B))
            for a in range(A)
        ]
        total += max(worth) - sum(first[x, a] * worth[a] for a in range(A))
    for y in range(Y):
        worth = [
            sum(prior[x, y] * first[x, a] * payoffs[1, x, y, a, b] for x in range(X) for a in range(A))
            for b in range(B)
        ]
        total += max(worth) - sum(second[y, b] * worth[b] for b in range(B))
    return total
""",
        "torch": """
def typed_nash_conv(payoffs, prior, first, second):
    payoffs, prior, first, second = (torch.as_tensor(np.ascontiguousarray(x)) for x in (payoffs, prior, first, second))
    gains = []
    for own, other, table, p in (
        (first, second, payoffs[0], prior), (second, first, payoffs[1].permute(1, 0, 3, 2), prior.T)
    ):
        worth = (p[:, :, None] * (table * other[None, :, None, :]).sum(-1)).sum(1)
        gains.append((worth.max(dim=1).values - (own * worth).sum(1)).sum())
    return gains[0] + gains[1]
""",
    },
    "mixer": {
        "loops": """
def plane_mixer(utilities, raw_weights, bias):
    values, credits = [], []
    for q, weights, offsets in zip(utilities, raw_weights, bias):
        groups = []
        for group, extra in zip(weights, offsets):
            slopes = [[max(w, 0) + np.log1p(np.exp(-abs(w))) for w in unit] for unit in group]
            planes = [(float(np.dot(s, q)) + c, s) for s, c in zip(slopes, extra)]
            groups.append(min(planes, key=lambda plane: plane[0]))
        value, slope = max(groups, key=lambda plane: plane[0])
        values.append(float(value))
        credits.append([float(s) for s in slope])
    return values, credits
""",
        "torch, credits by differentiation": """
def plane_mixer(utilities, raw_weights, bias):
    q = torch.tensor(utilities, requires_grad=True)
    slopes = torch.nn.functional.softplus(torch.tensor(raw_weights), threshold=40)
    planes = (slopes * q[:, None, None, :]).sum(-1) + torch.tensor(bias)
    value = planes.amin(2).amax(1)
    (credit,) = torch.autograd.grad(value.sum(), q)
    return value.detach(), credit
""",
        "gathered": """
def plane_mixer(utilities, raw_weights, bias):
    slopes = np.where(raw_weights > 0, raw_weights, 0) + np.log1p(np.exp(-abs(raw_weights)))
    planes = (slopes @ utilities[:, None, :, None])[..., 0] + bias
    unit = planes.argmin(-1, keepdims=True)
    least = np.take_along_axis(planes, unit, -1)[..., 0]
    slope = np.take_along_axis(slopes, unit[..., None], 2)[:, :, 0]
    group = least.argmax(-1)[:, None]
    return np.take_along_axis(least, group, 1)[:, 0], np.take_along_axis(slope, group[..., None], 1)[:, 0]
""",
    },
    "gumbel": {
        "loops": """
def hindsight_softmax(logits, mask, action, uniform, temperature):
    result = np.zeros_like(logits)
    for i in range(len(logits)):
        allowed = [b for b in range(logits.shape[1]) if mask[i, b]]
        level = np.log(sum(np.exp(logits[i, b]) for b in allowed))
        top = level - np.log(-np.log(uniform[i, action[i]]))
        for b in allowed:
            z = top
            if b != action[i]:
                z = logits[i, b] - np.log(np.exp(logits[i, b] - top) - np.log(uniform[i, b]))
            result[i, b] = np.exp((z - top) / temperature)
    return result / result.sum(axis=1, keepdims=True)
""",
        "torch": """
def hindsight_softmax(logits, mask, action, uniform, temperature):
    logits, uniform = torch.as_tensor(logits), torch.as_tensor(uniform)
    allowed, taken = torch.as_tensor(mask), torch.as_tensor(action).long()[:, None]
    level = logits.masked_fill(~allowed, -torch.inf).logsumexp(1, keepdim=True)
    exponential = -uniform.log()
    top = level - exponential.gather(1, taken).log()
    z = -(torch.exp(-top) + exponential * torch.exp(-logits)).log()
    z = z.scatter(1, taken, top).masked_fill(~allowed, -torch.inf)
    return (z / temperature).softmax(1)
""",
        "arrival times": """
def hindsight_softmax(logits, mask, action, uniform, temperature):
    # exp(-z) is an exponential time: the taken action arrives first, at the rate of all together
    rate = np.exp(logits) * mask
    wait = -np.log(uniform)
    first = np.take_along_axis(wait, action[:, None], 1) / rate.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        time = first + np.where(np.arange(logits.shape[1]) == action[:, None], 0.0, wait / rate)
    share = np.where(mask, (first / time) ** (1 / temperature), 0.0)
    return share / share.sum(1, keepdims=True)
""",
    },
    "baseline": {
        "loops over joint actions": """
from itertools import product


def pair_advantages(q, policies, action):
    batch, n, A = policies.shape
    result = np.zeros((batch, n, n))
    for r in range(batch):
        here = q[r][tuple(action[r])]
        for i in range(n):
            for j in range(n):
                mean = 0.0
                for pair in product(range(A), repeat=2 if i != j else 1):
                    joint, chance = list(action[r]), 1.0
                    for agent, choice in zip((i, j), pair):
                        joint[agent] = choice
                        chance *= policies[r, agent, choice]
                    mean += chance * q[r][tuple(joint)]
                result[r, i, j] = here - mean
    return result
""",
        "torch": """
def pair_advantages(q, policies, action):
    q, policies = torch.as_tensor(q), torch.as_tensor(policies)
    n, taken = policies.shape[1], torch.nn.functional.one_hot(torch.as_tensor(action), policies.shape[2]).to(q.dtype)

    def value(averaged):
        table = q
        for agent in range(n):
            row = policies[:, agent] if agent in averaged else taken[:, agent]
            table = (table * row.reshape(row.shape + (1,) * (table.dim() - 2))).sum(1)
        return table

    base = value([])
    return torch.stack([torch.stack([base - value([i, j]) for j in range(n)], 1) for i in range(n)], 1)
""",
        "einsum": """
def pair_advantages(q, policies, action):
    letters, n = "abcdefgh", policies.shape[1]
    taken = np.eye(policies.shape[2])[action]
    formula = "z" + letters[:n] + "," + ",".join("z" + letter for letter in letters[:n]) + "->z"

    def value(averaged):
        return np.einsum(formula, q, *[(policies if k in averaged else taken)[:, k] for k in range(n)])

    table = [[value(()) - value((i, j)) for j in range(n)] for i in range(n)]
    return np.moveaxis(np.array(table), 2, 0)
""",
    },
    "message": {
        "entropies": """
def message_effect(prior, speaker, listener, payoff):
    def entropy(p):
        p = p[p > 0]
        return -(p * np.log2(p)).sum()

    joint = np.einsum("xy,xm,yma->yma", prior, speaker, listener)
    bits = entropy(joint.sum(2)) + entropy(joint.sum(1)) - entropy(joint) - entropy(joint.sum((1, 2)))
    words = prior.sum(1) @ speaker
    difference = speaker - words
    return bits, np.einsum("xy,xm,yma,xya->", prior, difference, listener, payoff)
""",
        "loops": """
def message_effect(prior, speaker, listener, payoff):
    X, Y = prior.shape
    M, A = listener.shape[1:]
    words = [sum(prior[x].sum() * speaker[x, m] for x in range(X)) for m in range(M)]
    bits, open_, mixed = 0.0, 0.0, 0.0
    for y in range(Y):
        mass = [sum(prior[x, y] * speaker[x, m] for x in range(X)) for m in range(M)]
        for a in range(A):
            mean = sum(mass[m] * listener[y, m, a] for m in range(M))
            for m in range(M):
                chance = mass[m] * listener[y, m, a]
                if chance > 0:
                    bits += chance * (np.log2(chance * sum(mass)) - np.log2(mass[m] * mean))
                for x in range(X):
                    open_ += prior[x, y] * speaker[x, m] * listener[y, m, a] * payoff[x, y, a]
                    mixed += prior[x, y] * words[m] * listener[y, m, a] * payoff[x, y, a]
    return bits, open_ - mixed
""",
        "torch": """
def message_effect(prior, speaker, listener, payoff):
    prior, speaker, listener, payoff = (torch.as_tensor(x) for x in (prior, speaker, listener, payoff))
    joint = prior.T @ speaker
    given = joint / joint.sum(1, keepdim=True).clamp(min=1e-300)
    mean = (given[..., None] * listener).sum(1, keepdim=True)
    bits = torch.special.xlogy(listener, listener) - torch.special.xlogy(listener, mean)
    influence = (joint[..., None] * bits).nan_to_num(0.0, 0.0, 0.0).sum() / np.log(2)
    worth = torch.einsum("xy,xya,yma->xym", prior, payoff, listener)
    words = joint.sum(0)
    return influence, (worth * speaker[:, None]).sum() - (worth * words).sum()
""",
    },
    "silent-bug": {
        "loops": """
def mended_target(next_logits, noise, reward, terminated, truncated, weights, discount):
    result = np.array(reward)
    batch, agents, actions = next_logits.shape
    for row in range(batch):
        if terminated[row]:
            continue
        seen = np.zeros(agents * actions)
        for j in range(agents):
            seen[j * actions + int(np.argmax(next_logits[row, j] + noise[row, j]))] = 1.0
        for i in range(agents):
            result[row, i] += discount * float(weights[i] @ seen)
    return result
""",
        "torch": """
def mended_target(next_logits, noise, reward, terminated, truncated, weights, discount):
    perturbed = torch.as_tensor(next_logits).log_softmax(-1) + torch.as_tensor(noise)
    action = torch.nn.functional.one_hot(perturbed.argmax(-1), perturbed.shape[-1]).double().flatten(1)
    value = action @ torch.as_tensor(weights).T
    return torch.as_tensor(reward) + discount * value.masked_fill(torch.as_tensor(terminated)[:, None], 0.0)
""",
        "weights looked up": """
def mended_target(next_logits, noise, reward, terminated, truncated, weights, discount):
    agents, actions = next_logits.shape[1:]
    column = np.arange(agents) * actions + np.argmax(next_logits + noise, axis=2)
    value = weights[:, column].sum(axis=2).T
    return np.where(terminated[:, None], reward, reward + discount * value)
""",
    },
    "training": {
        "all strategies of the speaker": """
from itertools import product

worth = prior[:, :, None, None] * payoff
best = -np.inf
for chosen in product(range(MESSAGES * ACTIONS), repeat=TYPES):
    heard = np.zeros((PLACES, MESSAGES, ACTIONS))
    for x, choice in enumerate(chosen):
        heard[:, choice // ACTIONS] += worth[x, :, choice % ACTIONS]
    if heard.max(axis=2).sum() > best:
        best, speaker, listener = heard.max(axis=2).sum(), np.array(chosen), heard.argmax(axis=2)
save_file({"speaker": speaker, "listener": listener}, "policy.safetensors")


def act(observation, agent):
    tables = load_file("policy.safetensors")
    if agent == 0:
        return np.eye(MESSAGES * ACTIONS)[tables["speaker"][observation.argmax(axis=1)]]
    place, message = observation[:, :PLACES].argmax(axis=1), observation[:, PLACES:].argmax(axis=1)
    return np.eye(ACTIONS)[tables["listener"][place, message]]
""",
        "policy gradients from many starts, torch": """
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

generator = torch.Generator().manual_seed(1)
runs = 128
worth = torch.as_tensor(prior[:, :, None, None] * payoff)
says = torch.randn((runs, TYPES, MESSAGES * ACTIONS), generator=generator, dtype=torch.float64).requires_grad_()
hears = torch.randn((runs, PLACES, MESSAGES, ACTIONS), generator=generator, dtype=torch.float64).requires_grad_()
optimiser = torch.optim.Adam([says, hears], lr=0.1)
for _ in range(300):
    speaker = says.softmax(-1).reshape(runs, TYPES, MESSAGES, ACTIONS)
    value = torch.einsum("rxma,xyab,rymb->r", speaker, worth, hears.softmax(-1))
    optimiser.zero_grad()
    (-value.sum()).backward()
    optimiser.step()
best = int(value.argmax())
save_tensors({"says": says[best].detach() * 20, "hears": hears[best].detach() * 20}, "policy.safetensors")


def act(observation, agent):
    tables, seen = load_tensors("policy.safetensors"), torch.as_tensor(observation)
    if agent == 0:
        return (seen @ tables["says"]).softmax(-1)
    place, message = seen[:, :PLACES].argmax(1), seen[:, PLACES:].argmax(1)
    return tables["hears"][place, message].softmax(-1)
""",
        "the other one begins": edited(
            "training",
            (
                "answers(generator.random((TYPES, MESSAGES, ACTIONS)), generator)",
                "answers(np.einsum('xy,ymb,xyab->xma', prior, generator.dirichlet(np.full(ACTIONS, 0.3), "
                "size=(PLACES, MESSAGES)), payoff), generator)",
            ),
        ),
        "float32": edited(
            "training",
            (
                '{"speaker": speaker, "listener": listener}',
                '{"speaker": speaker.astype(np.float32), "listener": listener.astype(np.float32)}',
            ),
        ),
    },
}
