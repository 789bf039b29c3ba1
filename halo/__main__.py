"""`python -m halo`."""

from halo.cli.main import main

if __name__ == "__main__":
    main()
