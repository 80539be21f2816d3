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
from contextlib import AsyncExitStack, ExitStack
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import anyio
import anyio.to_thread
import httpx
import httpx_sse

from tailprune_client.core import Call, Close, Do, Effect, Item, Next, Open, Opened, Operation, Pause, Send, Stream

__all__ = ["Async", "AsyncDriver", "Driver", "Sync", "operation", "shown_signature", "stream"]

P = ParamSpec("P")
T = TypeVar("T")


class Driver:
    """Does operations at once, by a client of httpx."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def run(self, operation: Operation[T]) -> T:
        """The result of an operation."""
        with ExitStack() as opened:
            try:
                effect = next(operation)
                while True:
                    effect = self._step(operation, effect, opened)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                operation.close()

    def iterate(self, items: Stream[T]) -> Iterator[T]:
        """The items of a stream."""
        with ExitStack() as opened:
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

    def send(self, call: Call) -> httpx.Response:
        """The response to a request."""
        return self.http.request(call.method, call.path, **call.options)

    def _step(self, operation: Any, effect: Effect, opened: ExitStack) -> Any:
        """Do what an operation asks for, and return what it asks for next."""
        try:
            done = self._do(effect, opened)
        except BaseException as error:
            return operation.throw(error)
        return operation.send(done)

    def _do(self, effect: Effect, opened: ExitStack) -> Any:
        match effect:
            case Send(call):
                return self.send(call)
            case Open(call, items):
                response = opened.enter_context(self.http.stream(call.method, call.path, **call.options))
                if response.is_error:
                    response.read()
                    return Opened(response, iter(()))
                pieces = httpx_sse.EventSource(response).iter_sse() if items == "events" else response.iter_bytes()
                return Opened(response, pieces)
            case Next(source):
                return next(source.items, None)
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
        async with AsyncExitStack() as opened:
            try:
                effect = next(operation)
                while True:
                    effect = await self._step(operation, effect, opened)
            except (_Ended, StopIteration) as end:
                result: T = end.value
                return result
            finally:
                operation.close()

    async def iterate(self, items: Stream[T]) -> AsyncIterator[T]:
        """The items of a stream."""
        async with AsyncExitStack() as opened:
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

    async def _step(self, operation: Any, effect: Effect, opened: AsyncExitStack) -> Any:
        """Do what an operation asks for, and return what it asks for next. Raises _Ended at its end."""
        try:
            try:
                done = await self._do(effect, opened)
            except BaseException as error:
                return operation.throw(error)
            return operation.send(done)
        except StopIteration as end:  # which may not leave a coroutine
            raise _Ended(end.value) from None

    async def _do(self, effect: Effect, opened: AsyncExitStack) -> Any:
        match effect:
            case Send(call):
                return await self.http.request(call.method, call.path, **call.options)
            case Open(call, items):
                entered = self.http.stream(call.method, call.path, **call.options)
                response = await opened.enter_async_context(entered)
                if response.is_error:
                    await response.aread()
                    return Opened(response, _nothing())
                pieces = httpx_sse.EventSource(response).aiter_sse() if items == "events" else response.aiter_bytes()
                return Opened(response, pieces)
            case Next(source):
                return await anext(source.items, None)
            case Close(source):
                return await source.response.aclose()
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Do(function):
                return await anyio.to_thread.run_sync(function)


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


def shown_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a method as users see it, with what it returns in place of the operation."""
    signature = inspect.signature(function)
    returns = str(signature.return_annotation)
    inner = returns.partition("[")[2].removesuffix("]")
    shown = f"Iterator[{inner}]" if returns.startswith("Stream") else inner.replace("Started[", "Job[")
    return signature.replace(return_annotation=shown)


class operation(Generic[P, T]):
    """A method with a result."""

    def __init__(self, function: Callable[Concatenate[Any, P], Operation[T]]) -> None:
        @functools.wraps(function)
        def at_once(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
            driver: Driver = self._driver
            return driver.run(function(self, *args, **kwargs))

        @functools.wraps(function)
        async def awaited(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
            driver: AsyncDriver = self._driver
            return await driver.run(function(self, *args, **kwargs))

        vars(at_once)["__signature__"] = vars(awaited)["__signature__"] = shown_signature(function)
        self.function, self._at_once, self._awaited = function, at_once, awaited
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        method = self._awaited if issubclass(owner, Async) else self._at_once
        return method if instance is None else MethodType(method, instance)


class stream(Generic[P, T]):
    """A method that yields items."""

    def __init__(self, function: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        @functools.wraps(function)
        def iterate(self: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._driver.iterate(function(self, *args, **kwargs))

        vars(iterate)["__signature__"] = shown_signature(function)
        self.function, self._iterate = function, iterate
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self._iterate if instance is None else MethodType(self._iterate, instance)
