"""A class of 100 submissions, a fifth of them hostile, graded by the command of the book.

    python -m benchmarks.grading_batch [--students 100] [--jobs 2] [--seed 0] [--keep FOLDER]

Of ten submissions four are honest (the source's own solutions, or other right ones), three have some tasks wrong or
missing, one is broken (no notebook, another version, cut, empty), two are hostile. The time is that of ``ca14 grade``
from its start to its end: judging, gradebook, feedback, reports and the comparison of submissions. Memory is the
largest resident size of the judging processes, sampled ten times a second; the students' own processes, which have
limits of their own, are counted apart.
"""

import argparse
import copy
import json
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from ca14lib.experiments import write_results

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "notebooks" / "assignments"
SECRET = "a secret for the benchmark"
NAME = "offline"
KINDS = ("honest",) * 4 + ("partial",) * 3 + ("broken",) + ("hostile",) * 2
SAMPLES = 10  # a second


def make_class(folder: Path, students: int, seed: int) -> dict[str, str]:
    """Write the submissions, and return what kind each is.

    The mistakes are the mutants of the assignment's tests, the attacks those of the grader's.
    """
    sys.path.insert(0, str(ROOT))
    from tests.assignments.offline_cases import ALTERNATIVES, MUTANTS
    from tests.grading.attacks import ATTACKS

    draws = random.Random(seed)
    source = json.loads((SOURCES / f"{NAME}.ipynb").read_text("utf8"))
    kinds: dict[str, str] = {}
    attacks = list(ATTACKS.values())
    for number in range(students):
        kind = KINDS[number % len(KINDS)]
        student = f"student-{number:03d}"
        kinds[student] = kind
        notebook = copy.deepcopy(source)
        if kind == "honest" and number % 2:
            _replace(notebook, {task: draws.choice(list(found.values())) for task, found in ALTERNATIVES.items()})
        elif kind == "partial":
            tasks = draws.sample(sorted(MUTANTS), k=draws.randint(1, 4))
            _replace(notebook, {task: draws.choice(["pass", *MUTANTS[task].values()]) for task in tasks})
        elif kind == "hostile":
            _replace(notebook, {f"{NAME}-expectile": draws.choice(attacks)})
        path = folder / student / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        if kind != "broken":
            path.write_text(json.dumps(notebook), "utf8")
        elif number % 3 == 0:
            path.write_text(json.dumps(notebook)[: draws.randint(0, 4000)], "utf8")
        elif number % 3 == 1:
            notebook["metadata"]["ca14"]["version"] = 99
            path.write_text(json.dumps(notebook), "utf8")
    return kinds


def _replace(notebook: dict[str, Any], answers: dict[str, str]) -> None:
    keys = {key if key.startswith(f"{NAME}-") else f"{NAME}-{key}": text for key, text in answers.items()}
    for cell in notebook["cells"]:
        key = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if key in keys:
            cell["source"] = keys[key]


def timed(command: list[str]) -> tuple[float, float, float]:
    """Seconds of a command, and the largest resident sizes of a judging and of a student's process, in bytes."""
    start, largest, student = time.perf_counter(), 0, 0
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                try:
                    size, arguments = child.memory_info().rss, " ".join(child.cmdline())
                except psutil.Error:
                    continue
                if "ca14lib.grading.worker" in arguments:
                    student = max(student, size)
                elif "bwrap" not in arguments:
                    largest = max(largest, size)
            try:
                largest = max(largest, psutil.Process(process.pid).memory_info().rss)
            except psutil.Error:
                break
            time.sleep(1 / SAMPLES)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, largest, student


def measure(folder: Path, students: int, jobs: int, seed: int) -> pd.DataFrame:
    """Grade a class, and return one row of numbers for every kind of submission and one for all."""
    kinds = make_class(folder / "all", students, seed)
    secret = folder / "secret"
    secret.write_text(SECRET, "utf8")
    command = [
        sys.executable, "-m", "ca14lib.cli", "grade", str(folder / "all"), "--assignment", NAME,
        "--course", str(folder / "course"), "--source", str(SOURCES), "--secret-file", str(secret),
        "--jobs", str(jobs),
    ]  # fmt: skip
    seconds, judge, student = timed(command)
    again, _, _ = timed(command)
    grades = pd.read_csv(folder / "course" / "reports" / NAME / "grades.csv").set_index("student")
    grades["kind"] = pd.Series(kinds)
    grades["judged"] = pd.Series(_judging_seconds(folder / "course" / "marks" / NAME))
    rows = []
    for kind, group in [("all", grades), *grades.groupby("kind")]:
        rows.append(
            {
                "kind": kind,
                "submissions": len(group),
                "least_points": group["tests"].min(),
                "most_points": group["tests"].max(),
                "seconds_each": group["judged"].mean(),
                "slowest": group["judged"].max(),
            }
        )
    frame = pd.DataFrame(rows)
    whole = frame["kind"] == "all"
    frame.loc[whole, "seconds"] = seconds
    frame.loc[whole, "seconds_again"] = again
    frame.loc[whole, "judge_mib"] = judge / 2**20
    frame.loc[whole, "student_mib"] = student / 2**20
    return frame


def _judging_seconds(marks: Path) -> dict[str, float]:
    found = {path.stem: json.loads(path.read_text("utf8"))["grade"] for path in marks.glob("*.json")}
    return {student: grade["seconds"] if grade else 0.0 for student, grade in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--students", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for submissions and course, kept; it has to be new")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        frame = measure(folder, arguments.students, arguments.jobs, arguments.seed)
    print(frame.round(2).to_string(index=False))
    write_results(
        "grading_batch",
        frame.round(2),
        command=f"python -m benchmarks.grading_batch --students {arguments.students} --jobs {arguments.jobs}",
        modules=["ca14lib.grading.course"],
        nbgrader=version("nbgrader"),
    )


if __name__ == "__main__":
    main()
