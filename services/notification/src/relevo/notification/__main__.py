from relevo.chassis import main
from relevo.notification.app import build

main(build)
