"""The door for a checkout: `python cli.py ...` is the installed `tsattn ...`."""

from tsattn.cli import main

if __name__ == "__main__":
    main()
