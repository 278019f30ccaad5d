"""The market experiment: numbers of known quotes, and learners that end in an equilibrium or at the monopoly."""

import numpy as np
import pytest

from ca14lib.experiments.evaluation import market as part
from ca14lib.training.sweep import sweep


def test_numbers_of_known_quotes():
    table = part.yardsticks()
    assert table["point"].tolist() == ["equilibrium", "equilibrium", "monopoly", "equilibrium", "monopoly"]
    assert table["spread"].tolist() == [1, 2, 6, 1, 6]
    assert (table.loc[table["point"] == "equilibrium", "nash_conv"] < 1e-12).all()
    assert table["collusion"].tolist() == pytest.approx([0, 0.378, 1, 0, 1], abs=1e-3)
    # from the monopoly each of two gains 4.5 · 6/11 − 5.5 · 5/22 by one tick less
    assert table.loc[2, "nash_conv"] == pytest.approx(2 * (4.5 * 6 / 11 - 5.5 * 5 / 22))


def test_the_best_quote_of_mixed_strategies():
    half = np.zeros(10)
    half[[0, 2]] = 0.5
    # the best of two is 3 ticks with probability 1/4, else 1
    assert part.market_numbers([half, half])["spread"] == pytest.approx(1.5)


def test_an_unknown_aim_is_refused():
    with pytest.raises(ValueError, match="aim must be one of own profit, common profit, got 'fame'"):
        part.market_run("fame", 2, 0)


def test_the_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid | {"iterations": [2]}, seeds=2, jobs=1, progress=False)

    tables = part.market(sweeps, True)
    assert list(tables) == ["evaluation_market", "evaluation_market_yardsticks", "evaluation_market_runs"]
    assert tables["evaluation_market"]["aim"].tolist() == list(part.AIMS)
    assert (tables["evaluation_market"]["seeds"] == 2).all()


@pytest.mark.learning
def test_three_rivals_end_in_the_only_equilibrium():
    found = part.market_run("own profit", 3, 0, iterations=50)
    assert found["nash_conv"] < 0.05
    assert found["spread"] < 1.1
