"""Which code a number came from: a hash over a module and everything of the course that it imports."""

import ast
import hashlib
import importlib.util
from pathlib import Path

# These schedule runs and store what they return; no number depends on them.
BOOKKEEPING = ("ca14lib.training.sweep", "ca14lib.training.provenance", "ca14lib.experiments.results")


def source_hash(*modules: str) -> str:
    """Hash of modules and, transitively, of the modules of ``ca14lib`` they import.

    Docstrings, comments and layout do not count, nor does what packages' ``__init__`` files only pass on: the hash
    changes when what is computed may have changed.

    Args:
        modules: Names such as ``"ca14lib.experiments.offline"``.
    Returns:
        16 hexadecimal digits.
    """
    pending, seen = list(modules), {}
    while pending:
        name = pending.pop()
        if name in seen or name in BOOKKEEPING:
            continue
        path = _source(name)
        if path is None:
            continue
        tree = ast.parse(path.read_text("utf8"))
        pending += _imports(tree)
        code = _without_docstrings(tree)
        seen[name] = ast.unparse(_own_code(code) if path.name == "__init__.py" else code)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(f"{name}\n{seen[name]}\n".encode())
    return digest.hexdigest()[:16]


def _source(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "ca14lib":
            found += [f"ca14lib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ca14lib."):
            # a name may itself be a module; those that are not are dropped for want of a file
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("ca14lib.")]
    return found


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
