"""What can go wrong with the processes of the mesh on one machine. These never cross the wire."""


class LocalError(Exception):
    """The base of them all: its text is for the person at the terminal and holds no secret."""


class ServerAccountUnavailable(LocalError):
    """We are root, and there is no account that PostgreSQL could run under."""


class DirectoryInUse(LocalError):
    """Another process serves this data directory, or is about to."""


class DirectoryUnusable(LocalError):
    """The data directory holds something else than a database of our PostgreSQL version."""


class SocketDirectoryUnusable(LocalError):
    """No path is short enough for a socket, or the directory belongs to somebody else."""


class PasswordMissing(LocalError):
    """A role exists and its password does not."""


class DatabaseNameRefused(LocalError):
    """The name cannot be one of a database and its role."""


class ServerNotReady(LocalError):
    """PostgreSQL, or its initdb, ended or took too long; the text ends with the last lines of its log."""


class ChildNotReady(LocalError):
    """A child ended or took too long; the text ends with the last lines of its log."""


class ChildUnknown(LocalError):
    """No child has this name."""
