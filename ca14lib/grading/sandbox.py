"""The sandbox for student code: bubblewrap, limits, a filter for system calls, and a self-test that must pass first.

A worker sees a read-only system, the packages of the interpreter without ca14lib, the runtime folder with the modules
that the assignment lists, and a small folder of its own in memory. It has no network, cannot start anything, and its
process namespace ends with it. What is *not* covered: the kernel is shared, so this is no virtual machine.
"""

import json
import os
import re
import secrets
import shutil
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ca14lib.grading import launch
from ca14lib.grading.connection import Connection, WorkerEnded
from ca14lib.grading.folders import remove, temporary_folder
from ca14lib.grading.runtime import LIBRARY, build_runtime
from ca14lib.grading.seccomp import forbidden_numbers, sandbox_program, student_program
from ca14lib.grading.worker import as_bytes

NEEDED_VERSION = (0, 8)  # the first with --disable-userns
RUNTIME, SCRATCH = "/runtime", "/student"
START_SECONDS = 60.0
SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64")
MASKED = ("/usr/local/share", "/usr/local/src", "/usr/src")  # nbgrader's exchange is in the first, unless it is moved
DEVICES = ("null", "zero", "urandom", "random")
START = "import sys; sys.path[:0] = {paths!r}; from ca14lib.grading.worker import main; main()"


