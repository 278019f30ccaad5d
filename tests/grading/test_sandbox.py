"""The sandbox itself: it fails closed, its workers can do what students need, and none outlives its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from ca14lib.grading import sandbox as module
from ca14lib.grading.connection import WorkerEnded
from ca14lib.grading.runtime import build_runtime
from ca14lib.grading.sandbox import Limits, Sandbox, SandboxError, self_test
from ca14lib.grading.seccomp import INSTRUCTION, MACHINES, sandbox_program, student_program

ALLOW_ALL = INSTRUCTION.pack(0x06, 0, 0, 0x7FFF0000)
QUICK = Limits(memory_bytes=2**30)
needs_bubblewrap = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("bwrap") is None, reason="needs Linux with bubblewrap"
)


def run(worker, source: str) -> None:
    reply = worker.request(20, op="cell", name="cell", source=source)
    assert reply["ok"], reply


def call(worker, name: str, *args):
    reply = worker.request(20, op="call", name=name, args=args, kwargs={})
    assert reply["ok"], reply
    return reply["value"]


def test_the_self_test_passes_and_names_nothing(sandbox: Sandbox) -> None:
    self_test(sandbox)


def weaker_command(change):
    original = module.bubblewrap_command
    return lambda *args, **options: change(original(*args, **options))


def without(part: str):
    return weaker_command(lambda command: [word for word in command if word != part])


def with_tree(path: str, option: str):
    def changed(command: list[str]) -> list[str]:
        place = command.index("--remount-ro")
        return [*command[:place], option, path, path, *command[place:]]

    return weaker_command(changed)


def without_limit(name: str):
    original = Limits.of_process
    return lambda limits: {key: value for key, value in original(limits).items() if key != name}


@needs_bubblewrap
@pytest.mark.parametrize(
    "name, weaker, said",
    [
        ("sandbox_program", lambda: ALLOW_ALL, "starts a process"),
        ("student_program", lambda: ALLOW_ALL, "ends early"),
        ("bubblewrap_command", without("--remount-ro"), "does not start|writes outside"),
        ("Limits.of_process", without_limit("RLIMIT_AS"), "takes more memory than it may"),
    ],
)
def test_a_weaker_sandbox_is_noticed_and_nothing_is_graded(
    name: str, weaker, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line takes one layer away."""
    monkeypatch.setattr(f"{module.__name__}.{name}", weaker)
    with pytest.raises(SandboxError, match=said), Sandbox((), QUICK):
        pytest.fail("a sandbox that does not hold was entered")


@needs_bubblewrap
def test_a_file_of_the_grader_within_reach_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, because the environment itself may lie in the one for temporary files."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setattr(module, "bubblewrap_command", with_tree(folder, "--bind"))
        with pytest.raises(SandboxError, match="reads a file of the grader"), Sandbox((), QUICK):
            pytest.fail("a sandbox with the grader's files was entered")


@needs_bubblewrap
def test_answers_within_reach_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_answers(folder: Path, modules: object) -> None:
        build_runtime(folder, [])
        (folder / "ca14lib" / "cli.py").touch()

    monkeypatch.setattr(module, "build_runtime", with_answers)
    with pytest.raises(SandboxError, match="finds the course's answers"), Sandbox((), QUICK):
        pytest.fail("a sandbox with the answers was entered")


