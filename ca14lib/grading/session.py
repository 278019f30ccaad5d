"""A submission's workers, one after another: what a test asks of student code goes through here, under a clock."""

import contextlib
import io
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ca14lib.grading.connection import WorkerEnded
from ca14lib.grading.notebooks import Step
from ca14lib.grading.protocol import LENGTHS, CrossingError, frame_lengths, pack, unpack
from ca14lib.grading.worker import SHOWN_FRAMES, Kernel

MESSAGE_CHARACTERS = 2000
OUTPUT_CHARACTERS = 2**16
# errors of student code that a test may expect by their built-in class
EXPECTED_ERRORS = (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Times:
    """Seconds and restarts that the code of one submission is given; the judge's own time is not counted.

    Attributes:
        call: For one call of a student's function.
        cell: For one cell.
        test: For all calls of one test.
        submission: For everything.
        restarts: How often the worker is started again after it has ended.
    """

    call: float = 10.0
    cell: float = 90.0
    test: float = 30.0
    submission: float = 300.0
    restarts: int = 3


class StudentError(Exception):
    """Student code raised this; where the test may expect it, it is of the built-in class as well."""


class Worker(Protocol):
    """What :class:`Connection` and :class:`InProcessWorker` have in common."""

    @property
    def output(self) -> str: ...

    def request(self, seconds: float, **message: Any) -> dict[str, Any]: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


class Session:
    """The workers of one submission: a new one is given what the last one had run, without what ended it."""

    def __init__(self, start: Callable[[], Worker], times: Times) -> None:
        self.output = ""
        self._start, self._times = start, times
        self._worker: Worker | None = None
        self._started = 0
        self._ran: list[Step] = []
        self._left = times.submission
        self._test_left = math.inf

    def run(self, step: Step) -> str:
        """Run a cell of the student; what went wrong, or nothing."""
        self._test_left = math.inf
        try:
            reply = self._request(self._times.cell, op="cell", name=step.name, source=step.source)
        except (WorkerEnded, CrossingError) as problem:
            return str(problem)
        self._ran.append(step)
        return "" if reply["ok"] else str(_student_error(reply))

    def begin_test(self) -> None:
        """Start the clock of a test."""
        self._test_left = self._times.test

    def look_up(self, name: str) -> tuple[str, Any]:
        """What a name of the student is: ``missing``, ``function``, ``value`` and it, ``other`` and its type."""
        reply = self._request(self._times.call, op="get", name=name)
        kind = reply.get("kind")
        if kind == "value":
            return "value", reply.get("value")
        return ("other", printable_text(reply.get("type"))) if kind not in ("missing", "function") else (kind, None)

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the student's function returns.

        Raises:
            StudentError: If it raises.
            WorkerEnded: If it ends the worker or takes too long.
        """
        reply = self._request(self._times.call, op="call", name=name, args=args, kwargs=kwargs)
        if not reply["ok"]:
            raise _student_error(reply)
        return reply.get("value")

    def end_test(self) -> None:
        """Hold that the worker has said nothing but its answers.

        Raises:
            WorkerEnded: If it has, or is gone.
        """
        if self._worker is not None:
            try:
                self._worker.settle()
            except WorkerEnded:
                self.close()
                raise

    def close(self) -> None:
        """End the worker and keep what it has printed."""
        if self._worker is not None:
            self._worker.close()
            self.output = (self.output + self._worker.output)[:OUTPUT_CHARACTERS]
            self._worker = None

    def _request(self, seconds: float, **message: Any) -> dict[str, Any]:
        started = asked = time.monotonic()
        try:
            worker = self._running()
            asked = time.monotonic()  # a start is on the submission's clock, not on the test's
            left = min(self._test_left, self._left - (asked - started))
            if left <= 0:
                limit = self._times.submission if self._left <= self._test_left else self._times.test
                raise WorkerEnded(f"the time is used up ({limit:g} s for all of it together)")
            return worker.request(min(seconds, left), **message)
        except WorkerEnded:
            self.close()
            raise
        finally:
            ended = time.monotonic()
            self._left -= ended - started
            self._test_left -= ended - asked

    def _running(self) -> Worker:
        """The worker; where there is none, a new one that has run what the last one had run."""
        end = time.monotonic() + self._left
        while self._worker is None:
            if self._started > self._times.restarts:
                raise WorkerEnded(f"the worker has ended {self._started} times and is not started again")
            if time.monotonic() >= end:
                raise WorkerEnded(f"the time is used up ({self._times.submission:g} s for all of it together)")
            self._started += 1
            self._worker = self._start()
            for step in tuple(self._ran):
                left = max(end - time.monotonic(), 0.01)
                try:
                    self._worker.request(min(self._times.cell, left), op="cell", name=step.name, source=step.source)
                except WorkerEnded:
                    self._ran.remove(step)
                    self.close()
                    break
        return self._worker


class StudentFunction:
    """Stands for a function of the student in a test."""

    def __init__(self, session: Session, name: str) -> None:
        self._session, self.__name__ = session, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.call(self.__name__, args, kwargs)


class InProcessWorker:
    """A worker without process and protection. Values still cross as bytes, so that nothing else passes than in one."""

    output = ""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ca14-worker-")
        for name, content in files.items():
            Path(self._folder.name, name).write_bytes(content)
        self._kernel = Kernel("submission")

    def request(self, seconds: float, **message: Any) -> dict[str, Any]:
        """The reply; never late."""
        asked = _crossed({"id": 0, **message})
        printed = io.StringIO()
        with (
            contextlib.chdir(self._folder.name),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            reply = self._kernel.handle(asked)
        try:
            return _crossed(reply)
        except Exception as problem:  # a value that may not cross, or one whose methods fail
            return {"ok": False, "type": type(problem).__name__, "message": str(problem), "where": []}

    def settle(self) -> None:
        """Nothing can come between the replies."""

    def close(self) -> None:
        """Forget the student's module and files."""
        sys.modules.pop("submission", None)
        self._folder.cleanup()


def _crossed(message: dict[str, Any]) -> dict[str, Any]:
    frame = pack(message)
    header, _ = frame_lengths(frame[: LENGTHS.size])
    return unpack(frame[LENGTHS.size : LENGTHS.size + header], frame[LENGTHS.size + header :])


def _student_error(reply: Mapping[str, Any]) -> StudentError:
    """The error in a reply, all of whose fields come from student code."""
    name, message = printable_text(reply.get("type"), 100), printable_text(reply.get("message"))
    where = reply.get("where")
    kept = where[-SHOWN_FRAMES:] if isinstance(where, list) else []
    places = "; ".join(printable_text(place, 300) for place in kept)
    text = f"{name}: {message}" + (f" ({places})" if places else "")
    for expected in EXPECTED_ERRORS:
        if name == expected.__name__:
            return type("StudentError", (StudentError, expected), {})(text)
    return StudentError(text)


def printable_text(value: Any, characters: int = MESSAGE_CHARACTERS) -> str:
    """Untrusted text without control characters, or nothing if it is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in value[:characters])
