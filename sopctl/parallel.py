# SPDX-License-Identifier: Apache-2.0
"""Many independent looks at what lies on disk, in as many processes as there are processors: most of it is Python's own work."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from sopctl.errors import SopctlError

R = TypeVar("R")
PR_SET_PDEATHSIG = 1


def results(jobs: Sequence[Callable[[], R]], *, apart: bool) -> Iterator[R]:
    """What the jobs give, in their order; ``apart``: in processes of their own, where there are processors for them.

    The processes are forked when the first result is asked for: they have what this one has, and give back only results,
    which are pickled. SopctlError when one of them is killed.
    """
    processors = len(os.sched_getaffinity(0))
    if not apart or processors < 2:
        yield from (job() for job in jobs)
        return
    with ProcessPoolExecutor(processors, mp_context=get_context("fork"), initializer=_begin, initargs=(jobs,)) as pool:
        try:
            yield from pool.map(_do, range(len(jobs)))
        except BrokenProcessPool as error:
            raise SopctlError("a process of this command was killed (out of memory?)", hint="Run it again.") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_jobs: Sequence[Callable[[], Any]] = ()


def _begin(jobs: Sequence[Callable[[], Any]]) -> None:
    """In a new process: Ctrl-C is the first one's to answer, and it ends when that one does, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    global _jobs  # noqa: PLW0603  (a forked process has one list of jobs for all its life)
    _jobs = jobs
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # nothing here lives long enough to be looked for


def _do(number: int) -> Any:
    return _jobs[number]()
