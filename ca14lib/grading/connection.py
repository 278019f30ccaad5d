"""The judge's end of the pipes to a worker: one request, one reply, under a clock; and what the student prints."""

import contextlib
import os
import selectors
import subprocess
import time
from typing import Any

from ca14lib.grading.protocol import LENGTHS, ProtocolError, frame_lengths, pack, unpack

CHUNK = 2**16
OUTPUT_KEPT = 2**16
OUTPUT_ALLOWED = 2**23
ENDS = {137: "was killed (memory or processor time)", 152: "used up its processor time", 139: "crashed"}


class WorkerEnded(Exception):
    """The worker is gone, and why, in words that a student may read."""


class Connection:
    """Pipes to a process that answers frames with frames. The first thing that is not as agreed ends the process.

    Args:
        process: Has ``stdin`` for requests and ``stdout`` for what student code prints.
        replies: Descriptor of the reading end of its replies; closed with the connection.
    """

    def __init__(self, process: subprocess.Popen[bytes], replies: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._replies = process, replies
        self._requests, self._printed = process.stdin.fileno(), process.stdout.fileno()
        self._output = bytearray()
        self._output_bytes = 0
        self._number = 0
        self._reason = ""
        for descriptor in (self._requests, self._replies, self._printed):
            os.set_blocking(descriptor, False)

    @property
    def output(self) -> str:
        """What the worker has printed so far, the first 64 KiB of it."""
        return self._output.decode("utf8", "replace")

    def request(self, seconds: float, **message: Any) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Args:
            seconds: Time for both.
            message: ``op`` and what belongs to it.
        Returns:
            The reply; whatever it holds comes from student code.
        Raises:
            WorkerEnded: If the worker is gone, takes too long, prints too much, or answers anything but the request.
            CrossingError: If the request itself cannot cross; the worker goes on.
        """
        if self._reason:
            raise WorkerEnded(self._reason)
        self._number += 1
        frame = pack({"id": self._number, **message})
        try:
            self._refuse_unsolicited()
            reply = self._exchange(frame, time.monotonic() + seconds, seconds)
            if type(reply.get("id")) is not int or reply["id"] != self._number or type(reply.get("ok")) is not bool:
                raise ProtocolError("the worker answers something else than what it was asked")
        except (ProtocolError, TimeoutError, OSError) as problem:
            self.close(str(problem) if isinstance(problem, ProtocolError | TimeoutError) else self._death())
            raise WorkerEnded(self._reason) from None
        return reply

    def settle(self) -> None:
        """Hold that nothing has come since the last reply, so that what is wrong is laid to the test that did it.

        Raises:
            WorkerEnded: If something has, or the worker is gone.
        """
        if self._reason:
            raise WorkerEnded(self._reason)
        try:
            self._refuse_unsolicited()
        except (ProtocolError, OSError) as problem:
            self.close(str(problem) if isinstance(problem, ProtocolError) else self._death())
            raise WorkerEnded(self._reason) from None

    def close(self, reason: str = "the worker was closed") -> None:
        """End the process and all that it may have started; safe to call again."""
        if self._reason:
            return
        self._reason = reason
        with contextlib.suppress(OSError, ProtocolError):
            self._drain()
        self._process.kill()
        self._process.wait()
        os.close(self._replies)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()

    def _refuse_unsolicited(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if os.read(self._replies, 1):
                raise ProtocolError("the worker sends what nobody has asked for")
            raise OSError("closed")

    def _exchange(self, frame: bytes, deadline: float, seconds: float) -> dict[str, Any]:
        """Write the frame and read one back, in one loop, so that a worker that reads nothing cannot hold the judge."""
        left, received, wanted = memoryview(frame), bytearray(), LENGTHS.size
        left = left[os.write(self._requests, left[:CHUNK]) :]
        header = None
        with selectors.PollSelector() as selector:
            if left:
                selector.register(self._requests, selectors.EVENT_WRITE)
            selector.register(self._replies, selectors.EVENT_READ)
            selector.register(self._printed, selectors.EVENT_READ)
            while True:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f"no answer within {seconds:.3g} s")
                for key, _ in selector.select(remaining):
                    if key.fd == self._requests:
                        left = left[os.write(self._requests, left[:CHUNK]) :]
                        if not left:
                            selector.unregister(self._requests)
                    elif key.fd == self._printed:
                        if not self._drain():
                            selector.unregister(self._printed)
                    else:
                        part = os.read(self._replies, min(wanted - len(received), 2**20))
                        if not part:
                            raise OSError("closed")
                        received += part
                if len(received) == wanted:
                    if header is None:
                        header, payload = frame_lengths(bytes(received))
                        wanted += header + payload
                    else:
                        self._drain()
                        start = LENGTHS.size + header
                        return unpack(bytes(received[LENGTHS.size : start]), bytes(received[start:]))

    def _drain(self) -> bool:
        """Take what has been printed; False at its end.

        Raises:
            ProtocolError: If it is too much altogether.
        """
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._printed, CHUNK):
                self._output_bytes += len(part)
                self._output += part[: max(OUTPUT_KEPT - len(self._output), 0)]
                if self._output_bytes > OUTPUT_ALLOWED:
                    raise ProtocolError(f"more than {OUTPUT_ALLOWED >> 20} MiB were printed")
            return False
        return True

    def _death(self) -> str:
        """Why the worker closed its pipes."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1)
            return f"the worker {ENDS.get(code, f'ended by itself (status {code})')}"
        return "the worker closed its connection"
