"""Every exception that segsweep raises on purpose, and the exit code each ends a command with.

::

    SegsweepError            1    an error inside segsweep
    ├── UserError            2    refused, nothing was started; carries every mistake at once
    │   ├── SpecError             the sweep file says something that cannot be
    │   ├── UnknownName           a name that no table has
    │   ├── DataError             images, masks or folders that cannot be used
    │   ├── CalibrationError      logits or labels that nothing can be fitted to or measured on
    │   ├── WeightsError          pretrained weights that cannot be had or do not fit
    │   └── RunError              a run directory that is missing, locked, or of another sweep
    ├── TrialError           3    one trial went wrong; the sweep goes on
    │   └── Diverged              the loss is not a number any more
    └── Undecided            3    the sweep ended with something undecided
        └── DiskFull              no more can be written; nothing that was is lost
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_REFUSED = 2
EXIT_UNDECIDED = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what is wrong, and what to do about it.

    Attributes:
        what: the mistake, in one sentence.
        where: the file (with its line, ``sweep.yaml:7``) or the key path; may be empty.
        key: dotted key path in the sweep file, empty where the mistake is in no file.
        hint: what to do about it; may be empty.
    """

    what: str
    where: str = ""
    key: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.where, self.key) if part)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text}\n    {self.hint}" if self.hint else text


class SegsweepError(Exception):
    """The root of the tree."""

    exit_code = EXIT_INTERNAL


class UserError(SegsweepError):
    """Input that is refused before anything is started.

    Args:
        problems: every mistake found, or one sentence.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = [Problem(problems)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: Sequence[Problem] = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[UserError], tuple[list[Problem]]]:
        return type(self), (list(self.problems),)


class SpecError(UserError):
    """The sweep file says something that cannot be."""


class UnknownName(UserError):
    """A name that no table has."""


class DataError(UserError):
    """Images, masks or folders that cannot be used."""


class CalibrationError(UserError):
    """Logits or labels that nothing can be fitted to or measured on."""


class WeightsError(UserError):
    """Pretrained weights that cannot be had or do not fit."""


class RunError(UserError):
    """A run directory that is missing, locked, or belongs to another sweep."""


class TrialError(SegsweepError):
    """One trial went wrong; the sweep goes on without it."""

    exit_code = EXIT_UNDECIDED


class Diverged(TrialError):
    """The loss is not a number any more."""


class Undecided(SegsweepError):
    """The sweep ended with something undecided, which the message names."""

    exit_code = EXIT_UNDECIDED


class DiskFull(Undecided):
    """No more can be written: the launch ends, and the next one goes on."""


# of a file server or a disk: another attempt may find it as it was
AWAY = frozenset({
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOTCONN, errno.ESHUTDOWN,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ECONNABORTED, errno.ENXIO, errno.ENODEV,
})  # fmt: skip
# what CUDA says when a process can compute nothing more; that memory ran out is not meant
BROKEN = ("CUDA error", "EXECUTION_FAILED")
NO_MEMORY = ("CUDA error: out of memory", "ALLOC_FAILED", "can't allocate memory")


def disk_is_full(error: BaseException | None) -> bool:
    """Did ``error``, or what it came from, happen because the disk or a quota is full?"""
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(
        isinstance(one, DiskFull) or (isinstance(one, OSError) and one.errno in full)
        for one in _chain(error)
    )


def disk_is_away(error: BaseException | None) -> bool:
    """Did ``error``, or what it came from, happen because a disk did not answer?"""
    return any(isinstance(one, OSError) and one.errno in AWAY for one in _chain(error))


def memory_ran_out(error: BaseException) -> bool:
    """Does its text say so? torch has an exception of its own for some of it only."""
    return any(sign in str(error) for sign in NO_MEMORY)


def process_is_broken(error: BaseException) -> bool:
    """Will whatever this process computes on its GPU fail from now on?"""
    return any(sign in str(error) for sign in BROKEN) and not memory_ran_out(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
