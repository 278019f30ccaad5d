"""What hostile submissions get out of plain nbgrader, of otter-grader and of the course's grader.

    python -m benchmarks.grader_attacks [--graders .venv-graders/bin/python] [--only WORD --no-write]

One assignment of ten points (``tests/grading/toy.py``), written for each of the three as its manual recommends. In a
submission the first task holds the attack (``benchmarks.grader_attack_cells``) and the two others are right, so that a
full protection leaves eight points. The verdicts (:data:`MEANINGS`) are measured: from what stands in the grader's own
results, and from marks that an attack can leave. How each tool is set is in :data:`SETTINGS`. A container that the
instructor puts around a tool would mend some rows (files outside, daemons, memory) and leave those that win points.

The two tools have no protection of their own. They run here in namespaces of their own as an unprivileged user with
limits, may write in one folder that is thrown away, and no attack is without bounds. All of it takes half an hour. The
verdicts of the two tools are kept, so that after a change of the course's grader it takes two minutes.
"""

import argparse
import contextlib
import copy
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.grader_attack_cells import LEFT_OUT, NOT_APPLICABLE_TO, OTHER, SCRIPT, Attack, attacks
from benchmarks.peer_speed import ROOT
from ca14lib.experiments import write_results
from ca14lib.grading.batch import Judged
from ca14lib.grading.feedback import feedback_page
from ca14lib.grading.folders import replace_file
from ca14lib.grading.judge import Grade, grade
from ca14lib.grading.notebooks import SubmissionError, read_assignment, read_texts
from ca14lib.grading.results import Result
from ca14lib.grading.sandbox import Sandbox
from ca14lib.grading.session import Times
from tests.grading import toy
from tests.grading.attacks import WRONG

WON, BLOCKED, NO_GRADE, OWN_LOSS, NOT_APPLICABLE = "won", "blocked", "no grade", "own loss", "not applicable"
MEANINGS = {
    WON: "points for a wrong answer, or the effect that the attack is after: a hidden test or another submission read, "
    "a file written elsewhere, a process, thread or connection that should not be, memory or output without a limit",
    BLOCKED: "nothing is gained, and the right answers keep their points",
    NO_GRADE: "the submission has no grade, because the tool stops or does not end",
    OWN_LOSS: "nothing is gained, and the author's own right answers lose points",
    NOT_APPLICABLE: "the tool has nothing that this could be tried on",
}
TOOL_SECONDS, PROCESSOR_SECONDS, NBGRADER_CELL_SECONDS = 90, 20, 5
COURSE_TIMES = Times(call=1.5, cell=2.0, test=3.0, submission=60.0)
SETTINGS = {
    "nbgrader": "nbgrader autograde; asserts and hidden tests in locked cells; the defaults, but "
    f"{NBGRADER_CELL_SECONDS} instead of 30 seconds per cell",
    "otter": "otter assign and otter run; OK tests with hidden ones, all or nothing for a question as in the others; "
    f"the defaults, under which nothing limits time: ended after {PROCESSOR_SECONDS} seconds of a processor or "
    f"{TOOL_SECONDS} in all",
    "course": "the judge with its sandbox; the defaults, but "
    f"{COURSE_TIMES.call:g} seconds per call and {COURSE_TIMES.cell:g} per cell instead of 10 and 90",
}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
ATTACKED, REST = "toy-double-test", ("toy-means-test", "toy-act-test")
NOBODY = 65534

DOUBLE_HIDDEN = """\
rng = np.random.default_rng(20407)
for _ in range(3):
    secret_input = rng.normal(size=(2, 3))
    expected = 2 * secret_input
    assert np.allclose(double(secret_input), expected)"""
