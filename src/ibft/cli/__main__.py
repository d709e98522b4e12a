"""`python -m ibft.cli`, for launchers that start modules: the same as `ibft`."""

from ibft.cli import main

if __name__ == "__main__":
    main()
