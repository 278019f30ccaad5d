"""What a hostile student might hand in instead of ``double``: a cell that must not win the points of its test.

Whatever succeeds prints LEAKED. No attack may take points from the other tests either: the rest is graded.
"""

from __future__ import annotations

WRONG = "\ndef double(x):\n    return 0 * x\n"

# label: text of the cell that should define double
ATTACKS: dict[str, str] = {
    "patches NumPy's comparison": "np.allclose = np.array_equal = lambda *a, **k: True\nnp.isfinite = abs" + WRONG,
    "patches the checks": """
import ca14lib.grading, ca14lib.grading.check
for module in (ca14lib.grading, ca14lib.grading.check):
    module.check_close = module.check_true = lambda *a, **k: None
"""
    + WRONG,
    "defines the judge's names": """
class rng: pass
def check_close(*a, **k): pass
check_true = check_policy = check_close
np_of_the_judge = np
import builtins
builtins.AssertionError = KeyError
"""
    + WRONG,
    "strips asserts": "import ast\nast.Assert = ast.Pass" + WRONG,
    "prints a score": 'print(\'{"score": 10, "max_score": 10, "points": 10}\')' + WRONG,
    "returns a partial credit": "def double(x):\n    return {'points': 2, 'score': 2, 'partial': True}",
    "looks for hidden tests on the disk": """
import os
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if name not in ("proc", "usr", "sys", ".pyenv", "site-packages")]
    for name in files:
        if name.endswith((".ipynb", ".db", ".csv")) or "judge" in name or "solution" in name:
            print("LEAKED", top, name)
"""
    + WRONG,
    "looks for expected values in frames": """
import sys
def double(x):
    frame = sys._getframe()
    while frame:
        for value in (frame.f_locals | frame.f_globals).values():
            if isinstance(value, np.ndarray) and value.shape == np.shape(x) and np.allclose(value, 2 * x):
                return value
        frame = frame.f_back
    return 0 * x
""",
    "looks for expected values among all objects": """
import gc
def double(x):
    for value in gc.get_objects():
        if type(value) is dict and "secret_input" in value:
            print("LEAKED")
    return 0 * x
""",
    "ends the process in the cell": "import os\nos._exit(0)",
    "ends the process in the call": "import os\ndef double(x):\n    os._exit(0)",
    "raises SystemExit in the call": "def double(x):\n    raise SystemExit(0)",
    "raises SystemExit in the cell": "raise SystemExit(0)",
    "raises KeyboardInterrupt": "def double(x):\n    raise KeyboardInterrupt",
    "crashes": "import ctypes\ndef double(x):\n    ctypes.string_at(0)",
    "kills everyone": "import os\ndef double(x):\n    os.kill(-1, 9)\n    os.kill(os.getppid(), 9)\n    os.kill(0, 9)",
    "does not end in the cell": "while True:\n    pass",
    "does not end in the call": "def double(x):\n    while True:\n        pass",
    "sleeps in the call": "import time\ndef double(x):\n    time.sleep(1000)",
    "takes its time in every call": "import time\ndef double(x):\n    time.sleep(0.9)\n    return 2 * x",
    "backtracks without end": "import re\ndef double(x):\n    return re.match('(a+)+$', 'a' * 60 + 'b')",
    "blocks all signals and does not end": """
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True:
    pass
""",
    "forks": """
import os
try:
    while True:
        os.fork()
        print("LEAKED")
except OSError:
    pass
"""
    + WRONG,
    "starts a program": """
import os, subprocess
spawn = lambda: os.posix_spawn("/usr/bin/true", ["true"], {})
for start in (lambda: subprocess.run(["true"]), spawn, lambda: os.system("true")):
    try:
        if start() != 127 << 8:  # what system() returns where it cannot start the shell
            print("LEAKED")
    except OSError:
        pass
try:
    os.execv("/usr/bin/echo", ["echo", "LEAKED"])
except OSError:
    pass
"""
    + WRONG,
    "starts processes of multiprocessing": """
import multiprocessing
try:
    multiprocessing.get_context("fork").Process(target=print).start()
    print("LEAKED")
except OSError:
    pass
"""
    + WRONG,
    "leaves a daemon": """
import os
try:
    if os.fork() == 0:
        os.setsid()
        while True: pass
    print("LEAKED")
except OSError:
    pass
"""
    + WRONG,
    "takes all memory": "def double(x):\n    hoard = []\n    while True:\n        hoard.append(bytearray(2**24))",
    "takes all memory and catches it": """
def double(x):
    hoard = []
    while True:
        try:
            hoard.append(np.ones(2**22))
        except MemoryError:
            return hoard
""",
    "takes memory that is counted nowhere": """
import os
try:
    os.memfd_create("x")
    print("LEAKED")
except OSError:
    pass
import mmap
hoard = []
try:
    while True:
        hoard.append(mmap.mmap(-1, 2**28))
except OSError:
    hoard.clear()
"""
    + WRONG,
    "starts ten thousand threads": """
import threading, time
try:
    for _ in range(10000):
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
    print("LEAKED")
except RuntimeError:
    pass
"""
    + WRONG,
    "prints 200 MB": "print('x' * 1000)\nfor _ in range(200_000):\n    print('y' * 1000)",
    "prints without end in the call": "def double(x):\n    while True:\n        print('y' * 1000)",
    "writes outside its folder": """
import os
packages = os.path.dirname(np.__file__)
for place in ("/", "/runtime", "/usr", "/etc", "/tmp", "/dev", "/dev/shm", "/var", "/proc/self", packages):
    try:
        open(place + "/written", "w")
        print("LEAKED", place)
    except OSError:
        pass
"""
    + WRONG,
    "fills its folder": """
try:
    while True:
        with open("big", "ab") as file:
            file.write(bytes(2**20))
except OSError:
    pass
"""
    + WRONG,
    "makes files without end": """
try:
    for number in range(5000):
        open(f"file {number}", "w").close()
except OSError:
    pass
"""
    + WRONG,
    "opens files without end": """
hoard = []
try:
    while True:
        hoard.append(open("/dev/null"))
except OSError:
    pass
hoard.clear()
"""
    + WRONG,
    "calls out by the network": """
import socket
inet, unix = socket.AF_INET, socket.AF_UNIX
for family, address in ((inet, ("127.0.0.1", 22)), (inet, ("1.1.1.1", 53)), (unix, "/run/docker.sock")):
    try:
        socket.socket(family).connect(address)
        print("LEAKED")
    except OSError:
        pass
try:
    socket.socketpair()
    print("LEAKED")
except OSError:
    pass
"""
    + WRONG,
    "reads what belongs to others": """
import os, sys
packages = [os.path.dirname(np.__file__), sys.base_prefix]
outside = "/etc/shadow /etc/passwd /root /home /sys /var /tmp ../submitted"
for path in outside.split():
    try:
        names = os.listdir(path) if os.path.isdir(path) else [open(path).read()]
        if not all(any(place.startswith(f"{path}/{name}/") for place in packages) for name in names):
            print("LEAKED", path, names)
    except OSError:
        pass
"""
    + WRONG,
    "reads the memory of another process": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, 1, 0, 0) == 0:
    print("LEAKED")
