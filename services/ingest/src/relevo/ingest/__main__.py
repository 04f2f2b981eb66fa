"""``python -m relevo.ingest [serve|migrate|openapi]``."""

from relevo.chassis import main
from relevo.ingest.app import build

main(build)
