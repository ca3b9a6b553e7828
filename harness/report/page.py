"""Assembles the page: one file with its styles, its script and its data inside.

Theory of operation
-------------------
The page has two halves. Everything that decides anything (verdict, contradiction, counts, faults) is plain HTML and
SVG made here, and is complete without a script. The charts over time are drawn by ``assets/*.js`` on canvases, from
the JSON that ``payload`` makes, because 100,000 operations are more than a document tree can carry.

A section is a function from ``Run`` to HTML and a place in ``assets/template.html``: a new one needs nothing else.

The file loads nothing and runs nothing but its own script: the content security policy in its head allows exactly
the script whose hash it names, and no network at all, so that even a text that slipped through the escaping could
not do anything. The bytes depend on the three input files and on this package, on nothing else: no clock, no paths,
no order of hashing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from string import Template

from harness.report import contradiction, marks, payload, tables
from harness.report.data import Outcome, Run
from harness.report.palette import SLOTS, family_slots, node_slots
from harness.report.statistics import kinds_in_order
from harness.report.text import count, duration, escaped, plural, script_json
from harness.report.words import Names

SCRIPTS = ("copy.js", "model.js", "draw.js", "lanes.js", "plots.js", "report.js")
"""Parts of the one script, in this order: what a part uses stands before it."""

QUANTILE_LINES = (("p50", 2.2, "none"), ("p95", 1.8, "7 3"), ("p99", 1.5, "2 3"), ("max", 0.9, "none"))
"""Name, width and dashes of the quantile lines; assets/plots.js draws them alike."""

CHATS_LISTED = 400
"""Chats offered in the filter: a longer list helps nobody, and the search finds the others."""

_SIGNS = {
    "valid": '<circle cx="15" cy="15" r="13" fill="none" stroke="currentColor" stroke-width="2.2"/>'
    '<path d="M9 15.5 L13.4 20 L21.5 10.8" fill="none" stroke="currentColor" stroke-width="2.6"/>',
    "invalid": '<path d="M10 2 H20 L28 10 V20 L20 28 H10 L2 20 V10 z" fill="none" stroke="currentColor" '
    'stroke-width="2.2"/><path d="M10.5 10.5 L19.5 19.5 M19.5 10.5 L10.5 19.5" stroke="currentColor" '
    'stroke-width="2.6"/>',
    "unknown": '<circle cx="15" cy="15" r="13" fill="none" stroke="currentColor" stroke-width="2.2" '
    'stroke-dasharray="5 3"/><path d="M11 12 a4 4 0 1 1 5.6 3.6 c-1.2 .7 -1.6 1.4 -1.6 2.6 M15 21.6 v.6" fill="none" '
    'stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>',
}


@cache
def asset(name: str) -> str:
    return (files("harness.report") / "assets" / name).read_text(encoding="utf-8")


def script() -> str:
    """The whole script of the page: one function around all its parts, so that nothing leaks and nothing clashes."""
    return '(() => {\n"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS) + "})();\n"


def policy(code: str) -> str:
    """The content security policy for a page whose only script is ``code``."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def render(run: Run) -> str:
    """The page as one HTML document."""
    names = Names(run.operations)
    code = script()
    return Template(asset("template.html")).substitute(
        title=escaped(f"{run.verdict.verdict} – {run.name} – Telegraft"),
        name=escaped(run.name),
        policy=policy(code),
        style=asset("style.css"),
        banner=banner(run, names),
        contradiction=contradictions(run, names),
        operations=tables.operations(run),
        timeline=timeline(run, names),
        faults=tables.faults(run),
        legend=legend(run),
        params=tables.params(run.params),
        data=script_json(payload.build(run, names)),
        script=code,
    )


# --- sections -------------------------------------------------------------------------------------------------


def headline(run: Run) -> str:
    """The verdict in one sentence."""
    verdict = run.verdict
    match verdict.verdict:
        case "valid":
            despite = f", despite {plural(len(run.faults), 'fault')}" if run.faults else ""
            return f"Valid: every reply can be explained by one order of all operations{despite}."
        case "invalid":
            what = f": {class_words(verdict.violation)}" if verdict.violation else ""
            if run.core:
                if len(run.core) == 1:
                    return f"Violation{what}. One operation cannot be true."
                both = "both" if len(run.core) == 2 else "all"
                return f"Violation{what}. {plural(len(run.core), 'operation')} cannot {both} be true."
            return f"Violation{what}. No order of the operations explains every reply."
        case _:
            return "Unknown: the run shows neither that every reply was right, nor that one was wrong."


