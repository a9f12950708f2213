"""Every error this project raises on purpose.

    HotcoldError
    ├── RequestError              a caller's request is wrong: a 4xx with a problem document
    │   ├── MalformedBodyError        400  the body cannot be parsed
    │   ├── NotSignedError            403  not made, now, by who knows the secret
    │   ├── NotFoundError             404  no such model, version or path
    │   ├── BodyTooLargeError         413  more bytes or rows than one request may hold
    │   ├── UnsupportedMediaError     415  content type or encoding not spoken here
    │   └── InvalidInputError         422  parsed, but a value breaks the model's schema
    ├── SchemaError               a feature schema contradicts itself
    ├── TrainingError             a model cannot be trained on what was asked for
    ├── PackageError              a package cannot be built or used
    │   ├── CorruptPackageError       a file is missing, changed or unexpected
    │   └── ParityError               an engine's scores differ from the reference scores
    ├── ReleaseError              a release cannot do what was asked
    │   ├── PlanError                 the plan contradicts itself or has unknown keys
    │   ├── ActiveReleaseError        another release of the model is under way
    │   ├── NothingToUndoError        no earlier champion is warm
    │   ├── NothingToDecideError      nobody is asked
    │   └── StaleControllerError      somebody else moved the release on
    ├── BatchError                a batch run cannot be planned or carried out as asked
    │   ├── BadInputError             rows or files that cannot be scored; names them
    │   ├── UnreachableInputError     a disk or network does not give an input file; it may later
    │   └── ClusterError              the Dask cluster cannot be started, or was lost
    ├── ScoresError               score tables or what readers see of them are not as they have to be
    │   └── ReadersBehindError        some readers do not see what they should; names their outputs
    ├── ScoreStoreError           the score store cannot be read or written as asked
    │   └── NoScoresError             no table of the model is published there
    ├── PredictionLogError        a log segment or archive of answers cannot be read or made
    ├── LabelError                late labels cannot be joined as asked, or a file of joined ones is damaged
    ├── RegistryError             the MLflow registry lacks something or cannot be reached
    ├── DatabaseError             the release database cannot be reached or has another layout
    ├── NoticeError               people could not be told
    ├── EdgeError                 Envoy refused a configuration or did not confirm it
    ├── EvidenceError             evidence is missing or cannot be, or a test is asked for what it cannot tell
    └── StackError                a local process, port, folder or disk is not as it has to be

Each message says what was seen, what was allowed and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping


def first_line(error: BaseException) -> str:
    """The first line of somebody else's message, short enough for one of ours; the error's kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class HotcoldError(Exception):
    """Root of the hierarchy; catching it catches every error raised on purpose."""


class RequestError(HotcoldError):
    """A request that cannot be answered as asked.

    Args:
        detail: one sentence for the caller; never a path or a stack trace.
        field: name of the feature, tensor or header at fault, empty if none is.
        row: index of the record at fault, counted from 0, or None.
    """

    status = 400
    title = "Bad request"

    def __init__(self, detail: str, *, field: str = "", row: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.row = row


class MalformedBodyError(RequestError):
    """The body is not what its content type says."""

    title = "Malformed body"


class NotSignedError(RequestError):
    """A request that was not made, now, by who knows the secret. It does not say what is wrong: whoever asks may be guessing.

    Args:
        reason: what is wrong, for the log.
    """

    status = 403
    title = "Not signed"

    def __init__(self, reason: str) -> None:
        super().__init__("the request was not signed just now with this installation's secret; MLflow signs what it sends")
        self.reason = reason


class NotFoundError(RequestError):
    """No such model, version or path."""

    status = 404
    title = "Not found"


class BodyTooLargeError(RequestError):
    """More bytes or rows than one request may hold."""

    status = 413
    title = "Body too large"


class UnsupportedMediaError(RequestError):
    """A content type or encoding that is not spoken here."""

    status = 415
    title = "Unsupported media type"


class InvalidInputError(RequestError):
    """A value that breaks the model's schema."""

    status = 422
    title = "Invalid input"


class SchemaError(HotcoldError):
    """A feature schema that contradicts itself."""


class TrainingError(HotcoldError):
    """A model that cannot be trained on what was asked for."""


class PackageError(HotcoldError):
    """A package that cannot be built or used."""


class CorruptPackageError(PackageError):
    """A package whose bytes are not the ones that were built."""


class ParityError(PackageError):
    """An engine whose scores differ from the reference scores."""


class ReleaseError(HotcoldError):
    """A release that cannot do what was asked."""


class PlanError(ReleaseError):
    """A release plan that contradicts itself or has unknown keys."""


class ActiveReleaseError(ReleaseError):
    """Another release of the same model is under way."""


class NothingToUndoError(ReleaseError):
    """No earlier champion is warm, so there is nothing to go back to."""


class NothingToDecideError(ReleaseError):
    """No release of the model asks a person at the moment."""


class StaleControllerError(ReleaseError):
    """Somebody else moved the release on since it was read."""


class BatchError(HotcoldError):
    """A batch run that cannot be planned or carried out as asked."""


class BadInputError(BatchError):
    """Rows or files that cannot be scored; the message names them."""


class UnreachableInputError(BatchError):
    """An input file is not at fault, but the disk or network that it comes from; the same may work later."""


class ClusterError(BatchError):
    """The Dask cluster cannot be started, or was lost under way."""


class ScoresError(HotcoldError):
    """Score tables, or the pointer that tells readers which one to read, are not as they have to be."""


class ReadersBehindError(ScoresError):
    """Some readers of score tables do not see what they should; all others do.

    Args:
        failures: what went wrong, by output; by an empty text for the score store.
    """

    def __init__(self, failures: Mapping[str, str]) -> None:
        super().__init__("; ".join(failures.values()))
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[type[ReadersBehindError], tuple[Mapping[str, str]]]:
        return type(self), (self.failures,)


class ScoreStoreError(HotcoldError):
    """The score store cannot be read or written as asked."""


class NoScoresError(ScoreStoreError):
    """No table of the model is published in the score store, or the one that is cannot be used."""


class PredictionLogError(HotcoldError):
    """A log segment or archive of answers that cannot be read or made."""


class LabelError(HotcoldError):
    """Late labels that cannot be joined as asked, or a file of joined ones that is none."""


class RegistryError(HotcoldError):
    """The MLflow registry lacks something or cannot be reached."""


class DatabaseError(HotcoldError):
    """The release database cannot be reached or has another layout."""


class NoticeError(HotcoldError):
    """Neither a webhook nor a file took a notice; it is sent again later."""


class EdgeError(HotcoldError):
    """Envoy refused a configuration or did not confirm it."""


class EvidenceError(HotcoldError):
    """Evidence that is missing, damaged or contradicts itself, or a limit, level or share that no test can work with."""


class StackError(HotcoldError):
    """A local process, port, folder or disk is not as it has to be."""
