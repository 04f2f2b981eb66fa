from relevo.channels.app import build
from relevo.chassis import main

main(build)
