from relevo.chassis import main
from relevo.presence.app import build

main(build)
