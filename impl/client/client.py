"""The Python client of the chat service: sends a command until its outcome is known or the time is up.

Theory of operation
-------------------
One *call* is one command under one deadline. It makes *attempts*, each one HTTP request to one node under its own,
shorter timeout. An attempt that fails is followed by another, on another node, after a pause that grows and is
jittered, so that clients that failed together do not return together. Every attempt of a write carries the same
transaction id, so the service carries it out at most once however many attempts get through; an attempt may therefore
be given up and repeated at any time.

A call ends in one of these ways:

* the state machine's reply. ``execute`` and ``call`` return it, ``Rejected`` included; the methods that name an
  operation (``send``, ``join`` ...) return what they promise and raise ``RequestRejected`` for a rejection;
* ``NotDone``: the deadline passed and *every* attempt certainly had no effect. For a query, any failure;
* ``OutcomeUnknown``: the deadline passed and at least one attempt of a write may have had, or may yet have, an effect;
* ``RequestInvalid``: the server refused the request itself (a text that is too long, say).

A ``Retry-After`` header is not heeded: it is meant for clients without a pause of their own, and counts in whole
seconds, where a leader is elected in a fraction of one.

The client follows the leader (see ``impl.client.nodes``), remembers it between calls and shares it, like the
connections, with all clients made from it by ``as_user``. It may be used by many tasks at once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import httpx2
import trio

from impl.chat import commands
from impl.chat.commands import Command, Rejected, Reply
from impl.chat.service import Consistency, NodeStatus
from impl.client import outcomes
from impl.client.errors import NotDone, OutcomeUnknown, RequestInvalid, RequestRejected
from impl.client.identity import Credentials, user_header
from impl.client.nodes import Nodes
from impl.client.outcomes import Attempt, Outcome
from impl.client.requests import Request, request_of, status_request
from impl.http import wire

Expected = TypeVar("Expected")

CALL_TIMEOUT_S = 10.0
"""For a whole call: longer than a cluster needs to elect a leader several times over."""

ATTEMPT_TIMEOUT_S = 2.0
"""For one attempt: a node that is cut off or paused is left for another while the call has time for several more."""

CONNECT_TIMEOUT_S = 0.5
"""To connect: within one data centre it takes a millisecond, and a lost SYN costs one second if waited for."""

ATTEMPT_MIN_S = 0.02
"""With less time than this left, another attempt would only turn "not done" into "unknown"."""

BACKOFF_MIN_S = 0.001
"""The shortest pause: time passes with every attempt, so that a call comes to its end."""

BACKOFF_BASE_S = 0.02
"""The longest first pause: a request on another node is worth trying at once."""

BACKOFF_MAX_S = 0.5
"""The longest pause: about one election."""

CONNECTIONS_MAX = 100
"""Of one client, to all nodes together: its requests in progress."""

IDLE_CONNECTIONS_MAX = 20
"""Kept open for the next request."""

IDLE_CONNECTION_S = 10.0
"""Shorter than the server keeps idle connections: when the server closes one, a request just sent on it has an unknown
outcome."""

TXN_ID_BITS = 128
"""Of a transaction id made here: never the same twice."""


class Answer(NamedTuple):
    """A reply and how it was come by. ``node`` is the id of the node that gave it (0 if it did not say)."""

    reply: Reply
    attempts: int
    node: int


class _Shared(NamedTuple):
    """What clients made from each other share."""

    nodes: Nodes
    http: httpx2.AsyncClient
    rng: random.Random
    credentials: Credentials
    timeout_s: float
    attempt_timeout_s: float
    connect_timeout_s: float
    follow_leader: bool


class Client:
    """A client of one cluster, acting for one user (or none). An async context manager; ``aclose`` ends it."""

    def __init__(
        self,
        nodes: Sequence[str] | Mapping[int, str],
        *,
        user_id: int | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        attempt_timeout_s: float = ATTEMPT_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        follow_leader: bool = True,
        credentials: Credentials = user_header,
        rng: random.Random | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """``nodes``: the base URLs of all nodes, or node id -> base URL where nodes advertise other addresses.

        ``user_id`` is the actor of the methods that name an operation; ``execute`` takes the actor from the command.
        ``follow_leader=False`` stays with the node that last answered, and so tests forwarding. ``rng`` draws the
        pauses and the transaction ids; one that is seeded must not make ids for the same user twice. ``transport``
        replaces the network.
        """
        limits = httpx2.Limits(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=IDLE_CONNECTIONS_MAX,
            keepalive_expiry=IDLE_CONNECTION_S,
        )
        # trust_env: a proxy from the environment must not come between a client and the nodes it was given.
        http = httpx2.AsyncClient(limits=limits, timeout=attempt_timeout_s, transport=transport, trust_env=False)
        self.user_id = user_id
        self._shared = _Shared(
            Nodes(nodes),
            http,
            rng or random.SystemRandom(),
            credentials,
            timeout_s,
            attempt_timeout_s,
            connect_timeout_s,
            follow_leader,
        )

    def as_user(self, user_id: int) -> Client:
        """A client for another user on the same connections; closing either closes both."""
        other = Client.__new__(Client)
        other.user_id = user_id
        other._shared = self._shared
        return other

    async def aclose(self) -> None:
        await self._shared.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- operations ----------------------------------------------------------------------------------------------

    async def create_user(self, username: str, *, txn_id: str | None = None) -> commands.UserCreated:
        """Create a user. This client does not become that user: see ``as_user``."""
        return await self._expect(commands.CreateUser(txn_id or self._txn_id(), username), commands.UserCreated)

    async def create_chat(self, name: str, *, txn_id: str | None = None) -> commands.ChatCreated:
        """Create a chat with the user as its first member."""
        command = commands.CreateChat(self._actor(), txn_id or self._txn_id(), name)
        return await self._expect(command, commands.ChatCreated)

    async def join(self, chat_id: int, *, txn_id: str | None = None) -> commands.Posted | commands.Unchanged:
        """Join a chat; ``Unchanged`` for a member."""
        answer = await self._accepted(commands.Join(self._actor(), chat_id, txn_id or self._txn_id()))
        assert isinstance(answer, commands.Posted | commands.Unchanged)
        return answer

    async def leave(self, chat_id: int, *, txn_id: str | None = None) -> commands.Posted | commands.Unchanged:
        """Leave a chat; ``Unchanged`` for somebody who is no member."""
        answer = await self._accepted(commands.Leave(self._actor(), chat_id, txn_id or self._txn_id()))
        assert isinstance(answer, commands.Posted | commands.Unchanged)
        return answer

    async def send(self, chat_id: int, text: str, *, txn_id: str | None = None) -> commands.Posted:
        """Post a message. To repeat a send that ended as ``OutcomeUnknown``, give the same ``txn_id`` both times."""
        command = commands.Send(self._actor(), chat_id, txn_id or self._txn_id(), text)
        return await self._expect(command, commands.Posted)

    async def read(
        self, chat_id: int, *, after: int = 0, limit: int = 100, consistency: Consistency = "linearizable"
    ) -> commands.Messages:
        """The messages with ``seq > after``, the oldest first, at most ``limit`` (1 to 250) of them.

        ``consistency`` says how recent the answer must be; see ``impl.chat.service.Consistency``.
        """
        query = commands.ReadMessages(self._actor(), chat_id, after, limit)
        return await self._expect(query, commands.Messages, consistency)

    async def members(self, chat_id: int, *, consistency: Consistency = "linearizable") -> commands.Members:
        return await self._expect(commands.ListMembers(self._actor(), chat_id), commands.Members, consistency)

    async def chats(self, *, consistency: Consistency = "linearizable") -> commands.Chats:
        """The chats of which the user is a member."""
        return await self._expect(commands.ListChats(self._actor()), commands.Chats, consistency)

    async def status(self, node_id: int | None = None) -> NodeStatus:
        """What a node knows of the cluster: any node, or the one with this id.

        Raises ``ValueError`` for an id whose address is not known, and ``NotDone``.
        """
        only = None if node_id is None else self._shared.nodes.url_of(node_id)
        if node_id is not None and only is None:
            raise ValueError(f"the address of node {node_id} is not known: construct the client with id -> URL")
        attempt, _, _ = await self._run(status_request(), self._shared.timeout_s, only)
        assert isinstance(attempt.value, NodeStatus)
        return attempt.value

    # --- commands ------------------------------------------------------------------------------------------------

    async def execute(
        self, command: Command, *, timeout_s: float | None = None, consistency: Consistency = "linearizable"
    ) -> Reply:
        """Carry out one command and return the state machine's reply, ``Rejected`` included.

        The actor is the command's; ``timeout_s`` replaces the client's deadline. Raises ``NotDone``,
        ``OutcomeUnknown``, ``RequestInvalid``, and ``Unsendable`` for a transaction id that no request can carry.
        """
        return (await self.call(command, timeout_s=timeout_s, consistency=consistency)).reply

    async def call(
        self, command: Command, *, timeout_s: float | None = None, consistency: Consistency = "linearizable"
    ) -> Answer:
        """As ``execute``, and tells how many attempts it took and which node answered; the errors tell that, too."""
        timeout_s = self._shared.timeout_s if timeout_s is None else timeout_s
        attempt, attempts, node = await self._run(request_of(command, consistency), timeout_s)
        return Answer(attempt.value, attempts, node)

    async def _expect(
        self, command: Command, expected: type[Expected], consistency: Consistency = "linearizable"
    ) -> Expected:
        reply = await self._accepted(command, consistency)
        assert isinstance(reply, expected)
        return reply

    async def _accepted(self, command: Command, consistency: Consistency = "linearizable") -> Reply:
        answer = await self.call(command, consistency=consistency)
        if isinstance(answer.reply, Rejected):
            raise RequestRejected(answer.reply, attempts=answer.attempts, node=answer.node)
        return answer.reply

    def _actor(self) -> int:
        if self.user_id is None:
            raise ValueError("this client acts for no user: give it a user_id, or use client.as_user(user_id)")
        return self.user_id

    def _txn_id(self) -> str:
        return f"{self._shared.rng.getrandbits(TXN_ID_BITS):0{TXN_ID_BITS // 4}x}"

    # --- attempts ------------------------------------------------------------------------------------------------

    async def _run(self, request: Request, timeout_s: float, only: str | None = None) -> tuple[Attempt, int, int]:
        """Attempts until one ends the call: (that attempt, how many there were, id of the node that answered).

        ``only`` keeps to one address.
        """
        nodes = self._shared.nodes
        deadline = trio.current_time() + timeout_s
        attempts = 0
        may_be_done = False
        failed_in_call: set[str] = set()
        target = only or nodes.current
        while True:
            attempts += 1
            attempt, leader = await self._attempt(request, target, deadline - trio.current_time())
            node = nodes.id_of(target)
            if attempt.outcome is Outcome.REPLY:
                if only is None:
                    nodes.current = leader if leader is not None and self._shared.follow_leader else target
                return attempt, attempts, node
            if attempt.outcome is Outcome.INVALID:
                break
            may_be_done = may_be_done or attempt.outcome is Outcome.UNKNOWN
            if only is None:
                failed_in_call.add(target)
                hint = leader if self._shared.follow_leader else None
                target = nodes.current = nodes.after(target, hint, failed_in_call)
            left_s = deadline - trio.current_time() - ATTEMPT_MIN_S
            if left_s <= 0:
                break
            await trio.sleep(max(BACKOFF_MIN_S, min(left_s, self._pause_s(attempts))))
            if trio.current_time() >= deadline:
                break  # the process was held up: a pause may last longer than it was to

        said = f"{attempts} attempt{'s' if attempts > 1 else ''} in {timeout_s:g} s; the last: {attempt.detail}"
        if may_be_done:
            raise OutcomeUnknown(said, attempts=attempts, node=node)
        if attempt.outcome is Outcome.INVALID:
            raise RequestInvalid(attempt.status, attempt.problem or {}, attempts=attempts, node=node)
        raise NotDone(attempt.reason, said, attempts=attempts, node=node)

    def _pause_s(self, attempts: int) -> float:
        """Full jitter: anything from next to nothing to a bound that doubles with each attempt."""
        exponent = min(attempts - 1, 16)  # the bound is long at its maximum by then
        return self._shared.rng.uniform(0, min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2**exponent))

    async def _attempt(self, request: Request, url: str, left_s: float) -> tuple[Attempt, str | None]:
        """One request to one node: how it ended, and where the leader can be reached according to that node."""
        shared = self._shared
        timeout_s = min(shared.attempt_timeout_s, left_s)
        # Waiting for a free connection and connecting end well before the attempt does: what ends there was not sent.
        before_sending_s = min(shared.connect_timeout_s, timeout_s / 3)
        headers = request.headers
        if request.actor is not None:
            headers = {**headers, **shared.credentials(request.actor)}
        leader = None
        attempt = outcomes.of_timeout(timeout_s)
        with trio.move_on_after(timeout_s):
            try:
                response = await shared.http.request(
                    request.method,
                    url + request.path,
                    content=request.body,
                    headers=headers,
                    timeout=httpx2.Timeout(None, connect=before_sending_s, pool=before_sending_s),
                )
            except httpx2.RequestError as error:
                attempt = outcomes.of_error(error)
            else:
                attempt = outcomes.of_response(request, response.status_code, response.content)
                leader = self._observe(url, response.headers)
        return (attempt if request.is_write else attempt.of_query()), leader

    def _observe(self, url: str, headers: httpx2.Headers) -> str | None:
        """Learn from a response which node answered; return where the leader that it names can be reached."""
        nodes = self._shared.nodes
        node_id = _node_id(headers.get(wire.NODE_HEADER, ""))
        if node_id:
            nodes.learn(url, node_id)
        return nodes.leader(_node_id(headers.get(wire.LEADER_ID_HEADER, "")), headers.get(wire.LEADER_HEADER, ""))


def _node_id(text: str) -> int:
    """A node id out of a header, 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0
