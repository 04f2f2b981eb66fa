"""What this service holds of people: nothing. Facts and totals have ids, times, and what reports are counted by."""

from typing import Final

from relevo.chassis.erasing import Personal

_TOTALS: Final = ("channel", "metric", "state")

PERSONAL: Final = Personal(
    plain={
        "facts": ("metric", "channel", "labels", "priority", "language", "state"),
        "rollup_minute": _TOTALS,
        "rollup_hour": _TOTALS,
        "rollup_day": _TOTALS,
        "rollup_month": _TOTALS,
    }
)
