"""What nbval sees: a kernel that does not answer when it is started is given up and started again.

Kernels choose free ports some time before they bind them. Where two start at once, one may be left waiting for a
message that never comes; nbval then gives up the whole notebook although no cell was run.
"""

from collections.abc import Callable
from typing import Any

import nbval.kernel
import pytest

TRIES = 3
_start = nbval.kernel.start_new_kernel


def start_again(start: Callable[..., Any], tries: int = TRIES) -> Callable[..., Any]:
    """``start``, called up to ``tries`` times while it raises RuntimeError; the last error is raised."""

    def started(*args: Any, **kwargs: Any) -> Any:
        for _ in range(tries - 1):
            try:
                return start(*args, **kwargs)
            except RuntimeError:
                continue
        return start(*args, **kwargs)

    return started


def pytest_configure(config: pytest.Config) -> None:
    nbval.kernel.start_new_kernel = start_again(_start)
