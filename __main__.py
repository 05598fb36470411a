"""``python -m relaxc`` is the same as ``relaxc``."""

from .compiler.cli import main

if __name__ == "__main__":
    main()
