"""Sweeps cover their grid, keep what is finished, repeat what is not, and survive failing runs."""

import contextlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.training import sweep

QUIET = {"jobs": 1, "progress": False}


def leave_a_mark(folder: str) -> None:
    """One file per call, so that calls can be counted across processes."""
    (Path(folder) / uuid.uuid4().hex).touch()


def product(folder: str, a: int, b: str, seed: int) -> dict[str, float]:
    leave_a_mark(folder)
    return {"score": 100 * a + len(b) + 0.1 * seed, "process": os.getpid()}


def fails_for_seed_one(folder: str, seed: int) -> dict[str, float]:
    leave_a_mark(folder)
    if seed == 1 and not (Path(folder).parent / "repaired").exists():
        raise RuntimeError("the dog ate seed 1")
    return {"score": float(seed)}


def several_rows(seed: int, kind: str) -> object:
    rows = [{"step": step, "value": seed + step} for step in range(3)]
    return {"rows": rows, "frame": pd.DataFrame(rows), "dict": rows[0]}[kind]


def missing_numbers(seed: int, horizon: int | None) -> dict[str, float]:
    return {"count": 3} if seed == 0 else {"count": float("nan")}


def own_columns(seed: int) -> dict[str, float]:
    return {"seconds": 12.0, "score": 1.0}


def threads(seed: int) -> dict[str, int]:
    return {"threads": torch.get_num_threads()}


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def calls(marks: Path) -> int:
    return len(list(marks.iterdir()))


def test_the_sweep_is_the_product_of_its_grid_and_seeds_in_order(marks):
    grid = {"folder": [str(marks)], "a": [2, 1], "b": ["x", "yy"]}
    frame = sweep(product, grid, 2, **QUIET)
    assert frame[["a", "b", "seed"]].to_numpy().tolist() == [
        [a, b, seed] for a in (2, 1) for b in ("x", "yy") for seed in (0, 1)
    ]
    assert frame["score"].tolist() == [100 * a + len(b) + 0.1 * s for a, b, s in frame[["a", "b", "seed"]].to_numpy()]
    assert (frame["error"] == "").all()
    assert (frame["seconds"] >= 0).all()
    assert calls(marks) == 8


def test_processes_give_the_same_rows_in_the_same_order(marks):
    grid = {"folder": [str(marks)], "a": [3, 1, 2], "b": ["x"]}
    alone = sweep(product, grid, 2, **QUIET)
    together = sweep(product, grid, 2, jobs=2, progress=False)
    unlike = ["seconds", "process"]
    pd.testing.assert_frame_equal(alone.drop(columns=unlike), together.drop(columns=unlike))
    assert os.getpid() not in set(together["process"])


@pytest.mark.parametrize("seeds", [[3, 1, 4], range(2, 4), (7,)])
def test_seeds_may_be_listed(seeds):
    assert sweep(several_rows, {"kind": ["dict"]}, seeds, **QUIET)["seed"].tolist() == list(seeds)


def test_seeds_and_values_from_numpy_stay_numbers():
    frame = sweep(several_rows, {"kind": np.array(["dict"])}, np.arange(2), **QUIET)
    assert frame["seed"].tolist() == [0, 1]
    assert frame["kind"].tolist() == ["dict", "dict"]


def test_a_sweep_without_a_grid_runs_its_seeds():
    assert sweep(own_columns, {}, 3, **QUIET)["seed"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["rows", "frame"])
