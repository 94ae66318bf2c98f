"""`python -m camcli` and the `camcli` command."""

from camcli import signals


def main() -> None:
    """Run the command line and exit. Signals end it also while it is being imported."""
    signals.install()
    from camcli.cli import main as run
    from camcli.speed import skip_last_collection

    skip_last_collection()
    run()


if __name__ == "__main__":
    main()
