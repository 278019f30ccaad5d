"""What is known of a student's submission once it is graded: plain values that reports and exports are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ca14lib.grading.judge import Grade


@dataclass(frozen=True)
class Result:
    """A submission in the gradebook.

    Attributes:
        student: Identifier, the name of the folder of the submission.
        assignment: Name of the assignment.
        maximum: Points that tests and manual marks can give together.
        grade: The judge's; None where the submission could not be read or there is none.
        problem: Why there is no grade, in words for the student; empty where there is one.
        manual: Points given by hand by cell id; None where nobody has marked it yet.
        replaced: Points that somebody put by hand in the place of a test's, by the id of the test.
        comments: Of the marker, by cell id.
        late_penalty: Points taken off for lateness, at least 0.
        submitted: When it was handed in, with a time zone, where that is known.
    """

    student: str
    assignment: str
    maximum: float
    grade: Grade | None
    problem: str = ""
    manual: Mapping[str, float | None] = field(default_factory=dict)
    replaced: Mapping[str, float] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    late_penalty: float = 0.0
    submitted: datetime | None = None

    @property
    def test_score(self) -> float:
        """Points of the tests."""
        judged = {mark.key: mark.points for mark in self.grade.marks} if self.grade is not None else {}
        return sum((judged | dict(self.replaced)).values())

    @property
    def manual_score(self) -> float:
        """Points given by hand so far."""
        return sum(points for points in self.manual.values() if points is not None)

    @property
    def needs_marking(self) -> bool:
        """Whether a cell waits for a mark by hand."""
        return any(points is None for points in self.manual.values())

    @property
    def score(self) -> float:
        """Everything, lateness taken off, never below 0."""
        return max(0.0, self.test_score + self.manual_score - self.late_penalty)
