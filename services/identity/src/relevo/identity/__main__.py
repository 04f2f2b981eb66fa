from relevo.chassis import main
from relevo.identity.app import build

main(build)