@needs_bubblewrap
def test_a_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers forbid it, so both have to go."""

    def change(command: list[str]) -> list[str]:
        spaces = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        return [part for word in command for part in (spaces if word == "--unshare-all" else [word])]

    monkeypatch.setattr(module, "bubblewrap_command", weaker_command(change))
    monkeypatch.setattr(module, "sandbox_program", lambda: ALLOW_ALL)
    with pytest.raises(SandboxError, match="reaches the network"), Sandbox((), QUICK):
        pytest.fail("a sandbox with a network was entered")


def test_without_bubblewrap_nothing_is_graded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="apt install bubblewrap"), Sandbox():
        pass
    program = tmp_path / "bwrap"
    old = r"0\.8 or newer is needed, .* bubblewrap 0\.6\.1"
    for text, said in (("bubblewrap 0.6.1", old), ("", "unknown version")):
        program.write_text(f"#!/bin/sh\necho {text}\n")
        program.chmod(0o755)
        with pytest.raises(SandboxError, match=said), Sandbox():
            pass
    monkeypatch.setattr(module.sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="needs Linux"), Sandbox():
        pass


def test_what_bubblewrap_says_comes_with_what_helps() -> None:
    for said in ("bwrap: setting up uid map: Permission denied", "bwrap: Creating new namespace failed: not permitted"):
        assert "AppArmor" in module._advice(said)
    assert "as an ordinary user" in module._advice("OSError: root may not have mounts of its own here")
    assert module._advice("") == "it says nothing"


def test_an_unentered_sandbox_starts_nothing() -> None:
    with pytest.raises(SandboxError, match="before its self-test"):
        Sandbox().start()


def test_modules_that_do_not_exist_are_refused_before_anything_starts() -> None:
    if sys.platform.startswith("linux") and shutil.which("bwrap"):
        with pytest.raises(ValueError, match=r"no module 'ca14lib\.nothing'"), Sandbox(["ca14lib.nothing"]):
            pass


@needs_bubblewrap
def test_nothing_is_left_of_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="ca14-test-") as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with Sandbox((), QUICK):
            assert [name for name in os.listdir(folder) if name.startswith("ca14-grading-")]
        assert os.listdir(folder) == []


def test_a_worker_does_what_students_need(sandbox: Sandbox) -> None:
    """NumPy, torch, pandas, threads, files of its own, safetensors; all of it without a process."""
    worker = sandbox.start({"given.bin": b"\x00\xff"})
    run(
        worker,
        """\
import pandas, threading, torch, numpy as np
from safetensors.torch import load_file, save_file
from concurrent.futures import ThreadPoolExecutor
def work(x):
    save_file({"x": torch.as_tensor(x)}, "policy.safetensors")
    frame = pandas.DataFrame({"x": load_file("policy.safetensors")["x"].numpy()})
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(float, frame["x"]))
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(3, 2)).sum().backward()
    return sum(parts), open("given.bin", "rb").read() == bytes([0, 255]), layer.weight.grad
""",
    )
    total, given, gradient = call(worker, "work", np.arange(4.0))
    assert (total, given) == (6.0, True)
    assert gradient.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    worker.close()


def test_two_workers_share_nothing(sandbox: Sandbox) -> None:
    first, second = sandbox.start(), sandbox.start()
    run(first, "import os\nopen('mine', 'w').write('x')\nname = 1\ndef files(): return os.listdir('.')")
    run(second, "import os\ndef files(): return os.listdir('.')\ndef others(): return os.listdir('/proc')")
    assert (call(first, "files"), call(second, "files")) == (["mine"], [])
    assert second.request(5, op="get", name="name")["kind"] == "missing"
    assert sorted(name for name in call(second, "others") if name.isdigit()) == ["1", "2"]
    for worker in (first, second):
        worker.close()


def test_a_worker_inherits_nothing_but_its_pipes(sandbox: Sandbox) -> None:
    """An open folder or file of the judge would be a way out."""
    worker = sandbox.start()
    run(
        worker,
        """\
import os
def inherited():
    found = set()
    for number in range(64):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}").partition(":")[0])
        except OSError:
            pass
    return sorted(found)
