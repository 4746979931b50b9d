"""One call of a verb works in a stage folder at a time, of all processes and threads.

The system lets go of the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextvars
import fcntl
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matcher.errors import MatcherError

LOCK_NAME = ".lock"
log = logging.getLogger("matcher")


class Task:
    """What one call of a verb works on: its folders are its own, other threads of the process are kept out of them too."""

    def __init__(self) -> None:
        self.locks: weakref.WeakSet[FolderLock] = weakref.WeakSet()  # many are let go before


class FolderLock:
    """The right to write in a folder, until it is released or this object ends; its file is gone afterwards."""

    def __init__(self, path: Path, descriptor: int, task: Task | None) -> None:
        self.path, self.task = path, task
        self.inode = os.fstat(descriptor).st_ino
        self.pid = os.getpid()
        self.release = weakref.finalize(self, release, path, descriptor, self.pid)

    def still_holds(self) -> bool:
        """False if someone removed the file, or if this is a fork of the process that took the lock."""
        return inode(self.path) == self.inode and os.getpid() == self.pid


_held: weakref.WeakValueDictionary[Path, FolderLock] = weakref.WeakValueDictionary()
_guard = threading.Lock()
_task: contextvars.ContextVar[Task | None] = contextvars.ContextVar("task", default=None)


@contextmanager
def working() -> Iterator[None]:
    """A block whose folders are let go at its end, however it ends: a traceback that someone keeps would keep them else.

    Blocks within it, on the same thread, are part of it. Also a decorator.
    """
    if _task.get() is not None:
        yield
        return
    task = Task()
    token = _task.set(task)
    try:
        yield
    finally:
        _task.reset(token)
        for lock in list(task.locks):
            lock.release()


def hold(folder: Path) -> FolderLock:
    """Folder -> its lock; the one this task has already, if it has. MatcherError naming the process that holds it."""
    path, task = folder.resolve() / LOCK_NAME, _task.get()
    with _guard:
        lock = _held.get(path)
        if lock is None or not lock.still_holds():
            lock = _held[path] = FolderLock(path, acquire(path), task)
            if task is not None:
                task.locks.add(lock)
        elif lock.task is not task:
            raise MatcherError(f"another thread of this process is working in {folder}: wait until it ends, or choose another output")
        return lock


def acquire(path: Path) -> int:
    """Path of a lock file -> its open descriptor, locked, with our process id inside."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise MatcherError(f"cannot write in {path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            sentence = f"process {holder or '(unknown)'} is working in {path.parent}: wait until it ends, or choose another --output"
            raise MatcherError(sentence) from None
        except OSError as error:
            log.warning("%s: this file system knows no locks (%s); start only one process on it", path.parent, error.strerror)
        if inode(path) == os.fstat(descriptor).st_ino:  # else the last holder removed the file while we waited
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
            except OSError as error:
                os.close(descriptor)
                raise MatcherError(f"cannot write in {path.parent}: {error.strerror}") from error
            return descriptor
        os.close(descriptor)


def release(path: Path, descriptor: int, pid: int) -> None:
    if os.getpid() == pid and inode(path) == os.fstat(descriptor).st_ino:
        with suppress(OSError):
            path.unlink()
    os.close(descriptor)


def inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
