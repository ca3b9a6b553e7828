"""One function per operation of the API: from request to command, from reply to body.

Theory of operation
-------------------
An endpoint identifies the caller, parses path, query and body into one command, has the chat service carry it out and
words the reply. It never sees a failure: parsing raises ``Problem``, the service raises ``NotDone`` or
``OutcomeUnknown``, a rejection becomes a ``Problem`` here, and the application answers all of them in one place.

A reply of a type that does not answer the command is a bug of the service; ``_expect`` makes it a 500.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from impl.chat import commands
from impl.chat.service import ChatService, Consistency
from impl.http import bodies, parse, problems
from impl.http.identity import identify
from impl.http.limits import RETRY_AFTER_S
from impl.http.problems import Problem

Expected = TypeVar("Expected")


class UnexpectedReply(Exception):
    """The chat service answered a command with a reply of another command."""


class Endpoints:
    """The operations, bound to one chat service."""

    def __init__(self, service: ChatService, *, request_timeout_s: float, make_id: Callable[[], str]) -> None:
        self._service = service
        self._request_timeout_s = request_timeout_s
        self._make_id = make_id

    async def create_user(self, request: Request) -> Response:
        txn_id = parse.header_txn_id(request, self._make_id)
        body = await parse.parse_body(request, bodies.NewUser)
        reply = await self._execute(commands.CreateUser(txn_id, body.username), commands.UserCreated)
        return as_json(bodies.User(user_id=str(reply.user_id), username=body.username, as_of=reply.as_of), 201)

    async def create_chat(self, request: Request) -> Response:
        actor = identify(request)
        txn_id = parse.header_txn_id(request, self._make_id)
        body = await parse.parse_body(request, bodies.NewChat)
        reply = await self._execute(commands.CreateChat(actor, txn_id, body.name), commands.ChatCreated)
        return as_json(bodies.Chat(chat_id=str(reply.chat_id), name=body.name, as_of=reply.as_of), 201)

    async def join(self, request: Request) -> Response:
        return await self._change_membership(request, commands.Join)

    async def leave(self, request: Request) -> Response:
        return await self._change_membership(request, commands.Leave)

    async def _change_membership(self, request: Request, change: type[commands.Join | commands.Leave]) -> Response:
        actor = identify(request)
        chat = parse.chat_id(request)
        command = change(actor, chat, parse.header_txn_id(request, self._make_id))
        reply = await self._answer(command)
        if isinstance(reply, commands.Unchanged):
            return as_json(bodies.MembershipUnchanged(as_of=reply.as_of))
        posted = _expect(reply, commands.Posted)
        return as_json(
            bodies.MembershipChanged(
                chat_id=str(chat), seq=posted.seq, message_id=str(posted.message_id), as_of=posted.as_of
            )
        )

    async def send(self, request: Request) -> Response:
        actor = identify(request)
        chat = parse.chat_id(request)
        txn_id = parse.path_txn_id(request)
        body = await parse.parse_body(request, bodies.NewMessage)
        reply = await self._execute(commands.Send(actor, chat, txn_id, body.text), commands.Posted)
        return as_json(bodies.Sent(seq=reply.seq, message_id=str(reply.message_id), as_of=reply.as_of), 201)

    async def read(self, request: Request) -> Response:
        actor = identify(request)
        chat = parse.chat_id(request)
        after, limit = parse.page(request)
        query = commands.ReadMessages(actor, chat, after, limit)
        reply = await self._execute(query, commands.Messages, parse.consistency(request))
        return Response(bodies.message_page(reply), media_type="application/json")

    async def members(self, request: Request) -> Response:
        command = commands.ListMembers(identify(request), parse.chat_id(request))
        reply = await self._execute(command, commands.Members, parse.consistency(request))
        return as_json(bodies.MemberList(items=tuple(str(u) for u in reply.user_ids), as_of=reply.as_of))

    async def chats(self, request: Request) -> Response:
        query = commands.ListChats(identify(request))
        reply = await self._execute(query, commands.Chats, parse.consistency(request))
        items = tuple(bodies.Chat(chat_id=str(c.chat_id), name=c.name, as_of=c.as_of) for c in reply.items)
        return as_json(bodies.ChatList(items=items, as_of=reply.as_of))

    async def status(self, request: Request) -> Response:
        return as_json(bodies.status(self._service.status()))

    async def livez(self, request: Request) -> Response:
        return as_json(bodies.Health(status="alive"))

    async def readyz(self, request: Request) -> Response:
        if self._service.status().leader_id == 0:
            raise Problem(
                problems.NOT_READY,
                "The node knows no leader: it is starting, or cut off from the majority of its peers.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        return as_json(bodies.Health(status="ready"))

    async def _execute(
        self, command: commands.Command, expected: type[Expected], consistency: Consistency = "linearizable"
    ) -> Expected:
        return _expect(await self._answer(command, consistency), expected)

    async def _answer(self, command: commands.Command, consistency: Consistency = "linearizable") -> commands.Reply:
        reply = await self._service.execute(command, timeout_s=self._request_timeout_s, consistency=consistency)
        if isinstance(reply, commands.Rejected):
            raise problems.rejection(reply, getattr(command, "chat_id", None))
        return reply


def _expect(reply: commands.Reply, expected: type[Expected]) -> Expected:
    if not isinstance(reply, expected):
        raise UnexpectedReply(f"the chat service answered with {type(reply).__name__} instead of {expected.__name__}")
    return reply


def as_json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status_code=status, media_type="application/json")
