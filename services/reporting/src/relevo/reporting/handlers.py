"""From events to facts, roll-ups and metrics: one statement a batch."""

from collections import defaultdict
from collections.abc import Sequence

from relevo.chassis import Received, Tx, labels
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
        await labels.kept(batch, tx)
        by_account: dict[str, list[Fact]] = defaultdict(list)
        for envelope, fact in await self._record(batch, tx):
            by_account[envelope.account].append(fact)
            tx.emit(
                fact,
                account=envelope.account,
                entity=fact.conversation_id or envelope.account,
                time=fact.at,
                cause=envelope,
                id=fact.fact_id,
            )
        for account, new in by_account.items():
            for delta in deltas(new):
                tx.emit(delta, account=account, entity=account, time=delta.minute)

    async def project(self, batch: Sequence[Received], tx: Tx) -> None:
        """The same tables, without a word: what a rebuild makes of the log."""
        await self._record(batch, tx)

    async def _record(self, batch: Sequence[Received], tx: Tx) -> list[tuple[Envelope, Fact]]:
        """Store the facts of these events and grow the roll-ups; answers the facts that are new, with their causes."""
        facts = [(received.envelope, fact) for received in batch for fact in facts_of(received.envelope, received.data)]
        if not facts:
            return []
        given = [(envelope.account, fact) for envelope, fact in facts]
        await self._prepare(tx, given)
        fresh = await store.record(tx, given)
        new = []
        for envelope, fact in facts:
            if fact.fact_id in fresh:
                fresh.remove(fact.fact_id)
                new.append((envelope, fact))
        return new

    async def _prepare(self, tx: Tx, facts: Sequence[tuple[str, Fact]]) -> None:
        missing = {(fact.at.year, fact.at.month) for _, fact in facts} - self._months
        if missing:
            # Remembered only once they are seen committed: this transaction may still be rolled back.
            self._months |= await store.ensure_months(tx, missing)
