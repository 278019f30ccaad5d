"""The system calls that student code may not make, as programs for the kernel's filter (seccomp).

A program is a list of instructions of eight bytes (``man 2 seccomp``); no library is needed to write one. There are
two: bubblewrap loads the first, and the worker the second before any student code, because bubblewrap itself has to
start the worker by one of the calls that the second forbids.
"""

import platform
import struct

INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, constant
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
CALL, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # where the kernel puts what a program looks at
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x00010000
X32 = 0x40000000  # a second table of numbers for the same calls

# name: number on x86_64, on aarch64; None where the call does not exist
SYSTEM_CALLS: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "inotify_init1": (294, 26),
    "inotify_init": (253, None),
    "personality": (135, 92),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "mknod": (133, None),
    "mknodat": (259, 33),
}
STARTING = {"execve": (59, 221), "execveat": (322, 281)}
CLONE, CLONE3 = (56, 220), (435, 435)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, number of the architecture


def sandbox_program(machine: str | None = None) -> bytes:
    """For bubblewrap: no process, socket, memory file, other process, mount or kernel interface; threads are allowed.

    Raises:
        ValueError: If the numbers of this machine's system calls are not known.
    """
    column, architecture = _machine(machine)
    program = _opening(architecture)
    for numbers in SYSTEM_CALLS.values():
        number = numbers[column]
        if number is not None:
            program += _refusal(number, EPERM)
    program += _refusal(CLONE3[column], ENOSYS)  # its flags are out of reach; callers then fall back on clone
    program += [
        (EQUAL, 0, 3, CLONE[column]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (ANY_BIT, 1, 0, CLONE_THREAD),
        (RETURN, 0, 0, ERROR | EPERM),
    ]
    return _assembled(program)


def student_program(machine: str | None = None) -> bytes:
    """For the worker: it can start no other program any more.

    Raises:
        ValueError: If the numbers of this machine's system calls are not known.
    """
    column, architecture = _machine(machine)
    program = _opening(architecture)
    for numbers in STARTING.values():
        program += _refusal(numbers[column], EPERM)
    return _assembled(program)


def forbidden_numbers(machine: str | None = None) -> list[int]:
    """The calls that the first program refuses, without those that would start a process where it is missing."""
    column, _ = _machine(machine)
    numbers = [pair[column] for name, pair in SYSTEM_CALLS.items() if name not in ("fork", "vfork")]
    return [number for number in numbers if number is not None]


def _machine(machine: str | None) -> tuple[int, int]:
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise ValueError(f"the sandbox knows the system calls of {' and '.join(MACHINES)}, not of {machine!r}")
    return MACHINES[machine]


def _opening(architecture: int) -> list[tuple[int, int, int, int]]:
    """End a process that calls by another architecture's numbers, else load the number of the call."""
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, CALL),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
    ]


def _refusal(number: int, error: int) -> list[tuple[int, int, int, int]]:
    return [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | error)]


def _assembled(program: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(INSTRUCTION.pack(*line) for line in [*program, (RETURN, 0, 0, ALLOW)])
