"""One sandbox for all tests of the grader, as a batch has one for all submissions."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

from ca14lib.grading.notebooks import Assignment, read_assignment
from ca14lib.grading.sandbox import Limits, Sandbox
from tests.grading import toy

# the instructor's half, which needs Linux
ONLY_LINUX = ("attacks", "batch", "collect", "course", "folders", "gradebook", "hostile_files", "runtime", "sandbox")
collect_ignore = [] if sys.platform.startswith("linux") else [f"test_{name}.py" for name in ONLY_LINUX]

SMALL = Limits(memory_bytes=2**30, processor_seconds=20, scratch_bytes=2**24, scratch_files=500)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    if not sys.platform.startswith("linux") or shutil.which("bwrap") is None:
        pytest.skip("the sandbox needs Linux with bubblewrap")
    with Sandbox((), SMALL) as entered:
        yield entered


@pytest.fixture(scope="session")
def assignment(tmp_path_factory: pytest.TempPathFactory) -> Assignment:
    path = toy.write(tmp_path_factory.mktemp("source") / "toy.ipynb", toy.notebook(toy.cells()))
    return read_assignment(path)
