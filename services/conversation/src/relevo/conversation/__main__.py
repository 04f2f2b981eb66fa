from relevo.chassis import main
from relevo.conversation.app import build

main(build)
