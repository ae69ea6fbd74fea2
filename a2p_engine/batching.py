"""Calls of several threads grouped into one, for models to which a batch costs little more.

Nobody waits for company: a call that finds the model free runs at once and alone. Those that come
while it is busy queue, and the next to run takes those that are alike along. On two CPU cores this
gains nothing over two workers side by side (docs/capacity.md); a GPU is filled by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")


class _Call(Generic[Request, Result]):
    """A thread's call, until it has a result."""

    def __init__(self, request: Request, kind: Hashable) -> None:
        self.request = request
        self.kind = kind
        self.taken = False
        self.result: list[Result] = []  # one, or none as yet
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return bool(self.result) or self.error is not None


class Batcher(Generic[Request, Result]):
    """A function of many requests that is called with one, from any number of threads."""

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Sequence[Result]],
        *,
        limit: int,
        alike: Callable[[Request], Hashable] = lambda request: None,
        lanes: int = 1,
        retry: bool = True,
    ) -> None:
        """Group calls of ``run``.

        Args:
            run: requests to as many results; called with requests that are alike.
            limit: most requests in a batch.
            alike: requests of equal value may share a batch.
            lanes: batches that may run at the same time.
            retry: whether the requests of a batch that failed are tried one by one, as the error
                is nobody's in particular; False where a failed run may have left traces.
        """
        self._run = run
        self._limit = limit
        self._alike = alike
        self._free = lanes
        self._retry = retry
        self._changed = threading.Condition()
        self._waiting: list[_Call[Request, Result]] = []  # oldest first, none of them taken

    def __call__(self, request: Request) -> Result:
        """The request's result; raises what ``run`` raises for it."""
        if self._limit == 1:
            return self._run([request])[0]
        call = _Call[Request, Result](request, self._alike(request))
        with self._changed:
            self._waiting.append(call)
            self._changed.wait_for(lambda: call.done or self._may_lead(call))
            batch = [] if call.done else self._take(call)
        if batch:
            self._lead(batch)
        if call.error is not None:
            raise call.error
        return call.result[0]

    def _may_lead(self, call: _Call[Request, Result]) -> bool:
        return bool(self._free) and not call.taken and self._waiting[0] is call

    def _take(self, first: _Call[Request, Result]) -> list[_Call[Request, Result]]:
        alike = [call for call in self._waiting if call.kind == first.kind][: self._limit]
        for call in alike:
            call.taken = True
        self._waiting = [call for call in self._waiting if not call.taken]
        self._free -= 1
        if self._free:
            self._changed.notify_all()  # whoever is first now may lead as well
        return alike

    def _lead(self, batch: list[_Call[Request, Result]]) -> None:
        try:
            self._finish(batch)
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _finish(self, batch: list[_Call[Request, Result]]) -> None:
        try:
            results = self._run([call.request for call in batch])
        except BaseException as error:
            if len(batch) > 1 and self._retry:
                for call in batch:
                    self._finish([call])
                return
            for call in batch:
                call.error = error
            return
        for call, result in zip(batch, results, strict=True):
            call.result.append(result)
