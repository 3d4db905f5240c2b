"""The one exception that users are meant to read."""


class LandmarkRetrievalError(Exception):
    """Bad input or a missing artifact: one line that names the culprit and the remedy.

    The command line prints the message without a traceback and exits with a non-zero status.
    """