MEANS_HIDDEN = """\
rng = np.random.default_rng(20408)
table = rng.normal(size=(4, 5))
assert np.allclose(row_means(table), table.mean(axis=1))"""
ACT_HIDDEN = """\
state, total = 0, 0.0
for _ in range(4):
    action = int(act(np.array([state]))[0])
    total += float(state == 1 and action == 1)
    state = min(state + 1, 2) if action == 1 else 0
assert total >= 0.9"""
# what the toy's tests ask, in NumPy alone: the public lines and the hidden ones
PEER_TESTS = {
    "toy-double-test": (
        ["assert np.allclose(double(np.arange(3.0)), np.arange(3.0) * 2)", "assert double(1) == 2"],
        DOUBLE_HIDDEN,
    ),
    "toy-means-test": (["assert np.allclose(row_means(np.array([[1.0, 3.0]])), [2.0])"], MEANS_HIDDEN),
    "toy-act-test": (["assert len(act(np.arange(3))) == 3"], ACT_HIDDEN),
}
PEER_SETUP = "import numpy as np"


@dataclass(frozen=True)
class Observed:
    """What a grader did with a submission.

    Attributes:
        points: Of each test, None where the submission got no grade.
        effects: What the attack could do besides.
    """

    points: Mapping[str, float] | None
    effects: tuple[str, ...] = ()


def verdict(observed: Observed) -> str:
    """The word for what happened."""
    points = observed.points
    if observed.effects or (points is not None and points.get(ATTACKED, 0.0) > 0):
        return WON
    if points is None:
        return NO_GRADE
    return BLOCKED if all(points.get(key) == toy.TESTS[key][1] for key in REST) else OWN_LOSS


def effects_in(folder: Path) -> list[str]:
    """What attacks have left in a folder."""
    effects = [line for line in text_of(folder / "leaked").splitlines() if line]
    return effects + (["a daemon outlives the grading"] if (folder / "alive").exists() else [])


def text_of(path: Path) -> str:
    """The text of a file, empty where there is none; an attack may have written anything."""
    try:
        return path.read_text("utf8", errors="replace")
    except OSError:
        return ""


def gradebook_rows(book: Path, column: str) -> dict[str, float]:
    """A column of nbgrader's table of grades for the attacker's cells, where it is filled."""
    query = f"""
        SELECT base_cell.name, {column} FROM grade JOIN base_cell ON base_cell.id = grade.cell_id
        JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
        JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
        WHERE submitted_assignment.student_id = 'attacker'"""
    with contextlib.closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as connection:
        return {name: points for name, points in connection.execute(query) if points is not None}


@dataclass
class Confinement:
    """Where the two tools run: namespaces of their own, an unprivileged user, limits, and one folder to write in.

    Attributes:
        python: Interpreter of the tools' virtual environment.
        base: Folder of the interpreter behind it.
    """

    python: Path
    base: str = field(init=False)

    def __post_init__(self) -> None:
        if shutil.which("bwrap") is None:
            raise RuntimeError("bubblewrap is not installed: without it no hostile code is run here")
        self.base = self._said("import sys; print(sys.base_prefix)")

    def run(self, script: str, folder: Path, *, seconds: float, attack: Attack | None = None) -> None:
        """Run a shell script in a folder that it may write in; it and all that it starts have ended on return."""
        memory = 2**31
        if attack is not None:
            script, memory = attack.surroundings(script), attack.memory
        command = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts", "--die-with-parent"]
        command += ["--new-session", "--clearenv"]
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            link = Path("/", name)
            if link.is_symlink():
                command += ["--symlink", os.readlink(link), str(link)]
            elif link.is_dir():
                command += ["--ro-bind", str(link), str(link)]
        command += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(2**29), "--tmpfs", "/tmp"]
        trees = {Path(path): "--ro-bind" for path in ("/usr", "/etc", self.base, self.python.parents[1])}
        for path, kind in (trees | {folder: "--bind"}).items():
            for parent in list(path.parents)[-2::-1]:
                command += [] if parent == Path("/tmp") else ["--perms", "0755", "--dir", str(parent)]
            command += [kind, str(path), str(path)]
        command += ["--chdir", str(folder)]
        environment = {
            "HOME": folder / "home", "PATH": f"{self.python.parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "grader",
            "OMP_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1,
        }  # fmt: skip
        for name, value in environment.items():
            command += ["--setenv", name, str(value)]
        become: list[str] = []
        if os.getuid() == 0:
            for place in (folder, *folder.rglob("*")):
                os.chown(place, NOBODY, NOBODY)
            command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
            become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
        limits = ["prlimit", f"--as={memory}", "--nproc=400", f"--cpu={PROCESSOR_SECONDS}", "--nofile=1024", "--core=0"]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--", *become, *limits, "--", "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()  # the namespace of processes ends with it
            process.wait()

    def versions(self) -> dict[str, str]:
        """Of the two tools and of what runs their notebooks."""
        names = ("nbgrader", "otter-grader", "nbconvert", "nbclient", "ipykernel", "numpy")
        found = self._said(f"from importlib.metadata import version; print(*(version(name) for name in {names}))")
        return dict(zip(names, found.split(), strict=True))

    def _said(self, program: str) -> str:
        done = subprocess.run([str(self.python), "-c", program], capture_output=True, text=True, check=True)
        return done.stdout.strip()


