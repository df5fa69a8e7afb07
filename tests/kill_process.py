"""Run something in a process that is killed."""

from __future__ import annotations

import os
import signal
import time
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def killed(call: Callable[[], object], after_seconds: float | None = None) -> bool:
    """Run a call in a process and kill it, from outside after some seconds, or by itself; whether it was killed."""
    with warnings.catch_warnings():
        # A fork beside threads: Python from 3.12 on warns, and JAX once it has run. The child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        child = os.fork()
    if not child:
        try:
            call()
        finally:
            os._exit(0)
    if after_seconds is not None:
        time.sleep(after_seconds)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
