"""Asks every operation of a service for random things, as its OpenAPI document has them, and judges the answers.

What is asked is drawn by schemathesis from the schemas, valid and invalid; ids are often those of things that are
there, since most of a service lies behind them, and now and then a value is one that programs stumble over. An answer
is wrong that is a 500, that the document does not have (status, media type, headers, schema), or that refuses a field
without saying which and why.
"""

import base64
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote
from zlib import crc32

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


@schemathesis.serializer("application/jsonl")
def _lines(_: Any, said: Any) -> bytes:
    """A body of JSON lines is a text, as CSV is."""
    return said if isinstance(said, bytes) else str(said).encode("utf-8", "replace")


ROOT: Final = Path(__file__).parents[1]
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEED: Final = int(os.environ.get("RELEVO_FUZZ_SEED", "20250301"))
_ORDER: Final = {"post": 0, "put": 1, "get": 2, "patch": 3, "delete": 4}
_REMOVES: Final = re.compile(r"/(delete|erase|spam)$")
_REMEMBERED: Final = 200
_A_ROUND: Final = 4
"""Examples of an operation before the next one is asked: the first is the simplest there is."""
_HALF: Final = "half-a-pair"
"""Sent as a lone surrogate, which JSON can say and UTF-8 cannot."""
_STUMBLES: Final = {
    str: [
        "", " ", "\0", "a\0b", _HALF, "💥" * 3, "\u202e\u200b", "ﬀ İı", "%", "_\\", "' or 1=1 --", "{}", "9" * 40, "x" * 3000,
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2025-02-30", "1e400", "-0", "null", "..", "/", "é",
    ],
    int: [0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30],
    float: [0.0, -0.0, 1e308, 5e-324, 1e16],
}  # fmt: skip
_NOWHERE: Final = "0197a3a0-0000-7000-8000-000000000000"
_FORGED: Final = [
    base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    for moment in (
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.999999-14:00",
        "2025-01-01T00:00:00",
        "\\u0000",
        "2025",
    )
    for text in (f'["{moment}","{_NOWHERE}"]', f'["{moment}"]')
] + [
    base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    for text in (
        "[9223372036854775808]",
        "[-1]",
        "[1e999]",
        "[" * 1400,
        f'["{_NOWHERE}"]',
        '["\\ud800"]',
        "[null,null]",
    )
]
"""Cursors that nobody was given."""

Send = Callable[..., httpx.Response]
Known = dict[str, dict[str, dict[str, str]]]
"""Values by the name of the parameter or field that takes them, with the path parameters that belong to each."""


