"""Folders and archives as students and learning platforms leave them, and as nobody should."""

from __future__ import annotations

import io
import json
import os
import resource
import zipfile
from pathlib import Path

import pytest

from ca14lib.grading.collect import Content, HandedIn, find_submissions, read_content
from ca14lib.grading.notebooks import Assignment, SubmissionError, read_assignment
from tests.grading import toy

NOTEBOOK = json.dumps(toy.notebook(toy.cells())).encode()


@pytest.fixture(scope="module")
def with_file(tmp_path_factory: pytest.TempPathFactory) -> Assignment:
    path = toy.write(
        tmp_path_factory.mktemp("source") / "toy.ipynb", toy.notebook(toy.cells(), files=["policy.safetensors"])
    )
    return read_assignment(path)


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def only(folder: Path, assignment: Assignment) -> Content:
    (found,), _ = find_submissions(folder)
    return read_content(found, assignment)


def problem(folder: Path, assignment: Assignment) -> str:
    with pytest.raises(SubmissionError) as caught:
        only(folder, assignment)
    return str(caught.value)


@pytest.mark.parametrize("inner", ["", "toy/"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_layout_gives_the_same_content(inner: str, packed: bool, tmp_path: Path, with_file: Assignment) -> None:
    members = {f"{inner}toy.ipynb": NOTEBOOK, f"{inner}policy.safetensors": b"weights", f"{inner}notes.txt": b"x"}
    if packed:
        archive(tmp_path / "all" / "anna.zip", members)
    else:
        for name, content in members.items():
            path = tmp_path / "all" / "anna" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert only(tmp_path / "all", with_file) == Content(NOTEBOOK, {"policy.safetensors": b"weights"})


def test_a_single_notebook_under_another_name_is_taken_with_a_note(tmp_path: Path, with_file: Assignment) -> None:
    archive(tmp_path / "anna.zip", {"toy-1 (final).ipynb": NOTEBOOK, "__MACOSX/._toy.ipynb": b"x"})
    content = only(tmp_path, with_file)
    assert content.notebook == NOTEBOOK
    assert content.notes == ("the notebook is named 'toy-1 (final).ipynb', expected toy.ipynb",)


def test_what_cannot_be_meant_is_said(tmp_path: Path, with_file: Assignment) -> None:
    archive(tmp_path / "a" / "anna.zip", {"one.ipynb": NOTEBOOK, "two.ipynb": NOTEBOOK})
    assert problem(tmp_path / "a", with_file) == "toy.ipynb is missing: there are one.ipynb, two.ipynb"
    (tmp_path / "b" / "anna").mkdir(parents=True)
    assert problem(tmp_path / "b", with_file) == "toy.ipynb is missing: there is no notebook"


def test_names_that_lead_elsewhere_write_nothing(tmp_path: Path, with_file: Assignment) -> None:
    """Nothing is unpacked: of a name only its last part counts."""
    members = {"../../toy.ipynb": NOTEBOOK, "/etc/policy.safetensors": b"1", "..\\..\\other.txt": b"2"}
    archive(tmp_path / "in" / "all" / "anna.zip", members)
    assert only(tmp_path / "in" / "all", with_file) == Content(NOTEBOOK, {"policy.safetensors": b"1"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_not_unpacked(method: int, tmp_path: Path, with_file: Assignment) -> None:
    archive(tmp_path / "all" / "anna.zip", {"toy.ipynb": bytes(3 * 10**8)}, method)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = problem(tmp_path / "all", with_file)
    assert ("has more than" in said) if method == zipfile.ZIP_DEFLATED else ("unusual way" in said)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_a_bomb_beside_a_good_notebook_is_a_note(tmp_path: Path, with_file: Assignment) -> None:
    archive(tmp_path / "anna.zip", {"toy.ipynb": NOTEBOOK, "policy.safetensors": bytes(10**7)})
    assert only(tmp_path, with_file).notes == ("policy.safetensors has more than 1,048,576 bytes",)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is not a zip archive"),
        (b"PK\x03\x04 broken", "is not a zip archive"),
        (bytes(21 * 2**20), "has more than 20,971,520 bytes"),
    ],
)
def test_what_is_no_archive_is_said(content: bytes, said: str, tmp_path: Path, with_file: Assignment) -> None:
    (tmp_path / "anna.zip").write_bytes(content)
    assert said in problem(tmp_path, with_file)


def test_damaged_encrypted_linked_and_crowded_archives_are_said(tmp_path: Path, with_file: Assignment) -> None:
    good = archive(tmp_path / "good.zip", {"toy.ipynb": os.urandom(1000)}, zipfile.ZIP_STORED).read_bytes()
    cases = {"damaged": bytearray(good), "encrypted": bytearray(good)}
    cases["damaged"][100] ^= 255
    central = good.index(b"PK\x01\x02")
    cases["encrypted"][6] |= 1
    cases["encrypted"][central + 8] |= 1
    for name, content in cases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "anna.zip").write_bytes(content)
    assert "cannot be unpacked" in problem(tmp_path / "damaged", with_file)
    assert "is encrypted" in problem(tmp_path / "encrypted", with_file)
    link = zipfile.ZipInfo("toy.ipynb")
    link.external_attr = 0o120777 << 16
    (tmp_path / "link").mkdir()
    with zipfile.ZipFile(tmp_path / "link" / "anna.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    assert "links are not followed" in problem(tmp_path / "link", with_file)
    archive(tmp_path / "crowd" / "anna.zip", {f"{n}": b"" for n in range(10_001)})
    assert "10,000 entries" in problem(tmp_path / "crowd", with_file)


def test_links_and_devices_in_folders_are_not_followed(tmp_path: Path, with_file: Assignment) -> None:
    secret = tmp_path / "secret.ipynb"
    secret.write_bytes(NOTEBOOK)
    (tmp_path / "a" / "anna").mkdir(parents=True)
    (tmp_path / "a" / "anna" / "toy.ipynb").symlink_to(secret)
    assert "links are not followed" in problem(tmp_path / "a", with_file)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "anna").symlink_to(tmp_path / "a" / "anna")
    assert "links are not followed" in problem(tmp_path / "b", with_file)
    (tmp_path / "c" / "anna").mkdir(parents=True)
    (tmp_path / "c" / "anna" / "toy").symlink_to(tmp_path / "a" / "anna")
    assert "links are not followed" in problem(tmp_path / "c", with_file)
    (tmp_path / "d" / "anna").mkdir(parents=True)
    os.mkfifo(tmp_path / "d" / "anna" / "toy.ipynb")
    assert "not a regular file" in problem(tmp_path / "d", with_file)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "anna.zip").symlink_to(archive(tmp_path / "good.zip", {"toy.ipynb": NOTEBOOK}))
    assert "links are not followed" in problem(tmp_path / "e", with_file)


