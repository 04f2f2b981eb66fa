from relevo.chassis import main
from relevo.reporting.app import build

main(build)