@dataclass
class Judged:
    """What was asked, what was answered, and what of it was wrong."""

    operations: dict[str, Counter[int]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    """One example each, by operation and what is wrong."""

    @property
    def unreached(self) -> list[str]:
        """The operations that never did what they are for."""
        return sorted(name for name, found in self.operations.items() if not any(s < 400 for s in found))

    def text(self) -> str:
        statuses = sum(self.operations.values(), Counter[int]())
        told = [
            f"{statuses.total()} requests of {len(self.operations)} operations: {dict(sorted(statuses.items()))}",
            f"never carried out: {', '.join(self.unreached) or 'none'}",
        ]
        return "\n\n".join([*told, *self.wrong.values()])


class Questioner:
    """Asks one running service."""

    def __init__(self, service: str, send: Send, credential: Callable[[bool], str]) -> None:
        """``credential`` answers a bearer token; asked with True when the last one is good no more."""
        self.document = json.loads((ROOT / "docs" / "openapi" / f"{service}.json").read_text())
        self.send = send
        self.credential = credential
        self.known: Known = {"cursor": {forged: {} for forged in _FORGED}}
        self.judged = Judged()
        self._parameters = {}
        for path in self.document["paths"]:
            for found in re.finditer(r"/\{(\w+)\}", path):
                self._parameters[path[: found.start()]] = found[1]

    def know(self, name: str, *values: str, **within: str) -> None:
        """Ask for these, too."""
        kept = self.known.setdefault(name, {})
        for value in values:
            kept[value] = within
        for old in list(kept)[:-_REMEMBERED]:
            del kept[old]

    def ask(self, rounds: int, examples: int = _A_ROUND, begin: Callable[[], None] = lambda: None) -> Judged:
        """Ask each operation so often in each round; those that make things first, those that remove them last."""
        schema = schemathesis.openapi.from_dict(self.document)
        operations = sorted((found.ok() for found in schema.get_all_operations()), key=_place)
        for number in range(rounds):
            begin()
            for operation in operations:
                self._ask(operation, examples, SEED + number + crc32(f"{operation.method} {operation.path}".encode()))
        print(self.judged.text())
        return self.judged

    def _ask(self, operation: Any, examples: int, chosen: int) -> None:
        modes = schemathesis.GenerationMode

        @seed(chosen)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def one(data: st.DataObject) -> None:
            luck = Random(data.draw(st.integers(0, 2**32)))
            takes = operation.body or operation.query or operation.path_parameters
            mode = modes.NEGATIVE if takes and luck.random() < 0.2 else modes.POSITIVE
            case = data.draw(operation.as_strategy(generation_mode=mode))
            self._at_home(case, luck)
            self._judge(case)

        one()

    def _at_home(self, case: Any, luck: Random) -> None:
        """Let the request be one about what is there."""
        within: dict[str, str] = {}
        for parameter in reversed(case.path_parameters or {}):
            if parameter in within:
                case.path_parameters[parameter] = quote(within[parameter], safe="")
            elif (there := self.known.get(parameter)) and luck.random() < 0.9:
                chosen = luck.choice(list(there))
                case.path_parameters[parameter] = quote(chosen, safe="")
                if luck.random() < 0.9:
                    within = there[chosen]
        if "If-Match" in case.operation.headers and luck.random() < 0.8:
            case.headers["If-Match"] = "*"
        stumble = luck.random() < 0.15
        if isinstance(case.body, dict | list):
            body = self._fewer(case.body, luck, self._required(case)) if isinstance(case.body, dict) else case.body
            case.body = self._mended(body, luck, stumble=stumble)
        if isinstance(case.query, dict):
            case.query = self._mended(self._fewer(case.query, luck, ()), luck, stumble=stumble)

    def _fewer(self, given: dict[str, Any], luck: Random, required: Sequence[str]) -> dict[str, Any]:
        """Leave out, half of the times, most of what may be left out: what is asked for at once is seldom allowed."""
        if luck.random() < 0.5:
            return given
        return {k: v for k, v in given.items() if k in required or luck.random() < (0.7 if k in self.known else 0.2)}

    def _required(self, case: Any) -> Sequence[str]:
        operation = self.document["paths"][case.operation.path][case.operation.method.lower()]
        schema = operation["requestBody"]["content"].get("application/json", {}).get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        return self.document["components"]["schemas"].get(name, schema).get("required", ())

    def _mended(self, value: Any, luck: Random, name: str = "", *, stumble: bool) -> Any:
        if isinstance(value, dict):
            return {key: self._mended(inner, luck, key, stumble=stumble) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._mended(inner, luck, name, stumble=stumble) for inner in value]
        if stumble and luck.random() < 0.4:
            return luck.choice(_STUMBLES.get(type(value), [value]))
        there = self.known.get(name) or self.known.get(name.removesuffix("s")) or self.known.get(f"{name}_id")
        return luck.choice(list(there)) if isinstance(value, str | None) and there and luck.random() < 0.7 else value

    def _judge(self, case: Any) -> None:
        name = f"{case.operation.method.upper()} {case.operation.path}"
        kwargs = case.as_transport_kwargs(base_url="http://test")
        wanted = {"method", "url", "headers", "params", "json", "data", "files", "cookies"}
        prepared = requests.Request(**{k: v for k, v in kwargs.items() if k in wanted}).prepare()
        body = prepared.body or b""
        if "json" in prepared.headers.get("Content-Type", ""):
            body = (body.encode() if isinstance(body, str) else body).replace(_HALF.encode(), rb"\ud800")
        headers = {k: v for k, v in prepared.headers.items() if k.lower() not in {"authorization", "content-length"}}

        def sent(*, again: bool) -> httpx.Response:
            headers["Authorization"] = f"Bearer {self.credential(again)}"
            return self.send(prepared.method, prepared.url, headers=headers, content=body)

        answer = sent(again=False)
        if answer.status_code == 401:
            answer = sent(again=True)
        self.judged.operations.setdefault(name, Counter())[answer.status_code] += 1
        found = {}
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as group:
            found = {type(failure).__name__: failure.message for failure in group.exceptions}
        if lacking := _unexplained(answer):
            found["Unexplained"] = lacking
        for kind, told in found.items():
            asked = f"{prepared.method} {prepared.url} {headers.get('Content-Type', '')} {body[:600]!r}"
            self.judged.wrong.setdefault(
                f"{name} {kind}",
                f"{name}: {kind}: {told}\n  {asked}\n  {answer.status_code} {answer.text[:600]}",
            )
        if answer.is_success and answer.content and "json" in answer.headers.get("content-type", ""):
            self._learn(case, answer.json())

    def _learn(self, case: Any, told: Any) -> None:
        """Remember the ids of what was made or listed."""
        if not isinstance(told, dict):
            return
        within = dict(case.path_parameters or {})
        if parameter := self._parameters.get(case.operation.path):
            for item in told.get("items", [told]):
                if isinstance(item, dict) and isinstance(item.get("id"), str):
                    self.know(parameter, item["id"], **within)
        for key, inner in told.items():
            if isinstance(inner, dict) and isinstance(inner.get("id"), str):
                self.know(f"{key}_id", inner["id"])


def _place(operation: Any) -> int:
    return _ORDER["delete"] if _REMOVES.search(operation.path) else _ORDER.get(operation.method, 9)


def _unexplained(answer: httpx.Response) -> str | None:
    """What a refusal lacks: the field, or the reason in words."""
    if answer.status_code not in (400, 422):
        return None
    try:
        told = answer.json()
    except ValueError:
        return "no JSON"
    if not told.get("detail") or (answer.status_code == 422 and not told.get("errors")):
        return "a refusal names the field and the reason"
    bare = [one for one in told["errors"] if not one["detail"]]
    return f"without a reason: {bare}" if bare else None