""",
    )
    assert call(worker, "inherited") == ["/dev/null", "pipe"]
    worker.close()


def processes_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_nothing_outlives_a_worker(sandbox: Sandbox) -> None:
    assert sandbox._folder is not None
    worker = sandbox.start()
    run(worker, "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()")
    assert processes_of(sandbox._folder)
    with pytest.raises(WorkerEnded, match=r"no answer within 0\.2 s"):
        worker.request(0.2, op="cell", name="cell", source="while True: pass")
    with pytest.raises(WorkerEnded, match="no answer"):
        worker.request(1, op="get", name="x")
    end = time.monotonic() + 5
    while processes_of(sandbox._folder) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes_of(sandbox._folder) == []


def test_nothing_outlives_a_judge_that_is_killed(sandbox: Sandbox) -> None:
    code = (
        "import os, signal\nfrom ca14lib.grading.sandbox import Sandbox\n"
        "with Sandbox() as sandbox:\n    worker = sandbox.start()\n    print(sandbox._folder, flush=True)\n"
        "    worker.request(60, op='cell', name='c', source='while True: pass')"
    )
    paths = os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[2])}
    judge = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=paths)
    assert judge.stdout is not None
    folder = Path(judge.stdout.readline().strip())
    judge.send_signal(signal.SIGKILL)
    judge.wait()
    end = time.monotonic() + 5
    while processes_of(folder) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes_of(folder) == []
    shutil.rmtree(folder)


def test_what_ends_a_worker_is_said(sandbox: Sandbox) -> None:
    for source, said in [
        ("import os; os._exit(7)", r"ended by itself \(status 7\)"),
        ("import ctypes; ctypes.string_at(0)", "crashed"),
        ("import sys, os; os.write(int(sys.argv[1]), b'x' * 9)", "exceeds the limit"),
        ("print('x' * 9_000_000)", "more than 8 MiB were printed"),
    ]:
        worker = sandbox.start()
        with pytest.raises(WorkerEnded, match=said):
            worker.request(10, op="cell", name="cell", source=source)
        worker.close()


def test_processor_time_is_limited(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "limits", Limits(processor_seconds=1))
    worker = sandbox.start()
    with pytest.raises(WorkerEnded, match="used up its processor time"):
        worker.request(20, op="cell", name="cell", source="while True: pass")


def test_a_thousand_calls_cost_the_judge_less_than_a_second(sandbox: Sandbox) -> None:
    worker = sandbox.start()
    run(worker, "def act(x): return x.argmax(axis=-1)")
    observation, started = np.ones((1, 8)), time.process_time()
    for _ in range(1000):
        call(worker, "act", observation)
    assert time.process_time() - started < 1
    worker.close()


@pytest.mark.parametrize("machine", MACHINES)
def test_programs_are_instructions_that_end_and_jump_within_themselves(machine: str) -> None:
    for program in (sandbox_program(machine), student_program(machine)):
        lines = list(INSTRUCTION.iter_unpack(program))
        assert lines[-1] == (0x06, 0, 0, 0x7FFF0000)
        assert all(number + 1 + max(line[1], line[2]) < len(lines) for number, line in enumerate(lines[:-1]))
        assert len(lines) < 4096


def verdict(program: bytes, number: int, architecture: int, argument: int = 0) -> int:
    """What the kernel would answer to a call: a simulation of the few instructions that are used."""
    lines, place, value = list(INSTRUCTION.iter_unpack(program)), 0, 0
    data = {0: number, 4: architecture, 16: argument}
    while True:
        code, if_true, if_false, constant = lines[place]
        if code == 0x06:
            return constant
        if code == 0x20:
            value, jump = data[constant], 0
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            jump = if_true if holds else if_false
        place += 1 + jump


def test_the_filter_answers_as_it_should() -> None:
    program, x86 = sandbox_program("x86_64"), 0xC000003E
    allow, refuse, absent, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
    for number, argument, expected in [
        (0, 0, allow),
        (57, 0, refuse),
        (41, 0, refuse),
        (435, 0, absent),
        (56, 0x01200011, refuse),
        (56, 0x003D0F00, allow),
        (59, 0, allow),
        (0x40000000 + 57, 0, kill),
    ]:
        assert verdict(program, number, x86, argument) == expected, number
    assert verdict(program, 0, 0x40000003) == kill
    assert verdict(student_program("x86_64"), 59, x86) == refuse
    assert verdict(student_program("aarch64"), 221, 0xC00000B7) == refuse
    with pytest.raises(ValueError, match="not of 'riscv64'"):
        sandbox_program("riscv64")
