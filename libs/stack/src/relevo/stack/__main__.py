from relevo.stack.cli import main

main()
