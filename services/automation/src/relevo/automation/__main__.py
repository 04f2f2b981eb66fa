from relevo.automation.app import build
from relevo.chassis import main

main(build)