def test_a_notebook_of_100_megabytes_is_not_read(tmp_path: Path, with_file: Assignment) -> None:
    (tmp_path / "all" / "anna").mkdir(parents=True)
    with (tmp_path / "all" / "anna" / "toy.ipynb").open("wb") as file:
        file.truncate(10**8)
    assert problem(tmp_path / "all", with_file) == "toy.ipynb has more than 10,485,760 bytes"


def test_students_are_found_by_name_and_the_rest_is_named(tmp_path: Path) -> None:
    for name in ("Zoë", "zhang wei", "[a-z]*", "o'brien", "李雷"):
        (tmp_path / name).mkdir()
    archive(tmp_path / "Bob.ZIP", {"toy.ipynb": NOTEBOOK})
    (tmp_path / "bob").mkdir()
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "tab\there").mkdir()
    found, ignored = find_submissions(tmp_path)
    assert [one.student for one in found] == ["Bob", "Zoë", "[a-z]*", "o'brien", "zhang wei", "李雷"]
    assert len(ignored) == 3
    assert "readme.txt" in ignored
    assert any("Bob.ZIP is graded" in text for text in ignored)
    assert any("control character" in text for text in ignored)


def test_nothing_to_grade_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_submissions(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no submissions"):
        find_submissions(tmp_path)


def test_a_problem_found_with_the_name_is_kept(with_file: Assignment) -> None:
    with pytest.raises(SubmissionError, match="no reason"):
        read_content(HandedIn("anna", Path("anna"), "no reason"), with_file)


def test_an_archive_that_lies_about_sizes_is_cut(tmp_path: Path, with_file: Assignment) -> None:
    """The sizes in the directory say ten bytes, the stream holds more."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("toy.ipynb", bytes(3 * 10**7))
    content = bytearray(data.getvalue())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = (10).to_bytes(4, "little")
    (tmp_path / "anna.zip").write_bytes(content)
    assert problem(tmp_path, with_file)