def class_words(violation: str | None) -> str:
    return (violation or "").replace("-", " ").replace("_", " ")


def banner(run: Run, names: Names) -> str:
    verdict = run.verdict
    counts = {outcome: sum(op.outcome is outcome for op in run.operations) for outcome in Outcome}
    facts = [("operations", count(len(run.operations)))]
    facts += [(outcome.value, count(number)) for outcome, number in counts.items()]
    facts += [("clients", count(len({op.lane for op in run.operations}))), ("faults", count(len(run.faults)))]
    changes = verdict.leader_changes if verdict.leader_changes is not None else max(len(run.leaders) - 1, 0)
    facts.append(("leader changes", count(changes)))
    lasted_ns = run.end_ns if verdict.duration_s is None else verdict.duration_s * 1e9
    facts.append(("duration", duration(lasted_ns)))
    if verdict.check_s is not None:
        facts.append(("checked in", duration(verdict.check_s * 1e9)))
    if verdict.seed is not None:
        facts.append(("seed", str(verdict.seed)))
    if verdict.bug:
        facts.append(("planted bug", verdict.bug))
    replay = (
        f'<div class="replay"><span class="caption">replay</span><code id="replay">{escaped(verdict.replay)}</code>'
        '<button type="button" class="needs-script" id="copy-replay">copy</button></div>'
        if verdict.replay
        else ""
    )
    return (
        f'<section class="banner {verdict.verdict}" id="verdict"><h1>'
        f'<svg class="sign" viewBox="0 0 30 30" aria-hidden="true">{_SIGNS[verdict.verdict]}</svg>'
        f"<span>{escaped(headline(run))}</span></h1>"
        + "".join(statement(names.put_into(words)) for words in statements(run))
        + '<dl class="facts">'
        + "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in facts)
        + f"</dl>{replay}</section>"
    )


def statements(run: Run) -> list[str]:
    """What verdict.json says in words, each thing once: the reason often contains the others."""
    verdict = run.verdict
    kept: list[str] = []
    for words in (verdict.reason, said(verdict.liveness), *verdict.crashes, *verdict.problems, said(verdict.progress)):
        if words and not any(words in earlier for earlier in kept):
            kept.append(words)
    return kept


def statement(words: str) -> str:
    """One statement of the banner; of many lines, such as the end of a log, the first, and the others folded away."""
    first, _, rest = words.strip().partition("\n")
    if not rest:
        return f'<p class="more">{escaped(sentence(first))}</p>'
    return f'<details class="more"><summary>{escaped(first)}</summary><pre>{_block(rest)}</pre></details>'


def said(value: object) -> str:
    """``progress`` and ``liveness`` of verdict.json: words as they are, anything else as JSON."""
    if not value:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def sentence(words: str) -> str:
    words = words.strip()
    if not words:
        return ""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?", "…")) else ".")


def contradictions(run: Run, names: Names) -> str:
    """The operations that contradict each other; nothing when the verdict names none."""
    if not run.core:
        return ""
    kind = class_words(run.verdict.violation)
    reason = names.put_into(sentence(run.verdict.reason or ""))
    # A reason that begins with the name of its class needs no heading.
    heading = "" if not kind or class_words(reason).lower().startswith(kind.lower()) else sentence(kind)
    named = f'<span class="class">{escaped(heading)}</span> ' if heading else ""
    return (
        '<section id="contradiction"><h2>The contradiction</h2>'
        f'<div class="core-scroll">{contradiction.draw(run, names)}</div>'
        f'<p class="reason">{named}{escaped(reason)}</p>'
        f"<details><summary>The same as plain text</summary><pre>{_block(contradiction.as_text(run, names))}</pre>"
        "</details></section>"
    )


