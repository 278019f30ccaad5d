"""Run the checks of the project by name and say how long each took: python scripts/checks.py lint types

A phase that fails does not stop the later ones; the summary at the end names it. Exit status 0 only if none failed.
Phases of one process run beside the book, which is built in one process as well; what they print is shown when they
are done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.chromium import missing_message

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
SKIPPED = 77
WORKERS = os.environ.get("CA14_WORKERS", "2")


def pytest(*arguments: str, distribution: str = "loadfile") -> list[str]:
    return [PYTHON, "-m", "pytest", "-q", "-n", WORKERS, "--dist", distribution, *arguments]


NBVAL = [
    "--nbval",
    "--nbval-current-env",
    "--nbval-cell-timeout=120",
    "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
    "--ignore=notebooks/assignments",  # no stored outputs; tests/assignments runs them
    "notebooks",
]
PHASES: dict[str, tuple[str, list[list[str]]]] = {
    "lint": ("ruff: rules and format", [["ruff", "check", "-q", "."], ["ruff", "format", "-q", "--check", "."]]),
    "types": ("mypy over ca14lib", [["mypy", "--no-error-summary"]]),
    "imports": ("import-linter: who may import whom", [["lint-imports", "--no-cache", "--no-logo"]]),
    "fast-tests": (
        "unit tests without the slow ones",
        [pytest("-m", "not learning and not slow and not book and not packaging and not verify", "tests")],
    ),
    "tests": (
        "unit and learning tests, with bubblewrap for the grader's sandbox",
        [
            [PYTHON, "scripts/bubblewrap.py"],
            pytest("--durations=40", "-m", "not book and not packaging and not verify", "tests"),
        ],
    ),
    "long-tests": (
        "tests that are too long for make test",
        [pytest("-m", "verify", "tests", distribution="worksteal")],
    ),
    "notebooks": ("nbval: every notebook again, its outputs compared", [pytest(*NBVAL)]),
    "book": (
        "the book, from scratch, warnings as errors, links and alt texts",
        [[PYTHON, "scripts/build_book.py"], [PYTHON, "-m", "pytest", "-q", "-m", "book", "tests/book/test_site.py"]],
    ),
    "browser": (
        "every page in a browser, light and dark, and a student's path from release to feedback",
        [
            [PYTHON, "scripts/chromium.py"],
            [PYTHON, "scripts/bubblewrap.py"],
            pytest("tests/grading/test_student_path.py", "tests/book/test_browser.py", distribution="worksteal"),
        ],
    ),
    "wheel": ("the wheel in a fresh environment", [[PYTHON, "-m", "pytest", "-q", "-m", "packaging", "tests"]]),
}
BESIDE_THE_BOOK = ("lint", "types", "imports", "wheel")
CHECK = ["lint", "types", "imports", "fast-tests"]
TEST = ["lint", "types", "imports", "tests", "notebooks", "book", "browser", "wheel"]


def environment() -> dict[str, str]:
    """One thread a process (two run side by side), tools from this environment, byte code kept."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables["PATH"] = os.pathsep.join([str(Path(PYTHON).parent), variables.get("PATH", "")])
    variables |= {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    return variables


def run(phase: str, *, shown: bool = True) -> tuple[str, float]:
    """Run one phase, its output shown as it comes or when it is done; its verdict is passed, FAILED or SKIPPED."""
    description, commands = PHASES[phase]
    heading, said = f"\n== {phase}: {description}", ""
    if shown:
        print(heading, flush=True)
    start, verdict = time.perf_counter(), "passed"
    for command in commands:
        variables = environment()
        tool = shutil.which(command[0], path=variables["PATH"]) or command[0]
        kept = None if shown else subprocess.PIPE
        arguments = [tool, *command[1:]]
        done = subprocess.run(
            arguments, cwd=ROOT, env=variables, check=False, encoding="utf8", errors="replace", stdout=kept,
            stderr=kept and subprocess.STDOUT,
        )  # fmt: skip
        said += done.stdout or ""
        if done.returncode == SKIPPED:
            verdict = "SKIPPED"
            break
        if done.returncode:
            verdict = "FAILED"
            if phase != "lint":
                break
    seconds = time.perf_counter() - start
    lines = [] if shown else [heading, said.rstrip()]
    print("\n".join([*lines, f"== {phase}: {verdict} in {seconds:.0f} s"]), flush=True)
    return verdict, seconds


def main(names: list[str]) -> int:
    names = [phase for name in names for phase in {"check": CHECK, "test": TEST}.get(name, [name])]
    unknown = [name for name in names if name not in PHASES]
    if unknown or not names:
        print(f"expected check, test or some of {', '.join(PHASES)}; got {' '.join(unknown) or 'nothing'}")
        return 2
    start = time.perf_counter()
    verdicts: dict[str, tuple[str, float]] = {}
    lanes = [[name for name in names if name in BESIDE_THE_BOOK], [name for name in names if name == "book"]]
    if all(lanes):
        with ThreadPoolExecutor(len(lanes)) as pool:
            for lane in pool.map(lambda lane: {name: run(name, shown=False) for name in lane}, lanes):
                verdicts |= lane
    verdicts |= {name: run(name) for name in names if name not in verdicts}
    verdicts = {name: verdicts[name] for name in names}
    print("\nphase         verdict    seconds")
    for name, (verdict, seconds) in verdicts.items():
        print(f"{name:<13} {verdict:<10} {seconds:7.0f}")
    print(f"{'together':<24} {time.perf_counter() - start:7.0f}")
    if any(verdict == "SKIPPED" for verdict, _ in verdicts.values()):
        print(f"\nThe pages were NOT tested in a browser: {missing_message()}")
    return int(any(verdict == "FAILED" for verdict, _ in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
