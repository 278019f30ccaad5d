"""The numbers and the code of the page on many runs hold."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "evaluation" / "scale.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_long_run_comes_first():
    module = solution("scale_tail")
    assert module.equal == 100
    assert module.long_last == pytest.approx(140, abs=2)
    assert module.long_first == pytest.approx(105, abs=2)
    assert module.deaths == pytest.approx(1.33, abs=0.01)


def test_a_seed_means_the_same_in_every_process():
    module = solution("scale_seeds")
    code = (
        "import runpy; made = runpy.run_path('tests/book/solutions/scale_seeds.py');"
        "print(made['generator']('DQN', 3).integers(10**9), hash('DQN'))"
    )
    drawn = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}  # test runners fix it
    shown = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=drawn, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    here = str(module.generator("DQN", 3).integers(10**9))
    assert [first for first, _ in shown] == [here, here]
    assert shown[0][1] != shown[1][1]
    assert module.generator("DQN", 4).integers(10**9) != module.generator("DQN", 3).integers(10**9)


def test_a_name_appears_when_every_byte_is_there(tmp_path, monkeypatch):
    module = solution("scale_atomic")
    target = tmp_path / "run.parquet"
    module.store(b"whole", target)
    assert target.read_bytes() == b"whole"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        module.store(b"other", target)
    assert target.read_bytes() == b"whole"


def test_both_ways_to_use_two_cores_run():
    module = solution("scale_threads")
    assert module.one_after_another(1, 20) > 0
    assert module.side_by_side(2, 20) > 0


def test_looking_often_finds_differences_that_are_not_there():
    module = solution("scale_enough")
    once, often = module.announced([40]), module.announced(range(5, 41))
    assert once == pytest.approx(0.007, abs=0.003)
    assert often == pytest.approx(0.084, abs=0.012)