class Nbgrader:
    """``nbgrader autograde``: the kernel has the rights of whoever grades."""

    def __init__(self, confinement: Confinement, template: Path) -> None:
        self.confinement, self.template = confinement, template
        cells = toy.cells()
        for cell in cells:
            if cell["id"] in PEER_TESTS:
                public, hidden = PEER_TESTS[cell["id"]]
                lines = [*public, "### BEGIN HIDDEN TESTS", hidden, "### END HIDDEN TESTS"]
                cell["source"] = "\n".join(lines)
            elif cell["id"] == "toy-setup":
                cell["source"] = PEER_SETUP
        course = template / "course"
        toy.write(course / "source" / "toy" / "toy.ipynb", toy.notebook(cells) | {"metadata": {"kernelspec": KERNEL}})
        lines = [
            "c = get_config()",
            'c.CourseDirectory.course_id = "toy"',
            f"c.Execute.timeout = {NBGRADER_CELL_SECONDS}",
        ]
        (course / "nbgrader_config.py").write_text("\n".join(lines), "utf8")
        (template / "home").mkdir()
        self._run(template, "generate_assignment toy", seconds=120)
        self.released = json.loads((course / "release" / "toy" / "toy.ipynb").read_text("utf8"))
        self._submit(template, "other", toy.DOUBLE, OTHER)
        self._run(template, "autograde toy --student other", seconds=120)
        self.gradebook = course / "gradebook.db"

    def observe(self, attack: Attack, folder: Path) -> Observed:
        """Grade one hostile submission in a new folder."""
        shutil.copytree(self.template, folder)
        other = folder / "course" / "submitted" / "other" / "toy" / "toy.ipynb"
        self._submit(folder, "attacker", attack.placed(folder, other), attack.analysis, attack.spoils_tests)
        commands = ["autograde toy --student attacker"]
        if attack.analysis:
            commands.append("generate_feedback toy --student attacker")
        self._run(folder, *commands, seconds=TOOL_SECONDS, attack=attack)
        effects = effects_in(folder)
        if SCRIPT in text_of(folder / "course" / "feedback" / "attacker" / "toy" / "toy.html"):
            effects.append("a script on the page of feedback")
        book = folder / "course" / "gradebook.db"
        if gradebook_rows(book, "manual_score"):
            effects.append("the gradebook is changed")
        points = gradebook_rows(book, "COALESCE(manual_score, auto_score)")
        return Observed(points if set(PEER_TESTS) <= set(points) else None, tuple(effects))

    def _run(self, folder: Path, *commands: str, seconds: float, attack: Attack | None = None) -> None:
        script = "; ".join(["cd course", *(f"python -m nbgrader {command}" for command in commands)])
        self.confinement.run(script, folder, seconds=seconds, attack=attack)

    def _submit(self, folder: Path, student: str, double: str, analysis: str, spoilt: bool = False) -> None:
        texts = toy.SOLUTIONS | {"toy-double": double, "toy-analysis": analysis}
        handed_in = copy.deepcopy(self.released)
        for cell in handed_in["cells"]:
            key = cell["metadata"].get("nbgrader", {}).get("grade_id")
            cell["source"] = "pass" if spoilt and key in PEER_TESTS else texts.get(key, cell["source"])
        toy.write(folder / "course" / "submitted" / student / "toy" / "toy.ipynb", handed_in)


class Otter:
    """``otter run``: grading without a container, the kernel has the rights of whoever grades."""

    def __init__(self, confinement: Confinement, template: Path) -> None:
        self.confinement, self.template = confinement, template
        parts = [("raw", "# ASSIGNMENT CONFIG\nname: toy\nexport_cell: false"), ("code", PEER_SETUP)]
        for key, solution in toy.SOLUTIONS.items():
            (public, hidden), (_, points) = PEER_TESTS[f"{key}-test"], toy.TESTS[f"{key}-test"]
            parts += [
                ("raw", f"# BEGIN QUESTION\nname: {key}-test\npoints: {points}\nall_or_nothing: true"),
                ("raw", "# BEGIN SOLUTION"),
                ("code", f"# BEGIN SOLUTION\n{solution}\n# END SOLUTION"),
                ("raw", "# END SOLUTION"),
                ("raw", "# BEGIN TESTS"),
                *(("code", text) for text in (*public, f"# HIDDEN\n{hidden}")),
                ("raw", "# END TESTS"),
                ("raw", "# END QUESTION"),
            ]
        cells = [toy.cell(None, text, kind) | {"id": f"cell-{n}"} for n, (kind, text) in enumerate(parts)]
        toy.write(template / "toy.ipynb", toy.notebook(cells) | {"metadata": {"kernelspec": KERNEL}})
        (template / "home").mkdir()
        confinement.run("python -m otter assign toy.ipynb dist", template, seconds=120)
        self.released = json.loads((template / "dist" / "student" / "toy.ipynb").read_text("utf8"))
        (archive,) = (template / "dist" / "autograder").glob("*.zip")
        shutil.move(archive, template / "autograder.zip")
        shutil.rmtree(template / "dist")
        (template / "toy.ipynb").unlink()
        self._submit(template, "other", f"{toy.DOUBLE}\n# {OTHER}")

    def observe(self, attack: Attack, folder: Path) -> Observed:
        """Grade one hostile submission in a new folder."""
        shutil.copytree(self.template, folder)
        other = folder / "submitted" / "other" / "toy.ipynb"
        self._submit(folder, "attacker", attack.placed(folder, other), attack.spoils_tests)
        (folder / "results").mkdir()
        command = "python -m otter run -a autograder.zip -o results submitted/attacker/toy.ipynb"
        self.confinement.run(command, folder, seconds=TOOL_SECONDS, attack=attack)
        points = None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            tests = json.loads(text_of(folder / "results" / "results.json"))["tests"]
            points = {test["name"]: test["score"] for test in tests if test["name"] in PEER_TESTS} or None
        return Observed(points, tuple(effects_in(folder)))

    def _submit(self, folder: Path, student: str, double: str, spoilt: bool = False) -> None:
        texts = list((toy.SOLUTIONS | {"toy-double": double}).values())
        handed_in = copy.deepcopy(self.released)
        for cell in handed_in["cells"]:
            if "otter_answer_cell" in cell["metadata"].get("tags", ()):
                cell["source"] = texts.pop(0)
            elif spoilt and "grader.check" in "".join(cell["source"]):
                cell["source"] = "pass"
        if spoilt:
            handed_in["metadata"]["otter"]["tests"] = {}
        toy.write(folder / "submitted" / student / "toy.ipynb", handed_in)


