"""Which error classes Python 2 has, and under what name.

Owns the table of its library's errors, and the Python 3 names of those that were renamed. No
module of the table is imported. The one rule: a class of the standard library is in Python 2 only
if it is in the table. Other classes are assumed to exist there.
"""

import sys
from functools import cache

from deferrable._codec import names as _names
from deferrable._codec.python2.names import is_python2_name, is_python2_path, python3_name


def python2_name_of_error(cls: type) -> tuple[str, str] | None:
    if not issubclass(cls, BaseException):
        return None
    module, _, name = _names.name_of(cls).partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:
        return python2_errors().get(f"{module}:{name}")
    if module in _names.MAIN_NAMES or _names.why_unnameable(cls) is not None:
        return None
    return (module, name) if is_python2_path(module) and is_python2_name(name) else None


@cache
def python2_errors() -> dict[str, tuple[str, str]]:
    """Return Python 3's name of each error in Python 2's library -> the module and name there."""
    known: dict[str, tuple[str, str]] = {}
    for line in _PYTHON2_ERRORS.strip().splitlines():
        module, *names = line.split()
        for name in names:
            reference = python3_name(module, name)
            for alias in RENAMED_ERRORS.get(reference, (reference,)):
                known.setdefault(alias, (module, name))

    return known


_OS_ERROR = ("builtins:OSError",)

RENAMED_ERRORS: dict[str, tuple[str, ...]] = {
    "_thread:error": ("builtins:RuntimeError",),
    "builtins:EnvironmentError": _OS_ERROR,
    "builtins:IOError": _OS_ERROR,
    "builtins:WindowsError": _OS_ERROR,
    "mmap:error": _OS_ERROR,
    "pickle:PickleError": ("pickle:PickleError", "_pickle:PickleError"),
    "pickle:PicklingError": ("pickle:PicklingError", "_pickle:PicklingError"),
    "pickle:UnpicklingError": ("pickle:UnpicklingError", "_pickle:UnpicklingError"),
    "queue:Empty": ("queue:Empty", "_queue:Empty"),
    "resource:error": _OS_ERROR,
    "select:error": _OS_ERROR,
    "signal:ItimerError": ("signal:itimer_error",),
    "socket:error": _OS_ERROR,
    "socket:timeout": ("builtins:TimeoutError",),
    "sre_constants:error": ("re:error", "re:PatternError"),
    "ssl:CertificateError": ("ssl:SSLCertVerificationError",),
    "zipfile:BadZipfile": ("zipfile:BadZipFile",),
}
"""The Python 3 names of classes of Python 2's library that fix_imports does not know.

Made by walking the library of a real 2.7.18 and comparing with 3.11 and 3.13.
"""

_PYTHON2_ERRORS = """
exceptions ArithmeticError AssertionError AttributeError BaseException BufferError BytesWarning
exceptions DeprecationWarning EOFError EnvironmentError Exception FloatingPointError FutureWarning
exceptions GeneratorExit ImportError ImportWarning IndentationError IndexError KeyError
exceptions KeyboardInterrupt LookupError MemoryError NameError NotImplementedError OverflowError
exceptions PendingDeprecationWarning ReferenceError RuntimeError RuntimeWarning StopIteration
exceptions SyntaxError SyntaxWarning SystemError SystemExit TabError TypeError UnboundLocalError
exceptions UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning
exceptions UserWarning ValueError Warning ZeroDivisionError
ConfigParser DuplicateSectionError Error InterpolationDepthError InterpolationError NoOptionError
ConfigParser InterpolationMissingOptionError InterpolationSyntaxError MissingSectionHeaderError
ConfigParser NoSectionError ParsingError
Cookie CookieError
Queue Empty Full
_csv Error
argparse ArgumentError ArgumentTypeError
binascii Error Incomplete
calendar IllegalMonthError IllegalWeekdayError
cookielib LoadError
copy Error
ctypes ArgumentError
decimal Clamped ConversionSyntax DecimalException DivisionByZero DivisionImpossible
decimal DivisionUndefined Inexact InvalidContext InvalidOperation Overflow Rounded Subnormal
decimal Underflow
email.errors BoundaryError CharsetError HeaderParseError MessageError MessageParseError
email.errors MultipartConversionError
ftplib Error error_perm error_proto error_reply error_temp
getopt GetoptError
httplib BadStatusLine CannotSendHeader CannotSendRequest HTTPException ImproperConnectionState
httplib IncompleteRead InvalidURL LineTooLong NotConnected ResponseNotReady
httplib UnimplementedFileMode UnknownProtocol UnknownTransferEncoding
io UnsupportedOperation
locale Error
mailbox Error ExternalClashError FormatError NoSuchMailboxError NotEmptyError
multiprocessing AuthenticationError BufferTooShort ProcessError TimeoutError
multiprocessing.managers RemoteError
multiprocessing.pool MaybeEncodingError
netrc NetrcParseError
nntplib NNTPDataError NNTPError NNTPPermanentError NNTPProtocolError NNTPReplyError
nntplib NNTPTemporaryError
optparse AmbiguousOptionError BadOptionError OptParseError OptionConflictError OptionError
optparse OptionValueError
pickle PickleError PicklingError UnpicklingError
poplib error_proto
shutil Error ExecError SpecialFileError
signal ItimerError
smtplib SMTPAuthenticationError SMTPConnectError SMTPDataError SMTPException SMTPHeloError
smtplib SMTPRecipientsRefused SMTPResponseException SMTPSenderRefused SMTPServerDisconnected
socket gaierror herror
sqlite3 DataError DatabaseError Error IntegrityError InterfaceError InternalError
sqlite3 NotSupportedError OperationalError ProgrammingError Warning
sre_constants error
ssl CertificateError SSLEOFError SSLError SSLSyscallError SSLWantReadError SSLWantWriteError
ssl SSLZeroReturnError
struct error
subprocess CalledProcessError
tarfile CompressionError ExtractError HeaderError ReadError StreamError TarError
termios error
unittest.case SkipTest
urllib ContentTooShortError
urllib2 HTTPError URLError
wave Error
webbrowser Error
xml.dom DOMException
xml.etree.ElementTree ParseError
xml.parsers.expat ExpatError
xml.sax._exceptions SAXException SAXNotRecognizedException SAXNotSupportedException
xml.sax._exceptions SAXParseException SAXReaderNotAvailable
xmlrpclib Error Fault ProtocolError ResponseError
zipfile BadZipfile LargeZipFile
zipimport ZipImportError
zlib error
"""
"""The errors of Python 2.7.18's library that Python 3 has too: module, then names."""
