"""The tables of the page: operations by kind and outcome, faults by family, every fault, the run's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.report import marks
from harness.report.data import Fault, Outcome, Run
from harness.report.palette import SLOTS, family_slots
from harness.report.statistics import KindRow, differs_from_verdict, kinds_in_order, table
from harness.report.text import count, duration, escaped, instant


def operations(run: Run) -> str:
    """Operations by kind and outcome with their latencies, and faults by family."""
    if not run.operations:
        return '<p class="note">No operation was recorded.</p>' + families(run) + sanity(run)
    rows, total = table(run)
    slots = {kind: position % SLOTS for position, kind in enumerate(kinds_in_order(run))}
    heads = "".join(f'<th class="n" scope="col">{marks.bar(outcome)}{outcome.value}</th>' for outcome in Outcome)
    body = "".join(_operation_row(row, marks.colour(f"kind-{slots[row.kind]}")) for row in rows)
    warning = (
        '<p class="warning">The counts in verdict.json are not those of history.jsonl, which are shown here: '
        "one of the two files has been changed or replaced.</p>"
        if differs_from_verdict(run)
        else ""
    )
    return (
        warning + '<div class="side-by-side"><div><div class="scroll"><table><thead>'
        f'<tr class="groups"><th></th><th colspan="{len(Outcome) + 1}"></th>'
        '<th class="gap" colspan="4">latency of answered operations</th></tr>'
        f'<tr><th scope="col">kind</th><th class="n" scope="col">all</th>{heads}'
        '<th class="n gap" scope="col">p50</th><th class="n" scope="col">p95</th><th class="n" scope="col">p99</th>'
        f'<th class="n" scope="col">max</th></tr></thead><tbody>{body}{_operation_row(total, "", "total")}</tbody>'
        f"</table></div></div><div>{families(run)}</div></div>{sanity(run)}"
    )


def _operation_row(row: KindRow, sample: str, kind: str = "") -> str:
    def number(value: int) -> str:
        return f'<td class="n{"" if value else " zero"}">{count(value)}</td>'

    latencies = "".join(
        f'<td class="n{" gap" if not position else ""}">{"–" if ns is None else duration(ns)}</td>'
        for position, ns in enumerate(row.latencies_ns)
    )
    outcomes = "".join(number(row.counts[outcome]) for outcome in Outcome)
    return (
        f'<tr class="{kind}"><th scope="row" class="nowrap">{sample}{escaped(row.kind)}</th>'
        f"{number(row.total)}{outcomes}{latencies}</tr>"
    )


def families(run: Run) -> str:
    """How many faults of each family, and how long they lasted in all."""
    present = {fault.family for fault in run.faults} | set(run.verdict.faults)
    if not present:
        return '<p class="note">No fault was injected.</p>'
    slots = family_slots(present)
    rows = []
    for family in sorted(present):
        mine = [fault for fault in run.faults if fault.family == family]
        lasted = sum(fault.until_ns(run.end_ns) - fault.start_ns for fault in mine)
        rows.append(
            f'<tr><th scope="row" class="nowrap">{marks.colour(f"fault-{slots[family]}")}{escaped(family)}</th>'
            f'<td class="n">{count(len(mine))}</td><td class="n">{duration(lasted) if mine else "–"}</td></tr>'
        )
    return (
        '<table><thead><tr class="groups"><th></th><th></th><th></th></tr><tr><th scope="col">fault family</th>'
        '<th class="n" scope="col">times</th><th class="n" scope="col">in all</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def sanity(run: Run) -> str:
    """What the run had to see to prove anything: folded away while it saw all of it."""
    if not run.verdict.sanity:
        return ""
    missing = [row for row in run.verdict.sanity if not row.ok]
    rows = "".join(
        f'<tr><th scope="row">{escaped(row.name)}</th><td class="n">{row.required:,}</td>'
        f'<td class="n">{row.observed:,}</td><td>{"✓" if row.ok else "✗ too few"}</td></tr>'
        for row in run.verdict.sanity
    )
    summary = f"{len(missing)} missing" if missing else "all of it was seen"
    return (
        f'<details class="sanity"{" open" if missing else ""}><summary>What a run must have seen to prove anything: '
        f'{summary}</summary><div class="scroll"><table><thead><tr><th scope="col"></th>'
        '<th class="n" scope="col">at least</th><th class="n" scope="col">seen</th><th></th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def faults(run: Run) -> str:
    """Every fault with its times."""
    if not run.faults:
        return '<p class="note">No fault was injected in this run.</p>'
    slots = family_slots(fault.family for fault in run.faults)
    rows = "".join(_fault_row(fault, slots[fault.family], run) for fault in run.faults)
    return (
        '<div class="scroll"><table class="long"><thead><tr><th scope="col">family</th><th scope="col">kind</th>'
        '<th scope="col">nodes</th><th class="n" scope="col">from</th><th class="n" scope="col">until</th>'
        '<th class="n" scope="col">lasted</th><th scope="col">what was done</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _fault_row(fault: Fault, slot: int, run: Run) -> str:
    until = "end of the run" if fault.end_ns is None else instant(fault.end_ns)
    lasted = fault.until_ns(run.end_ns) - fault.start_ns
    return (
        f'<tr><td class="nowrap">{marks.colour(f"fault-{slot}")}{escaped(fault.family)}</td>'
        f'<td class="nowrap">{escaped(fault.kind)}</td><td>{escaped(", ".join(fault.nodes))}</td>'
        f'<td class="n">{instant(fault.start_ns)}</td><td class="n">{until}</td>'
        f'<td class="n">{duration(lasted)}</td><td class="words">{escaped(fault.description)}</td></tr>'
    )


def params(values: Mapping[str, Any]) -> str:
    """The run's parameters as recorded, folded away."""
    if not values:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escaped(str(key))}</th><td class="words mono">{escaped(_plain(value))}</td></tr>'
        for key, value in values.items()
    )
    return (
        '<section id="parameters"><details><summary>Parameters of the run (params.json)</summary>'
        f'<div class="scroll"><table><tbody>{rows}</tbody></table></div></details></section>'
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
