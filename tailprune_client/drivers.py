"""What operations are done by: at once, or awaited. Methods of both clients are written once, as operations.

    class Methods:
        @operation
        def models(self) -> Operation[list[ModelSummary]]: ...

`Methods` with `Sync` as a further base has the method `models()`, which returns the list; with `Async`, one that is
awaited. `stream` is the same for a method that yields items, and `starts` (in `tailprune_client.jobs`) for one whose
result is a job.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import anyio
import anyio.to_thread
import httpx
import httpx_sse

from tailprune_client.effects import Call, Close, Do, Effect, Item, Next, Open, Opened, Operation, Pause, Send, Stream

__all__ = ["Async", "AsyncDriver", "Driver", "Sync", "Written", "operation", "stream"]

P = ParamSpec("P")
T = TypeVar("T")


class Driver:
    """Does operations at once, by a client of httpx."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def run(self, operation: Operation[T]) -> T:
        """The result of an operation."""
        opened: list[Opened[Any]] = []
        try:
            effect = next(operation)
            while True:
                effect = self._step(operation, effect, opened)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()
            for source in opened:
                source.response.close()

    def iterate(self, items: Stream[T]) -> Iterator[T]:
        """The items of a stream."""
        opened: list[Opened[Any]] = []
        try:
            effect = next(items)
            while True:
                if isinstance(effect, Item):
                    yield effect.value
                    effect = next(items)
                else:
                    effect = self._step(items, effect, opened)
        except StopIteration:
            return
        finally:
            items.close()
            for source in opened:
                source.response.close()

    def send(self, call: Call) -> httpx.Response:
        """The response to a request."""
        return self.http.request(call.method, call.path, **call.options)

    def _step(self, operation: Any, effect: Effect, opened: list[Opened[Any]]) -> Any:
        """Do what an operation asks for, and return what it asks for next. opened: what is closed at its end."""
        try:
            done = self._do(effect, opened)
        except BaseException as error:
            return operation.throw(error)
        return operation.send(done)

    def _do(self, effect: Effect, opened: list[Opened[Any]]) -> Any:
        match effect:
            case Send(call):
                return self.send(call)
            case Open(call, items):
                request = self.http.build_request(call.method, call.path, **call.options)
                response = self.http.send(request, stream=True)
                if not response.is_success:
                    try:
                        response.read()
                    finally:
                        response.close()
                    return Opened(response, iter(()))
                pieces = httpx_sse.EventSource(response).iter_sse() if items == "events" else response.iter_bytes()
                source = Opened[Any](response, pieces)
                opened[:] = [*_still_open(opened), source]
                return source
            case Next(source):
                item = None
                try:
                    item = next(source.items, None)
                    return item
                finally:
                    if item is None:
                        source.response.close()
            case Close(source):
                return source.response.close()
            case Pause(seconds):
                return time.sleep(seconds)
            case Do(function):
                return function()