def _block(text: str) -> str:
    """Text of several lines: each line made harmless by itself, as line ends are control characters too."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def timeline(run: Run, names: Names) -> str:
    """The controls and canvases of the charts over time."""
    if not run.operations:
        return '<p class="note">There is nothing to draw: no operation was recorded.</p>'
    kinds = kinds_in_order(run)
    chats = dict.fromkeys(str(op.request["chat"]) for op in run.operations if op.request.get("chat") is not None)
    return Template(asset("timeline.html")).substitute(
        outcomes="".join(_chip("outcome", i, marks.bar(o), o.value) for i, o in enumerate(Outcome)),
        kinds="".join(_chip("kind", i, marks.colour(f"kind-{i % SLOTS}"), kind) for i, kind in enumerate(kinds)),
        chats="".join(
            f'<option value="{i}">{escaped(names.chat(chat))}</option>'
            for i, chat in enumerate(chats)
            if i < CHATS_LISTED
        ),
        lanes="".join(f'<option value="{i}">{escaped(lane)}</option>' for i, lane in enumerate(run.lanes)),
        jump='<button type="button" id="to-core">contradiction</button>' if run.core else "",
        shapes="".join(f'<span class="nowrap">{marks.point(o)}{o.value}</span>' for o in Outcome)
        + '<span class="soft">colour: kind, as in the filter above</span>',
        quantiles="".join(
            f'<span class="nowrap">{marks.line(width, dashes)}{name}</span>' for name, width, dashes in QUANTILE_LINES
        ),
        bars="".join(f'<span class="nowrap">{marks.bar(o)}{o.value}</span>' for o in Outcome)
        + "<span>operations that ended, per second</span>",
    )


def _chip(group: str, number: int, sample: str, words: str) -> str:
    box = f'<input type="checkbox" name="{group}" value="{number}" checked>'
    return f'<label class="chip">{box}{sample}{escaped(words)}</label>'


def legend(run: Run) -> str:
    outcomes = "".join(
        f"<li>{marks.bar(outcome)}<b>{outcome.value}</b>: {words}</li>"
        for outcome, words in marks.OUTCOME_WORDS.items()
    )
    points = "".join(f"<li>{marks.point(outcome)}{outcome.value}</li>" for outcome in Outcome)
    families = "".join(
        f"<li>{marks.colour(f'fault-{slot}')}{escaped(family)}</li>"
        for family, slot in family_slots(fault.family for fault in run.faults).items()
    )
    nodes = "".join(
        f"<li>{marks.colour(f'node-{slot}')}node {escaped(node)} leads</li>"
        for node, slot in node_slots(leader.node for leader in run.leaders).items()
    )
    families = f"<ul>{families}</ul>" if families else "<p>None in this run.</p>"
    nodes = f"<ul>{nodes}</ul>" if nodes else "<p>None was observed.</p>"
    return (
        '<div class="legend">'
        f"<div><h3>Bars: one operation each</h3><ul>{outcomes}</ul></div>"
        "<div><h3>Time</h3><p>A bar begins when the client asked and ends when it was answered. The service may have "
        "acted at any instant in between, and every client must be able to believe that it acted at exactly one. An "
        "unknown operation may act at any time after it began; its bar ends where the client stopped waiting, and "
        "is open there. Where bars are too dense to tell apart, a column of pixels shows the worst outcome in it, and "
        "trouble is taller than success.</p></div>"
        "<div><h3>Clients</h3><p>A lane is a client. After an unknown outcome a client goes on under a new process "
        "number, as in Jepsen’s histories; the numbers of its processes share its lane. Operations of the "
        "contradiction wear a frame and a flag.</p></div>"
        f"<div><h3>Points of the latency plot</h3><ul>{points}</ul><p>Time of call against time to the end, "
        "logarithmic. Quantile lines are taken over answered operations; an unknown operation stands at the "
        "time its client waited.</p></div>"
        f"<div><h3>Faults</h3>{families}<p>A fault has a strip of its own "
        "above the lanes and shades every chart while it lasts. A strip that fades out was never ended.</p></div>"
        f"<div><h3>Leaders</h3>{nodes}<p>The strip names node and term as "
        "last observed; a dotted line crosses every chart where they change, and every other term is shaded a little."
        "</p></div></div>"
    )
