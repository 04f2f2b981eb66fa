"""Generated documents: ``python -m relevo.stack.documents write|check ROOT``, ROOT being the project's folder.

The bus's documents come from the catalogue, the HTTP ones from the services' own applications, others from a service's
module `documents`; ``check`` names every file that is not current and exits 1.
"""

import base64
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relevo.chassis import credentials
from relevo.chassis.service import application
from relevo.contracts import generate
from relevo.contracts.permissions import ROLES, Permission
from relevo.contracts.routes import API, owner
from relevo.stack.wiring import installed

USAGE = "usage: python -m relevo.stack.documents write|check ROOT"


def _placeholders() -> dict[str, str]:
    """Settings that let every service be built, though nothing is ever reached with them."""
    account = credentials.new_account()
    return {
        "RELEVO_DATABASE_URL": "postgresql://nobody@localhost/none",
        "RELEVO_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
        "RELEVO_BUS_ACCOUNT": account.public,
        "RELEVO_BUS_SIGNING_SEED": account.seed,
        "RELEVO_BUS_OPERATOR_SEED": credentials.new_operator().seed,
        "RELEVO_BUS_SYSTEM_CREDENTIALS": os.devnull,
    }


def openapi(service: str) -> dict[str, Any]:
    """The OpenAPI document of one service."""
    build = importlib.import_module(f"relevo.{service}.app").build
    return application(build()).openapi()


def merged(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One document for the one origin. Schemas of the same name and another shape carry their service's name."""
    paths: dict[str, Any] = {}
    components: dict[str, dict[str, Any]] = {}
    for service, original in documents.items():
        document = _renamed(original, service, components)
        for path, operations in document["paths"].items():
            kept = {method: {**o, "tags": [service]} if isinstance(o, dict) else o for method, o in operations.items()}
            paths.setdefault(path, {}).update(kept)
        for kind, entries in document.get("components", {}).items():
            components.setdefault(kind, {}).update(entries)
    return {
        "openapi": next(iter(documents.values()))["openapi"],
        "info": {"title": "Relevo", "version": next(iter(documents.values()))["info"]["version"]},
        "tags": [{"name": service} for service in documents],
        "paths": dict(sorted(paths.items())),
        "components": {kind: dict(sorted(entries.items())) for kind, entries in sorted(components.items())},
    }


def _renamed(document: dict[str, Any], service: str, taken: dict[str, dict[str, Any]]) -> dict[str, Any]:
    schemas = document.get("components", {}).get("schemas", {})
    known = taken.get("schemas", {})
    text = json.dumps(document)
    for name, schema in schemas.items():
        if name in known and known[name] != schema:
            other = f"{service.title()}{name}"
            text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{other}"')
            text = text.replace(f'"{name}": {json.dumps(schema)}', f'"{other}": {json.dumps(schema)}')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def endpoint_table(documents: dict[str, dict[str, Any]]) -> str:
    """Every operation with its service and the permission it asks for. Raises LookupError for a path the edge lacks."""
    lines = [
        "# Endpoints and permissions",
        "",
        "Generated; do not edit. Any one of the permissions named is enough; *signed in* asks for none but a valid token;",
        "*adapter* and *bot* for the key of an inbox's adapter or bot; *public* for nothing. `ASGUM`: which of the predefined roles hold one",
        "as they come: administrator, supervisor, agent, auditor, marketing. A test asks every endpoint as each of them.",
        "",
        "| method | path | service | permission | roles | what |",
        "|---|---|---|---|---|---|",
    ]
    rows = []
    for service, document in documents.items():
        for path, operations in document["paths"].items():
            if owner(path) != service:
                raise LookupError(f"{path} is answered by {service}, but the edge sends it to {owner(path)}")
            for method, operation in operations.items():
                if not isinstance(operation, dict):
                    continue
                needed = operation.get("x-permission")
                permission = "*public*" if needed is None else ", ".join(f"`{p}`" for p in needed) or "*signed in*"
                summary = (operation.get("description") or operation.get("summary") or "").strip().splitlines()
                told = summary[0] if summary else ""
                rows.append((path, method.upper(), service, permission, _roles(needed), told))
    lines += [f"| {m} | `{p.removeprefix(API)}` | {s} | {n} | {r} | {what} |" for p, m, s, n, r, what in sorted(rows)]
    return "\n".join(lines) + "\n"


_LETTERS = {"administrator": "A", "supervisor": "S", "agent": "G", "auditor": "U", "marketing": "M"}


def _roles(needed: list[str] | None) -> str:
    if needed is None or {"adapter", "bot"} & set(needed):
        return ""
    return "".join(
        letter if not needed or ROLES[name].permissions.intersection(map(Permission, needed)) else "·"
        for name, letter in _LETTERS.items()
    )


def documents() -> Iterator[tuple[str, str]]:
    """Every generated document: path below the project's folder, text."""
    for name, text in generate.documents():
        yield f"docs/{name}", text
    os.environ.update(_placeholders())
    found = {service: openapi(service) for service in installed()}
    for service, document in found.items():
        yield f"docs/openapi/{service}.json", _json(document)
    # The edge serves this one, so it ships with the stack.
    yield "libs/stack/src/relevo/stack/pages/openapi.json", _json(merged(found))
    yield "docs/endpoints.md", endpoint_table(found)
    for service in found:
        if importlib.util.find_spec(f"relevo.{service}.documents"):
            for name, text in importlib.import_module(f"relevo.{service}.documents").documents():
                yield f"docs/{name}", text


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write the documents, or tell which are not current."""
    if len(sys.argv) != 3 or sys.argv[1] not in {"write", "check"}:
        sys.exit(USAGE)
    root = Path(sys.argv[2])
    stale = []
    for name, text in documents():
        file = root / name
        if sys.argv[1] == "write":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        sys.exit(f"not current: {', '.join(stale)}. Run `make docs` and commit what it writes.")


if __name__ == "__main__":
    main()
