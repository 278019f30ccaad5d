"""Personal instances: the same again for the same student, another for every other, and nothing without the secret."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from ca14lib.grading import load_instance
from ca14lib.grading.instances import ASSIGNMENTS, draw_instance, generator_for


def test_a_draw_depends_on_secret_student_and_assignment_alone() -> None:
    def draw(*names: str) -> int:
        return int(generator_for(*names).integers(2**60))

    assert draw("s", "ann", "safe") == draw("s", "ann", "safe")
    others = [("t", "ann", "safe"), ("s", "bob", "safe"), ("s", "ann", "offline"), ("s", "ann\0", "safe")]
    assert len({draw("s", "ann", "safe"), *(draw(*names) for names in others)}) == 5
    assert draw("s", "J\u00fcrgen", "safe") == draw("s", "Ju\u0308rgen", "safe")
    for names in (("", "ann", "safe"), ("s", "", "safe")):
        with pytest.raises(ValueError, match="is empty"):
            generator_for(*names)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_instances_are_json_and_personal(name: str) -> None:
    first = draw_instance(name, "secret", "ann")
    assert first == draw_instance(name, "secret", "ann")
    if first:
        assert any(draw_instance(name, "secret", student) != first for student in ("bob", "cem", "dua"))


def test_what_is_drawn_has_to_survive_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawn in ({"limits": (1, 2)}, {1: 2}, {"x": float("nan")}, {"x": object()}):
        module = types.SimpleNamespace(draw=lambda generator, drawn=drawn: drawn)
        monkeypatch.setitem(sys.modules, "ca14lib.grading.instances.toy", module)
        with pytest.raises(ValueError, match=r"toy\.draw must return"):
            draw_instance("toy", "secret", "ann")


def test_an_instance_that_is_missing_or_spoilt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    with pytest.raises(FileNotFoundError, match="keep the file"):
        load_instance(path)
    for content in (b"{", b"\xff", b"[1]"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="the file"):
            load_instance(path)
    path.write_text('{"limit": 1.5}')
    assert load_instance(path) == {"limit": 1.5}
