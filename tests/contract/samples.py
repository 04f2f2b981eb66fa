"""Golden samples: one real message of every type, written once, decoded for ever.

`python tests/contract/samples.py` writes those that are missing, and `released.json`: what this version promises. Run it
when a message is added; change or remove nothing that a release has had.
"""

import json
import types
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime

from relevo.chassis.outbox import outgoing
from relevo.contracts.base import Model
from relevo.contracts.catalogue import MESSAGES, Message
from relevo.contracts.envelope import Envelope
from relevo.contracts.generate import schemas
from relevo.contracts.streams import STREAMS

FOLDER = Path(__file__).parent / "samples"
RELEASED = Path(__file__).parent / "released.json"
_ID = "01980f6e-5c1a-7d3e-9a42-3f1c2b7d8e90"
_TIME = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)


def filled(annotation: Any, name: str = "") -> Any:
    """A value of a type, with every optional part present, always the same."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _special(name) if arguments[0] is str else filled(arguments[0], name)
    if origin in (Union, types.UnionType):
        return filled(next(one for one in arguments if one is not type(None)), name)
    if origin is Literal:
        return arguments[0]
    if origin in (tuple, list, frozenset):
        return [filled(arguments[0], name)]
    if origin in (dict, Mapping):
        return {"field": 7 if arguments[1] is int else "valor"}
    if annotation in (datetime, AwareDatetime):
        return _TIME
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            return {n: filled(f.rebuild_annotation(), n) for n, f in annotation.model_fields.items()}
        if issubclass(annotation, Enum):
            return next(iter(annotation))
        if issubclass(annotation, bool):
            return True
        if issubclass(annotation, int | float):
            return annotation(7)
        if issubclass(annotation, str):
            return _special(name)
    return {"field": ["valor", 1, None]}  # Any


def _special(name: str) -> str:
    if (
        name == "id"
        or name.endswith(("_id", "_ids", "_key"))
        or name in ("added", "removed", "from_team", "retry_of", "merged_into")
    ):
        return _ID
    plain = {
        "url": "https://files.example/a.pdf",
        "webhook_url": "https://hooks.example/x",
        "service": "ingest",
        "reason": "handler",
        "gauge": "queue_length",
    }
    return plain.get(name, "Señal ✓ «ñ»")


def sample(message: Message) -> dict[str, Any]:
    """Headers, subject and body as the publisher puts them on the bus."""
    data = message.model.model_validate(filled(message.model))
    if "adapter" in message.publishers:
        envelope = Envelope(_ID, message.name, "adapter/sample", _ID, _ID, _TIME, _TIME)
        subject = message.stream.subject(account=_ID, inbox=_ID, sender=_ID, kind=message.token)
        return {"subject": subject, "headers": envelope.headers(), "body": json.loads(data.model_dump_json())}
    _, row = outgoing(
        message.publishers[0],
        data,
        account=_ID,
        entity=_ID,
        actor=f"agent:{_ID}",
        sequence=3,
        time=_TIME,
        cause=None,
        id=_ID,
    )
    headers = json.loads(row.headers) | {"relevo-recorded": "2026-03-01T09:30:00.223456Z"}
    return {"subject": row.subject, "headers": headers, "body": json.loads(row.body)}


def promise() -> dict[str, Any]:
    """What this version promises to who reads the bus: messages, their subjects and schemas, the streams."""
    return {
        "messages": {m.name: {"model": m.model.__name__, "stream": m.stream.name, "token": m.token} for m in MESSAGES},
        "streams": {
            s.name: {"pattern": s.pattern, "partitions": s.partitions, "partition_by": list(s.partition_by)}
            for s in STREAMS
        },
        "schemas": schemas(),
    }


def main() -> None:
    """Write what is missing."""
    FOLDER.mkdir(exist_ok=True)
    for message in MESSAGES:
        file = FOLDER / f"{message.name}.json"
        if not file.exists():
            file.write_text(json.dumps(sample(message), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    RELEASED.write_text(json.dumps(promise(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
