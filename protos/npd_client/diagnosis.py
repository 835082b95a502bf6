"""What a doctor found: checks by name, each with a result and, in two languages, what is wrong and what to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from npd_client import credentials as own
from npd_client.credentials import CredentialsError


class Result(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Said(NamedTuple):
    """A sentence in both languages."""

    english: str
    vietnamese: str

    def in_language(self, language: str) -> str:
        """The sentence in "vi", otherwise in English."""
        return self.vietnamese if language == "vi" else self.english


NOTHING = Said("", "")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """files, key_permissions, pem, key_match, usage, validity, chain, clock, name, reachability, server_certificate,
    call or server_view."""
    result: Result
    found: Said
    """What was found."""
    remedy: Said = NOTHING
    """What to do; empty if nothing."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, in the order in which their causes lie; the first that failed is the one to cure first."""

    checks: tuple[Check, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing failed."""
        return not any(check.result is Result.FAILED for check in self.checks)

    @property
    def is_only_unreachable(self) -> bool:
        """Whether the one thing wrong is that nothing answers at the address."""
        failed = {check.name for check in self.checks if check.result is Result.FAILED}
        return bool(failed) and failed <= {"name", "reachability"}


def sound(name: str, english: str, vietnamese: str) -> Check:
    """Nothing is wrong."""
    return Check(name, Result.OK, Said(english, vietnamese))


def skipped(name: str, english: str, vietnamese: str) -> Check:
    """It could not be looked at."""
    return Check(name, Result.SKIPPED, Said(english, vietnamese))


def failed(name: str, found: Said, remedy: Said = NOTHING) -> Check:
    """Something is wrong."""
    return Check(name, Result.FAILED, found, remedy)


def after(name: str, cause: str) -> Check:
    """Not looked at, because something else failed that it needs."""
    return skipped(name, f"Not looked at: first cure {cause}.", f"Chưa kiểm tra: hãy xử lý mục {cause} trước.")


def judged(name: str, check: Callable[[], object], fine: Said) -> Check:
    """What a check of `npd_client.credentials` says, which raises what is wrong and what to do."""
    try:
        check()
    except CredentialsError as error:
        return failed(name, Said(str(error), _vietnamese_of(error)))
    return Check(name, Result.OK, fine)


_VIETNAMESE: Mapping[type[CredentialsError], str] = {
    own.FileMissing: "Thiếu hoặc không đọc được một trong các tệp tls.crt, tls.key, ca.crt. "
    "Kiểm tra thư mục và quyền đọc.",
    own.PemIncomplete: "Tệp PEM bị cắt cụt hoặc không đúng loại. Hãy sao chép lại toàn bộ tệp.",
    own.KeyExposed: "Người khác đọc được khóa riêng. Chạy chmod 600 tls.key; nếu khóa có thể đã lộ, xin chứng thư mới.",
    own.KeyUnusable: "Không dùng được khóa riêng: khóa bị mã hóa hoặc hỏng. Hãy giải mã hoặc sao chép lại.",
    own.KeyMismatch: "tls.key không phải khóa của chứng thư đầu tiên trong tls.crt. "
    "Hãy lấy cả hai từ cùng một lần cấp.",
    own.CertificateUnfit: "Chứng thư không dùng cho máy khách TLS (chứng thư của CA hoặc chứng thư ký). "
    "Hãy dùng chứng thư TLS của hệ thống.",
    own.CertificateExpired: "Chứng thư đã hết hạn theo đồng hồ máy này. Hãy gia hạn: npd-client renew --expired, "
    "sau khi đơn vị vận hành cho phép.",
    own.CertificateNotYetValid: "Chứng thư chưa có hiệu lực theo đồng hồ máy này. Hãy chỉnh đồng hồ nếu chạy chậm.",
    own.ChainBroken: "Chứng thư không dẫn tới gốc tin cậy trong ca.crt: thiếu chứng thư CA trung gian trong tls.crt, "
    "hoặc ca.crt của môi trường khác.",
}


def _vietnamese_of(error: CredentialsError) -> str:
    return next((text for kind, text in _VIETNAMESE.items() if isinstance(error, kind)), str(error))
