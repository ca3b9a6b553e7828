"""The chat workload: people who talk, read, come and go, and sometimes ask for what they may not have.

Theory of operation
-------------------
Each client is a user of its own and a member of two *home* chats that it never leaves; of the others it joins and
leaves as chance has it. One operation after another, paced, each drawn from ``MIX``:

* reads mostly ask for what came after the last message seen, sometimes for an older window, sometimes from the start:
  a stale or a rewritten prefix has many chances to show;
* *again* repeats an earlier send of the same client, same transaction and same text, as an operation of its own through
  another node: it must get the first answer. Sends whose outcome stayed unknown are repeated too;
* *reuse* takes a transaction id again for another text, *trespass* writes to a chat the client is not in, and other
  draws name chats that do not exist and names that are taken: refusals are answers, and answers are checked.

Every text is unique, so that a message in a read can be traced to the one operation that wrote it.

After the run and after all faults are healed, ``wait_for_progress`` needs a write and a read to succeed through each
node, and ``read_everything`` reads each chat from its first message to its last. Both are operations like all others.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from harness.params import RunParams
from harness.randomness import substream
from harness.recorder import Recorder, Value
from harness.workloads.calls import Caller, Completion, RecordedCaller

KINDS = ("create_user", "create_chat", "join", "leave", "send", "read", "list_members", "list_chats")
"""Every kind of operation that the workload makes; a run in which one never succeeded proves little."""

MIX: tuple[tuple[str, int], ...] = (
    ("send", 42),
    ("read_new", 22),
    ("read_back", 8),
    ("read_all", 3),
    ("again", 5),
    ("list_members", 4),
    ("list_chats", 4),
    ("join", 4),
    ("leave", 3),
    ("trespass", 2),
    ("reuse", 1),
    ("create_user", 1),
    ("create_chat", 1),
)
"""Weights in percent."""

HOME_CHATS = 2
"""Of how many chats each client is a member throughout."""

MAX_EXTRA_CHATS = 8
"""Chats created on the way: few, because a contradiction needs several operations on the same chat."""

RECENT_SENDS = 16
"""How far back *again* and *reuse* reach."""

READ_LIMIT = 20
FROM_START_LIMIT = 50
FINAL_READ_LIMIT = 200
FINAL_READ_PAGES = 1000
"""A bound for the final read of one chat: 200,000 messages, more than a run of an hour writes."""

PAUSE_CAP = 4.0
"""The longest pause between two operations, in units of the mean: a client that rests for seconds sees nothing."""

SET_UP_TIMEOUT_S = 30.0
"""For users, chats and memberships, on an undisturbed cluster."""

PROGRESS_TIMEOUT_S = 15.0
"""After the last fault is healed: ten election timeouts, and time for a node to catch up."""

PROGRESS_ATTEMPT_S = 2.0

FINAL_READ_TIMEOUT_S = 60.0
"""For all final reads together: a thousand messages take well under a second on an idle cluster."""

RETRY_PAUSE_S = 0.1

NO_SUCH_CHAT = "1"


class SetUpFailed(RuntimeError):
    """Users, chats and memberships could not be created on the undisturbed cluster."""


@dataclass
class Person:
    """One client: who it is, where it believes to be a member, what it saw and what it wrote lately."""

    lane: int
    rng: random.Random
    caller: RecordedCaller
    user_id: str = ""
    homes: tuple[str, ...] = ()
    member_of: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    recent: deque[tuple[Value, bool]] = field(default_factory=lambda: deque(maxlen=RECENT_SENDS))  # request, was ok
    written: int = 0

    def next_txn(self) -> str:
        self.written += 1
        return f"t{self.lane}-{self.written}"


class ChatWorkload:
    """One run's clients; ``caller_of(lane)`` provides the calls of each."""

    def __init__(self, params: RunParams, recorder: Recorder, caller_of: Callable[[int], Caller]) -> None:
        self._params = params
        self._timeout_s = params.operation_timeout_s
        self.people = [
            Person(lane, substream(params.seed, "workload", lane), RecordedCaller(caller_of(lane), recorder, lane))
            for lane in range(params.clients)
        ]
        self.chats: list[str] = []
        self._owner: dict[str, Person] = {}  # who created a chat: a member of it throughout
        self._extra_chats = 0
        self._stopping = False

    # --- before ------------------------------------------------------------------------------------------------

    async def set_up(self) -> None:
        """Create one user per client and the home chats, and let everybody join. Raises ``SetUpFailed``."""
        with trio.move_on_after(SET_UP_TIMEOUT_S) as scope:
            await self._all(self._register)
            for number in range(self._params.chats):
                await self._found(self.people[number % len(self.people)], f"chat-{number}")
            await self._all(self._join_homes)
        if scope.cancelled_caught:
            raise SetUpFailed(f"users and chats could not be created within {SET_UP_TIMEOUT_S:g} s")

    async def _all(self, part: Callable[[Person], Awaitable[object]]) -> None:
        async with trio.open_nursery() as nursery:
            for person in self.people:
                nursery.start_soon(part, person)

    async def _register(self, person: Person) -> None:
        request = {"username": f"user-{person.lane}", "txn_id": person.next_txn()}
        completion = await self._insist(person, "create_user", request, "user_created")
        person.user_id = str(completion.reply["user_id"])

    async def _found(self, person: Person, name: str) -> None:
        request = {"actor": person.user_id, "txn_id": person.next_txn(), "name": name}
        completion = await self._insist(person, "create_chat", request, "chat_created")
        chat = str(completion.reply["chat_id"])
        self.chats.append(chat)
        self._owner[chat] = person
        person.homes += (chat,)
        person.member_of.add(chat)

    async def _join_homes(self, person: Person) -> None:
        wanted = {self.chats[(person.lane + step) % len(self.chats)] for step in range(HOME_CHATS)}
        for chat in sorted(wanted - set(person.homes)):
            request = {"actor": person.user_id, "chat": chat, "txn_id": person.next_txn()}
            await self._insist(person, "join", request, "posted")
            person.homes += (chat,)
            person.member_of.add(chat)

    async def _insist(self, person: Person, f: str, request: Value, wanted: str) -> Completion:
        """The same operation, under the same transaction id, until it is answered as it must be."""
        while True:
            completion = await person.caller.call(f, request, timeout_s=self._timeout_s)
            if completion.reply_type == wanted:
                return completion
            if completion.outcome == "ok":
                raise SetUpFailed(f"{f} {request} was answered {completion.reply} instead of {wanted}")
            await trio.sleep(RETRY_PAUSE_S)

    # --- during ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let every client work until ``stop``; each then finishes the operation under way."""
        await self._all(self._live)

    def stop(self) -> None:
        self._stopping = True

    async def _live(self, person: Person) -> None:
        mean_s = 1 / self._params.rate_per_client
        names, weights = zip(*MIX, strict=True)
        next_at = trio.current_time() + person.rng.uniform(0, mean_s)
        while not self._stopping:
            await trio.sleep_until(next_at)
            if self._stopping:
                return
            next_at = trio.current_time() + min(person.rng.expovariate(1 / mean_s), PAUSE_CAP * mean_s)
            action = ACTIONS[person.rng.choices(names, weights)[0]]
            await action(self, person)

    async def _send(self, person: Person) -> None:
        await self._post(person, person.rng.choice(sorted(person.member_of)))

    async def _trespass(self, person: Person) -> None:
        strange = [chat for chat in self.chats if chat not in person.member_of]
        await self._post(person, person.rng.choice([*strange, NO_SUCH_CHAT]))

    async def _post(self, person: Person, chat: str) -> None:
        txn_id = person.next_txn()
        request = {"actor": person.user_id, "chat": chat, "txn_id": txn_id, "text": f"message {txn_id}"}
        completion = await self._call(person, "send", request)
        person.recent.append((request, completion.outcome == "ok"))

    async def _again(self, person: Person) -> None:
        if not person.recent:
            return
        request, _ = person.rng.choice(person.recent)
        await self._call(person, "send", request, node=person.rng.randint(1, self._params.nodes))

    async def _reuse(self, person: Person) -> None:
        settled = [request for request, was_ok in person.recent if was_ok]
        if not settled:
            return
        person.written += 1
        request = {**person.rng.choice(settled), "text": f"other text {person.lane}-{person.written}"}
        await self._call(person, "send", request)

    async def _read_new(self, person: Person) -> None:
        chat = person.rng.choice(sorted(person.member_of))
        await self._read(person, chat, person.seen.get(chat, 0), READ_LIMIT)

    async def _read_back(self, person: Person) -> None:
        chat = person.rng.choice(self.chats)
        after = max(0, person.seen.get(chat, 0) - person.rng.randint(0, 2 * READ_LIMIT))
        await self._read(person, chat, after, person.rng.randint(1, READ_LIMIT))

    async def _read_all(self, person: Person) -> None:
        await self._read(person, person.rng.choice(sorted(person.member_of)), 0, FROM_START_LIMIT)

    async def _read(self, person: Person, chat: str, after: int, limit: int) -> None:
        request = {"actor": person.user_id, "chat": chat, "after": after, "limit": limit}
        completion = await self._call(person, "read", request)
        if completion.reply_type == "messages" and completion.reply["items"]:
            last = int(completion.reply["items"][-1]["seq"])
            person.seen[chat] = max(last, person.seen.get(chat, 0))

    async def _list_members(self, person: Person) -> None:
        chat = person.rng.choice(self.chats)
        await self._call(person, "list_members", {"actor": person.user_id, "chat": chat})

    async def _list_chats(self, person: Person) -> None:
        await self._call(person, "list_chats", {"actor": person.user_id})

    async def _join(self, person: Person) -> None:
        strange = [chat for chat in self.chats if chat not in person.member_of]
        chat = person.rng.choice(strange or self.chats)
        request = {"actor": person.user_id, "chat": chat, "txn_id": person.next_txn()}
        if (await self._call(person, "join", request)).reply_type in {"posted", "unchanged"}:
            person.member_of.add(chat)

    async def _leave(self, person: Person) -> None:
        leavable = sorted(person.member_of - set(person.homes)) or [
            chat for chat in self.chats if chat not in person.homes
        ]
        if not leavable:
            return
        chat = person.rng.choice(leavable)
        request = {"actor": person.user_id, "chat": chat, "txn_id": person.next_txn()}
        # From the call on, the client may be out: it must not count as a member while the outcome is open.
        person.member_of.discard(chat)
        await self._call(person, "leave", request)

    async def _create_user(self, person: Person) -> None:
        txn_id = person.next_txn()
        taken = person.rng.random() < 0.25
        username = f"user-{person.rng.randrange(len(self.people))}" if taken else f"extra-{txn_id}"
        await self._call(person, "create_user", {"username": username, "txn_id": txn_id})

    async def _create_chat(self, person: Person) -> None:
        if self._extra_chats >= MAX_EXTRA_CHATS:
            await self._list_chats(person)
            return
        self._extra_chats += 1
        txn_id = person.next_txn()
        request = {"actor": person.user_id, "txn_id": txn_id, "name": f"extra-{txn_id}"}
        completion = await self._call(person, "create_chat", request)
        if completion.reply_type == "chat_created":
            chat = str(completion.reply["chat_id"])
            self.chats.append(chat)
            self._owner[chat] = person
            person.homes += (chat,)
            person.member_of.add(chat)

    async def _call(self, person: Person, f: str, request: Value, node: int | None = None) -> Completion:
        return await person.caller.call(f, request, node=node, timeout_s=self._timeout_s)

    # --- after -------------------------------------------------------------------------------------------------

    async def wait_for_progress(self) -> str:
        """Write and read through each node until both succeed; returns what did not, in words, or an empty string."""
        missing = [f"{what} through node {node}" for node in self._nodes() for what in ("write", "read")]
        person = self.people[0]
        with trio.move_on_after(PROGRESS_TIMEOUT_S):
            for node in self._nodes():
                for probe in (self._probe_write, self._probe_read):
                    while not await probe(person, node):  # noqa: ASYNC110 - the cluster cannot tell us when
                        await trio.sleep(RETRY_PAUSE_S)
                    del missing[0]
        return f"no {missing[0]} succeeded within {PROGRESS_TIMEOUT_S:g} s after all faults healed" if missing else ""

    def _nodes(self) -> range:
        return range(1, self._params.nodes + 1)

    async def _probe_write(self, person: Person, node: int) -> bool:
        txn_id = person.next_txn()
        request = {
            "actor": person.user_id,
            "chat": person.homes[0],
            "txn_id": txn_id,
            "text": f"message {txn_id}",
        }
        completion = await person.caller.call("send", request, node=node, timeout_s=PROGRESS_ATTEMPT_S)
        return completion.reply_type == "posted"

    async def _probe_read(self, person: Person, node: int) -> bool:
        request = {"actor": person.user_id, "chat": person.homes[0], "after": 0, "limit": 1}
        completion = await person.caller.call("read", request, node=node, timeout_s=PROGRESS_ATTEMPT_S)
        return completion.reply_type == "messages"

    async def read_everything(self) -> str:
        """Read each chat to its end and its members; returns what could not be read, in words, or an empty string."""
        failed: list[str] = []

        async def read_own(person: Person) -> None:
            for chat in self.chats:
                if self._owner[chat] is person:
                    failed.extend(filter(None, [await self._read_chat(person, chat)]))

        with trio.move_on_after(FINAL_READ_TIMEOUT_S) as scope:
            await self._all(read_own)
        if scope.cancelled_caught:
            failed.append(f"the final reads did not end within {FINAL_READ_TIMEOUT_S:g} s")
        return "; ".join(failed)

    async def _read_chat(self, person: Person, chat: str) -> str:
        after = 0
        for _ in range(FINAL_READ_PAGES):
            request = {"actor": person.user_id, "chat": chat, "after": after, "limit": FINAL_READ_LIMIT}
            completion = await self._finally(person, "read", request)
            if completion.reply_type != "messages":
                return f"the final read of chat {chat} failed: {completion.value}"
            items = completion.reply["items"]
            if not items or items[-1]["seq"] >= completion.reply["as_of"]:
                break
            after = int(items[-1]["seq"])
        completion = await self._finally(person, "list_members", {"actor": person.user_id, "chat": chat})
        if completion.reply_type != "members":
            return f"the final list of members of chat {chat} failed: {completion.value}"
        return ""

    async def _finally(self, person: Person, f: str, request: Value) -> Completion:
        """One final operation, with two more chances: the cluster is healed, but the machine may be busy."""
        for _ in range(2):
            completion = await self._call(person, f, request)
            if completion.outcome == "ok":
                return completion
            await trio.sleep(RETRY_PAUSE_S)
        return await self._call(person, f, request)


ACTIONS: dict[str, Callable[[ChatWorkload, Person], Awaitable[None]]] = {
    "send": ChatWorkload._send,
    "read_new": ChatWorkload._read_new,
    "read_back": ChatWorkload._read_back,
    "read_all": ChatWorkload._read_all,
    "again": ChatWorkload._again,
    "list_members": ChatWorkload._list_members,
    "list_chats": ChatWorkload._list_chats,
    "join": ChatWorkload._join,
    "leave": ChatWorkload._leave,
    "trespass": ChatWorkload._trespass,
    "reuse": ChatWorkload._reuse,
    "create_user": ChatWorkload._create_user,
    "create_chat": ChatWorkload._create_chat,
}
