"""Why a ceremony is refused. Each error says what is wrong in the file or beside it, and what to do next."""

from pathlib import Path

from npd_pki.errors import PkiError


class CeremonyError(PkiError):
    """What all refusals of a ceremony have in common. Nothing was signed, nothing written."""


class DocumentMalformed(CeremonyError):
    """The file is not TOML, or a key of it is unknown, missing, of another type or beyond its bounds."""

    def __init__(self, file: Path, key: str, problem: str) -> None:
        super().__init__(f"{file}: {key}: {problem}" if key else f"{file}: {problem}")
        self.file, self.key = file, key


class InputUnreadable(CeremonyError):
    """A file that the ceremony names is missing, or cannot be read."""


class InputForeign(CeremonyError):
    """An input belongs elsewhere: another environment, another root, another CA than the file says."""


class AlreadyRevoked(CeremonyError):
    """The file revokes what the previous list revokes already, or one certificate twice."""


class MomentUnfit(CeremonyError):
    """What would be signed has ended already, its signer is not valid now, or a revocation is dated after the run."""


class PassphraseWeak(CeremonyError):
    """The passphrase for a new key is too short to protect it."""


class SignatureUnusable(CeremonyError):
    """What a key signed does not verify under its certificate: the hardware module is defective."""


class OutputAmbiguous(CeremonyError):
    """Two objects of one ceremony would be written into the same file."""


class NotConfirmed(CeremonyError):
    """Whoever runs the ceremony did not confirm the plan."""
