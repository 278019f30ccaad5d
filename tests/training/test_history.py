"""The record of a training run."""

import numpy as np
import pytest

from ca14lib.training import History


def history() -> History:
    record = History()
    record.add(0, {"return": -1.0})
    record.add(5, {"loss": np.float32(0.5), "return": 2})
    record.add(10, {"loss": 0.25})
    return record


def test_the_frame_is_tidy():
    frame = history().frame
    assert list(frame.columns) == ["step", "metric", "value"]
    assert frame["step"].tolist() == [0, 5, 5, 10]
    assert frame["metric"].tolist() == ["return", "loss", "return", "loss"]
    assert frame["value"].dtype == float
    assert History().frame.columns.tolist() == ["step", "metric", "value"]


def test_last_is_the_newest_value_and_series_is_indexed_by_step():
    assert history().last("loss") == 0.25
    assert history().last("return") == 2.0
    assert history().series("return").to_dict() == {0: -1.0, 5: 2.0}
    assert history().series("return").name == "return"


def test_an_unknown_metric_is_answered_with_those_there_are():
    with pytest.raises(KeyError, match=r"profit.*loss.*return"):
        history().last("profit")


def test_histories_are_equal_when_every_number_is():
    assert history() == history()
    changed = history()
    changed.add(11, {"loss": 0.25})
    assert changed != history()
    assert history() != history().rows


def test_rows_are_a_copy_from_which_the_history_is_made_again():
    record = history()
    assert History(record.rows) == record
    record.rows.clear()
    assert len(record.rows) == 4


def test_a_history_with_a_missing_number_still_equals_its_copy():
    record = History([(1, "loss", float("nan")), (1, "return", float("-inf"))])
    assert History([(1, "loss", float("nan")), (1, "return", float("-inf"))]) == record


def test_it_says_in_a_line_what_it_holds():
    assert repr(history()) == "History(4 values up to step 10: loss, return)"
    assert repr(History()) == "History(0 values up to step 0: )"
