"""The worker: runs a student's cells and answers the judge's calls, in the sandbox or, for fast tests, in the judge.

The runtime folder holds a copy beside ``protocol.py``, and it imports nothing else of the course. Nothing of it is
trusted: student code runs in the same process and can change all of it, but only what it answers to the judge.
"""

import contextlib
import ctypes
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ca14lib.grading.protocol import LENGTHS, CrossingError, frame_lengths, pack, unpack

MESSAGE_CHARACTERS = 2000
SHOWN_FRAMES = 3
PR_SET_SECCOMP, FILTER_MODE = 22, 2


class Kernel:
    """Executes cells in one namespace, as a notebook does, and calls what they have defined.

    Args:
        module: Name under which the namespace is a module (``__main__`` in a worker of its own), so that classes of
            the student find their module.
    """

    def __init__(self, module: str) -> None:
        self._module = types.ModuleType(module)
        self._module.__dict__["display"] = _display  # what every notebook has
        sys.modules[module] = self._module

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request: ``id``, ``ok``, and a value or an error. Raises nothing that student code raises.

        ``cell`` runs ``source``; ``get`` tells what a name is, with its value where that may cross; ``call`` calls a
        function by its name with ``args`` and ``kwargs``.
        """
        answer: Callable[[dict[str, Any]], dict[str, Any]]
        answer = {"cell": self._cell, "get": self._get, "call": self._call}[request["op"]]
        try:
            reply = answer(request)
        except BaseException as problem:  # SystemExit and KeyboardInterrupt as well: they are the student's here
            reply = {"ok": False, **_error(problem)}
        return {"id": request["id"], **reply}

    def _cell(self, request: dict[str, Any]) -> dict[str, Any]:
        filename = f"<{request['name']}>"
        source = request["source"]
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        try:
            code = compile(source, filename, "exec", dont_inherit=True)
        except SyntaxError:
            code = compile(_without_magics(source), filename, "exec", dont_inherit=True)
        exec(code, self._module.__dict__)
        return {"ok": True}

    def _get(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["name"] not in self._module.__dict__:
            return {"ok": True, "kind": "missing"}
        value = self._module.__dict__[request["name"]]
        if callable(value) and not isinstance(value, type):
            return {"ok": True, "kind": "function"}
        try:
            pack({"value": value})
        except CrossingError:
            return {"ok": True, "kind": "other", "type": type(value).__name__[:100]}
        return {"ok": True, "kind": "value", "value": value}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        function = self._module.__dict__[request["name"]]
        return {"ok": True, "value": function(*request["args"], **request["kwargs"])}


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the judge closes its end. The first request brings files, limits and the filter for system calls."""
    start = _read(requests)
    if start is None:
        return
    for name, content in start["files"].items():
        Path(name).write_bytes(content.tobytes())
    _lock(start["limits"], start["program"].tobytes())
    replies.write(pack({"id": start["id"], "ok": True}))
    replies.flush()
    kernel = Kernel("__main__")
    while (request := _read(requests)) is not None:
        reply = kernel.handle(request)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the student may have closed or replaced it
                stream.flush()
        try:
            frame = pack(reply)
        except Exception as problem:  # a value that may not cross, or one whose methods fail
            frame = pack({"id": request["id"], "ok": False, **_error(problem)})
        replies.write(frame)
        replies.flush()


def main() -> None:
    """Entry point in the sandbox: requests come on standard input, replies go to the descriptor that is named."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(int(sys.argv[1]), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # so that input() ends at once
    serve(requests, replies)


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    prefix = stream.read(LENGTHS.size)
    if len(prefix) < LENGTHS.size:
        return None
    header, payload = frame_lengths(prefix)
    return unpack(stream.read(header), stream.read(payload))


def _lock(limits: dict[str, int], program: bytes) -> None:
    """Limits of this process by the names of module ``resource``, and the filter for system calls, for good.

    Raises:
        OSError: If the kernel refuses the filter.
    """
    import resource  # not on Windows, where only the tests of this file's other half run

    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))  # the judge's own is lower while a test runs
    for name, value in limits.items():
        hard = value + 1 if name == "RLIMIT_CPU" else value  # a second between the signal that names it and the end
        resource.setrlimit(getattr(resource, name), (value, hard))
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = _FilterProgram(len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.byref(head), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter for system calls")


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def _display(*values: Any, **options: Any) -> None:
    """In place of IPython's: pictures and tables are of no use here."""


def _without_magics(source: str) -> str:
    """The cell without lines that only a notebook understands (``%matplotlib``, ``!pip``, ``name?``)."""
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        return ""
    odd = (line.lstrip().startswith(("%", "!")) or line.rstrip().endswith("?") for line in lines)
    return "\n".join(f"{line[: len(line) - len(line.lstrip())]}pass" if out else line for line, out in zip(lines, odd))


def _error(problem: BaseException) -> dict[str, Any]:
    """What went wrong in the student's code: kind, message, and where."""
    try:
        message = str(problem)[:MESSAGE_CHARACTERS]
    except BaseException:
        message = ""
    where = [
        f"{frame.filename[1:-1]}, line {frame.lineno}: {(frame.line or '').strip()}"[:300]
        for frame in traceback.extract_tb(problem.__traceback__)
        if frame.filename.startswith("<") and not frame.filename.startswith(("<frozen", "<string", "<__array"))
    ]
    if isinstance(problem, SyntaxError):
        where.append(f"line {problem.lineno}: {(problem.text or '').strip()}"[:300])
    return {"type": type(problem).__name__[:100], "message": message, "where": where[-SHOWN_FRAMES:]}


def as_bytes(content: bytes) -> np.ndarray:
    """Bytes as the array that may cross."""
    return np.frombuffer(content, np.uint8)
