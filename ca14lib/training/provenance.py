"""Which code a number came from: a hash over a module and everything of the course that it uses."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

# These schedule runs, store what they return or give names to modules; no number depends on them.
REGISTRATION = "ca14lib.environments.registration"
BOOKKEEPING = ("ca14lib.training.sweep", "ca14lib.training.provenance", "ca14lib.experiments.results", REGISTRATION)


def source_hash(*modules: str) -> str:
    """Hash of modules and, transitively, of the modules of ``ca14lib`` they use.

    A module that is imported counts whole. Of a package only those modules count from which the imported names come,
    and environments that are named by their id count as well. Docstrings, comments and layout do not count, nor does
    what packages' ``__init__`` files only pass on: the hash changes when what is computed may have changed.

    Args:
        modules: Names such as ``"ca14lib.experiments.offline"``.
    Returns:
        16 hexadecimal digits.
    """
    counted = used_code(*modules)
    digest = hashlib.sha256()
    for name in sorted(counted):
        digest.update(f"{name}\n{counted[name]}\n".encode())
    return digest.hexdigest()[:16]


def used_code(*modules: str) -> dict[str, str]:
    """The code that a hash covers, by the name of its module or of an environment's row in the registration."""
    rows = _registered()
    pending: list[tuple[str, str | None]] = [(name, None) for name in modules]
    done: set[tuple[str, str | None]] = set()
    counted: dict[str, str] = {}
    while pending:
        name, item = pending.pop()
        if (name, item) in done or name in BOOKKEEPING:
            continue
        done.add((name, item))
        path = _source(name)
        if path is None:
            continue
        tree = ast.parse(path.read_text("utf8"))
        if path.name == "__init__.py" and item is not None:
            passed_on = _passed_on(tree)
            if _source(f"{name}.{item}") is not None:
                pending.append((f"{name}.{item}", None))
                continue
            if item in passed_on:
                pending.append(passed_on[item])
                continue
        code = _without_docstrings(tree)
        if path.name == "__init__.py":
            code = _own_code(code)
            counted[name] = ast.unparse(code)
            wanted = None if item is None else {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
            pending += [found for bound, found in _imports(tree) if wanted is None or bound in wanted]
        else:
            counted[name] = ast.unparse(code)
            pending += [found for _, found in _imports(tree)]
        for text in _strings(code):
            if text in rows:
                module, row = rows[text]
                counted[f"{REGISTRATION}:{text}"] = row
                pending.append((module, None))
    return counted


def _source(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(tree: ast.AST) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """The name that an import binds, with the module it comes from and the name there (None for the module itself)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ca14lib":
            for alias in node.names:
                yield alias.asname or alias.name, (node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("ca14lib."):
                    yield alias.asname or alias.name, (alias.name, None)


def _passed_on(tree: ast.Module) -> dict[str, tuple[str, str | None]]:
    """What a package's ``__init__`` imports and others can therefore import from the package."""
    return dict(_imports(ast.Module([node for node in tree.body if isinstance(node, ast.ImportFrom)], [])))


def _strings(tree: ast.AST) -> Iterator[str]:
    """Every string in the code, and what stands before its first slash: games of a family bear its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
            if "/" in node.value:
                yield node.value.split("/")[0]


def _registered() -> dict[str, tuple[str, str]]:
    """The module and the row of every environment that the registration names."""
    path = _source(REGISTRATION)
    if path is None:
        return {}
    rows: dict[str, tuple[str, str]] = {}
    for node in ast.parse(path.read_text("utf8")).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Dict):
            for key, entry in ast.literal_eval(value).items():
                module = entry[0] if "." in entry[0] else f"ca14lib.environments.{entry[0]}"
                rows[key] = (module, repr(entry))
    return rows


def _own_code(tree: ast.Module) -> ast.Module:
    """A package's ``__init__`` without what it only passes on."""

    def passed_on(node: ast.stmt) -> bool:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        return isinstance(node, ast.Import | ast.ImportFrom) or names == ["__all__"]

    return ast.Module([node for node in tree.body if not passed_on(node)], [])


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree
