"""The whole path of an honest student, in a real browser: from `ca14 assignment release` to the feedback page.

What a student types is typed or pasted, what she sees is looked for on the screen, and commands are run as she would
run them. The assignment is `robust`: it has all that an assignment can ask for, tests, words and a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil
import pytest

pytest.importorskip("nbgrader", reason="grading needs the extra grading")

from nbgrader.api import Gradebook
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from ca14lib.grading.notebooks import Assignment, read_assignment
from scripts.chromium import find, in_ci, missing_message
from tests.book.test_browser import ARGUMENTS, AXE, MILLISECONDS, OVERFLOW
from tests.book.test_browser import axe_source as axe_source  # a fixture
from tests.grading.test_release import real_source

# `book` keeps it out of the phases without a browser; `sandbox` skips it where there is no bubblewrap
pytestmark = [pytest.mark.book, pytest.mark.usefixtures("sandbox")]

NAME, AMARA, BO = "robust", "amara", "bo"
SECRET = "a secret of the term"
WRONG, TYPED = "robust-quantile", "return 0.0, 0 * prediction"
UNSOLVED = "robust-posterior"
PLAUSIBLE = "robust-calibration"  # passes the public test, which has no ties
PASTED = """def quantile_calibration(quantiles, fractions, outcomes, groups):
    under = outcomes[:, None] < quantiles
    observed = np.array([under[groups == group].mean(axis=0) for group in range(groups.max() + 1)])
    return observed, abs(observed - fractions).mean(axis=1).max()
"""
HINT = "Count outcomes under the quantile, ties half, inside each group. Book: How much does a model not know"
ANALYSIS = "robust-analysis"
ANSWER = "The robust plan gives up **1.5** in a calm, and gains 4 < 5 & more where nature does its worst; $q\\le c$."
COMMENT = "Both returns are there; where does the mass go?"
# Nobody has to answer whether JupyterLab may ask the network for news.
NOTIFICATIONS = {"fetchNews": "false", "checkForUpdates": False}
STARTING, STOPPING = 90, 30  # seconds
PROMPT = re.compile(r"^\[\d+\]:$")


@dataclass(frozen=True)
class Term:
    """Folders and files of a term, the assignment, and what was asked of a network."""

    folder: Path
    source: Path
    assignment: Assignment
    remote: list[str] = field(default_factory=list)

    def ca14(self, *arguments: object, cwd: Path, status: int) -> str:
        """What the command prints; its exit status has to be the expected one."""
        done = subprocess.run(
            [sys.executable, "-m", "ca14lib.cli", *map(str, arguments)], cwd=cwd, env=os.environ | {"COLUMNS": "240"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf8", check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    def options(self, *names: str) -> list[object]:
        known = {"--source": self.source.parent} | {
            option: self.folder / name
            for option, name in {"--secret-file": "secret", "--roster": "roster.csv", "--course": "course"}.items()
        }
        return [part for name in names for part in (name, known[name])]

    def solution(self, key: str) -> str:
        """The reference solution of a cell, without the marks around it."""
        (source,) = [cell.source for cell in self.assignment.cells if cell.key == key]
        return "\n".join(line for line in source.splitlines() if not line.strip().startswith("### "))

    @property
    def points(self) -> dict[str, float]:
        """Of every graded cell."""
        return {cell.key: cell.points for cell in (*self.assignment.tests, *self.assignment.manual)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        if in_ci():
            pytest.fail(missing_message())
        pytest.skip(missing_message())
    expect.set_options(timeout=MILLISECONDS / 2)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=MILLISECONDS)
        yield chromium
        chromium.close()


@pytest.fixture
def term(tmp_path: Path) -> Term:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "roster.csv").write_text(f"student,name\n{AMARA},Amara Diallo\n{BO},Bo Li\nchidi,Chidi Eze\n")
    source = real_source(NAME)
    return Term(tmp_path, source, read_assignment(source))


def test_an_honest_student_gets_from_the_release_to_the_feedback(term: Term, browser: Browser, axe_source: str) -> None:
    folder, everyone, course = (term.folder / name for name in ("out", "all", "course"))
    options = term.options("--source", "--secret-file", "--roster")
    said = term.ca14("assignment", "release", NAME, "--to", folder, *options, cwd=term.folder, status=0)
    assert "3 students" in said

    solve_in_the_browser(term, browser, folder / AMARA)
    check_as_a_student(term, folder / AMARA)

    shutil.copytree(folder / AMARA, everyone / AMARA)
    hand_in_the_reference(term, folder / BO, everyone / f"{BO}.zip")
    grade = ["grade", everyone, "--assignment", NAME, *term.options("--course"), *options, "--jobs", "2"]
    said = term.ca14(*grade, cwd=term.folder, status=0)
    assert "answers wait for marks by hand" in said
    tests = sum(cell.points for cell in term.assignment.tests)
    reached = tests - sum(term.points[f"{key}-test"] for key in (WRONG, UNSOLVED, PLAUSIBLE))
    assert grades(course) == {AMARA: (reached, True), BO: (tests, True), "chidi": (0.0, False)}

    mark_by_hand(course, AMARA, 1.5)
    term.ca14(*grade, cwd=term.folder, status=0)
    assert grades(course) == {AMARA: (reached + 1.5, False), BO: (tests, True), "chidi": (0.0, False)}

    text = look_at(term, browser, course / "feedback" / AMARA / f"{NAME}.html", axe_source)
    maximum, by_hand = sum(term.points.values()), term.points[ANALYSIS]
    for expected in (f"{reached + 1.5:g} of {maximum:g} points", f"1.5 of {by_hand:g}", ANSWER, COMMENT, HINT):
        assert expected in text
    assert "is 0, expected 1. Book: What does an agent know" in text
    assert "drifting_posterior: Weights" in text
    assert not hidden_lines(term, text)
    text = look_at(term, browser, course / "reports" / NAME / "similarity.html", axe_source)
    assert f"{AMARA} and {BO}" in text  # the rest of her answers is the reference solution
    assert not term.remote, "\n".join(term.remote)


def solve_in_the_browser(term: Term, browser: Browser, folder: Path) -> None:
    """Open, run, solve, run again and save, with mouse and keyboard alone."""
    notebook = folder / f"{NAME}.ipynb"
    before = nbformat.read(notebook, as_version=4)
    own = {cell.key for cell in term.assignment.cells if cell.kind in ("solution", "manual")}
    with jupyterlab(term.folder / "jupyter", folder) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.partition("/lab")[0])
        context.set_default_timeout(MILLISECONDS)
        page = watched(term, context.new_page())
        try:
            page.goto(address.format(path=f"tree/{notebook.name}"))
            opened = Notebook(page, before)
            opened.expect_locked("robust-setup")
            opened.expect_locked("robust-worst-case-test")

            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            opened.expect_message("robust-worst-case-test", "NotImplementedError: return a distribution q")
            page.screenshot(path=term.folder / "stub.png")
            expect(opened.prompt("robust-attack-test")).to_have_text("[ ]:")  # it stopped before

            for key in opened.code:
                if key == WRONG:
                    opened.type_over_the_stub(key, TYPED)
                elif key in own and key != UNSOLVED:
                    opened.paste(key, PASTED if key == PLAUSIBLE else term.solution(key))
                opened.run(key)
                if key == f"{UNSOLVED}-test":
                    opened.expect_message(key, "NotImplementedError: drifting_posterior")
                elif key == f"{WRONG}-test":
                    opened.expect_message(key, "is 0, expected 1. Book: What does an agent know")
                    page.screenshot(path=term.folder / "message.png")
                else:
                    expect(opened.output(key)).not_to_contain_text("Error")
            opened.write_words(ANALYSIS, ANSWER)
            page.screenshot(path=term.folder / "words.png")
            with page.expect_response(lambda reply: is_saved(reply, notebook.name)):
                page.keyboard.press("ControlOrMeta+s")
        finally:
            page.screenshot(path=term.folder / "jupyterlab.png")
            context.close()
    texts, after = by_key(before), by_key(nbformat.read(notebook, as_version=4))
    assert {key for key, text in texts.items() if after[key] != text} == own - {UNSOLVED}
    assert after[ANALYSIS] == ANSWER
    assert after["robust-worst-case"].strip() == term.solution("robust-worst-case").strip()
    assert (folder / "policy.safetensors").is_file()


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page: Page, notebook: Any) -> None:
        self.page = page
        self.keys = [cell.metadata.nbgrader.grade_id for cell in notebook.cells]
        self.code = [cell.metadata.nbgrader.grade_id for cell in notebook.cells if cell.cell_type == "code"]
        self.cells = page.locator(".jp-Notebook .jp-Notebook-cell")
        expect(self.cells).to_have_count(len(self.keys))
        expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")

    def cell(self, key: str) -> Locator:
        return self.cells.nth(self.keys.index(key))

    def editor(self, key: str) -> Locator:
        return self.cell(key).locator(".cm-content")

    def prompt(self, key: str) -> Locator:
        return self.cell(key).locator(".jp-InputPrompt")

    def output(self, key: str) -> Locator:
        return self.cell(key).locator(".jp-OutputArea").first

    def expect_locked(self, key: str) -> None:
        """What is typed into the cell does not get there, and the cell says so to a screen reader."""
        text = self.editor(key).text_content()
        self.editor(key).click()
        self.page.keyboard.type("x = 1")
        expect(self.editor(key)).to_have_attribute("aria-readonly", "true")
        expect(self.editor(key)).to_have_text(text or "")

    def expect_message(self, key: str, text: str) -> None:
        """The last line under the cell has the text."""
        message = self.output(key).locator("pre", has_text=text)
        message.scroll_into_view_if_needed()
        expect(message).to_be_in_viewport()
        expect(message).to_have_text(re.compile(rf"{re.escape(text)}[^\n]*\s*$"))

    def paste(self, key: str, text: str) -> None:
        """Replace all text of the cell."""
        self.page.evaluate("text => navigator.clipboard.writeText(text)", text)
        self.editor(key).click()
        for keys in ("ControlOrMeta+a", "ControlOrMeta+v"):
            self.page.keyboard.press(keys)
        expect(self.editor(key)).to_contain_text(text.strip().splitlines()[-1].strip())

    def type_over_the_stub(self, key: str, text: str) -> None:
        line = self.editor(key).locator(".cm-line", has_text="raise NotImplementedError")
        line.click()
        for keys in ("End", "Shift+Home"):
            self.page.keyboard.press(keys)
        self.page.keyboard.type(text)
        expect(line).to_have_count(0)

    def write_words(self, key: str, text: str) -> None:
        self.cell(key).locator(".jp-RenderedMarkdown").dblclick()
        self.editor(key).click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Shift+Enter")
        expect(self.cell(key).locator(".jp-RenderedMarkdown strong")).to_have_text("1.5")

    def run(self, key: str) -> None:
        """Run the cell and wait for its end."""
        before = self.prompt(key).text_content() or ""
        self.editor(key).click()
        self.page.keyboard.press("Shift+Enter")
        expect(self.prompt(key)).not_to_have_text(before)
        expect(self.prompt(key)).to_have_text(PROMPT)


def by_key(notebook: Any) -> dict[str, str]:
    """Texts of the cells that the assignment has; Shift+Enter in the last one adds another."""
    cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in cells}


def is_saved(reply: Any, name: str) -> bool:
    return reply.request.method == "PUT" and reply.url.partition("?")[0].endswith(f"/api/contents/{name}") and reply.ok


@contextlib.contextmanager
def jupyterlab(settings: Path, folder: Path) -> Iterator[str]:
    """JupyterLab as a new user has it; gives the address of a page, and leaves no process behind."""
    runtime, token = settings / "runtime", secrets.token_hex()
    variables = {"HOME": "home", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"} | {
        name: name.rpartition("_")[0].lower()
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    places = {name: str(settings / place) for name, place in variables.items()}
    for place in places.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    extension = Path(places["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
    extension.mkdir(parents=True)
    (extension / "notification.jupyterlab-settings").write_text(json.dumps(NOTIFICATIONS))
    log = settings / "log"
    with log.open("wb") as file:
        server = psutil.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                "--ServerApp.port=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
            ],
            cwd=folder, env=os.environ | places, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(lambda: server.poll() is not None or any(runtime.glob("jpserver-*.json")), STARTING, log)
        assert server.poll() is None, log.read_text("utf8")
        (about,) = runtime.glob("jpserver-*.json")
        wait_until(lambda: about.read_text("utf8").rstrip().endswith("}"), STARTING, log)
        yield json.loads(about.read_text("utf8"))["url"] + "lab/{path}?token=" + token
    finally:
        everything = [server, *(server.children(recursive=True) if server.is_running() else [])]
        server.terminate()
        _, left = psutil.wait_procs(everything, timeout=STOPPING)
        for process in left:
            process.kill()
    assert not left, f"JupyterLab left {left}"


def wait_until(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text("utf8")
        time.sleep(0.05)


def check_as_a_student(term: Term, folder: Path) -> None:
    said = term.ca14("assignment", "check", cwd=folder, status=1)
    passed = [test for test in term.assignment.tests if test.key not in (f"{WRONG}-test", f"{UNSOLVED}-test")]
    assert said.count(" passed ") == len(passed), said
    assert re.search(r"3 Quantiles .+ failed: .+ is 0, expected 1", said), said
    assert re.search(r"4 Posterior .+ not written yet", said), said
    assert re.search(r"8 What was bought.+ marked by hand", said), said
    score, maximum = (sum(test.points for test in tests) for tests in (passed, term.assignment.tests))
    assert f"public tests: {score:g} of {maximum:g} points" in said


def hand_in_the_reference(term: Term, folder: Path, archive: Path) -> None:
    """Another student's copy with all solutions, which pass the public tests, as a zip archive."""
    path = folder / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    own = {cell.key for cell in term.assignment.cells if cell.kind in ("solution", "manual")}
    for cell in notebook.cells:
        if cell.metadata.nbgrader.grade_id in own:
            cell.source = term.solution(cell.metadata.nbgrader.grade_id)
    nbformat.write(notebook, path)
    term.ca14("assignment", "check", cwd=folder, status=0)
    with zipfile.ZipFile(archive, "w") as file:
        for name in (path.name, "instance.json", *term.assignment.files):
            file.write(folder / name, name)


def grades(course: Path) -> dict[str, tuple[float, bool]]:
    """Points, and whether an answer waits for a mark, of every student of the roster."""
    table = pd.read_csv(course / "reports" / NAME / "grades.csv")
    return {row.student: (row.score, bool(row.needs_marking)) for row in table.itertuples()}


def mark_by_hand(course: Path, student: str, points: float) -> None:
    """As formgrader does when a teacher types points and a comment."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        (notebook,) = gradebook.find_submission(NAME, student).notebooks
        (row,) = [row for row in notebook.grades if row.name == ANALYSIS]
        row.manual_score, row.needs_manual_grade = points, False
        (comment,) = [comment for comment in notebook.comments if comment.name == ANALYSIS]
        comment.manual_comment = COMMENT
        gradebook.db.commit()


def look_at(term: Term, browser: Browser, path: Path, axe_source: str) -> str:
    """The text of a page that opens from a folder, without errors, on a screen and on a phone, in light and dark."""
    found: list[str] = []
    page = watched(term, browser.new_page())
    page.set_default_timeout(MILLISECONDS)
    page.on("pageerror", lambda error: found.append(f"page error: {error}"))
    page.on("console", lambda message: found.append(message.text) if message.type in ("error", "warning") else None)
    page.on("requestfailed", lambda request: found.append(f"did not load: {request.url}"))
    try:
        page.goto(path.as_uri(), wait_until="load")
        text = page.inner_text("body")
        page.evaluate(axe_source)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 900})
                if wide := page.evaluate(OVERFLOW):
                    found.append(f"wider than {width} pixels: {wide}")
                for violation in page.evaluate(AXE, ["html", {}])["violations"]:
                    places = " | ".join(" ".join(map(str, node["target"])) for node in violation["nodes"])
                    found.append(f"{scheme}, {width} pixels: axe {violation['id']}: {violation['help']}: {places}")
                page.screenshot(path=term.folder / f"{path.stem}-{scheme}-{width}.png", full_page=True)
        assert page.locator("script").count() == 0
    finally:
        page.close()
    assert not found, "\n".join(found)
    return text


def watched(term: Term, page: Page) -> Page:
    """The page; what it asks of a network is noted."""
    near = ("file:", "data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")
    page.on("request", lambda request: None if request.url.startswith(near) else term.remote.append(request.url))
    return page


def hidden_lines(term: Term, text: str) -> list[str]:
    """Lines of solutions and of hidden tests, and messages of hidden tests with their inputs, that are in a text."""
    lines = [line for key in (WRONG, UNSOLVED, PLAUSIBLE) for line in term.solution(key).splitlines()]
    for test in term.assignment.tests:
        source = test.source.splitlines()
        lines += [source[number - 1] for number in test.hidden_lines()]
    given = {line for cell in term.assignment.cells if cell.kind != "test" for line in cell.source.splitlines()}
    secret = {line.strip() for line in lines if line not in given and len(line.strip()) > 10}
    return [line for line in (*sorted(secret), "shares[") if line in text]
