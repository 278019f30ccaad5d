"""The repository as a whole: versions agree, documents name what exists, nothing depends on one machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import ca14lib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
MAXIMAL_BYTES = 3 * 2**20
# written in pieces, so that this file does not contain what it looks for
PIECES = [
    "/ho" + r"me/\w",
    "/ro" + "ot/",
    "/Us" + r"ers/\w",
    "/wo" + "rk/",
    "/op" + "t/wheels",
    r"\b[A-Z]:\\Us" + "ers",
]
MACHINE_PATHS = re.compile("|".join(PIECES))
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def repository_files() -> list[Path]:
    """Files that are part of the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of the repository's files")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf8"), re.MULTILINE))


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    changelog = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf8"), re.MULTILINE)
    assert ca14lib.__version__ == PROJECT["version"]
    assert str(citation["version"]) == PROJECT["version"]
    assert changelog[0] == PROJECT["version"]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in repository_files():
        try:
            text = path.read_text("utf8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit.group()}" for hit in MACHINE_PATHS.finditer(text)]
    assert found == []


def test_no_file_is_large() -> None:
    large = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in repository_files()}
    assert {name: size for name, size in large.items() if size > MAXIMAL_BYTES} == {}


# gym-anm pins a version of websocket-client that is too old for Jupyter: it goes into an environment of its own
UNLOCKED = {"energy"}


def test_lock_meets_the_ranges_of_the_project() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text("utf8"), re.MULTILINE))
    extras = {name: extra for name, extra in PROJECT["optional-dependencies"].items() if name not in UNLOCKED}
    wanted = [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    for requirement in map(Requirement, wanted):
        assert requirement.name in pins, f"{requirement.name} is not locked"
        pin = pins[requirement.name]
        assert Version(pin) in requirement.specifier, f"{requirement} against {pin}"


def test_lock_is_valid_on_other_machines() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf8")
    assert "+cpu" not in lock
    assert "file:" not in lock
    assert "nvidia" not in lock


@every_document
def test_make_targets_that_documents_name_exist(path: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", path.read_text("utf8"))) | set(
        re.findall(r"^make ([a-z-]+)", path.read_text("utf8"), re.MULTILINE)
    )
    assert named - make_targets() == set()


@every_document
def test_files_that_documents_name_exist(path: Path) -> None:
    text = path.read_text("utf8")
    named = set(re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text))
    named |= set(re.findall(r"`((?:book|notebooks|ca14lib|tests|scripts|benchmarks|results)/[\w./-]*)`", text))
    assert sorted(name for name in named if "NAME" not in name and not (ROOT / name).exists()) == []


@every_document
def test_commands_that_documents_name_exist(path: Path) -> None:
    import typer.main

    from ca14lib import cli

    text = path.read_text("utf8")
    for module in set(re.findall(r"python3? -m ((?:benchmarks|scripts)\.\w+)", text)):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for command in set(re.findall(r"(?:`|^|bin/)ca14 ([a-z][a-z-]*)", text, re.MULTILINE)):
        assert command in commands, f"ca14 {command}"


def test_readme_explains_every_target() -> None:
    readme = (ROOT / "README.md").read_text("utf8")
    listed = {name for name in make_targets() if f"make {name}" not in readme}
    assert listed == set()


def test_help_lists_every_target() -> None:
    lines = (ROOT / "Makefile").read_text("utf8").splitlines()
    phony = next(line for line in lines if line.startswith(".PHONY:")).split()[1:]
    described = {line.split(":")[0] for line in lines if re.match(r"^[a-z-]+:.*## ", line)}
    assert set(phony) == described == make_targets()
