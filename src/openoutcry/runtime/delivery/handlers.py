"""Handlers: what can be called with one event, what it is called, and what makes two of them the same.

A handler is checked where it is given. One that cannot be called with an event would fail at each of them.
"""

import inspect
import types
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, get_origin

from openoutcry.errors import SubscriptionError
from openoutcry.spelling import warn

Handler = Callable[[Any], Any]

_WRITE = "it must be a function of the event: async def handler(event), or def handler(event)"


def unwrapped(handler: Handler) -> Handler:
    """Return the function inside `functools.partial` and `staticmethod`, however often it was wrapped."""
    while isinstance(handler, partial | staticmethod):
        handler = handler.func if isinstance(handler, partial) else handler.__func__
    return handler


def qualified_name(handler: Handler) -> str:
    """Return the name a subscription gets from its handler: the agent's class or name, and the function's."""
    target = unwrapped(handler)
    owner = getattr(target, "__self__", None)
    function = getattr(target, "__name__", None)
    if owner is not None and function is not None and not inspect.ismodule(owner):
        agent = getattr(owner, "name", None) or getattr(owner, "agent_name", None)
        return f"{agent if isinstance(agent, str) else type(owner).__qualname__}.{function}"
    name = getattr(target, "__qualname__", None) or type(target).__qualname__
    return str(name).replace("<locals>.", "")


def is_coroutine_handler(handler: Handler) -> bool:
    """Return True if calling the handler gives a coroutine."""
    return any(map(inspect.iscoroutinefunction, _functions(handler)))


def is_generator_handler(handler: Handler) -> bool:
    """Return True if calling the handler gives a generator, and runs nothing."""
    return any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in _functions(handler))


def as_coroutine(handler: Handler) -> Handler:
    """Return a handler as a coroutine function, whatever it is."""
    if is_coroutine_handler(handler):
        return handler

    async def call(event: Any) -> None:
        result = handler(event)
        if result is not None and inspect.isawaitable(result):
            await result

    return call


def identity(handler: Handler) -> object:
    """Return what makes two handlers the same: the function and, for a method, the instance.

    Any other callable object is itself alone, whatever it is equal to, and need not be hashable.
    """
    owner = getattr(handler, "__self__", None)
    function = getattr(handler, "__func__", None)
    if owner is not None and function is not None:
        return (id(owner), function)
    return handler if inspect.isroutine(handler) else id(handler)


def is_rerun(handler: Handler, earlier: Handler | None) -> bool:
    """Return True if a cell of a notebook was run again, and made `handler` of what was `earlier` before.

    Only for functions at the top of an interactive `__main__`. One function made several times by the same
    run, as in a loop, has the same code each time; a run compiles it anew.
    """
    if not (isinstance(handler, types.FunctionType) and isinstance(earlier, types.FunctionType)):
        return False
    is_same_name = handler.__qualname__ == earlier.__qualname__ and handler.__name__ != "<lambda>"
    is_at_top = "<locals>" not in handler.__qualname__ and "." not in handler.__qualname__
    is_new = handler.__code__ is not earlier.__code__
    return is_same_name and is_at_top and is_new and is_interactive(handler) and is_interactive(earlier)


def is_interactive(handler: Handler) -> bool:
    """Return True for a function of a notebook or a prompt; a program's `__main__` has a file."""
    if not isinstance(handler, types.FunctionType):
        return False
    names = handler.__globals__
    return names.get("__name__") == "__main__" and ("__file__" not in names or "get_ipython" in names)


def check_handler(handler: Handler, *, blocking: bool = False, timeout_s: float | None = None) -> None:
    """Raise `SubscriptionError` unless the handler can be called with one event, as the options ask."""
    _check_callable(handler)
    name = qualified_name(handler)
    if is_generator_handler(handler):
        raise SubscriptionError(
            f"{name} is a generator function, and calling it runs nothing; take the yield out"
        )
    _check_signature(handler, name)
    if blocking and is_coroutine_handler(handler):
        raise SubscriptionError(
            f"{name} is a coroutine function, and blocking=True is for plain ones: take the async out, or "
            "leave blocking out"
        )
    if timeout_s is not None and not blocking and not _gives_awaitable(handler):
        raise SubscriptionError(
            f"timeout_s={timeout_s!r} for {name}, a plain function: it has the loop until it returns, so "
            "nothing can end it; give blocking=True, which calls it in a thread, or write async def"
        )


def _functions(handler: Handler) -> tuple[Any, ...]:
    """Return what runs when the handler is called: a function, or the `__call__` of its class."""
    target = unwrapped(handler)
    return (target, getattr(target, "__call__", None))  # noqa: B004 - what a callable object would run


