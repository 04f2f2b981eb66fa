from relevo.assignment.app import build
from relevo.chassis import main

main(build)