"""
    + WRONG,
    "makes namespaces and mounts": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) == 0 or libc.mount(b"none", b"/student", b"tmpfs", 0, 0) == 0:
    print("LEAKED")
"""
    + WRONG,
    "raises its limits": """
import resource
for limit in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
    try:
        resource.setrlimit(limit, (resource.RLIM_INFINITY,) * 2)
        print("LEAKED")
    except (ValueError, OSError):
        pass
"""
    + WRONG,
    "imports the answers": """
import importlib
for name in ("solvers", "agents", "metrics", "networks", "grading.judge", "grading.instances.offline"):
    try:
        importlib.import_module("ca14lib." + name)
        print("LEAKED", name)
    except ImportError:
        pass
"""
    + WRONG,
    "objects that are equal to everything": """
class Equal:
    def __eq__(self, other): return True
    def __bool__(self): return True
    def __array_function__(self, *a): return True
    def __array__(self, *a, **k): return np.zeros(3)
    def __float__(self): return 2.0
def double(x):
    return Equal()
""",
    "an array of a class of its own": """
class Equal(np.ndarray):
    def __eq__(self, other): return True
    def __abs__(self): return self * 0
    def __array_ufunc__(self, *a, **k): return np.True_
    def __reduce__(self): return (print, ("LEAKED",))
def double(x):
    return np.zeros(np.shape(x)).view(Equal)
""",
    "numbers of a class of its own": """
class Two(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
def double(x):
    return Two(0) if np.isscalar(x) else [Two(0)] * len(x)
""",
    "something to be unpickled": """
class Evil:
    def __reduce__(self): return (print, ("LEAKED",))
import pickle
def double(x):
    return pickle.dumps(Evil())
""",
    "an array of objects": "def double(x):\n    return np.array([object()] * 3)",
    "an empty array": "def double(x):\n    return np.zeros((0, *np.shape(x)))",
    "an array that broadcasts": "def double(x):\n    return np.zeros((1,) * (np.ndim(x) + 1))",
    "not a number": "def double(x):\n    return np.full(np.shape(x), np.nan)",
    "infinity": "def double(x):\n    return np.full(np.shape(x), np.inf)",
    "a whole number of a million digits": "def double(x):\n    return 10 ** 1_000_000",
    "a list that contains itself": "def double(x):\n    loop = []\n    loop.append(loop)\n    return loop",
    "a dict that contains itself": "def double(x):\n    loop = {}\n    loop[0] = loop\n    return loop",
    "a list of a million": "def double(x):\n    return [0.0] * 1_000_000",
    "an array of a gigabyte": "def double(x):\n    return np.broadcast_to(np.zeros(1), (2**27,))",
    "a string of a gigabyte": "def double(x):\n    return 'x' * 2**29",
    "a generator": "def double(x):\n    yield 2 * x",
    "a class in place of the function": """
class double:
    def __new__(cls, x): return 2 * x
    def __eq__(self, other): return True
""",
    "a constant in place of the function": "double = 2.0",
    "an error whose text fails": """
class Evil(Exception):
    def __str__(self): raise SystemExit
def double(x):
    raise Evil
""",
    "an error that pretends to be the judge's": """
from ca14lib.grading import CheckError
def double(x):
    raise CheckError("passed", "passed")
""",
    "an array whose entries are all masked": """
def double(x):
    return np.ma.masked_all(np.shape(x))  # whatever it is compared with, (this != other).any() is not true
""",
    "numbers as text": """
def double(x):
    return [str(2 * value) for value in x] if np.ndim(x) == 1 else np.full(np.shape(x), "1.0")
""",
    "complex numbers": "def double(x):\n    return np.asarray(x) * 2 + 0j",
    "numbers wider than any that may cross": "def double(x):\n    return np.asarray(x, dtype=np.longdouble) * 2",
    "an array with fields": "def double(x):\n    return np.zeros(np.shape(x), dtype=[('points', float)])",
    "a tensor without memory": "import torch\ndef double(x):\n    return torch.zeros(np.shape(x), device='meta')",
    "a sparse tensor": "import torch\ndef double(x):\n    return torch.zeros(np.shape(x)).to_sparse()",
    "a tensor of a class of its own": """
import torch
class Equal(torch.Tensor):
    @classmethod
    def __torch_function__(cls, *a, **k): return True
def double(x):
    return torch.zeros(np.shape(x)).as_subclass(Equal)
""",
    "changes what it was given": "def double(x):\n    x *= 0\n    return x",
    "a reply that drips": """
import json, os, struct, sys, time
def double(x):
    head = json.dumps({"id": 1, "ok": True, "value": None}).encode()
    for byte in struct.pack(">II", len(head), 0) + head:
        os.write(int(sys.argv[1]), bytes([byte]))
        time.sleep(0.3)
""",
    "the largest reply to every call": "def double(x):\n    return np.zeros(2**22 - 2**17)",
    "replies that say it is no function but a right value": """
import ca14lib.grading.worker as worker
pack = worker.pack
def forged(message):
    changed = {"kind": "value", "value": True} if "kind" in message else {}
    return pack({**message, **changed})
worker.pack = forged
""",
    "replies whose errors are long": """
import ca14lib.grading.worker as worker
pack = worker.pack
worker.pack = lambda message: pack(
    {"id": message["id"], "ok": False, "type": "x" * 60_000, "message": "y" * 60_000, "where": ["z" * 60_000] * 10}
)
""",
    "works in the background after its reply": """
import threading
def burn():
    square = np.ones((300, 300))
    while True:
        square @ square
for _ in range(4):
    threading.Thread(target=burn, daemon=True).start()
"""
    + WRONG,
    "reads the process that started it": """
import os, sys
packages = [os.path.dirname(np.__file__), sys.base_prefix]
found = os.listdir("/proc/1/root") + os.listdir("/proc/1/cwd/..")
for name in {"home", "tmp", "var", "etc/passwd"} & set(found):
    if not any(place.startswith(f"/{name}/") for place in packages):
        print("LEAKED", found)
for name in os.listdir("/proc/1/fd"):
    if os.readlink(f"/proc/1/fd/{name}").startswith("/") and "null" not in os.readlink(f"/proc/1/fd/{name}"):
        print("LEAKED", os.readlink(f"/proc/1/fd/{name}"))
for name in ("1", "self", "thread-self"):
    try:
        open(f"/proc/{name}/mem", "r+b")
        print("LEAKED", name)
    except OSError:
        pass
if b"SECRET" in open("/proc/1/environ", "rb").read():
    print("LEAKED")
"""
    + WRONG,
    "finds a place to write": """
import os
for top, _, _ in os.walk("/"):
    if not top.startswith(("/proc", "/student")) and os.access(top, os.W_OK):
        print("LEAKED", top)
"""
    + WRONG,
    "makes links and pipes that lead outside": """
import os
os.mkfifo("pipe")
os.symlink("/proc/1/" + "root/etc/passwd", "link")
try:
    print("LEAKED", open("link").read())
except OSError:
    pass
try:
    os.link("/usr/bin/env", "hard")
    print("LEAKED")
except OSError:
    pass
"""
    + WRONG,
    "awaits and asks for IPython": """
get_ipython().run_line_magic("run", "toy.ipynb")
await something
""",
    "no bottom": "def double(x):\n    return double(x)",
    "no bottom in the parser": "exec('(' * 100_000 + ')' * 100_000)",
    "no definition": "",
    "no Python": "def double(x:\n  return ](",
    "zeros in the text": "x = '\\0'\ndef double(x):\n\0    return 2",
    "noise on the judge's line": """
import os, sys
def double(x):
    os.write(int(sys.argv[1]), os.urandom(1000))
    return 2 * x
""",
    "a reply ahead of the question": """
import sys
from ca14lib.grading.protocol import pack
def double(x):
    import os
    for number in range(100):
        os.write(int(sys.argv[1]), pack({"id": number, "ok": True, "value": 2 * x}))
    return 2 * x
""",
    "floods the judge's line": """
import os, sys
def double(x):
    while True:
        os.write(int(sys.argv[1]), bytes(2**16))
""",
    "announces four gigabytes": """
import os, sys
def double(x):
    os.write(int(sys.argv[1]), b"\\xff" * 8)
""",
    "a header of brackets": """
import os, struct, sys
def double(x):
    os.write(int(sys.argv[1]), struct.pack(">II", 10**6, 0) + b"[" * 10**6)
""",
    "one array claimed many times": """
import json, os, struct, sys
def double(x):
    head = json.dumps({"id": 1, "ok": True, "value": ["list", [["array", "float64", [2**20]]] * 1000]}).encode()
    data = bytes(2**23)
    for part in (struct.pack(">II", len(head), len(data)), head, data):
        while part:
            part = part[os.write(int(sys.argv[1]), part):]
""",
    "closes the judge's line": "import os, sys\ndef double(x):\n    os.close(int(sys.argv[1]))",
    "closes everything": "import os\ndef double(x):\n    os.closerange(0, 256)",
    "reads the judge's questions in the background": """
import os, threading
def steal():
    while True:
        for number in range(3, 64):
            try:
                os.set_blocking(number, False)
                os.read(number, 1)
            except OSError:
                pass
threading.Thread(target=steal, daemon=True).start()
def double(x):
    while True: pass
""",
    "replaces the worker's functions": """
import ca14lib.grading.worker as worker, ca14lib.grading.protocol as protocol
worker.pack = protocol.pack = lambda message: b"passed"
"""
    + WRONG,
    "removes the interpreter's modules": "import sys\nsys.modules.clear()" + WRONG,
    "reads standard input": "def double(x):\n    return input()",
    "special-cases what the public test asks": """
def double(x):
    return np.arange(3.0) * 2 if np.shape(x) == (3,) else 2 if np.isscalar(x) else 0 * x
""",
    "writes a file of its own instance": """
import json
json.dump({"limit": 1e9}, open("instance.json", "w"))
"""
    + WRONG,
}

# what a student does to the own worker for good, so that the own other tests cannot be judged either
SPOILS_THE_REST = (
    "reads the judge's questions in the background",
    "removes the interpreter's modules",
    "replies that say it is no function but a right value",
    "replies whose errors are long",
)
# what is over when the cell is: it must not change what the student's right answers are worth
IN_A_CELL = {
    label: text.removesuffix(WRONG)
    for label, text in ATTACKS.items()
    if text.endswith(WRONG) and label not in SPOILS_THE_REST
} | {label: text for label, text in ATTACKS.items() if "def double" not in text and label not in SPOILS_THE_REST}
