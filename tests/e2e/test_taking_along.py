"""A whole account is taken along: every service's part, checked to be whole."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from whole_stack import Account, WholeStack, message

from relevo.contracts.catalogue import SERVICES


async def take(stack: WholeStack, key: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "relevo.stack", "account", "export", str(folder), "--edge-url", stack.edge_url]
    environment = {**os.environ, "RELEVO_API_KEY": key, "COLUMNS": "200"}
    return await asyncio.to_thread(
        subprocess.run, arguments, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


async def written(account: Account, phone: str, said: str) -> None:
    async with account.adapter() as adapter:
        await adapter.publish(message(f"m-{phone}", phone, said))
        await account.conversation(phone, status="open")


async def test_every_part_is_there_and_whole_and_what_was_cut_is_taken_again(stack: WholeStack, tmp_path: Path) -> None:
    folder = tmp_path / "along"
    async with stack.account("ana") as account, stack.account("eva") as other:
        await written(account, "+34600000031", "¿Dónde está mi paquete?")
        await written(other, "+34600000032", "Esto es de otros")
        taken = await take(stack, account.api_token, folder)
        assert taken.returncode == 0, taken.stdout + taken.stderr
        assert {file.name for file in folder.iterdir()} == {f"{service}.jsonl.gz" for service in SERVICES}
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
        told = {service: lines(folder / f"{service}.jsonl.gz") for service in SERVICES}
        assert {part[0]["account_id"] for part in told.values()} == {account.id}
        texts = {one["row"]["text"] for one in told["conversation"] if one.get("table") == "messages"}
        assert "¿Dónde está mi paquete?" in texts
        assert not [
            service for service, part in told.items() if other.id in json.dumps(part) or "de otros" in str(part)
        ]

        # One part lost its end, one is missing: both are taken again, the others stay.
        cut, missing, kept = (folder / f"{service}.jsonl.gz" for service in ("conversation", "identity", "reporting"))
        cut.write_bytes(cut.read_bytes()[:-200])
        missing.unlink()
        before = kept.stat().st_mtime_ns
        again = await take(stack, account.api_token, folder)
        assert again.returncode == 0, again.stdout + again.stderr
        assert lines(cut)[-1]["end"] is True
        assert lines(missing)[-1]["end"] is True
        assert kept.stat().st_mtime_ns == before

        refused = await take(stack, "no key", tmp_path / "nothing")
        assert refused.returncode == 1
        assert "401" in refused.stdout
        assert "not exported: " in refused.stderr
        assert not list((tmp_path / "nothing").glob("*.gz"))
