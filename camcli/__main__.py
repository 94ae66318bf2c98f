"""`python -m camcli` and the `camcli` command."""

from camcli.cli import main

if __name__ == "__main__":
    main()