def _gives_awaitable(handler: Handler) -> bool:
    """Return True if the call gives something to await, as far as can be said without calling it.

    So do coroutine functions, what wraps one by `functools.wraps`, and what is annotated to return one.
    """
    for function in _functions(handler):
        try:
            inner = inspect.unwrap(function)
        except ValueError:  # it wraps itself
            inner = function
        if inspect.iscoroutinefunction(inner):
            return True
        hints = getattr(getattr(function, "__func__", function), "__annotations__", None)
        hint = hints.get("return") if isinstance(hints, dict) else None
        kind = get_origin(hint) or hint
        if isinstance(kind, type) and issubclass(kind, Awaitable):
            return True
        if isinstance(hint, str) and hint.split("[")[0].split(".")[-1] in ("Awaitable", "Coroutine"):
            return True
    return False


def _check_callable(handler: object) -> None:
    """Raise for what is no function of an event, with what it looks like."""
    if inspect.iscoroutine(handler) or inspect.isgenerator(handler) or inspect.isasyncgen(handler):
        name = handler.__qualname__
        if inspect.iscoroutine(handler) and inspect.getcoroutinestate(handler) == inspect.CORO_CREATED:
            handler.close()  # or Python would warn that it was never awaited, as it is told here
        raise SubscriptionError(
            f"the handler is what {name}(...) returned when it was called; give the function itself: {name}"
        )
    if isinstance(handler, type) or isinstance(unwrapped(handler), type):  # type: ignore[arg-type]
        cls: Any = unwrapped(handler)  # type: ignore[arg-type]
        raise SubscriptionError(
            f"the handler is the class {cls.__qualname__}: each event would only make an instance; give a "
            "method of an instance, or a function"
        )
    if handler is None:
        raise SubscriptionError(
            f"the handler is None; {_WRITE}. (Did a decorator, or what makes the handler, return nothing?)"
        )
    if isinstance(handler, str):
        raise SubscriptionError(
            f"the handler is the string {handler!r}; {_WRITE}. The event type comes first: "
            "subscribe(event_type, handler)"
        )
    if not callable(handler):
        raise SubscriptionError(f"the handler is {handler!r}, which cannot be called; {_WRITE}")


def _check_signature(handler: Handler, name: str) -> None:
    """Raise unless the handler takes one positional argument. What has no signature is accepted."""
    signature = signature_of(handler, follows=False) or signature_of(handler, follows=True)
    if signature is None:
        return
    wrong = _wrong_with(signature, handler, name)
    if wrong is not None:
        raise SubscriptionError(f"{name}{signature} cannot be called with an event: {wrong}")
    inner = signature_of(handler, follows=True)
    wrong = None if inner is None or inner == signature else _wrong_with(inner, handler, name)
    if wrong is not None:
        warn(
            f"{name} is decorated, and what is decorated, {name}{inner}, cannot be called with an event: "
            f"{wrong}. That is right only if the decorator adds what is missing"
        )


def signature_of(handler: Handler, *, follows: bool) -> inspect.Signature | None:
    """Return a handler's signature (`follows`: of what was decorated); None if it has none."""
    try:
        return inspect.signature(handler, follow_wrapped=follows)
    except (ValueError, TypeError, RecursionError):
        return None


def _wrong_with(signature: inspect.Signature, handler: Handler, name: str) -> str | None:
    """Return why one positional argument does not fit a signature, and what to write; None if it fits."""
    parameters = signature.parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    required = [p.name for p in positional if p.default is p.empty]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if _is_unbound(handler, positional):
        return (
            "it is a method without its instance; subscribe the method of an instance: "
            f"subscribe(event_type, agent.{name.rpartition('.')[2]})"
        )
    if not positional and not takes_any:
        return f"it takes no positional argument; {_WRITE}"
    if len(required) > 1:
        rest = ", ".join(f"{parameter}=..." for parameter in required[1:])
        return (
            f"it needs {len(required)} arguments ({', '.join(required)}); bind the others: partial(f, {rest})"
        )
    if keywords:
        rest = ", ".join(f"{parameter}=..." for parameter in keywords)
        return f"it needs the keywords {', '.join(keywords)}; give defaults, or bind them: partial(f, {rest})"
    return None


def _is_unbound(handler: Handler, positional: list[inspect.Parameter]) -> bool:
    """Return True for a function out of the body of a class, whose first parameter is the instance."""
    function = unwrapped(handler)
    if not isinstance(function, types.FunctionType) or not positional:
        return False
    parent = function.__qualname__.rpartition(".")[0]
    is_in_class = bool(parent) and not parent.endswith("<locals>")
    return is_in_class and positional[0].name in ("self", "cls")