class AsyncDriver:
    """Does operations by an asynchronous client of httpx."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def run(self, operation: Operation[T]) -> T:
        """The result of an operation."""
        opened: list[Opened[Any]] = []
        try:
            effect = next(operation)
            while True:
                effect = await self._step(operation, effect, opened)
        except (_Ended, StopIteration) as end:
            result: T = end.value
            return result
        finally:
            operation.close()
            for source in opened:
                await _end(source)

    async def iterate(self, items: Stream[T]) -> AsyncIterator[T]:
        """The items of a stream."""
        opened: list[Opened[Any]] = []
        try:
            effect: Any = next(items, None)
            while effect is not None:
                if isinstance(effect, Item):
                    yield effect.value
                    effect = next(items, None)
                else:
                    effect = await self._step(items, effect, opened)
        except _Ended:
            return
        finally:
            items.close()
            for source in opened:
                await _end(source)

    async def _step(self, operation: Any, effect: Effect, opened: list[Opened[Any]]) -> Any:
        """Do what an operation asks for, and return what it asks for next. Raises _Ended at its end."""
        try:
            try:
                done = await self._do(effect, opened)
            except BaseException as error:
                return operation.throw(error)
            return operation.send(done)
        except StopIteration as end:  # which may not leave a coroutine
            raise _Ended(end.value) from None

    async def _do(self, effect: Effect, opened: list[Opened[Any]]) -> Any:
        match effect:
            case Send(call):
                return await self.http.request(call.method, call.path, **call.options)
            case Open(call, items):
                request = self.http.build_request(call.method, call.path, **call.options)
                response = await self.http.send(request, stream=True)
                if not response.is_success:
                    try:
                        await response.aread()
                    finally:
                        await response.aclose()
                    return Opened(response, _nothing())
                pieces = httpx_sse.EventSource(response).aiter_sse() if items == "events" else response.aiter_bytes()
                source = Opened[Any](response, pieces)
                opened[:] = [*_still_open(opened), source]
                return source
            case Next(source):
                item = None
                try:
                    item = await anext(source.items, None)
                    return item
                finally:
                    if item is None:
                        await _end(source)
            case Close(source):
                return await _end(source)
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Do(function):
                return await anyio.to_thread.run_sync(function)


def _still_open(opened: list[Opened[Any]]) -> list[Opened[Any]]:
    return [source for source in opened if not source.response.is_closed]


async def _end(source: Opened[Any]) -> None:
    await source.items.aclose()
    await source.response.aclose()


class _Ended(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


async def _nothing() -> AsyncIterator[Any]:
    return
    yield


class Sync:
    """The base of what has operations that are done at once."""

    _driver: Driver

    def _job(self, started: Any) -> Any:
        """The job that a method returns."""
        raise NotImplementedError


class Async:
    """The base of what has operations that are awaited."""

    _driver: AsyncDriver

    def _job(self, started: Any) -> Any:
        """The job that a method returns."""
        raise NotImplementedError


def _shown_signature(function: Callable[..., Any], *, awaited: bool) -> inspect.Signature:
    """The signature of a method as users see it, with what it returns in place of the operation.

    awaited: whether it is that of an asynchronous client.
    """
    signature = inspect.signature(function)
    kind, _, rest = str(signature.return_annotation).partition("[")
    inner = rest.removesuffix("]")
    if kind == "Stream":
        shown = f"{'Async' if awaited else ''}Iterator[{inner}]"
    else:
        shown = inner.replace("Started[", "AsyncJob[" if awaited else "Job[")
    return signature.replace(return_annotation=shown)


class Written:
    """A method that is written once: what it is of a client at once, and of an asynchronous one."""

    def __init__(self, function: Callable[..., Any], at_once: Callable[..., Any], awaited: Callable[..., Any]) -> None:
        for method in (at_once, awaited):
            functools.update_wrapper(method, function)
            vars(method)["__signature__"] = _shown_signature(function, awaited=method is awaited)
        self._at_once, self._awaited = at_once, awaited
        self.__doc__ = function.__doc__

    def bound(self, instance: Any, owner: type) -> Any:
        """What `__get__` of a method returns."""
        method = self._awaited if issubclass(owner, Async) else self._at_once
        return method if instance is None else MethodType(method, instance)


class operation(Written, Generic[P, T]):
    """A method with a result."""

    def __init__(self, function: Callable[Concatenate[Any, P], Operation[T]]) -> None:
        def at_once(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
            driver: Driver = self._driver
            return driver.run(function(self, *args, **kwargs))

        async def awaited(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
            driver: AsyncDriver = self._driver
            return await driver.run(function(self, *args, **kwargs))

        super().__init__(function, at_once, awaited)

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self.bound(instance, owner)


class stream(Written, Generic[P, T]):
    """A method that yields items."""

    def __init__(self, function: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        def at_once(self: Any, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            driver: Driver = self._driver
            return driver.iterate(function(self, *args, **kwargs))

        def awaited(self: Any, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
            driver: AsyncDriver = self._driver
            return driver.iterate(function(self, *args, **kwargs))

        super().__init__(function, at_once, awaited)

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self.bound(instance, owner)
