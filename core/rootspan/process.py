"""Makes recorders with their pipelines, and sees to them when the process forks or ends."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from typing import Any, Final

from rootspan.errors import ConfigurationError
from rootspan.forks import SETTING_UP, after_fork, forked, home
from rootspan.log import log
from rootspan.pipeline import EXIT_SECONDS, Pipeline
from rootspan.recorder import Recorder
from rootspan.settings import Settings, resolve

__all__ = ["from_environment", "record_with", "tell"]

_ALL_THE_REST: Final = 0.5  # seconds that the interpreter may take to end; each tracker has that long in any case
_FORK_SECONDS: Final = 5.0  # how long a fork may wait for an import, usually for nothing
_MULTIPROCESSING: Final = frozenset({"multiprocessing", "billiard"})  # the latter is celery's
_told: Final[set[str]] = set()  # of those: what calls us in each child that it forks
_fork = threading.local()
_exiting = False  # the exit handler ran: nobody would close what is made now
_finalized = 0  # the child of multiprocessing that has been seen to
# Every recorder of this process, so that each is delivered at exit and starts empty in a forked child.
_recorders: Final[weakref.WeakValueDictionary[int, Recorder]] = weakref.WeakValueDictionary()


def record_with(settings: Settings) -> Recorder:
    """Return a recorder with its pipeline; no thread and no connection is made before the first record."""
    store = None
    with SETTING_UP:  # half of what rootspan imports; who only imports it waits for none of that
        from rootspan.pipeline.shaping import Shaping
        from rootspan.transport.delivery import sinks

        if settings.spool:
            from rootspan.pipeline.store import Store

            store = Store(settings)
    shaping = Shaping(settings, sinks(settings)) if store is None else store.shaping
    pipeline = Pipeline(settings, shaping, store, on_start=_outlive_multiprocessing)
    recorder = Recorder(settings, pipeline)
    pipeline.owner = recorder  # a worker keeps it alive, and so known to `_at_exit`, while something is queued
    if _exiting:
        pipeline.end()
    _recorders[id(recorder)] = recorder
    _outlive_multiprocessing()
    return recorder


def from_environment() -> tuple[Settings, ConfigurationError | None]:
    """Return the settings that the environment describes; where it is wrong, those that record nothing, and why."""
    try:
        return resolve(os.environ), None
    except ConfigurationError as error:
        return resolve({}, disabled=True), error


def tell(error: ConfigurationError | None) -> None:
    """Log what is wrong with the environment, if anything is."""
    if error is not None:
        log(logging.ERROR, "rootspan is disabled because its environment is wrong. %s", error)


def _living() -> list[Recorder]:
    """Return every recorder of this process, also while another thread makes one."""
    return [recorder for found in _recorders.valuerefs() if (recorder := found()) is not None]


def _outlive_multiprocessing(_: object = None) -> None:
    """Deliver as well where `multiprocessing` ends a child: it runs its own finalizers, then `os._exit`.

    Its children forget what their parent registered, so this is done in each: when it is forked, when a tracker is made
    in it, and once it records.
    """
    global _finalized
    if _finalized == os.getpid():
        return
    for package in _MULTIPROCESSING:
        process, util = (sys.modules.get(f"{package}.{name}") for name in ("process", "util"))
        if process is None or util is None:
            continue
        child = process.current_process()
        if getattr(child, "_parent_pid", None) is not None:
            util.Finalize(None, _at_exit, exitpriority=-100)
            if package == "billiard":  # pragma: no cover  (nor does coverage see what ends by `os._exit`)
                _outlive_pool(getattr(child, "_target", None))
            _finalized = os.getpid()


def _outlive_pool(worker: Any) -> None:  # pragma: no cover  (likewise)
    """Deliver as well where billiard's pool ends a child: it runs no finalizers, only what it was given for that."""
    kind: Any = getattr(sys.modules.get("billiard.pool"), "Worker", ())
    if not isinstance(worker, kind):
        return
    given = worker.on_exit

    def on_exit(*arguments: object) -> None:
        try:
            if given is not None:  # as Celery gives its own
                given(*arguments)
        finally:
            _at_exit()

    worker.on_exit = on_exit


def _at_exit() -> None:
    global _exiting
    if not home[0]:  # a child that no fork hook saw: what is queued or on the disk is its parent's
        forked()  # pragma: no cover  (nor does coverage see that child)
    _exiting = True
    deadline = time.monotonic() + EXIT_SECONDS - _ALL_THE_REST  # one for all: several may hang
    for recorder in _living():
        recorder.close(max(deadline - time.monotonic(), _ALL_THE_REST), at_exit=True)


def _before_fork() -> None:
    _fork.held = False  # a signal's handler may raise in what follows; Python prints that, and forks
    _fork.held = SETTING_UP.acquire(timeout=_FORK_SECONDS)
    for package in _MULTIPROCESSING - _told:
        if (util := sys.modules.get(f"{package}.util")) is not None:
            _told.add(package)
            util.register_after_fork(_outlive_multiprocessing, _outlive_multiprocessing)


def _after_fork() -> None:
    if _fork.held:
        SETTING_UP.release()


@after_fork
def _start_afresh() -> None:
    for recorder in _living():
        recorder.start_afresh()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # pragma: no branch  (on Windows there is no fork)
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
