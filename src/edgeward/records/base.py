"""What every record shares: immutability, keyword construction and the field types with meaning."""

from datetime import datetime
from typing import Annotated, dataclass_transform

from msgspec import Meta, Struct, field


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Record(Struct, frozen=True, kw_only=True):
    """Travels between machines. Unknown fields are ignored, so old readers accept new writers."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Written by a person. Unknown fields are refused, so a typing slip is caught at once."""


Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
"""Names bytes by their content. Records hold digests, never paths."""

Instant = Annotated[datetime, Meta(tz=True)]
"""A moment in UTC; a datetime without a zone is refused."""

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class Descriptor(Record):
    """Some bytes: what they are, how many, and their digest (the OCI content descriptor)."""

    media_type: str
    digest: Digest
    size_bytes: Bytes
