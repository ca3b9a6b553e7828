"""From what a client sent to typed values, or to the problem that names what is wrong with it.

Theory of operation
-------------------
A body is read under two bounds, its size and its time, before anything looks at it; it is then validated in one step
from bytes to a frozen model. JSON that does not parse is 400 with its position; JSON that says the wrong thing is 422
with the field. One case lies between: an escape like ``\\ud800`` that is half a surrogate pair is well-formed JSON
(RFC 8259, section 8.2) but no Unicode text, and the parser reports it as a syntax error. So a body that does not parse
is looked at a second time, by a parser that lets such escapes through, to name the field in which one stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

import trio
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from impl.chat.service import Consistency
from impl.http import problems, wire
from impl.http.limits import BODY_DRAIN_MAX_BYTES, BODY_MAX_BYTES, BODY_TIMEOUT_S, PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS
from impl.http.problems import Problem, invalid

Body = TypeVar("Body", bound=BaseModel)

CONSISTENCIES: tuple[Consistency, ...] = get_args(Consistency)

_ID = re.compile(r"[1-9][0-9]{0,18}")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_TXN_ID = re.compile(wire.TXN_ID_PATTERN)
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Disconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


def parse_id(text: str) -> int | None:
    """A user or chat id from its one decimal form, or None: no sign, no leading zero, at most 64 bits."""
    if _ID.fullmatch(text) is None or int(text) > wire.ID_MAX:
        return None
    return int(text)


def chat_id(request: Request) -> int:
    """The chat that the path names. Raises ``Problem`` (404) when that is no id at all."""
    text: str = request.path_params["chat"]
    parsed = parse_id(text)
    if parsed is None:
        raise problems.unknown_chat(text)
    return parsed


def path_txn_id(request: Request) -> str:
    """The transaction id that ends the path. Raises ``Problem`` (422)."""
    return _checked_txn_id(request.path_params["txn_id"], "txn_id")


def header_txn_id(request: Request, make_id: Callable[[], str]) -> str:
    """The transaction id in the header, or a new one: without a header the client cannot retry, and did not ask to."""
    text = request.headers.get(wire.TXN_HEADER)
    return make_id() if text is None else _checked_txn_id(text, wire.TXN_HEADER)


def _checked_txn_id(text: str, field: str) -> str:
    if _TXN_ID.fullmatch(text) is None:
        raise invalid([(field, f"a transaction id is 1 to 128 visible ASCII characters, this one has {len(text)}")])
    return text


def page(request: Request) -> tuple[int, int]:
    """``after`` and ``limit`` of a page of messages. Raises ``Problem`` (422) naming each that is out of bounds."""
    errors: list[tuple[str, str]] = []
    after = _query_integer(request, "after", 0, 0, wire.ID_MAX, errors)
    limit = _query_integer(request, "limit", PAGE_DEFAULT_ITEMS, 1, PAGE_MAX_ITEMS, errors)
    if errors:
        raise invalid(errors)
    return after, limit


def _query_integer(
    request: Request, name: str, default: int, low: int, high: int, errors: list[tuple[str, str]]
) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if _INTEGER.fullmatch(text) is None:
        errors.append((name, f"{text[:64]!r} is not an integer: send a decimal number from {low} to {high}"))
        return default
    value = int(text)
    if not low <= value <= high:
        errors.append((name, f"{value} is out of bounds: send a number from {low} to {high}"))
        return default
    return value


def only_parameters(request: Request, known: tuple[str, ...]) -> None:
    """Refuse a query with a parameter that the path does not know, or with one that is there twice: a misspelt one is
    an error and not a silent default. Raises ``Problem`` (400)."""
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            knows = f"it knows {', '.join(known)}" if known else "it knows none"
            raise Problem(problems.UNKNOWN_PARAMETER, f"There is no parameter {name[:64]!r} here: {knows}.")
        if name in seen:
            raise Problem(problems.UNKNOWN_PARAMETER, f"The parameter {name!r} is there twice: send it once.")
        seen.add(name)


def consistency(request: Request) -> Consistency:
    """How recent the answer must be. Raises ``Problem`` (422)."""
    text = request.query_params.get("consistency", "linearizable")
    for known in CONSISTENCIES:
        if text == known:
            return known
    raise invalid([("consistency", f"{text[:64]!r} is none of {', '.join(CONSISTENCIES)}")])


def flag(request: Request, name: str) -> bool:
    """A parameter that is `true` or `false`, false if it is not there. Raises ``Problem`` (422)."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise invalid([(name, f"{text[:64]!r} is neither true nor false")])
    return text == "true"


