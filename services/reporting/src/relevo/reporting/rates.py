"""What is divided from counts: of what ended in a period, the part that ended so."""

from collections.abc import Iterable
from typing import Protocol

from pydantic import BaseModel, Field

from relevo.chassis.problems import Language
from relevo.contracts.metrics import RATES, Metric, RateName


class RateShown(BaseModel):
    """How many of something are of one kind: `part` of `whole`, divided; null where there is nothing to be divided by.

    Both are numbers of facts: `/reports/facts` and `/reports/conversations` list them, by these metrics.
    """

    rate: RateName
    definition: str = Field(description="Of what it is the part, in the reader's language.")
    part: int
    part_of: Metric = Field(description="The metric whose facts `part` counts.")
    whole: int
    whole_of: list[Metric] = Field(description="The metrics whose facts `whole` counts.")
    share: float | None


class Counted(Protocol):
    """A metric, and how many facts of it there are."""

    metric: Metric
    count: int


def rates_of(metrics: Iterable[Counted], language: Language) -> list[RateShown]:
    """The rates all of whose metrics are among these."""
    counts = {one.metric: one.count for one in metrics}
    shown = []
    for name, rate in RATES.items():
        if not {rate.part, *rate.whole} <= counts.keys():
            continue
        part, whole = counts[rate.part], sum(counts[metric] for metric in rate.whole)
        shown.append(
            RateShown(
                rate=name,
                definition=rate.es if language == "es" else rate.en,
                part=part,
                part_of=rate.part,
                whole=whole,
                whole_of=list(rate.whole),
                share=part / whole if whole else None,
            )
        )
    return shown
