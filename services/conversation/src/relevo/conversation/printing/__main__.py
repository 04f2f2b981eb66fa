"""Reads a transcript as JSON, writes it as PDF."""

import json
import sys

from relevo.conversation.domain.transcript import Said, Transcript
from relevo.conversation.printing.pages import drawn

given = json.load(sys.stdin.buffer)
said = tuple(Said(**{**one, "attachments": tuple(one["attachments"])}) for one in given.pop("said"))
sys.stdout.buffer.write(drawn(Transcript(**given, said=said)))
