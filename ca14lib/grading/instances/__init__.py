"""Personal instances: every student's own layout, data set, limit or game, drawn from a secret and the student's id.

``ca14lib.grading.instances.NAME.draw(generator)`` makes the instance of the assignment NAME. The judge draws it again
and never reads the student's file.
"""

import hashlib
import hmac
import importlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

ASSIGNMENTS = ("introduction", "offline", "safe", "multi-agent", "robust", "evaluation")


def module_name(assignment: str) -> str:
    """Name of the assignment as it is in files and modules: ``multi-agent`` is ``multi_agent`` there."""
    return assignment.replace("-", "_")


def generator_for(secret: str, student: str, assignment: str) -> np.random.Generator:
    """The generator of a student's instance; without the secret nobody can tell what it will draw.

    Args:
        secret: Of the term, at least one character; whoever grades needs the same one again.
        student: Identifier; how its accents are encoded makes no difference.
        assignment: Name of the assignment.
    Raises:
        ValueError: If the secret or the student's id is empty.
    """
    if not secret or not student:
        raise ValueError("an instance needs the secret of the term and the id of a student, one of them is empty")
    message = "\0".join((assignment, unicodedata.normalize("NFC", student)))
    digest = hmac.digest(secret.encode(), message.encode("utf8", "surrogatepass"), hashlib.sha256)
    return np.random.default_rng(list(digest))


def seed_for(secret: str, student: str, assignment: str, content: bytes) -> int:
    """Seed of the judge's draws for a submission: the same whenever it is graded, another one for a changed file.

    Args:
        secret: Of the term.
        student: Identifier.
        assignment: Name of the assignment.
        content: Bytes of the submitted notebook.
    Raises:
        ValueError: If the secret or the student's id is empty.
    """
    generator = generator_for(secret, student, f"{assignment}\0{hashlib.sha256(content).hexdigest()}")
    return int(generator.integers(2**63))


def draw_instance(assignment: str, secret: str, student: str) -> dict[str, Any]:
    """The student's instance as JSON has it; empty for an assignment that has no personal instances.

    Raises:
        ValueError: If the secret or the id is empty, or what is drawn is not plain JSON.
    """
    name = f"{__name__}.{module_name(assignment)}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise
        return {}
    drawn = module.draw(generator_for(secret, student, assignment))
    try:
        stored = json.loads(json.dumps(drawn, allow_nan=False))
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{name}.draw must return plain JSON: {problem}") from None
    if stored != drawn:
        raise ValueError(f"{name}.draw must return what JSON can give back: string keys, and lists instead of tuples")
    return stored


def load_instance(path: str | Path = "instance.json") -> dict[str, Any]:
    """The instance that came with a student's copy of the assignment.

    Raises:
        FileNotFoundError: If it is not beside the notebook.
        ValueError: If the file is not what was handed out.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: keep the file that came with the assignment beside the notebook")
    try:
        instance = json.loads(path.read_text("utf8"))
    except ValueError as problem:
        raise ValueError(f"{path} cannot be read ({problem}): take the file of the assignment again") from None
    if not isinstance(instance, dict):
        raise ValueError(f"{path} must hold an instance, got {type(instance).__name__}: take the file again")
    return instance
