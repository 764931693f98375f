"""The project's commands; `python django_support_desk/manage.py serve` starts everything."""

import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    sys.path[0] = str(Path(__file__).parents[1])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_support_desk.settings")
    from django.core.management import execute_from_command_line

    with tempfile.TemporaryDirectory(prefix="support-desk-") as folder:
        if "serve" in sys.argv:  # each time a new database, unless one is named
            os.environ.setdefault("SUPPORT_DESK_DATABASE", str(Path(folder, "support_desk.sqlite3")))
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