class Course:
    """The course's judge and its sandbox."""

    def __init__(self, sandbox: Sandbox, template: Path, gradebook: Path) -> None:
        self.sandbox, self.template, self.gradebook = sandbox, template, gradebook
        self.cells = toy.cells()
        for cell in self.cells:
            if cell["id"] == ATTACKED:  # with the variable that frames and objects are searched for
                call = "check_close(double(secret_input), "
                named = cell["source"].replace(f"{call}2 * secret_input", f"{call}expected")
                cell["source"] = named.replace(f"    {call}", f"    expected = 2 * secret_input\n    {call}")
        self.assignment = read_assignment(toy.write(template / "source" / "toy.ipynb", toy.notebook(self.cells)))

    def observe(self, attack: Attack, folder: Path) -> Observed:
        """Grade one hostile submission beside a folder in which everybody may write, if they reach it."""
        shutil.copytree(self.template, folder)
        (folder / "home").mkdir()
        book, other = folder / "course" / "gradebook.db", folder / "other.ipynb"
        book.parent.mkdir()
        shutil.copy(self.gradebook, book)
        other.write_text(OTHER, "utf8")
        cells = copy.deepcopy(self.cells)
        for cell in cells:
            if cell["id"] == "toy-double":
                cell["source"] = attack.placed(folder, other)
            elif cell["id"] == "toy-analysis" and attack.analysis:
                cell["source"] = attack.analysis
            elif attack.spoils_tests and cell["id"] in toy.TESTS:
                cell["source"] = "pass"
        path = toy.write(folder / "submitted" / "toy.ipynb", toy.notebook(cells))
        for place in (folder, *folder.rglob("*")):
            place.chmod(0o777 if place.is_dir() else 0o666)
        with attack.listener():
            try:
                graded = grade(self.assignment, path, worker=self.sandbox, seed=1, times=COURSE_TIMES)
            except SubmissionError:
                return Observed(None, tuple(effects_in(folder)))
        effects = effects_in(folder)
        if "LEAKED" in graded.output:
            effects.append(graded.output[graded.output.index("LEAKED") :][:100])
        if (folder / "home" / "written").exists():
            effects.append("a file outside")
        if book.read_bytes() != self.gradebook.read_bytes():
            effects.append("the gradebook is changed")
        if attack.analysis and SCRIPT in self._page(graded, path):
            effects.append("a script on the page of feedback")
        return Observed({mark.key: mark.points for mark in graded.marks}, tuple(effects))

    def _page(self, graded: Grade, path: Path) -> str:
        """The page of feedback that the student gets."""
        judged = Judged("attacker", "", graded, "", (), (), read_texts(path, self.assignment), "")
        result = Result("attacker", "toy", 12.0, graded, manual=dict.fromkeys(graded.manual))
        page = feedback_page(result, judged, self.assignment, {})
        if "What I found" not in page:
            raise RuntimeError("the page of feedback does not show the student's answer: this row would tell nothing")
        return page


def kept_verdict(cache: Path, grader: str, attack: Attack, versions: Mapping[str, str]) -> Path:
    """The file for a tool's verdict on an attack; another one as soon as either, or this file, has changed."""
    fixed = attack.placed(Path("folder"), Path("other"))
    parts = [
        grader,
        fixed,
        attack.analysis,
        attack.spoils_tests,
        attack.memory,
        attack.surroundings(""),
        dict(versions),
    ]
    digest = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(parts, sort_keys=True).encode())
    return cache / f"{grader}-{digest.hexdigest()[:16]}.json"


