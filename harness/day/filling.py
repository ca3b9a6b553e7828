"""Data: chats full of large messages, so that there is something to transfer; and the proof that none of it is lost.

Theory of operation
-------------------
Some lanes, each a user with a chat of its own, send the largest messages that the API takes, one after the other, until
the chats hold as many bytes as asked for. A send is repeated under its transaction id until it is answered, so in the
end the ledger knows of each message which sequence number it was acknowledged with, and the hash of its text.

Users and chats are in the history, as everybody's. The messages stay out of it (a checker that had to hold hundreds of
megabytes in memory would prove nothing more): ``audit`` reads the chats from the first message to the last and compares
with the ledger, message by message.
Nothing may be missing, changed, doubled, or there without having been sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import trio

from harness.randomness import substream
from harness.recorder import Value
from harness.workloads.calls import RecordedCaller
from impl.chat import commands
from impl.client.client import Client
from impl.client.errors import NotDone, OutcomeUnknown
from impl.http.limits import TEXT_MAX_CHARACTERS

LANES = 8
"""Enough to share syncs, few enough to leave the clients of the workload their share of two cores."""

CHARACTERS = "".join(map(chr, range(0x1F300, 0x1F600)))
"""Pictures: four bytes each in UTF-8, so that a text of the longest kind is as large as one can be."""

PREFIX_CHARACTERS = 16

READ_LIMIT = 50
"""Messages per page of the audit: most of a megabyte."""

CALL_TIMEOUT_S = 30.0


class FillingFailed(RuntimeError):
    """The chats could not be filled, or not be read."""


@dataclass
class _Lane:
    number: int
    client: Client
    user_id: int
    chat_id: int
    base: str
    sent: int = 0  # messages answered; the next one has this number, be it for the first time or again
    acknowledged: dict[int, bytes] = field(default_factory=dict)  # seq -> hash of (transaction id, text)

    def text(self, number: int) -> str:
        return f"{self.number:04d}-{number:011d}"[:PREFIX_CHARACTERS] + self.base


class Filling:
    """Fills and audits. ``bytes`` and ``messages`` are those acknowledged."""

    def __init__(self, client: Client, caller: RecordedCaller, seed: int) -> None:
        """``caller`` makes the users and the chats: these are part of the history, because others may see them."""
        self._client = client
        self._caller = caller
        self._seed = seed
        self._lanes: list[_Lane] = []
        self.bytes = 0
        self.messages = 0
        self.audited = 0  # messages that the audit has found as they were acknowledged

    def through(self, client: Client) -> None:
        """From now on, use this client."""
        self._client = client

    async def fill(self, target_bytes: int) -> None:
        """Send messages until so many bytes of text are acknowledged. Raises ``FillingFailed``."""
        for number in range(len(self._lanes), LANES):
            self._lanes.append(await self._lane(number))
        async with trio.open_nursery() as nursery:
            for lane in self._lanes:
                nursery.start_soon(self._fill_lane, lane, target_bytes)

    async def _lane(self, number: int) -> _Lane:
        rng = substream(self._seed, "filling", number)
        base = "".join(rng.choices(CHARACTERS, k=TEXT_MAX_CHARACTERS - PREFIX_CHARACTERS))
        user = await self._make("create_user", {"username": f"filler-{number}", "txn_id": f"fill-{number}"}, "user_id")
        founding = {"actor": user, "txn_id": f"found-{number}", "name": f"filling-{number}"}
        chat = await self._make("create_chat", founding, "chat_id")
        return _Lane(number, self._client, int(user), int(chat), base)

    async def _make(self, f: str, request: Value, wanted: str) -> str:
        """Make a user or a chat; returns its id. Raises ``FillingFailed``."""
        deadline = trio.current_time() + CALL_TIMEOUT_S
        while trio.current_time() < deadline:
            completion = await self._caller.call(f, request, timeout_s=CALL_TIMEOUT_S / 3)
            if completion.outcome == "ok":
                if wanted not in completion.reply:
                    break
                return str(completion.reply[wanted])
        raise FillingFailed(f"{f} {request} was answered {completion.value}")

    async def _fill_lane(self, lane: _Lane, target_bytes: int) -> None:
        while self.bytes < target_bytes:
            text, txn_id = lane.text(lane.sent), f"fill-{lane.sent}"
            reply = await self._insist(commands.Send(lane.user_id, lane.chat_id, txn_id, text))
            if not isinstance(reply, commands.Posted):
                raise FillingFailed(f"a message of the filling was answered {reply}")
            if reply.seq in lane.acknowledged:
                raise FillingFailed(f"two messages of chat {lane.chat_id} were acknowledged as number {reply.seq}")
            lane.acknowledged[reply.seq] = fingerprint(txn_id, text)
            self.bytes += len(text.encode())
            self.messages += 1
            lane.sent += 1

    async def _insist(self, command: commands.Command) -> commands.Reply:
        """The same command, under the same transaction id, until it is answered. Raises ``FillingFailed``."""
        deadline = trio.current_time() + CALL_TIMEOUT_S
        while True:
            try:
                return await self._client.execute(command, timeout_s=CALL_TIMEOUT_S / 3)
            except (NotDone, OutcomeUnknown) as error:
                if trio.current_time() > deadline:
                    raise FillingFailed(f"no answer within {CALL_TIMEOUT_S:g} s: {error}") from error

    async def audit(self) -> list[str]:
        """Read everything and compare; returns what is wrong, in words, at most one sentence per chat."""
        return [wrong for lane in self._lanes if (wrong := await self._audit_lane(lane))]

    async def _audit_lane(self, lane: _Lane) -> str:
        missing = dict(lane.acknowledged)
        after = 0
        while True:
            page = await self._insist(commands.ReadMessages(lane.user_id, lane.chat_id, after, READ_LIMIT))
            if not isinstance(page, commands.Messages):
                raise FillingFailed(f"a page of chat {lane.chat_id} was answered {page}")
            if not page.items:
                break
            for message in page.items:
                if message.seq <= after:
                    return f"chat {lane.chat_id} gives message {message.seq} after message {after}"
                after = message.seq
                if message.kind != "text":
                    continue
                expected = missing.pop(message.seq, None)
                if expected is None and message.txn_id == f"fill-{lane.sent}":
                    continue  # under way when the filling was interrupted: nobody was told, it may be there
                if expected is None:
                    return f"chat {lane.chat_id} has a message {message.seq} that nobody was told of"
                if expected != fingerprint(message.txn_id, message.text):
                    return f"message {message.seq} of chat {lane.chat_id} is not the one that was acknowledged"
                self.audited += 1
        if missing:
            return f"{len(missing)} acknowledged messages of chat {lane.chat_id} are lost, the first is {min(missing)}"
        return ""


def fingerprint(txn_id: str, text: str) -> bytes:
    """What the ledger keeps of a message."""
    return hashlib.sha256(f"{txn_id}\n{text}".encode()).digest()
