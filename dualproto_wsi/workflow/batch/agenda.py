"""Slides that are still to be handed out, for whoever hands them to other processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from dualproto_wsi.workflow.batch.tasks import SlideTask
from dualproto_wsi.workflow.listener import Listener

LOOK_AGAIN_S = 0.5
"""How often a slide is looked at that another process works on."""


class Agenda:
    """Slides that are still to be handed out; those that others had claimed come last, and now and then.

    Parameters
    ----------
    tasks : iterable of SlideTask
    """

    def __init__(self, tasks: Iterable[SlideTask] = ()) -> None:
        self._fresh: deque[tuple[SlideTask, bool]] = deque((task, False) for task in tasks)
        self._claimed: list[SlideTask] = []
        self._given_back: list[SlideTask] = []
        self._told = False
        self._look_again_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._fresh or self._claimed)

    @property
    def has_fresh(self) -> bool:
        """Whether there are slides that nobody else is known to work on."""
        return bool(self._fresh)

    def add(self, task: SlideTask, again: bool) -> None:
        """Add a slide; `again`: whether another process had it before."""
        self._fresh.append((task, again))

    def take(self, listener: Listener) -> tuple[SlideTask, bool] | None:
        """Take the next slide, and whether another process had it before; None while there is none."""
        if not self._fresh and self._claimed and time.monotonic() >= self._look_again_at:
            self._look_again_at = time.monotonic() + LOOK_AGAIN_S
            if not self._told:
                self._told = True
                listener.waiting([task.slide for task in self._claimed])
            self._fresh.extend((task, True) for task in self._claimed)
            self._claimed.clear()
        return self._fresh.popleft() if self._fresh else None

    def postpone(self, task: SlideTask) -> None:
        """Put a slide off that another process works on."""
        self._claimed.append(task)

    def drop_postponed(self) -> None:
        """Forget the slides that were put off."""
        self._claimed.clear()

    def give_back(self, task: SlideTask) -> bool:
        """Put a slide first whose process died on the way to it; False if that happened to it before."""
        if task in self._given_back:
            return False
        self._given_back.append(task)
        self._fresh.appendleft((task, False))
        return True
