"""The page that users follow says what is true: its example runs, its tables name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from linearizability import Verdict, check, formats, models

PAGE = (Path(__file__).parents[2] / "docs" / "checking_your_own_history.md").read_text(encoding="utf-8")


def code_of_the_model() -> str:
    found = re.search(r"```python\n(.*?class Counter.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_model_of_ones_own_works(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(code_of_the_model(), names)
    calls = [("add", 2, None), ("read", None, 2), ("add", 3, None), ("read", None, 5)]
    lines: list[dict[str, Any]] = []
    for f, asked, told in calls:
        for type, value in (("invoke", asked), ("ok", told)):
            index = len(lines)
            lines.append({"index": index, "time": index, "process": 0, "type": type, "f": f, "value": value})
    path = tmp_path / "history.jsonl"

    def verdict() -> Verdict:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return check(names["Counter"](), formats.read(path).operations).verdict

    assert verdict() is Verdict.VALID
    lines[-1]["value"] = 2
    assert verdict() is Verdict.INVALID


def test_the_recorded_example_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(line.strip() + "\n" for line in PAGE.splitlines() if line.startswith('    {"index"')))
    history = formats.read(path)
    assert len(history.operations) == 2
    assert check(models.find("register"), history.operations).verdict is Verdict.VALID


def test_every_model_and_format_is_named() -> None:
    for name in (*models.BUILT_IN, *formats.FORMATS):
        assert f"`{name}`" in PAGE or name == "jsonl", name
