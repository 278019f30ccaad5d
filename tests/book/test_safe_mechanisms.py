"""What the page on safety mechanisms says about code, tests and numbers is true."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ca14lib.agents.safe.learned_shield import violation_bounds
from ca14lib.agents.safe.log_barrier import log_barrier_weight
from ca14lib.agents.safe.shield import BudgetShield, ModelShield
from ca14lib.environments.reactor import ReactorVector
from ca14lib.environments.safe_grid import SafeGridVector
from tests.agents.safe.test_control_barrier import HEATING, hottest, reactor_barrier
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "safe" / "mechanisms.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_planted_faults_that_the_page_names_exist():
    rows = re.findall(r"^\| `([\w-]+)` \| `(test_\w+\.py)` \|", PAGE, re.MULTILINE)
    assert len(rows) >= 15
    files = {path.name: path.read_text("utf8") for folder in ("agents/safe", "data")
             for path in (ROOT / "tests" / folder).glob("test_*.py")}  # fmt: skip
    for name, file in rows:
        assert re.search(rf"^def {name}\(patch\)|\"{name}\":", files[file], re.MULTILINE), name
    for path in re.findall(r"[` ](tests/[\w/]+\.py)", PAGE):
        assert (ROOT / path).exists(), path


def test_a_shield_that_looks_one_step_ahead_lets_half_of_the_carts_crash():
    module = solution("mechanisms_momentum")
    assert (module.crashes(False), module.crashes(True)) == (525, 0)
    short, full = (module.allowed(look)[1].reshape(module.POSITIONS, module.SPEEDS) for look in (False, True))
    marked = np.argwhere(short & ~full)
    assert sorted(map(tuple, marked.tolist())) == [(5, 4), (6, 4), (7, 4), (8, 3)]
    for speed in range(module.SPEEDS):
        last = np.flatnonzero(full[:-1, speed]).max()
        assert last == 11 - max(speed * (speed - 1) // 2, 0) - 1


def test_the_unmasked_log_probability_ends_at_the_wrong_mixture():
    module = solution("mechanisms_masked_log_prob")
    start = np.array([1.0, 0.0, 2.0])
    numeric = [(module.value(start + d) - module.value(start - d)) / 2e-5 for d in 1e-5 * np.eye(3)]
    assert module.mean_gradient(start, masked=True) == pytest.approx(numeric, abs=1e-8)
    bias = module.mean_gradient(start, masked=False) - module.mean_gradient(start, masked=True)
    assert bias == pytest.approx(module.value(start) * (module.executed(start) - module.softmax(start)))
    assert module.value(module.ascend(masked=True)) == pytest.approx(-1, abs=0.01)
    wrong = module.ascend(masked=False)
    assert module.executed(wrong) == pytest.approx([1 / 3, 2 / 3, 0], abs=0.001)
    assert wrong[2] > 100


def test_clipping_after_the_projection_breaks_the_constraint():
    module = solution("mechanisms_clipped_layer")
    assert module.clipped() == pytest.approx([0.08, 1.0])
    assert module.cost(module.clipped()) - module.LIMIT == pytest.approx(0.28)
    assert module.exact() == pytest.approx([-0.2, 1.0])


def test_without_a_backup_the_car_creeps_through_the_wall():
    module = solution("mechanisms_standstill")
    assert module.furthest(backup=False) == pytest.approx(12.6)
    assert module.furthest(backup=True) == pytest.approx(0.68)


def test_where_the_log_barrier_settles_on_a_line():
    multiplier, limit, sharpness = 28.2, 0.3, 20.0
    for margin, cost in ((0.01, 0.336), (0.001, 0.2982)):
        costs = torch.linspace(0.2, 0.4, 200_001, dtype=torch.float64)
        weight = log_barrier_weight(costs, limit, sharpness, margin)
        assert float(costs[(weight - multiplier).abs().argmin()]) == pytest.approx(cost, abs=5e-4)
        assert (1 / (sharpness * margin) >= multiplier) == (cost < limit)


def test_the_numbers_on_shields():
    environment = SafeGridVector(1)
    pairs = (environment.tabular_model().transition @ environment.hazard)[~environment.tabular_model().terminal].sum()
    assert pairs == 16
    assert ModelShield.of(environment, unsafe=environment.hazard).start_is_safe
    shore = SafeGridVector(1, layout="shore")
    assert not ModelShield.of(shore, unsafe=shore.hazard).start_is_safe
    assert BudgetShield.of(shore, 1.0).least_budget == 50
    beside = shore.tabular_model().transition[shore.cell_index((0, 0))] @ shore.hazard
    assert beside.min() == pytest.approx(1 / 20)
    needed = [n for n in range(1, 100) if violation_bounds(np.array(0), np.array(n), 0.9)[1] <= 0.05]
    assert needed[0] == 45


def test_the_numbers_on_the_reactor():
    free, violations = hottest(None, HEATING["always"])
    assert free > 450
    assert violations > 0.98 * 6_400
    kept, none = hottest(reactor_barrier(ReactorVector(1)), HEATING["always"])
    assert (round(kept, 1), none) == (354.0, 0)
    # at the limit, with the warmest feed, full cooling holds the temperature up to about 0.53 mol/L
    concentration = np.linspace(0.4, 0.7, 301)
    state = np.column_stack([concentration, np.full(301, 355.0)])
    rate = (ReactorVector.drift(state, 355.0) - ReactorVector.input_gain(state)[:, :, 0])[:, 1]
    assert concentration[rate <= 0].max() == pytest.approx(0.53, abs=0.005)
