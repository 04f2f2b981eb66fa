from relevo.chassis.migrations import run

run()
