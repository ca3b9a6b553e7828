"""Plausible histories from a seed, for tests of the report and for looking at it.

A small chat service of perfect memory is run against clients in simulated time: every operation takes effect at an
instant between its call and its return, so the histories are right by construction. Faults come and go; during one,
latencies grow, some calls fail and some outcomes stay unknown. ``violation="stale-read"`` lets one read forget the
last acknowledged messages; ``violation="divergence"`` acknowledges two messages at one position.

From a shell, to make a run folder with a report: ``python -m harness.report.tests.synthetic DIR --help``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NS_PER_MS = 1_000_000
ID_BASE = 7_312_440_118_900_000_000
PHRASES = (
    "good morning", "anyone there?", "the build is green again", "lunch at twelve", "I read it twice",
    "who broke the door?", "see you tomorrow", "thanks!", "ça marche très bien", "早上好", "ship it 🚀",
    "no objections",
    "please look at the second page when you have a moment, the numbers do not add up and I cannot see why",
)  # fmt: skip
SHARES = {"send": 45, "read": 38, "list_members": 6, "list_chats": 5, "join": 3, "leave": 2, "create_chat": 1}
KINDS = tuple(kind for kind, share in SHARES.items() for _ in range(share))
USERS = ("alice", "bob", "carol", "dave", "erin", "frank")


@dataclass
class _Chat:
    chat_id: str
    name: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    members: set[str] = field(default_factory=set)


class Synthesis:
    """One synthetic run; ``records`` is its history, ``core`` the contradiction that was planted."""

    def __init__(self, seed: int, operations: int, clients: int, duration_s: float, violation: str | None) -> None:
        self.random = random.Random(seed)
        self.wanted, self.clients, self.duration_ns = operations, clients, int(duration_s * 1e9)
        self.violation, self.core, self.reason = violation, list[int](), ""
        self.records: list[dict[str, Any]] = []
        self.chats: dict[str, _Chat] = {}
        self.users: list[str] = []
        self.ids = ID_BASE
        self.faults: list[tuple[int, int, str, str, list[int], str]] = []
        self.leaders: list[tuple[int, int, int]] = []
        self.last_send: dict[str, tuple[int, int, int]] = {}  # chat -> (seq, invocation, time of the answer)

    def new_id(self) -> str:
        self.ids += self.random.randrange(1, 1 << 22)
        return str(self.ids)

    def record(self, time: int, process: int | str, type_: str, f: str, value: dict[str, Any]) -> int:
        index = len(self.records)
        self.records.append({"index": index, "time": time, "process": process, "type": type_, "f": f, "value": value})
        return index

    def plan_faults(self) -> None:
        at, leader, term = int(self.duration_ns * 0.08), 1, 2
        self.leaders.append((int(40 * NS_PER_MS), leader, term))
        while at < self.duration_ns * 0.9:
            length = int(self.random.uniform(0.04, 0.09) * self.duration_ns)
            family = self.random.choice(("kill", "pause", "partition"))
            node = self.random.choice((1, 2, 3))
            match family:
                case "partition":
                    kind = self.random.choice(("isolate-one", "halves", "one-way"))
                    words = f"node {node} hears nobody" if kind == "one-way" else f"node {node} cut off from the others"
                case "kill":
                    kind, words = "one", f"kill -9 of node {node}, restart at the end"
                case _:
                    kind, words = "one", f"node {node} stopped by SIGSTOP"
            self.faults.append((at, at + length, family, kind, [node], words))
            if node == leader:
                leader, term = leader % 3 + 1, term + self.random.choice((1, 1, 2))
                self.leaders.append((at + int(length * 0.3), leader, term))
            at += length + int(self.random.uniform(-0.02, 0.06) * self.duration_ns)

    def trouble(self, at: int) -> float:
        """0 in calm times, up to 1 while a fault hits the leader."""
        return max(
            (0.9 if at - start < 0.4 * (end - start) else 0.12 for start, end, *_ in self.faults if start <= at < end),
            default=0.0,
        )

    def run(self) -> None:
        self.plan_faults()
        rng = self.random
        heap: list[tuple[int, int, str, tuple[Any, ...]]] = []
        order = 0

        def push(at: int, what: str, *more: Any) -> None:
            nonlocal order
            order += 1
            heapq.heappush(heap, (at, order, what, more))

        for at, end, family, kind, nodes, words in self.faults:
            push(at, "nemesis", family, {"phase": "start", "kind": kind, "nodes": nodes, "description": words})
            if end < self.duration_ns * 0.93:  # the last one may never end
                push(end, "nemesis", family, {"phase": "end", "kind": kind, "nodes": nodes, "description": words})
        for at, node, term in self.leaders:
            push(at, "leader", node, term)
        think_ns = self.duration_ns * self.clients / max(self.wanted, 1)
        process = list(range(self.clients))
        for client in range(self.clients):
            push(int(rng.uniform(1, 30) * NS_PER_MS), "call", client)
        asked = 0
        while heap:
            at, _, what, more = heapq.heappop(heap)
            if what == "nemesis":
                self.record(at, "nemesis", "info", more[0], more[1])
            elif what == "leader":
                self.record(at, "cluster", "info", "leader", {"node": more[0], "term": more[1]})
            elif what == "call" and asked < self.wanted and at < self.duration_ns:
                asked += 1
                client = more[0]
                f, request = self.question(client)
                index = self.record(at, process[client], "invoke", f, request)
                bad = self.trouble(at)
                latency = min(rng.lognormvariate(1.2 + 2.6 * bad, 0.5 + 0.5 * bad), 1500.0)
                latency = int(min(latency, max(think_ns / NS_PER_MS * 0.9, 0.3) * (1 + 20 * bad)) * NS_PER_MS)
                luck = rng.random()
                fate = "ok" if luck > 0.22 * bad + 0.002 else "info" if luck < 0.09 * bad + 0.001 else "fail"
                if f.startswith("create") and f == "create_user":
                    fate = "ok"
                if asked == self.wanted and rng.random() < 0.5:
                    continue  # still pending when the history ends
                instant = at + int(latency * rng.uniform(0.2, 0.8))
                push(instant, "effect", client, f, request, fate, at + latency, index)
            elif what == "effect":
                client, f, request, fate, done, index = more
                value: dict[str, Any] = {"request": request}
                if fate == "ok" or (fate == "info" and rng.random() < 0.5):
                    value["reply"] = self.apply(f, request)
                if fate != "ok":
                    value.pop("reply", None)
                    value |= {"error": "no-leader" if fate == "fail" else "timeout"}
                value["node"] = rng.choice((1, 2, 3))
                push(done, "return", client, f, fate, value, index)
            elif what == "return":
                client, f, fate, value, index = more
                if fate == "ok":
                    self.remember(at, f, value, index)
                self.record(at, process[client], fate, f, value)
                if fate == "info":
                    process[client] += self.clients
                push(at + int(rng.expovariate(1 / think_ns) * 0.8) + 1, "call", client)

    def question(self, client: int) -> tuple[str, dict[str, Any]]:
        rng = self.random
        txn = f"{rng.getrandbits(48):012x}"
        if len(self.users) <= client:
            return "create_user", {
                "username": USERS[client] if client < len(USERS) else f"user-{client}",
                "txn_id": txn,
            }
        actor = self.users[client]
        if len(self.chats) < 4:
            return "create_chat", {
                "actor": actor,
                "txn_id": txn,
                "name": ("general", "random", "build", "lunch")[len(self.chats) % 4],
            }
        f = rng.choice(KINDS)
        chat = rng.choice(list(self.chats.values())[:6])
        if f in ("send", "read") and actor not in chat.members and rng.random() < 0.8:
            f = "join"
        match f:
            case "create_chat":
                return f, {"actor": actor, "txn_id": txn, "name": f"side-{len(self.chats)}"}
            case "send":
                return f, {"actor": actor, "chat": chat.chat_id, "txn_id": txn, "text": rng.choice(PHRASES)}
            case "read":
                return f, {"actor": actor, "chat": chat.chat_id, "after": max(0, len(chat.messages) - 12), "limit": 100}
            case "list_members":
                return f, {"actor": actor, "chat": chat.chat_id}
            case "list_chats":
                return f, {"actor": actor}
            case _:
                return f, {"actor": actor, "chat": chat.chat_id, "txn_id": txn}

    def apply(self, f: str, request: dict[str, Any]) -> dict[str, Any]:
        if f == "create_user":
            self.users.append(self.new_id())
            return {"type": "user_created", "user_id": self.users[-1], "as_of": len(self.users)}
        if f == "create_chat":
            chat = _Chat(self.new_id(), request["name"])
            self.chats[chat.chat_id] = chat
            chat.members.add(request["actor"])
            self.post(chat, "create", request, request["name"])
            return {"type": "chat_created", "chat_id": chat.chat_id, "as_of": 1}
        if f == "list_chats":
            mine = [c for c in self.chats.values() if request["actor"] in c.members]
            items = [{"chat_id": c.chat_id, "name": c.name, "as_of": len(c.messages)} for c in mine]
            return {"type": "chats", "items": items, "as_of": len(self.users)}
        chat = self.chats[request["chat"]]
        as_of, member = len(chat.messages), request["actor"] in chat.members
        if f in ("send", "read", "list_members") and not member:
            return {"type": "rejected", "reason": "not-a-member", "as_of": as_of}
        match f:
            case "join" if not member:
                chat.members.add(request["actor"])
                return self.post(chat, "join", request, "")
            case "leave" if member:
                chat.members.discard(request["actor"])
                return self.post(chat, "leave", request, "")
            case "join" | "leave":
                return {"type": "unchanged", "as_of": as_of}
            case "send":
                return self.post(chat, "text", request, request["text"])
            case "read":
                items = chat.messages[request["after"] : request["after"] + request["limit"]]
                return {"type": "messages", "items": list(items), "as_of": as_of}
            case _:
                return {"type": "members", "user_ids": sorted(chat.members), "as_of": as_of}

    def post(self, chat: _Chat, kind: str, request: dict[str, Any], text: str) -> dict[str, Any]:
        seq, message_id = len(chat.messages) + 1, self.new_id()
        chat.messages.append(
            {
                "seq": seq,
                "message_id": message_id,
                "kind": kind,
                "author": request["actor"],
                "txn_id": request["txn_id"],
                "text": text,
            }
        )
        return {"type": "posted", "seq": seq, "message_id": message_id, "as_of": seq}

    def remember(self, at: int, f: str, value: dict[str, Any], index: int) -> None:
        """Keep the last acknowledged send of each chat, and plant the violation once there is enough to forget."""
        reply, request = value["reply"], value["request"]
        chat = request.get("chat")
        ready = not self.core and at > self.duration_ns * 0.45 and chat in self.last_send
        if f == "send" and reply["type"] == "posted":
            if self.violation == "divergence" and ready and reply["seq"] > 5:
                seq, other, _ = self.last_send[chat]
                value["reply"] = reply | {"seq": seq, "as_of": seq}
                self.core = [other, index]
                self.reason = (
                    f"Two different messages were acknowledged at position {seq} of the same chat, in #{other} and "
                    f"#{index}: the replicas have diverged."
                )
            self.last_send[chat] = (reply["seq"], index, at)
        if f == "read" and reply["type"] == "messages" and self.violation == "stale-read" and ready:
            seq, sent, acked = self.last_send[chat]
            called = self.records[index]["time"]
            if not 0 < called - acked < 900 * NS_PER_MS or len(reply["items"]) < 4:
                return
            items = [item for item in reply["items"] if item["seq"] < seq - 1]
            value["reply"] = {"type": "messages", "items": items, "as_of": seq - 2}
            self.core = [sent, index]
            late = (called - acked) / NS_PER_MS
            self.reason = (
                f"Message {seq} was acknowledged (#{sent}) {late:.0f} ms before the read (#{index}) was asked for, "
                f"yet the read answers that the log ends at {seq - 2}: it does not see what had certainly happened."
            )


def write_run(
    run_dir: Path,
    *,
    seed: int = 1,
    operations: int = 2000,
    clients: int = 8,
    duration_s: float = 30.0,
    violation: str | None = None,
    verdict: str | None = None,
) -> Synthesis:
    """Write history.jsonl, verdict.json and params.json of a synthetic run into ``run_dir``, and return the run."""
    run = Synthesis(seed, operations, clients, duration_s, violation)
    if operations:
        run.run()
    if violation and not run.core:
        raise ValueError(f"seed {seed} gives no opportunity for {violation}: take another seed or more operations")
    run_dir.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in run.records)
    (run_dir / "history.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    verdict = verdict or ("invalid" if violation else "valid" if operations else "unknown")
    params = {
        "clients": clients,
        "nodes": 3,
        "duration_s": duration_s,
        "faults": ["kill", "pause", "partition"],
        "seed": seed,
    }
    (run_dir / "params.json").write_text(json.dumps(params, indent=2) + "\n")
    (run_dir / "verdict.json").write_text(json.dumps(verdict_of(run, verdict, seed, duration_s), indent=2) + "\n")
    return run


def verdict_of(run: Synthesis, verdict: str, seed: int, duration_s: float) -> dict[str, Any]:
    kinds: dict[str, Counter[str]] = {}
    open_: dict[Any, str] = {}
    for record in run.records:
        if not isinstance(record["process"], int):
            continue
        if record["type"] == "invoke":
            open_[record["process"]] = record["f"]
            kinds.setdefault(record["f"], Counter())
        else:
            kinds[open_.pop(record["process"])]["unknown" if record["type"] == "info" else record["type"]] += 1
    for kind in open_.values():
        kinds[kind]["unknown"] += 1
    families = Counter(r["f"] for r in run.records if r["process"] == "nemesis" and r["value"]["phase"] == "start")
    answered = sum(counts["ok"] for counts in kinds.values())
    unfinished = "chat #general was explained up to 21.4 s" if run.records and verdict == "unknown" else ""
    reasons = {
        "valid": "every chat and the directory have an order that explains every reply",
        "invalid": run.reason,
        "unknown": f"the check did not finish within 60 s: {unfinished}"
        if unfinished
        else "there was nothing to check",
    }
    return {
        "verdict": verdict,
        "reason": reasons[verdict],
        "class": run.violation or "",
        "core": run.core,
        "operations": {kind: {key: c[key] for key in ("ok", "fail", "unknown")} for kind, c in sorted(kinds.items())},
        "faults": dict(sorted(families.items())),
        "leader_changes": max(len(run.leaders) - 1, 0),
        "seed": seed,
        "bug": run.violation if run.violation == "stale-read" else "",
        "run_dir": f"runs/synthetic/20260101T120000Z-{seed}",
        "duration_s": duration_s,
        "check_s": 0.412,
        "history_verdict": verdict,
        "progress": unfinished,
        "liveness": "",
        "crashes": [],
        "problems": [],
        "sanity": [
            {"name": "operations that succeeded", "required": 500, "observed": answered, "ok": answered >= 500},
            {"name": "faults that fired", "required": 1, "observed": families.total(), "ok": families.total() >= 1},
        ],
        "replay": f"telegraft demo --seed {seed} --duration {duration_s:g}" + (" --bug stale-read" if run.core else ""),
    }


def main() -> None:
    from harness.report import write_report

    parser = argparse.ArgumentParser(description="Write a synthetic run folder and its report.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--violation", choices=("stale-read", "divergence"))
    parser.add_argument("--verdict", choices=("valid", "invalid", "unknown"))
    options = vars(parser.parse_args())
    run_dir = options.pop("run_dir")
    write_run(run_dir, **options)
    print(write_report(run_dir))


if __name__ == "__main__":
    main()
