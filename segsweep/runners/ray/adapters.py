"""Searcher, scheduler and callback: thin adapters through which Tune asks ``Search``.

All state is in ``Search``; nothing is pickled with Tune's own. An exception in here is kept in
the ``Bridge`` and ends the run, whichever hook it came from: Tune would swallow some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from segsweep.interrupt import Interrupt
from segsweep.runners import take
from segsweep.search import Search

T = TypeVar("T")


class Bridge:
    """What the three adapters share.

    Args:
        search: hands out trials and judges them.
        slots: how many may be live at once.
        interrupt: looked at between two steps of Tune.
    """

    def __init__(self, search: Search, slots: int, interrupt: Interrupt) -> None:
        self.search, self.slots, self.interrupt = search, slots, interrupt
        self.error: BaseException | None = None
        self.handed: dict[str, str] = {}  # trials that Tune has: its id → ours
        self.causes: dict[str, Exception] = {}  # why a worker of a trial of Tune's was lost

    def __reduce__(self) -> tuple[type[Bridge], tuple[None, int, None]]:
        return Bridge, (None, 0, None)  # Tune pickles its searcher: it shall find nothing

    def lost(self, trial: Trial) -> None:
        """Tune has ended a trial in an error, perhaps without telling anyone."""
        name = self.handed.pop(trial.trial_id, None)
        if name is not None:
            memory, cause = _cause(self.causes.pop(trial.trial_id, None))
            self.guarded(lambda: self.search.on_lost(name, cause, memory=memory), None)

    def guarded(self, action: Callable[[], T], otherwise: T) -> T:
        """Do ``action``; an exception is kept and ends the run at the next step."""
        if self.error is not None:
            return otherwise
        try:
            return action()
        except BaseException as error:
            self.error = error
            return otherwise


class SearchAdapter(Searcher):
    """Hands Tune the next trial."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(metric=None, mode=None)
        self.bridge = bridge

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """We count live trials ourselves."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """A config; None while others are live and nothing is ready; FINISHED at the end."""
        return self.bridge.guarded(lambda: self._next(trial_id), Searcher.FINISHED)

    def _next(self, trial_id: str) -> Any:
        search = self.bridge.search
        if len(search.live) >= self.bridge.slots:
            return None
        job = search.next()
        if job is None:
            return None if search.live else Searcher.FINISHED
        self.bridge.handed[trial_id] = job.trial_id
        return {"job": asdict(job)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler hears of it first."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only truth."""


class RungAdapter(FIFOScheduler):
    """Takes results in and says who stops."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge
        self._warm = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let Tune keep an idle actor in every slot: by itself it keeps one in all.

        An actor that is not kept costs its imports again, seconds a trial. This reaches into
        Tune; where a later version has no such table, only that time is lost.
        """
        super().on_trial_add(tune_controller, trial)
        inner = getattr(tune_controller, "_tune_controller", None)
        manager = getattr(inner, "_actor_manager", None)
        if manager is not None and not self._warm:
            translate_losses(manager, lambda actor, error: self._hear(inner, actor, error))
        cache = getattr(inner, "_actor_cache", None)
        if cache is not None and not self._warm:
            cache.increase_max(trial.placement_group_factory, by=self.bridge.slots)
            self._warm = True

    def _hear(self, controller: Any, actor: Any, error: Exception) -> None:
        trial = controller._actor_to_trial.get(actor)
        if trial is not None:
            self.bridge.causes[trial.trial_id] = error

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP where ``Search`` says so."""
        (report,) = result["report"]
        name = trial.config["job"]["trial_id"]
        keep = self.bridge.guarded(lambda: self._take(name, report), False)
        return str(TrialScheduler.CONTINUE if keep else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """The last report of a trial says how it ended."""
        (report,) = result["report"]
        if "status" in report:
            name = trial.config["job"]["trial_id"]
            self.bridge.guarded(lambda: self._take(name, report), False)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A worker that died loses its trial, which is handed out again."""
        self.bridge.lost(trial)

    def _take(self, name: str, report: dict[str, Any]) -> bool:
        own = {key: value for key, value in report.items() if key != "node"}
        return take(self.bridge.search, name, own, node=report["node"])


class StepCallback(Callback):
    """Between two steps of Tune: end where asked to, and miss no trial that Tune lost."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Raises what went wrong, or KeyboardInterrupt."""
        if self.bridge.error is not None:
            raise Stop
        if self.bridge.interrupt.requested:
            self.bridge.error = KeyboardInterrupt()
            raise Stop
        for trial in trials:
            if trial.status == Trial.ERROR:
                self.bridge.lost(trial)


class Stop(Exception):
    """Ends Tune's loop; the reason is in the bridge."""


class WorkerLost(RayActorError):
    """A worker that Ray took away in a way that Tune does not know.

    Args:
        reason: in one line.
        memory: the node was about to run out of memory.
    """

    def __init__(self, reason: str = "", memory: bool = False) -> None:
        super().__init__(error_msg=reason)
        self.reason, self.memory = reason, memory

    def __reduce__(self) -> tuple[type[WorkerLost], tuple[str, bool]]:
        return WorkerLost, (self.reason, self.memory)


def translate_losses(manager: Any, hear: Callable[[Any, Exception], None]) -> None:
    """Let Tune survive a worker that Ray's memory monitor kills.

    Ray 2.60 raises an ``OutOfMemoryError`` for it, which is no ``RayActorError``; Tune's actor
    manager makes a RuntimeError of what it does not know, and the whole run ends. This reaches
    into Tune; a later version without that method is left as it is.

    Args:
        manager: Tune's, of actors.
        hear: is told of each failure before Tune is, with the actor: Tune itself tells neither
            searcher nor scheduler why.
    """
    original = getattr(manager, "_actor_task_failed", None)
    if original is None:
        return

    def failed(tracked_actor_task: Any, exception: Exception) -> None:
        known = isinstance(exception, (RayActorError, RayTaskError))
        if isinstance(exception, RayError) and not known:
            memory = isinstance(exception, OutOfMemoryError)
            exception = WorkerLost(_first_line(exception), memory)
        hear(tracked_actor_task._tracked_actor, exception)
        original(tracked_actor_task, exception)

    manager._actor_task_failed = failed


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _cause(error: Exception | None) -> tuple[bool, str]:
    """Why a worker was lost: whether memory ran out, and one line."""
    if error is None:
        return False, "the worker was lost"
    if isinstance(error, WorkerLost):
        return error.memory, error.reason
    if isinstance(error, RayActorError):
        return False, "the worker process died"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return False, lines[-1].strip() if lines else type(error).__name__
