"""Transcripts as PDF, made by a process of their own.

What lays text out and cuts fonts takes seconds of a core and tens of megabytes; and what it is given, customers wrote. So
it runs beside the service, one at a time, with nothing of its environment, and is ended when it takes too long.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Final

from relevo.conversation.domain.transcript import Transcript

LONGEST: Final = 150_000
"""Characters of a transcript that is printed: some hundred pages."""
_SECONDS: Final = 60.0
"""With the wait for one's turn."""
_KEPT: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")
_turn = asyncio.Semaphore(1)


class NotPrinted(Exception):
    """It could not be made, or not in time; the message has no word of the transcript."""


def too_long(transcript: Transcript) -> bool:
    """Whether it is more than is printed."""
    return sum(len(said.text) + 200 for said in transcript.said) > LONGEST


async def printed(transcript: Transcript) -> bytes:
    """The transcript as a PDF. Raises NotPrinted."""
    try:
        async with asyncio.timeout(_SECONDS), _turn:
            return await _made(json.dumps(asdict(transcript)).encode())
    except TimeoutError:
        raise NotPrinted(f"it took longer than {_SECONDS:g} s") from None


async def _made(told: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relevo.conversation.printing",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: value for name in _KEPT if (value := os.environ.get(name))},
    )
    try:
        made, _ = await process.communicate(told)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not made.startswith(b"%PDF-"):
        raise NotPrinted(f"the printing process ended with {process.returncode}")
    return made
