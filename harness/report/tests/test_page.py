"""The whole page: complete, self-contained, harmless, well formed, and the same every time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.report import ReportError, write_report
from harness.report.data import Outcome, read_run
from harness.report.page import QUANTILE_LINES, asset, script
from harness.report.statistics import quantile, table
from harness.report.tests.fixtures import ALICE, GENERAL, History
from harness.report.tests.synthetic import write_run

VOID = {"meta", "input", "br", "link", "img", "hr"}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "'\"><svg/onload=alert(1)>",
    "<!--",
    "]]>",
    "${x} $title $$",
    "\u2028\u2029\u0000\u001b[31m\u202e",
    "&lt;b&gt; &amp;",
)


class Document(HTMLParser):
    """Checks that elements nest, and collects what tests look for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>, line {self.getpos()[0]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def scripts(self) -> list[str]:
        return self.texts.get("script", [])


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="run-data">(.*?)</script>', page, re.DOTALL)
    assert found
    value = json.loads(found[1])
    assert isinstance(value, dict)
    return value


@pytest.fixture(params=["valid", "stale-read", "divergence", "unknown", "empty"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    match request.param:
        case "stale-read" | "divergence" as violation:
            write_run(tmp_path, seed=7, operations=800, violation=violation)
        case "empty":
            write_run(tmp_path, seed=7, operations=0)
        case verdict:
            write_run(tmp_path, seed=7, operations=800, verdict=verdict)
    return tmp_path


def test_the_page_is_well_formed(folder: Path) -> None:
    document = Document(write_report(folder).read_text())
    ids = [attrs["id"] for _, attrs in document.tags if "id" in attrs]
    assert len(ids) == len(set(ids)), "ids are unique"
    assert [tag for tag, _ in document.tags].count("h1") == 1
    assert len(document.scripts()) == 2, "the data and the script"


def test_the_page_loads_nothing(folder: Path) -> None:
    page = write_report(folder).read_text()
    assert not re.search(r"(?i)\b(https?|ftp|wss?):|//[a-z0-9-]+\.[a-z]|@import|url\((?!#)", page.replace("// ", ""))
    for tag, attrs in Document(page).tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
        assert not {"src", "srcset", "href", "action", "data"} & set(attrs)
        assert not [name for name in attrs if name.startswith("on")], "no inline handlers"


def test_the_policy_allows_exactly_the_page_own_script(folder: Path) -> None:
    document = Document(write_report(folder).read_text())
    policy = next(attrs["content"] or "" for tag, attrs in document.tags if attrs.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(document.scripts()[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = write_report(folder).read_bytes()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, elsewhere)
    (elsewhere / "report.html").unlink()
    assert write_report(elsewhere).read_bytes() == first
    assert write_report(folder).read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.jsonl",
        "params.json",
        "report.html",
        "verdict.json",
    ], "nothing unfinished is left behind"


def test_the_bytes_do_not_depend_on_the_order_of_hashing(tmp_path: Path) -> None:
    write_run(tmp_path, seed=7, operations=300, violation="stale-read")
    code = "import sys, pathlib, harness.report as r; r.write_report(pathlib.Path(sys.argv[1]))"
    pages = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_read_of_messages_that_all_agree_upon_is_one_run(tmp_path: Path) -> None:
    history = History()
    history.read(1, 2, 0, ["a"], 1)
    history.read(3, 4, 0, ["a", "b", "c"], 3)
    history.read(5, 6, 0, ["a", "other", "c"], 3)  # a replica that disagrees about position 2
    data = data_of(write_report(history.write(tmp_path)).read_text())
    assert data["saw"] == {"0": [[0, 1]], "1": [[0, 2], [3, 1]], "2": [[0, 1], [2, 2]]}
    assert [message[6] for message in data["messages"]] == ["a", "b", "other", "c"]


def test_all_operations_are_counted_and_in_the_data(folder: Path) -> None:
    run = read_run(folder)
    page = write_report(folder).read_text()
    data = data_of(page)
    assert data["operations"]["index"] == [op.index for op in run.operations]
    assert {len(column) for column in data["operations"].values()} == {len(run.operations)}
    rows, total = table(run)
    assert total.total == len(run.operations) == sum(row.total for row in rows)
    if run.operations:
        for outcome in Outcome:
            number = sum(op.outcome is outcome for op in run.operations)
            assert f"<dt>{outcome.value}</dt><dd>{number:,}</dd>" in page
            assert total.counts[outcome] == number
        assert "The counts in verdict.json are not those" not in page


def test_the_data_can_be_put_together_again(folder: Path) -> None:
    run = read_run(folder)
    data = data_of(write_report(folder).read_text())
    columns, at = data["operations"], 0
    for position, op in enumerate(run.operations):
        at += columns["call"][position]
        assert at == op.call_ns // 1000
        assert (columns["dur"][position] == -1) == (op.ret_ns is None)
        assert data["kinds"][columns["kind"][position]] == op.kind
        assert data["outcomes"][columns["outcome"][position]] == op.outcome
        runs = data["saw"].get(str(position), [])
        seen = [m for first, count in runs for m in data["messages"][first : first + count]]
        items = (op.reply or {}).get("items", []) if op.kind == "read" else []
        assert [(m[1], m[2], m[5], m[6]) for m in seen] == [
            (item["seq"], item["message_id"], item["txn_id"], item["text"]) for item in items
        ]


def test_the_verdict_the_seed_and_the_replay_command_need_no_script(folder: Path) -> None:
    page = write_report(folder).read_text()
    before_data = page[: page.index('id="run-data"')]
    record = json.loads((folder / "verdict.json").read_text())
    opening = {"valid": "Valid: ", "invalid": "Violation: ", "unknown": "Unknown: "}[record["verdict"]]
    assert f"<span>{opening}" in before_data
    assert f'class="banner {record["verdict"]}"' in before_data
    assert f"<dt>seed</dt><dd>{record['seed']}</dd>" in before_data
    assert f'<code id="replay">{record["replay"]}</code>' in before_data


def page_full_of(text: str, folder: Path) -> str:
    """A report in which ``text`` stands wherever a client, a node or the harness can put words."""
    history = History()
    history.call(1, 2, 0, "create_user", {"username": text, "txn_id": text}, {"type": "user_created", "user_id": ALICE})
    created = {"type": "chat_created", "chat_id": GENERAL, "as_of": 1}
    history.call(3, 4, 0, "create_chat", {"actor": ALICE, "name": text, "txn_id": text}, created)
    sent = history.send(5, 6, 0, text, 2)
    read = history.read(7, 8, 1, [text, text], 2)
    history.add(9, "nemesis", "info", text, {"phase": "start", "kind": text, "nodes": [text], "description": text})
    history.add(9, "cluster", "info", "leader", {"node": text, "term": 1})
    history.add(10, 0, "invoke", text, {text: text})
    history.add(11, 0, "fail", text, {"error": text, "detail": text})
    words = {"reason": text, "replay": text, "seed": text, "bug": text, "class": text}
    words |= {"run_dir": f"runs/{text.replace('/', '')}", "liveness": f"x{text}\n{text}"}
    history.write(folder, verdict="invalid", core=[sent, read], problems=[f"y{text}"], **words)
    (folder / "params.json").write_text(json.dumps({text: text, "clients": 2}))
    return write_report(folder).read_text()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(tmp_path: Path, text: str) -> None:
    page = page_full_of(text, tmp_path / "hostile")
    document = Document(page)
    assert document.scripts()[1:] == [script()]
    assert not [attrs for _, attrs in document.tags if any(name.startswith("on") for name in attrs)]
    assert "\x00" not in page
    assert "\u202e" not in page
    assert data_of(page)["operations"]["asked"][2].count("sends “") == 1
    # Whatever the words, the elements are those of a page with harmless ones; only lines of text may be more or fewer.
    harmless = Document(page_full_of("words", tmp_path / "harmless"))
    assert elements(document) == elements(harmless)


def elements(document: Document) -> list[str]:
    return [tag for tag, attrs in document.tags if tag != "text" and attrs.get("class") != "class"]


def test_a_verdict_of_another_run_is_noticed(tmp_path: Path) -> None:
    history = History()
    history.send(1, 2, 0, "x", 1)
    history.write(tmp_path, operations={"send": {"ok": 2, "fail": 0, "unknown": 0}})
    assert "The counts in verdict.json are not those of history.jsonl" in write_report(tmp_path).read_text()


def test_an_unclosed_fault_lasts_until_the_end(tmp_path: Path) -> None:
    history = History()
    history.send(1, 2, 0, "x", 1)
    history.fault(3, "start", "pause", [2])
    history.send(4, 10, 0, "y", 2)
    page = write_report(history.write(tmp_path)).read_text()
    assert '<td class="n">end of the run</td><td class="n">7.00 ms</td>' in page
    assert data_of(page)["faults"][0]["end"] is None


def test_unknown_operations_are_open_in_the_data(tmp_path: Path) -> None:
    history = History()
    history.add(1, 0, "invoke", "list_chats", {"actor": "1"})
    history.add(9, 0, "info", "list_chats", {"error": "timeout", "detail": "no answer within 8 ms"})
    history.add(10, 2, "invoke", "list_chats", {"actor": "1"})
    data = data_of(write_report(history.write(tmp_path)).read_text())
    columns = data["operations"]
    assert columns["dur"] == [8000, -1]
    assert columns["lane"] == [0, 0]
    assert [data["outcomes"][outcome] for outcome in columns["outcome"]] == ["unknown", "unknown"]
    assert [data["answers"][answer] for answer in columns["answer"]] == [
        "outcome unknown: timeout, no answer within 8 ms",
        "outcome unknown: no answer before the history ends",
    ]


def test_what_a_run_failed_to_see_is_unfolded(tmp_path: Path) -> None:
    rows = [
        {"name": "leader changes", "required": 1, "observed": 0, "ok": False},
        {"name": "faults that fired", "required": 1, "observed": 3, "ok": True},
    ]
    page = write_report(History().write(tmp_path, verdict="unknown", sanity=rows)).read_text()
    assert '<details class="sanity" open>' in page
    assert "✗ too few" in page


def test_histories_of_other_systems_are_shown_as_they_are(tmp_path: Path) -> None:
    history = History()
    history.call(1, 2, 0, "cas", {"from": 1, "to": 2}, {"type": "swapped", "value": 2})
    data = data_of(write_report(history.write(tmp_path)).read_text())
    assert data["operations"]["asked"] == ['cas {"from": 1, "to": 2}']
    assert data["answers"] == ['{"type": "swapped", "value": 2}']


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = History().write(tmp_path)
    (folder / "report.html").mkdir()
    with pytest.raises(ReportError, match=r"report\.html cannot be written"):
        write_report(folder)


def test_quantiles_are_values_that_occurred() -> None:
    values = list(range(1, 101))
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([7], 0.5) == 7
    assert quantile([], 0.5) is None


def test_names_stand_for_ids_in_the_reason(tmp_path: Path) -> None:
    history = History()
    created = {"type": "chat_created", "chat_id": GENERAL, "as_of": 1}
    history.call(1, 2, 0, "create_chat", {"actor": ALICE, "name": "general", "txn_id": "t"}, created)
    history.write(tmp_path, verdict="invalid", reason=f"stale read in chat {GENERAL}, but not in chat 17")
    assert "Stale read in #general, but not in chat 17." in write_report(tmp_path).read_text()


# --- the script -----------------------------------------------------------------------------------------------


def test_the_script_draws_the_quantile_lines_of_the_key() -> None:
    drawn = re.findall(r"\{ share: ([\d.]+), width: ([\d.]+), dash: \[([\d, ]*)\] \}", asset("plots.js"))
    assert [(float(width), dash.replace(",", "") or "none") for _, width, dash in drawn] == [
        (width, dashes) for _, width, dashes in QUANTILE_LINES
    ]


def test_the_script_finds_every_element_that_it_asks_for(tmp_path: Path) -> None:
    write_run(tmp_path, seed=7, operations=300)
    ids = {attrs["id"] for _, attrs in Document(write_report(tmp_path).read_text()).tags if "id" in attrs}
    code = script()
    asked = set(re.findall(r'byId\("([\w-]+)"\)(?!\?)', code)) | set(re.findall(r'addChart\("([\w-]+)"', code))
    assert asked
    assert asked <= ids


def test_the_script_has_no_syntax_errors(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        print("node is not installed: the syntax of the report's script was not checked")
        return
    path = tmp_path / "script.js"
    path.write_text(script())
    done = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_script_writes_texts_and_never_markup() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script())
