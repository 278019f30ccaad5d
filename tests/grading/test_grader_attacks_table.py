"""The stored table of attacks on three graders, and the functions that give its verdicts; no grader is run."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from benchmarks.grader_attack_cells import LEFT_OUT, NOT_APPLICABLE_TO, WORDS, Attack, attacks
from benchmarks.grader_attacks import (
    BLOCKED,
    MEANINGS,
    NO_GRADE,
    NOT_APPLICABLE,
    OWN_LOSS,
    WON,
    Observed,
    check_controls,
    effects_in,
    gradebook_rows,
    verdict,
)
from ca14lib.experiments import read_metadata, read_results
from tests.grading.attacks import ATTACKS, SPOILS_THE_REST

REST = {"toy-means-test": 3.0, "toy-act-test": 5.0}


def test_table_has_a_row_for_each_attack() -> None:
    assert list(read_results("grader_attacks")["attack"]) == [attack.words for attack in attacks()]
    labels = {attack.label for attack in attacks()}
    assert set(WORDS) <= labels
    assert set(ATTACKS) <= labels | set(LEFT_OUT)
    assert set(LEFT_OUT).isdisjoint(labels)


def test_course_blocks_every_attack() -> None:
    """Those that spoil the worker of their author cost the author's own points, and nobody else's."""
    course = read_results("grader_attacks").set_index("attack")["course"]
    expected = {a.words: OWN_LOSS if a.label in SPOILS_THE_REST else BLOCKED for a in attacks()}
    assert course.to_dict() == expected


def test_words_of_the_table_are_those_that_are_explained() -> None:
    table, metadata = read_results("grader_attacks"), read_metadata("grader_attacks")
    assert set(table[list(NOT_APPLICABLE_TO)].to_numpy().ravel()) <= set(MEANINGS)
    assert set(metadata["meanings"]) == set(MEANINGS)
    assert set(metadata["settings"]) == set(NOT_APPLICABLE_TO)
    for grader, labels in NOT_APPLICABLE_TO.items():
        words = {attack.words for attack in attacks() if attack.label in labels}
        assert set(table.loc[table[grader] == NOT_APPLICABLE, "attack"]) == words
        assert len(words) == len(labels)


@pytest.mark.parametrize(
    ("observed", "word"),
    [
        (Observed(REST | {"toy-double-test": 2.0}), WON),
        (Observed(REST | {"toy-double-test": 0.5}), WON),
        (Observed(REST | {"toy-double-test": 0.0}, ("a daemon outlives the grading",)), WON),
        (Observed(None, ("the gradebook is changed",)), WON),
        (Observed(REST | {"toy-double-test": 0.0}), BLOCKED),
        (Observed({"toy-double-test": 0.0, "toy-means-test": 3.0, "toy-act-test": 0.0}), OWN_LOSS),
        (Observed({"toy-double-test": 0.0, "toy-means-test": 3.0}), OWN_LOSS),
        (Observed(None), NO_GRADE),
    ],
)
def test_verdict_is_the_word_for_what_was_seen(observed: Observed, word: str) -> None:
    assert verdict(observed) == word


def test_what_an_attack_leaves_is_found(tmp_path: Path) -> None:
    assert effects_in(tmp_path) == []
    cell = Attack("planted", "leaked('a secret', 1)").placed(tmp_path, tmp_path)
    with contextlib.redirect_stdout(None):
        exec(cell, {})
    assert effects_in(tmp_path) == ["('a secret', 1)"]
    (tmp_path / "alive").touch()
    assert len(effects_in(tmp_path)) == 2
    (tmp_path / "leaked").write_bytes(b"\xff")
    assert len(effects_in(tmp_path)) == 2


def test_changed_marks_in_a_gradebook_are_found(tmp_path: Path) -> None:
    book = tmp_path / "gradebook.db"
    with contextlib.closing(sqlite3.connect(book)) as connection:
        connection.executescript("""
            CREATE TABLE base_cell (id, name);
            CREATE TABLE submitted_assignment (id, student_id);
            CREATE TABLE submitted_notebook (id, assignment_id);
            CREATE TABLE grade (notebook_id, cell_id, auto_score, manual_score);
            INSERT INTO base_cell VALUES (1, 'toy-double-test'), (2, 'toy-analysis');
            INSERT INTO submitted_assignment VALUES (1, 'attacker'), (2, 'other');
            INSERT INTO submitted_notebook VALUES (1, 1), (2, 2);
            INSERT INTO grade VALUES (1, 1, 0.0, NULL), (1, 2, NULL, NULL), (2, 1, 2.0, 2.0);
            """)
        assert gradebook_rows(book, "manual_score") == {}
        assert gradebook_rows(book, "auto_score") == {"toy-double-test": 0.0}
        connection.execute("UPDATE grade SET manual_score = 2")
        connection.commit()
    assert gradebook_rows(book, "manual_score") == {"toy-double-test": 2.0, "toy-analysis": 2.0}


def test_a_tool_that_does_not_grade_is_not_taken_for_one_that_blocks(tmp_path: Path) -> None:
    def right(attack: Attack, folder: Path) -> Observed:
        return Observed(REST | {"toy-double-test": 0.0 if "0 * x" in attack.text else 2.0})

    check_controls("a grader", right, tmp_path)
    for points in (None, {}, REST | {"toy-double-test": 0.0}, REST | {"toy-double-test": 2.0}):
        with pytest.raises(RuntimeError, match="a grader makes"):
            check_controls("a grader", lambda attack, folder, points=points: Observed(points), tmp_path)


def test_cells_are_complete(tmp_path: Path) -> None:
    """Every place is filled, and whatever is not meant to be broken is Python."""
    broken = {"no Python", "zeros in the text", "awaits and asks for IPython"}
    for attack in attacks():
        cell = attack.placed(tmp_path, tmp_path / "other.ipynb")
        assert not any(f"{{{place}}}" in cell for place in ("FOLDER", "SUBMISSION", "PORT", "DAEMON_SECONDS"))
        assert 'print("LEAKED"' not in attack.text or attack.label == "leaves a daemon"
        if attack.label not in broken:
            compile(cell, attack.label, "exec")
