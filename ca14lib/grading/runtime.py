"""The folder that a worker sees of the course: the modules that the assignment lists, and nothing else."""

import ast
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import ca14lib

LIBRARY = Path(ca14lib.__file__).parent
GRADING = ("__init__.py", "check.py", "instances/__init__.py", "protocol.py", "worker.py")  # the student's half
REGISTRATION = "from ca14lib.environments.registration import register_environments\n\nregister_environments()\n"


def build_runtime(folder: Path, modules: Sequence[str]) -> None:
    """Fill an empty folder with copies of the listed modules, readable for everyone.

    A listed package comes with all its modules. Packages above a listed module get an empty ``__init__.py``, so that
    importing it brings nothing else.

    Args:
        folder: Has to exist.
        modules: Names in ca14lib, ``ca14lib.environments`` or ``ca14lib.data.transitions``.
    Raises:
        ValueError: If a name is not a module of ca14lib, or a listed module needs one that is not listed.
    """
    files = {path for name in modules for path in _files(name)}
    listed = {_module(path) for path in files}
    for path in sorted(files):
        for needed in _imports(path, listed):
            raise ValueError(f"{_module(path)} imports {needed}, which the assignment does not list")
    for path in files:
        _copy(path, folder)
    for name in GRADING:
        _copy(LIBRARY / "grading" / name, folder)
    top = REGISTRATION if "ca14lib.environments" in modules else ""
    (folder / "ca14lib" / "__init__.py").write_text(f'"""What the assignment gives of the course."""\n\n{top}', "utf8")
    for package in [path for path in folder.rglob("*") if path.is_dir()]:
        (package / "__init__.py").touch()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _files(name: str) -> list[Path]:
    """Files of a listed module or package."""
    parts = name.split(".")
    path = LIBRARY.joinpath(*parts[1:])
    if parts[0] != "ca14lib" or len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"an assignment lists modules of ca14lib, got {name!r}")
    if path.is_dir():
        return sorted(path.rglob("*.py"))
    if path.with_suffix(".py").is_file():
        return [path.with_suffix(".py")]
    raise ValueError(f"ca14lib has no module {name!r}")


def _copy(path: Path, folder: Path) -> None:
    target = folder / "ca14lib" / path.relative_to(LIBRARY)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _module(path: Path) -> str:
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(("ca14lib", *parts)).removesuffix(".__init__")


def _imports(path: Path, listed: set[str]) -> Iterator[str]:
    """Modules of ca14lib that a file imports, wherever in it, and that are not listed."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("ca14lib.") and name not in listed and not _only_gives(name, node, listed):
                yield name


def _only_gives(name: str, node: ast.Import | ast.ImportFrom, listed: set[str]) -> bool:
    """Whether ``from package import module`` asks an unlisted package for listed modules alone."""
    return isinstance(node, ast.ImportFrom) and all(f"{name}.{alias.name}" in listed for alias in node.names)
