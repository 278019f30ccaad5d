"""Assignments: the checks that tests are written with, the sandbox for student code, and the judge.

Only what a student's notebook needs is imported here, so that it works on every system; the instructor's side is in
``ca14lib.grading.judge`` (``grade``) and ``ca14lib.grading.sandbox`` (``Sandbox``, ``self_test``), which need Linux.
Book: assignments/index.
"""

from ca14lib.grading.check import CheckError, check_close, check_policy, check_true
from ca14lib.grading.instances import load_instance

__all__ = ["CheckError", "check_close", "check_policy", "check_true", "load_instance"]
