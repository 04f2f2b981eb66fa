"""From events to facts, roll-ups and metrics: one statement a batch."""

from collections import defaultdict
from collections.abc import Sequence

from relevo.chassis import Received, Tx
from relevo.contracts.envelope import Envelope
from relevo.contracts.metrics import Fact
from relevo.reporting import store
from relevo.reporting.domain.facts import facts_of
from relevo.reporting.domain.rollup import deltas


class Recorder:
    """Records the facts of each batch. Remembers which months have a partition, so that it asks only for new ones."""

    def __init__(self) -> None:
        self._months: set[tuple[int, int]] = set()

    async def on_events(self, batch: Sequence[Received], tx: Tx) -> None:
        """Store the facts of these events, grow the roll-ups, publish both; events seen before change nothing."""
        causes: dict[str, Envelope] = {}
        facts: list[tuple[str, Fact]] = []
        for received in batch:
            envelope = received.envelope
            for fact in facts_of(envelope, received.data):
                causes[fact.fact_id] = envelope
                facts.append((envelope.account, fact))
        if not facts:
            return
        await self._prepare(tx, facts)
        fresh = await store.record(tx, facts)
        by_account: dict[str, list[Fact]] = defaultdict(list)
        for account, fact in facts:
            if fact.fact_id not in fresh:
                continue
            fresh.remove(fact.fact_id)
            by_account[account].append(fact)
            tx.emit(
                fact,
                account=account,
                entity=fact.conversation_id or account,
                time=fact.at,
                cause=causes[fact.fact_id],
                id=fact.fact_id,
            )
        for account, new in by_account.items():
            for delta in deltas(new):
                tx.emit(delta, account=account, entity=account, time=delta.minute)

    async def _prepare(self, tx: Tx, facts: Sequence[tuple[str, Fact]]) -> None:
        missing = {(fact.at.year, fact.at.month) for _, fact in facts} - self._months
        if missing:
            # Remembered only once they are seen committed: this transaction may still be rolled back.
            self._months |= await store.ensure_months(tx, missing)
