"""The decisions of ingest: what an inbound event must look like, and which of a batch are new."""