async def read_body(request: Request) -> bytes:
    """The whole body, at most ``BODY_MAX_BYTES``.

    Raises ``Problem`` (413 beyond the cap, 408 beyond ``BODY_TIMEOUT_S``) and ``Disconnected``.
    """
    declared = request.headers.get("Content-Length", "")
    if _INTEGER.fullmatch(declared) and int(declared) > BODY_DRAIN_MAX_BYTES:
        raise _too_large(f"{int(declared):,} bytes")
    body = bytearray()
    with trio.move_on_after(BODY_TIMEOUT_S) as scope:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            if len(body) > BODY_MAX_BYTES:
                raise _too_large("more")
            if not message.get("more_body", False):
                break
    if scope.cancelled_caught:
        raise Problem(
            problems.BODY_TIMEOUT,
            f"{len(body):,} bytes came in {BODY_TIMEOUT_S:g} s and the body is not complete; nothing was done.",
            headers={"Connection": "close"},
        )
    return bytes(body)


def _too_large(found: str) -> Problem:
    return Problem(
        problems.BODY_TOO_LARGE,
        f"A body may have {BODY_MAX_BYTES:,} bytes, this one has {found}.",
        members={"limit_bytes": BODY_MAX_BYTES},
        headers={"Connection": "close"},
    )


async def parse_body(request: Request, model: type[Body]) -> Body:
    """The body as a frozen model. Raises what ``read_body`` raises, and ``Problem`` (400 or 422)."""
    body = await read_body(request)
    try:
        parsed = model.model_validate_json(body)
        _refuse_repeated_names(body)
        return parsed
    except ValidationError as error:
        details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        raise _not_json(body, model, str(details[0]["ctx"]["error"]))
    raise invalid([_field_error(d["type"], d["loc"], d["msg"], d.get("ctx", {}), d["input"]) for d in details])


def _refuse_repeated_names(body: bytes) -> None:
    """One of two values under one name would win without a word (RFC 8259, section 4). Raises ``Problem`` (400)."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise Problem(problems.MALFORMED_JSON, f"The name {name[:64]!r} is there twice: send it once.")

    json.loads(body, object_pairs_hook=check)


def _field_error(type_: str, loc: tuple[int | str, ...], msg: str, ctx: dict[str, Any], value: Any) -> tuple[str, str]:
    """(field, what is wrong with it), in words that name the bound and what was found."""
    field = ".".join(str(part)[:64] for part in loc) or "body"
    if type_ == "string_too_long":
        return field, f"at most {ctx['max_length']:,} characters are allowed, this has {len(value):,}"
    if type_ == "string_too_short":
        return field, f"at least {ctx['min_length']:,} characters are needed, this has {len(value):,}"
    if type_ == "string_pattern_mismatch":
        return field, "only a-z, 0-9, '.', '_' and '-' are allowed, and the first must be a letter or a digit"
    if type_ == "missing":
        return field, "missing"
    if type_ == "extra_forbidden":
        return field, "there is no such field; leave it out"
    if type_ == "model_type":
        return field, "a JSON object is needed"
    return field, msg[0].lower() + msg[1:]


def _not_json(body: bytes, model: type[BaseModel], error: str) -> Problem:
    """400 with the position, or 422 when the only fault is half a surrogate pair."""
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    for field, at, code in _lone_surrogates(value):
        return invalid(
            [(field, f"half of a surrogate pair, \\u{code:04x}, at character {at}: it stands for no character")]
        )
    fields = ", ".join(f'"{name}": ...' for name in model.model_fields)
    hint = f"send an object like {{{fields}}}"
    if not body:
        return Problem(problems.MALFORMED_JSON, f"The body is empty: {hint}.")
    return Problem(problems.MALFORMED_JSON, f"The body is not JSON: {error}; {hint}.")


def _lone_surrogates(value: Any) -> Iterator[tuple[str, int, int]]:
    """(field, position, code) of each half surrogate pair in the strings and names of one JSON object."""
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        for where, text in (("body", name), (name, item)):
            found = _LONE_SURROGATE.search(text) if isinstance(text, str) else None
            if found is not None:
                yield where, found.start(), ord(found.group())