def test_a_run_may_return_several_rows(kind):
    frame = sweep(several_rows, {"kind": [kind]}, 2, **QUIET)
    assert frame["seed"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["value"].tolist() == [0, 1, 2, 1, 2, 3]


@pytest.mark.parametrize("grid, seeds", [({"kind": []}, 2), ({"kind": ["dict"]}, 0), ({"kind": ["dict"]}, [])])
def test_an_empty_sweep_is_refused(grid, seeds):
    with pytest.raises(ValueError, match="at least one point and one seed"):
        sweep(several_rows, grid, seeds, **QUIET)


def test_a_failed_run_is_recorded_with_its_error_and_the_others_finish(marks):
    frame = sweep(fails_for_seed_one, {"folder": [str(marks)]}, 3, **QUIET)
    assert frame["seed"].tolist() == [0, 1, 2]
    assert frame["score"].tolist()[::2] == [0.0, 2.0]
    assert np.isnan(frame["score"][1])
    assert "the dog ate seed 1" in frame["error"][1]
    assert "fails_for_seed_one" in frame["error"][1]
    assert frame["error"].tolist()[::2] == ["", ""]


def test_a_sweep_called_again_runs_nothing_and_returns_the_same(marks, tmp_path):
    grid = {"folder": [str(marks)], "a": [1, 2], "b": ["x"]}
    first = sweep(product, grid, 2, path=tmp_path / "out", **QUIET)
    again = sweep(product, grid, 2, path=tmp_path / "out", **QUIET)
    pd.testing.assert_frame_equal(first, again)
    assert calls(marks) == 4


def test_a_larger_sweep_runs_only_what_is_missing(marks, tmp_path):
    grid = {"folder": [str(marks)], "a": [1, 2], "b": ["x"]}
    sweep(product, grid, 2, path=tmp_path / "out", **QUIET)
    frame = sweep(product, grid | {"a": [0, 1, 2]}, 3, path=tmp_path / "out", **QUIET)
    assert len(frame) == 9
    assert calls(marks) == 9
    fewer = sweep(product, grid | {"a": [2]}, [1], path=tmp_path / "out", **QUIET)
    assert fewer["score"].tolist() == [201.1]
    assert calls(marks) == 9


def test_a_failed_run_is_tried_again_and_only_that(marks, tmp_path):
    grid = {"folder": [str(marks)]}
    sweep(fails_for_seed_one, grid, 3, path=tmp_path / "out", **QUIET)
    (tmp_path / "repaired").touch()
    frame = sweep(fails_for_seed_one, grid, 3, path=tmp_path / "out", **QUIET)
    assert frame["score"].tolist() == [0.0, 1.0, 2.0]
    assert (frame["error"] == "").all()
    assert calls(marks) == 4


def test_results_are_on_disk_as_soon_as_their_run_is_finished(marks, tmp_path, monkeypatch):
    """A sweep that is stopped keeps what it has: its second run interrupts the whole process."""
    grid = {"folder": [str(marks)], "a": [1], "b": ["x"]}
    healthy = product

    def stopped(folder, a, b, seed):
        if seed == 1:
            raise KeyboardInterrupt
        return healthy(folder, a, b, seed)

    stopped.__module__, stopped.__qualname__ = healthy.__module__, healthy.__qualname__
    with pytest.raises(KeyboardInterrupt):
        sweep(stopped, grid, 3, path=tmp_path / "out", **QUIET)
    assert calls(marks) == 1
    frame = sweep(healthy, grid, 3, path=tmp_path / "out", **QUIET)
    assert len(frame) == 3
    assert calls(marks) == 3


@pytest.mark.parametrize("damage", [b"", b"PAR1 is how it starts", None, "foreign"])
def test_a_damaged_result_is_computed_again_and_only_that(damage, marks, tmp_path):
    grid = {"folder": [str(marks)], "a": [1, 2], "b": ["x"]}
    first = sweep(product, grid, 2, path=tmp_path / "out", **QUIET)
    file = sorted((tmp_path / "out").iterdir())[1]
    if damage == "foreign":
        pd.DataFrame({"stranger": [1]}).to_parquet(file)
    else:
        file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    again = sweep(product, grid, 2, path=tmp_path / "out", **QUIET)
    unlike = ["seconds", "process"]
    pd.testing.assert_frame_equal(first.drop(columns=unlike), again.drop(columns=unlike))
    assert calls(marks) == 5


def test_only_results_are_left_in_the_folder(marks, tmp_path):
    sweep(product, {"folder": [str(marks)], "a": [1], "b": ["x"]}, 2, path=tmp_path / "deep" / "out", **QUIET)
    assert [file.suffix for file in (tmp_path / "deep" / "out").iterdir()] == [".parquet"] * 2


def test_missing_numbers_and_none_survive_without_a_warning(tmp_path):
    first = sweep(missing_numbers, {"horizon": [None, 50]}, 2, path=tmp_path, **QUIET)
    again = sweep(missing_numbers, {"horizon": [None, 50]}, 2, path=tmp_path, **QUIET)
    pd.testing.assert_frame_equal(first, again)
    assert first["count"].isna().tolist() == [False, True, False, True]
    assert pd.isna(first["horizon"][0])
    assert first["horizon"][2] == 50


def sum_of(weights: np.ndarray | tuple[np.ndarray, ...], seed: int) -> dict[str, float]:
    return {"total": float(np.sum(weights))}


def test_large_arrays_that_look_alike_are_different_runs(tmp_path):
    zeros, other = np.zeros(5_000), np.zeros(5_000)
    other[2_500] = 1.0
    assert repr(zeros) == repr(other)
    sweep(sum_of, {"weights": [zeros]}, 1, path=tmp_path, **QUIET)
    assert sweep(sum_of, {"weights": [other]}, 1, path=tmp_path, **QUIET)["total"].tolist() == [1.0]
    assert sweep(sum_of, {"weights": [zeros.copy()]}, 1, path=tmp_path, **QUIET)["total"].tolist() == [0.0]
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert sweep(sum_of, {"weights": [(zeros,), (other,)]}, 1, path=tmp_path, **QUIET)["total"].tolist() == [0.0, 1.0]
    assert len(list(tmp_path.glob("*.parquet"))) == 4


def test_a_value_known_by_its_address_only_cannot_be_stored(tmp_path):
    with pytest.raises(ValueError, match="weights=<object object at"):
        sweep(sum_of, {"weights": [object()]}, 1, path=tmp_path / "out", **QUIET)
    assert not (tmp_path / "out").exists()


def test_a_column_of_the_function_is_not_overwritten_in_silence():
    frame = sweep(own_columns, {}, 1, **QUIET)
    assert 12.0 in frame.iloc[0].tolist() or "seconds" in frame["error"][0]


def test_a_run_has_one_thread_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert sweep(threads, {}, 1, **QUIET)["threads"].tolist() == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_progress_bar_goes_to_standard_error_and_can_be_left_out(capsys):
    sweep(own_columns, {}, 2, jobs=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "run" in shown.err
    sweep(own_columns, {}, 2, **QUIET)
    assert capsys.readouterr() == ("", "")


# Results belong to the code that made them


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A module of its own, whose source the test writes."""
    name = f"experiment_{uuid.uuid4().hex}"
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), "utf8")
        importlib.invalidate_caches()
        if name in sys.modules:
            return importlib.reload(sys.modules[name])
        return importlib.import_module(name)

    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    yield write
    sys.dont_write_bytecode = before
    sys.modules.pop(name, None)


def test_changed_code_runs_again_and_a_changed_comment_does_not(experiment, marks, tmp_path):
    source = '''
        from tests.training.test_sweep import leave_a_mark
        def run(folder, seed):
            """{doc}"""
            leave_a_mark(folder)  # {comment}
            return {{"value": {value}}}
    '''
    grid = {"folder": [str(marks)]}
    module = experiment(source.format(doc="First.", comment="once", value=1))
    assert sweep(module.run, grid, 2, path=tmp_path / "out", **QUIET)["value"].tolist() == [1, 1]
    module = experiment(source.format(doc="Second.", comment="twice", value=1))
    assert sweep(module.run, grid, 2, path=tmp_path / "out", **QUIET)["value"].tolist() == [1, 1]
    assert calls(marks) == 2
    module = experiment(source.format(doc="Second.", comment="twice", value=2))
    assert sweep(module.run, grid, 2, path=tmp_path / "out", **QUIET)["value"].tolist() == [2, 2]
    assert calls(marks) == 4


def run_script(folder: Path, text: str) -> str:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text), "utf8")
    root = str(Path(__file__).parents[2])
    finished = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert finished.returncode == 0, finished.stderr[-2_000:]
    return finished.stdout


@pytest.mark.slow
def test_a_function_of_a_script_or_notebook_can_be_swept(tmp_path):
    shown = run_script(
        tmp_path,
        """
        from ca14lib.training import sweep

        def run(seed):
            return {"value": 7 * seed}

        if __name__ == "__main__":
            for _ in range(2):
                print(sweep(run, {}, 2, path="out", jobs=1, progress=False)["value"].tolist())
        """,
    )
    assert shown.split("\n")[:2] == ["[0, 7]", "[0, 7]"]


@pytest.mark.slow
def test_workers_do_not_go_on_with_code_that_has_changed_since(tmp_path):
    """In one session: sweep, edit the module, reload it, sweep again with the same workers."""
    shown = run_script(
        tmp_path,
        """
        import importlib, pathlib, sys

        if __name__ == "__main__":
            source = pathlib.Path("swept_module.py")
            source.write_text("def run(seed):\\n    return {'value': 1}\\n")
            sys.path.insert(0, ".")
            import swept_module
            from ca14lib.training import sweep

            print(sweep(swept_module.run, {}, 2, path="out", jobs=2, progress=False)["value"].tolist())
            source.write_text("def run(seed):\\n    return {'value': 22}\\n")
            importlib.reload(swept_module)
            print(sweep(swept_module.run, {}, 2, path="out", jobs=2, progress=False)["value"].tolist())
        """,
    )
    assert shown.split("\n")[:2] == ["[1, 1]", "[22, 22]"]


# Stopped at any moment, and on a cluster


def counted(folder: str, a: int, seed: int) -> dict[str, float]:
    time.sleep(0.03)
    leave_a_mark(folder)
    return {"score": 10.0 * a + seed + np.random.default_rng(seed).random()}


def killed_and_started_again(tmp_path: Path, marks: Path, kills: int, random: np.random.Generator) -> None:
    """Kill a sweep of 60 runs at random moments, let it finish, and compare with one that nobody disturbed."""
    script = f"""
        from tests.training.test_sweep import counted
        from ca14lib.training import sweep

        if __name__ == "__main__":
            grid = {{"folder": [{str(marks)!r}], "a": list(range(6))}}
            sweep(counted, grid, 10, path="out", jobs=2, progress=False)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script), "utf8")
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
    out, lost = tmp_path / "out", 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "script.py"], cwd=tmp_path, env=environment, start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        before = calls(marks)
        while process.poll() is None and calls(marks) == before:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.12))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept = len(list(out.glob("*.parquet")))
        assert calls(marks) - kept - lost <= 2, "more was lost than the two runs in progress"
        lost = calls(marks) - kept
    run_script(tmp_path, (tmp_path / "script.py").read_text("utf8"))
    assert len(list(out.glob("*.parquet"))) == 60
    grid = {"folder": [str(tmp_path / "undisturbed")], "a": list(range(6))}
    (tmp_path / "undisturbed").mkdir()
    expected = sweep(counted, grid, 10, **QUIET)
    grid["folder"] = [str(marks)]
    counted_before = calls(marks)
    found = sweep(counted, grid, 10, path=out, **QUIET)
    assert calls(marks) == counted_before  # nothing was left to do
    assert found["score"].tolist() == expected["score"].tolist()


