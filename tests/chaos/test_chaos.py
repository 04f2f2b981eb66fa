"""Under load everything is killed, stopped and restarted at random; then nothing is lost, doubled or out of order.

RELEVO_CHAOS_SECONDS, _KILLS, _RATE, _SENDERS and _SEED set the sizes of the short run; the seed is printed.
"""

import os
import random

import pytest
from chaos.inventory import plan
from chaos.run import SEED, ChaosStack, Size, chaos

SECONDS = float(os.environ.get("RELEVO_CHAOS_SECONDS", "40"))
KILLS = int(os.environ.get("RELEVO_CHAOS_KILLS", "5"))
POINTS = int(os.environ.get("RELEVO_CHAOS_POINTS", "16"))


@pytest.mark.timeout(300)
async def test_nothing_is_lost_doubled_or_out_of_order(running: ChaosStack) -> None:
    points = plan()
    random.Random(SEED).shuffle(points)
    size = Size(
        messages=0, kills=KILLS, points=points[:POINTS], seconds=SECONDS, limit=SECONDS * 1.2, rate=150, read_back=40
    )
    verdict = await chaos(running, size)
    assert verdict.faults == {}
    assert verdict.figures["passed against the table"] == []
    assert verdict.figures["kills that count"] > 0