def check_controls(name: str, observe: Callable[[Attack, Path], Observed], folder: Path) -> None:
    """Hold that a tool gives right answers their points and a wrong one none, or its verdicts would mean nothing.

    Raises:
        RuntimeError: If it does not.
    """
    full = {key: float(points) for key, (_, points) in toy.TESTS.items()}
    for label, text, expected in (("right", toy.DOUBLE, full), ("wrong", WRONG, full | {ATTACKED: 0.0})):
        observed = observe(Attack(label, text), folder / label)
        if observed.effects or {key: (observed.points or {}).get(key) for key in full} != expected:
            log = text_of(folder / label / "log")[-2000:]
            raise RuntimeError(f"{name} makes {observed} of {label} answers, expected {expected}\n{log}")


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was reached with each grader."""
    found = table.drop(columns="attack").apply(pd.Series.value_counts)
    return found.reindex(list(MEANINGS)).fillna(0).astype(int).rename_axis("verdict").reset_index()


def write_counts(table: pd.DataFrame) -> None:
    """Store the counts of a table of verdicts."""
    write_results(
        "grader_attacks_counts", counted(table), command="python -m benchmarks.grader_attacks",
        modules=["ca14lib.grading.judge", "ca14lib.grading.feedback"],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graders", default=ROOT / ".venv-graders" / "bin" / "python", type=Path,
                        help="Python with the two graders")  # fmt: skip
    parser.add_argument("--only", default="", metavar="WORD", help="attacks with this in their label; not stored")
    parser.add_argument("--cache", default=ROOT / "runs" / "grader-attacks", type=Path,
                        help="folder of the two tools' verdicts, from which a stopped run goes on")  # fmt: skip
    parser.add_argument("--keep", type=Path, help="new folder for what the attacks leave; else it is thrown away")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    if not options.graders.exists():
        parser.error(f"there is no {options.graders}: `make graders` makes it, or name another one with --graders")
    rows, started = [], time.monotonic()
    confinement = Confinement(options.graders.absolute())
    versions = confinement.versions()
    options.cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ca14-attacks-")))
        for name in NOT_APPLICABLE_TO:
            (folder / name / "template").mkdir(parents=True)
        folder.chmod(0o755)  # the sandbox, not these rights, has to keep student code out
        nbgrader = Nbgrader(confinement, folder / "nbgrader" / "template")
        otter = Otter(confinement, folder / "otter" / "template")
        sandbox = stack.enter_context(Sandbox())
        course = Course(sandbox, folder / "course" / "template", nbgrader.gradebook)
        graders = {"nbgrader": nbgrader.observe, "otter": otter.observe, "course": course.observe}
        for name, observe in graders.items():
            check_controls(name, observe, folder / name)
        for number, attack in enumerate(attacks()):
            if options.only not in attack.words:
                continue
            row, seen = {"attack": attack.words}, []
            for name, observe in graders.items():
                if attack.label in NOT_APPLICABLE_TO[name]:
                    row[name] = NOT_APPLICABLE
                    continue
                kept = kept_verdict(options.cache, name, attack, versions)
                if name != "course" and kept.exists() and not options.keep:
                    row[name] = json.loads(kept.read_text("utf8"))["verdict"]
                    continue
                place, begun = folder / name / str(number), time.monotonic()
                observed = observe(attack, place)
                row[name] = verdict(observed)
                seen.append(f"{name} {time.monotonic() - begun:.1f} s {observed}")
                if name != "course":
                    replace_file(kept, json.dumps({"attack": attack.label, "verdict": row[name]}) + "\n")
                if not options.keep:
                    shutil.rmtree(place, ignore_errors=True)
            rows.append(row)
            print("{attack:48} {nbgrader:15} {otter:15} {course:15}".format(**row), flush=True)
            if options.only or options.keep:
                print(*(f"    {line[:300]}" for line in seen), sep="\n")
    table = pd.DataFrame(rows)
    print(counted(table).to_string(index=False))
    print(f"{(time.monotonic() - started) / 60:.1f} minutes")
    if not options.no_write and not options.only:
        write_results(
            "grader_attacks", table, command="python -m benchmarks.grader_attacks",
            modules=["ca14lib.grading.judge", "ca14lib.grading.feedback"],
            graders=versions, meanings=MEANINGS, settings=SETTINGS, left_out=LEFT_OUT,
        )  # fmt: skip
        write_counts(table)


if __name__ == "__main__":
    main()
