"""`python -m monai_jdt`."""

from monai_jdt.cli import main

if __name__ == "__main__":
    main()
