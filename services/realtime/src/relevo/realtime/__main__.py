from relevo.chassis import main
from relevo.realtime.app import build

main(build)