class SandboxError(RuntimeError):
    """The sandbox cannot be had, or does not hold: nothing may be graded."""


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes:
        memory_bytes: Address space.
        processor_seconds: Of one worker; a restarted one starts again.
        threads: Of one worker.
        open_files: Descriptors.
        file_bytes: Largest file.
        scratch_bytes: All files of the worker's folder.
        scratch_files: Their number, where the grader was started by root; nobody else can set it.
    """

    memory_bytes: int = 3 * 2**30
    processor_seconds: int = 120
    threads: int = 64
    open_files: int = 256
    file_bytes: int = 2**26
    scratch_bytes: int = 2**27
    scratch_files: int = 2000

    def of_process(self) -> dict[str, int]:
        """By the names of module ``resource``."""
        return {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_CPU": self.processor_seconds,
            "RLIMIT_NPROC": self.threads,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_CORE": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_MEMLOCK": 0,
        }


class Sandbox:
    """Starts workers. To be used in a ``with`` statement: on entering, the self-test is run.

    Args:
        modules: Modules of ca14lib that student code may import.
        limits: Of every worker.
    Raises:
        SandboxError: On entering, if the sandbox cannot be had or the self-test finds that it does not hold.
        ValueError: On entering, if the modules cannot be given.
    """

    def __init__(self, modules: Sequence[str] = (), limits: Limits = Limits()) -> None:
        self.modules, self.limits = tuple(modules), limits
        self._folder: Path | None = None
        self._binds: list[tuple[str, str]] = []

    def __enter__(self) -> "Sandbox":
        program = _bubblewrap()
        self._folder, self._alive = temporary_folder()
        try:
            self._folder.chmod(0o755)  # the unprivileged user has to get in; what is here is no secret
            self._command = self._prepared(program)
            self_test(self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            remove(self._folder)
            self._alive.close()
            self._folder = None

    def start(self, files: Mapping[str, bytes] | None = None) -> Connection:
        """A fresh worker that has locked itself in.

        Args:
            files: By name, to be written into its folder.
        Raises:
            SandboxError: If it does not start, with what bubblewrap said, or the sandbox was not entered.
        """
        if self._folder is None:
            raise SandboxError("the sandbox is used before its self-test: `with Sandbox(…) as sandbox:`")
        replies, worker_end = os.pipe()
        with (self._folder / "program").open("rb") as program:
            descriptors = {"SECCOMP": str(program.fileno()), "REPLIES": str(worker_end)}
            command = [descriptors.get(part, part) for part in self._command]
            if os.getuid() == 0:
                command = self._launched(command)
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(program.fileno(), worker_end),
                    env={"PATH": "/usr/bin:/bin"},
                    cwd="/",
                )
            except OSError as problem:
                os.close(replies)
                raise SandboxError(f"this computer cannot start a worker: {problem}") from None
            finally:
                os.close(worker_end)
        connection = Connection(process, replies)
        try:
            reply = connection.request(
                START_SECONDS,
                op="start",
                files={name: as_bytes(content) for name, content in (files or {}).items()},
                limits=self.limits.of_process(),
                program=as_bytes(student_program()),
            )
        except WorkerEnded as problem:
            raise SandboxError(f"the worker does not start: {problem}. {_advice(connection.output)}") from None
        if not reply["ok"]:
            connection.close()
            raise SandboxError(f"the worker does not start: {reply}")
        return connection

    def _prepared(self, program: str) -> list[str]:
        """Fill the folder, and the command for bubblewrap with places for two descriptors."""
        assert self._folder is not None
        runtime = self._folder / "runtime"
        runtime.mkdir()
        build_runtime(runtime, self.modules)
        try:
            (self._folder / "program").write_bytes(sandbox_program())
        except ValueError as problem:
            raise SandboxError(str(problem)) from None
        trees = {RUNTIME: str(runtime), **{path: path for path in _interpreter_trees()}}
        self._binds = []
        if os.getuid() == 0:  # root binds what it can reach to where everyone can
            for number, (target, source) in enumerate(trees.items()):
                place = self._folder / "mounts" / str(number)
                place.mkdir(parents=True)
                self._binds.append((source, str(place)))
                trees[target] = str(place)
            (self._folder / "scratch").mkdir()
        return bubblewrap_command(
            program,
            trees,
            scratch=str(self._folder / "scratch") if os.getuid() == 0 else None,
            scratch_bytes=self.limits.scratch_bytes,
        )

    def _launched(self, command: list[str]) -> list[str]:
        assert self._folder is not None
        options = (
            f"size={self.limits.scratch_bytes},nr_inodes={self.limits.scratch_files},"
            f"mode=0700,uid={launch.NOBODY},gid={launch.NOBODY}"
        )
        task = {"binds": self._binds, "scratch": [str(self._folder / "scratch"), options], "command": command}
        return [sys.executable, "-I", "-S", "-B", launch.__file__, json.dumps(task)]


def bubblewrap_command(program: str, trees: Mapping[str, str], scratch: str | None, scratch_bytes: int) -> list[str]:
    """The command that starts a worker, with ``SECCOMP`` and ``REPLIES`` in place of two descriptors.

    Args:
        program: Path of bubblewrap.
        trees: What is mounted read-only besides the system: path inside, path outside.
        scratch: Folder that becomes the worker's own; None for a new one in memory.
        scratch_bytes: Size of the latter.
    """
    command = [program, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    command += ["--clearenv", "--cap-drop", "ALL", "--hostname", "student", "--seccomp", "SECCOMP"]
    command += ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in SYSTEM_LINKS:
        link = Path("/", name)
        if link.is_symlink():
            command += ["--symlink", os.readlink(link), str(link)]
        elif link.is_dir():
            command += ["--ro-bind", str(link), str(link)]
    masked, libraries = [path for path in MASKED if Path(path).is_dir()], _libraries()
    for path in masked:
        command += ["--tmpfs", path]
    for target, source in trees.items():  # an interpreter below a masked folder is seen again, and nothing else of it
        command += ["--ro-bind", source, target]
    for path in libraries:
        command += ["--tmpfs", path]
    command += ["--proc", "/proc", "--tmpfs", "/dev"]
    for name in DEVICES:
        command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    command += ["--bind", scratch, SCRATCH] if scratch else ["--size", str(scratch_bytes), "--tmpfs", SCRATCH]
    for path in (*libraries, *masked, "/proc", "/dev", "/"):
        command += ["--remount-ro", path]
    environment = {
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "MPLCONFIGDIR": SCRATCH,
        "MPLBACKEND": "Agg",
        "USER": "student",
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    for name, value in environment.items():
        command += ["--setenv", name, value]
    start = START.format(paths=[RUNTIME, *_package_folders()])
    return [*command, "--chdir", SCRATCH, "--", _interpreter(), "-I", "-S", "-B", "-c", start, "REPLIES"]


def self_test(sandbox: Sandbox) -> None:
    """Try in a worker what no student may be able to do.

    Raises:
        SandboxError: Naming what succeeded. Nothing may be graded then.
    """
    with tempfile.NamedTemporaryFile(prefix="ca14-secret-") as secret, socket.socket() as listener:
        secret.write(secrets.token_bytes(16))
        secret.flush()
        os.chmod(secret.name, 0o644)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        places = ["/", "/usr", "/etc", "/dev", "/dev/shm", "/proc/self/oom_score_adj", "/tmp", RUNTIME]
        arguments: dict[str, list[Any]] = {
            "works": [],
            "reaches the network": list(listener.getsockname()),
            "reads a file of the grader": [secret.name],
            "writes outside its folder": [[*places, *_package_folders()]],
            "starts a process": [],
            "makes memory that is counted nowhere": [],
            "finds the course's answers": [[RUNTIME, *_package_folders(), str(LIBRARY.parent)]],
            "is root, or has rights": [],
            "takes more memory than it may": [sandbox.limits.memory_bytes],
            "sees what it should not, or may write to it": [_mounted()],
            "sees other processes": [],
            "has other limits than it should": [sandbox.limits.of_process()],
            "may make system calls that are forbidden": [forbidden_numbers()],
            "starts another program": [],
        }
        worker = sandbox.start()
        try:
            reply = worker.request(START_SECONDS, op="cell", name="self-test", source=PROBES)
            if not reply["ok"]:
                raise SandboxError(f"the self-test of the sandbox cannot be run: {reply}")
            for number, (name, values) in enumerate(arguments.items()):
                reply = worker.request(START_SECONDS, op="call", name=f"probe_{number}", args=values, kwargs={})
                if not reply["ok"] or reply.get("value") is not False:
                    what = f"student code {name}" if number else "student code does not run"
                    raise SandboxError(f"the sandbox does not hold: {what} ({_shown(reply)}); nothing is graded")
        except WorkerEnded as problem:
            raise SandboxError(f"the self-test of the sandbox ends early: {problem}; nothing is graded") from None
        finally:
            worker.close()


def _mounted() -> dict[str, bool]:
    """Every place where a worker has something mounted, and whether it has to be read-only."""
    expected = {"/": True, "/usr": True, "/etc/ld.so.cache": True, "/proc": True, "/dev": True, RUNTIME: True}
    expected |= {str(Path("/", name)): True for name in SYSTEM_LINKS} | dict.fromkeys(MASKED, True)
    expected |= dict.fromkeys([*_interpreter_trees(), *_libraries()], True)
    return expected | {f"/dev/{name}": False for name in DEVICES} | {SCRATCH: False}


PROBES = """
import os, threading, socket, ctypes
def attempt(function, *values):
    try:
        function(*values)
    except (OSError, MemoryError, ImportError):
        return False
    return True