@pytest.mark.slow
def test_a_killed_sweep_loses_only_what_was_in_progress(tmp_path, marks):
    killed_and_started_again(tmp_path, marks, 1, np.random.default_rng())


@pytest.mark.verify
def test_a_sweep_may_be_killed_twenty_times(tmp_path, marks):
    killed_and_started_again(tmp_path, marks, 20, np.random.default_rng())


def small_cluster(workers: int) -> Any:
    """A scheduler and some workers, each a process of its own, as on the machines of a cluster."""
    distributed = pytest.importorskip("distributed")
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
    )


@pytest.fixture(scope="module")
def cluster():
    with small_cluster(2) as local:
        yield local


def kills_its_worker_once(folder: str, seed: int) -> dict[str, float]:
    mark = Path(folder) / f"died-{seed}"
    if seed == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return {"score": 2.0 * seed}


def always_kills_its_worker(seed: int) -> dict[str, float]:
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"score": 2.0 * seed}


@pytest.mark.slow
def test_a_cluster_gives_what_this_computer_gives_and_nothing_twice(cluster, marks, tmp_path):
    grid = {"folder": [str(marks)], "a": [3, 1, 2], "b": ["x"]}
    here = sweep(product, grid, 2, **QUIET)
    before = calls(marks)
    there = sweep(product, grid, 2, path=tmp_path / "out", scheduler=cluster.scheduler_address, progress=False)
    unlike = ["seconds", "process"]
    pd.testing.assert_frame_equal(here.drop(columns=unlike), there.drop(columns=unlike))
    assert calls(marks) - before == 6
    assert len(set(there["process"])) == 2
    again = sweep(product, grid, 2, path=tmp_path / "out", **QUIET)  # the stored runs are the same as those made here
    pd.testing.assert_frame_equal(there, again)
    assert calls(marks) - before == 6


