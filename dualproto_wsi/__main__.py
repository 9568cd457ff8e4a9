"""Entry point of ``python -m dualproto_wsi``."""

from dualproto_wsi.cli.main import main

if __name__ == "__main__":
    main()
