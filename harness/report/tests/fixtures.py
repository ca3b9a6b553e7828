"""Small run folders written by hand, record by record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ALICE, GENERAL = "7312440118900000001", "7312440118900000002"
MS = 1_000_000


class History:
    """Collects records; ``write`` makes a run folder of them."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def add(self, at_ms: float, process: int | str, type_: str, f: str, value: dict[str, Any]) -> int:
        index = len(self.records)
        time = int(at_ms * MS)
        self.records.append({"index": index, "time": time, "process": process, "type": type_, "f": f, "value": value})
        return index

    def call(
        self, from_ms: float, to_ms: float, process: int, f: str, request: dict[str, Any], reply: dict[str, Any]
    ) -> int:
        """An answered operation of a client; the records stand together, whatever their times."""
        index = self.add(from_ms, process, "invoke", f, request)
        self.add(to_ms, process, "ok", f, {"request": request, "reply": reply})
        return index

    def send(self, from_ms: float, to_ms: float, process: int, text: str, seq: int) -> int:
        request = {"actor": ALICE, "chat": GENERAL, "txn_id": f"txn-{seq}", "text": text}
        reply = {"type": "posted", "seq": seq, "message_id": str(900 + seq), "as_of": seq}
        return self.call(from_ms, to_ms, process, "send", request, reply)

    def read(self, from_ms: float, to_ms: float, process: int, texts: list[str], as_of: int) -> int:
        request = {"actor": ALICE, "chat": GENERAL, "after": 0, "limit": 100}
        items = [
            {"seq": n, "message_id": str(900 + n), "kind": "text", "author": ALICE, "txn_id": f"txn-{n}", "text": text}
            for n, text in enumerate(texts, 1)
        ]
        return self.call(from_ms, to_ms, process, "read", request, {"type": "messages", "items": items, "as_of": as_of})

    def fault(self, at_ms: float, phase: str, family: str, nodes: list[int], kind: str = "one") -> int:
        value = {"phase": phase, "kind": kind, "nodes": nodes, "description": f"{family} of {nodes}"}
        return self.add(at_ms, "nemesis", "info", family, value)

    def write(self, folder: Path, /, **verdict: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        (folder / "history.jsonl").write_text(lines, encoding="utf-8")
        (folder / "params.json").write_text(json.dumps({"clients": 2, "seed": 7}))
        (folder / "verdict.json").write_text(json.dumps({"verdict": "valid", "seed": 7} | verdict))
        return folder