@pytest.mark.slow
def test_the_run_of_a_dead_worker_is_given_to_another(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("CA14_SCHEDULER", cluster.scheduler_address)
    frame = sweep(kills_its_worker_once, {"folder": [str(tmp_path)]}, 8, progress=False)
    assert (tmp_path / "died-3").exists()
    assert frame["score"].tolist() == [2.0 * seed for seed in range(8)]
    assert (frame["error"] == "").all()


@pytest.mark.slow
def test_a_run_that_kills_every_worker_is_recorded_and_the_others_finish():
    """With one death allowed two workers die of it; the other two are there whether or not those come back."""
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), small_cluster(4) as own:
        frame = sweep(always_kills_its_worker, {}, 3, scheduler=own.scheduler_address, progress=False)
    assert frame["score"].tolist()[::2] == [0.0, 4.0]
    assert "KilledWorker" in frame["error"][1]


@pytest.mark.slow
def test_a_killed_process_of_this_computer_is_explained(tmp_path):
    with pytest.raises(RuntimeError, match=r"killed, most often for want of memory.*fewer than 2 jobs"):
        sweep(always_kills_its_worker, {}, 3, path=tmp_path, jobs=2, progress=False)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(importlib.import_module("ca14lib.training.sweep"), "CONNECT_SECONDS", 1)
    with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:1"):
        sweep(several_rows, {"kind": ["dict"]}, 2, scheduler="tcp://127.0.0.1:1", progress=False)
