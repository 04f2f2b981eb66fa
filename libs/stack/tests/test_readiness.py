"""What `relevo status` says of a service that is not ready."""

from relevo.stack import readiness


def test_partitions_of_one_stream_are_counted_and_other_things_are_said_one_by_one():
    gone = "position 12 lies beyond the stream's end"
    assert readiness.told({}) == ""
    assert (
        readiness.told({"database": "not reachable (OperationalError)"}) == "database: not reachable (OperationalError)"
    )
    assert (
        readiness.told({"EVT_INGEST/3": gone, "broker": "not connected", "EVT_INGEST/0": gone})
        == f"EVT_INGEST/3 and 1 more: {gone}; broker: not connected"
    )