def probe_0():
    import numpy
    thread = threading.Thread(target=open("own file", "w").close)
    thread.start()
    thread.join()
    return not (numpy.ones(3).sum() == 3 and os.path.exists("own file"))
def probe_1(host, port):
    return attempt(socket.create_connection, (host, port), 2)
def probe_2(path):
    return attempt(open, path, "rb")
def probe_3(places):
    files = [place if "oom" in place else os.path.join(place, "written") for place in places]
    return any([attempt(open, file, "w") for file in files])
def probe_4():
    return attempt(os.fork)
def probe_5():
    return attempt(os.memfd_create, "x")
def probe_6(folders):
    files = [os.path.join(folder, "ca14lib", name) for folder in folders for name in ("cli.py", "grading/judge.py")]
    return any(map(os.path.exists, files))
def probe_7():
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    rights = int(status["CapEff"], 16) or int(status["CapBnd"], 16) or int(status["NoNewPrivs"]) != 1
    return bool(os.getuid() == 0 or rights or int(status["Seccomp"]) != 2)
def probe_8(size):
    return attempt(bytearray, size)
def probe_9(expected):
    import re
    trees = tuple(place + "/" for place in expected if place not in ("/", "/dev", "/student"))
    for line in open("/proc/self/mountinfo"):
        place, options = line.split()[4:6]
        place = re.sub(r"\\\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)  # spaces are written so
        if place not in expected and not place.startswith(trees):
            return True
        if expected.get(place, True) and "ro" not in options.split(","):
            return True
    return False
def probe_10():
    return {name for name in os.listdir("/proc") if name.isdigit()} != {"1", str(os.getpid())}
def probe_11(limits):
    import resource
    margin = {"RLIMIT_CPU": 1}
    return any(
        resource.getrlimit(getattr(resource, name)) != (value, value + margin.get(name, 0))
        for name, value in limits.items()
    )
def probe_12(numbers):
    import errno
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.syscall(n, -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.EPERM for n in numbers)
def probe_13():
    return attempt(os.execv, "/usr/bin/true", ["true"])
"""


def _bubblewrap() -> str:
    """Path of a bubblewrap that can do what is needed.

    Raises:
        SandboxError: If there is none.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxError("grading needs Linux with bubblewrap; on other systems, `ca14 assignment check` works alone")
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError("bubblewrap is not installed: `apt install bubblewrap` (or dnf, pacman); nothing is graded")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < NEEDED_VERSION:
        raise SandboxError(f"bubblewrap 0.8 or newer is needed, {found} is {version.strip() or 'of unknown version'}")
    return found


def _advice(said: str) -> str:
    """What bubblewrap said, and what helps."""
    said = " ".join(said.split())[:500]
    if "root may not" in said:
        return (
            f"{said} — run the grader as an ordinary user: as root it has to make mounts before it gives up its rights"
        )
    if re.search(
        "uid map|user namespace|creating new namespace|setting up|Operation not permitted", said, re.IGNORECASE
    ):
        return (
            f"{said} — this system forbids user namespaces to ordinary programs; on Ubuntu 24.04 install an AppArmor "
            "profile for bwrap, or set kernel.apparmor_restrict_unprivileged_userns=0; in a container allow them"
        )
    return said or "it says nothing"


def _interpreter() -> str:
    """The interpreter itself, behind the links of a virtual environment."""
    return os.path.realpath(sys.executable)


def _package_folders() -> list[str]:
    """Where the interpreter has its packages; links are followed, so that what is mounted is where it is looked for."""
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if sys.prefix == sys.base_prefix:
        found += site.getsitepackages()
    return list(dict.fromkeys(os.path.realpath(path) for path in found if os.path.isdir(path)))


def _interpreter_trees() -> list[str]:
    """Folders that the interpreter needs and that ``/usr`` does not bring, outer ones first."""
    wanted = sorted({os.path.realpath(sys.base_prefix), *_package_folders()})
    kept: list[str] = []
    for path in wanted:
        seen = Path(path).is_relative_to("/usr") and not any(Path(path).is_relative_to(mask) for mask in MASKED)
        if not seen and not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _libraries() -> list[str]:
    """Installed copies of this library, which have to be covered."""
    folders = [*_package_folders(), *(str(path) for path in Path(sys.base_prefix).glob("lib/python3*/*-packages"))]
    found = (path for folder in folders for path in Path(folder).resolve().glob("ca14lib*") if path.is_dir())
    return list(dict.fromkeys(str(path) for path in found))


def _shown(reply: dict[str, Any]) -> str:
    return str(reply.get("message") or reply.get("value"))[:200]
