"""Says on which platforms openoutcry does not run, before something that they lack is missed."""

try:
    import fcntl  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError(
        "openoutcry does not run on Windows: its journal needs fcntl, which Python does not have there. "
        "Use Linux in WSL 2, with the journal in WSL's own file system"
    ) from missing
