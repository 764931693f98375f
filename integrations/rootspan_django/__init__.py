"""rootspan for Django: each request is one isolated root span; add `"rootspan_django"` to `INSTALLED_APPS`."""

from rootspan.errors import MissingExtraError

try:
    import django as django  # only whether it is there
except ImportError as error:
    raise MissingExtraError("rootspan_django needs Django.\nFix: pip install 'rootspan[django]'") from error
