"""The kinds of values that options take, each with its limits and the words that state them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict

from mm_orch.core.endpoints import find_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_INT = 2**63 - 1
"""No option means anything beyond what native code can count."""

_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_URL_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_ENGINE_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*")
_CLUSTER = re.compile(r"auto|([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}")
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,4})?")
_RANGE = re.compile(r"([0-9]{1,3})-([0-9]{1,3})", re.ASCII)
_SOURCE = re.compile(
    r"hf:[\w.-]+/[\w.-]+(@[\w./-]+)?"
    r"|path:.+"
    r"|pypi:[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+#\w[\w.-]*(/\w[\w.-]*)*",
    re.ASCII,
)
ENGINE_NAMES = ("vllm", "deepspeed", "openvino", "onnx", "pytorch")
_RESERVED_MODEL_NAME = "auto"
# What follows is the name of a workflow.
_RESERVED_MODEL_PREFIX = "workflow/"


@dataclass(frozen=True, slots=True)
class Allowed:
    """States in words which values a type takes, where its structure does not say it.

    Attributes:
        known: values that are likely to be meant, for suggestions.
    """

    words: str
    known: tuple[str, ...] = ()


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return False


def _is_origin(text: str) -> bool:
    if text == "*":
        return True
    if not _is_http_url(text):
        return False
    parts = urlsplit(text)
    return text == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc


def _is_source(text: str) -> bool:
    scheme, _, rest = text.partition(":")
    if scheme != "openai":
        return bool(_SOURCE.fullmatch(text))
    # The name alone: the servers are in endpoints.
    return _is_http_url(rest) or (rest.startswith("#") and len(rest) > 1)


def _is_ip_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _is_model_name(text: str) -> bool:
    is_reserved = text == _RESERVED_MODEL_NAME or text.startswith(_RESERVED_MODEL_PREFIX)
    return bool(_MODEL_NAME.fullmatch(text)) and not is_reserved


def is_header_safe(text: str) -> bool:
    """Whether an HTTP header can carry the text as one word."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


# How --print-config shows a key: printed and loaded again, it must not become one that is good.
_MASK = "***"


def read_range(text: str) -> tuple[int, int]:
    """Return the fewest and the most that a range such as 1-4 permits.

    Raises:
        ValueError: it is none, or none that replicas may have.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    least, most = map(int, found.groups())
    if not 1 <= least < most <= MAX_REPLICAS:
        raise ValueError(text)
    return least, most


def _check_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if not is_header_safe(value) or value.startswith(_MASK):
        raise ValueError
    return key


_DATABASE_SCHEMES = ("postgresql://", "postgres://")


def _check_database(url: SecretStr | None) -> SecretStr | None:
    if url is None:
        return None
    value = url.get_secret_value()
    # Of hosts there may be several, or none: the rest is the library's to read.
    if not (value.startswith(_DATABASE_SCHEMES) and value.isprintable() and " " not in value):
        raise ValueError
    return url


def _none_of_empty(value: Any) -> Any:
    # A variable that is not set is often passed on as an empty one.
    return None if value == "" else value


def _check(is_allowed: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        if not (text and text.isprintable() and is_allowed(text)):
            raise ValueError
        return text

    return AfterValidator(check)


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _unwrap_auto(value: Any) -> Any:
    return "auto" if value == ["auto"] else value


AtLeastOne = Annotated[int, Field(ge=1, le=LARGEST_INT)]
MAX_REPLICAS = 64
Replicas = Annotated[
    Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
    | Literal["auto"]
    | Annotated[str, _check(read_range)],
    Allowed(f"a whole number from 1 to {MAX_REPLICAS}, a range such as 1-4, or auto"),
]
AtLeastZero = Annotated[int, Field(ge=0, le=LARGEST_INT)]
WholeNumber = Annotated[int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
Port = Annotated[int, Field(ge=0, le=65535)]
Ratio = Annotated[float, Field(ge=0, le=1)]
PositiveRatio = Annotated[float, Field(gt=0, le=1)]
Percentage = Annotated[float, Field(gt=0, le=100)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]

Text = Annotated[str, _check(lambda _: True), Allowed("text of printable characters")]
FilePath = Annotated[str, _check(lambda _: True), Allowed("a path")]
Host = Annotated[str, _check(_HOST.fullmatch), Allowed("a host name or an IP address")]
ClusterAddress = Annotated[
    str, _check(_CLUSTER.fullmatch), Allowed("auto, or HOST:PORT of a Ray cluster")
]
UrlPath = Annotated[
    str, _check(_URL_PATH.fullmatch), Allowed("a path that starts with / (letters, digits, ._~-/)")
]
HttpUrl = Annotated[
    str, _check(_is_http_url), Allowed("a URL that starts with http:// or https://")
]
Origin = Annotated[
    str,
    _check(_is_origin),
    Allowed("* or scheme://host[:port] with nothing after it"),
]
SecretKey = Annotated[
    SecretStr,
    AfterValidator(_check_key),
    Allowed("ASCII letters, digits and signs, no spaces, no *** first (a masked key)"),
]
DatabaseUrl = Annotated[
    SecretStr | None,
    BeforeValidator(_none_of_empty),
    AfterValidator(_check_database),
    Allowed("a URL postgresql://USER:PASSWORD@HOST:PORT/DATABASE without spaces, or null"),
]
ProviderName = Annotated[
    str,
    _check(_ENGINE_NAME.fullmatch),
    Allowed(
        "a search provider's name (small letters, digits, _ and -)", known=("recorded", "searxng")
    ),
]
Device = Annotated[str, _check(_DEVICE.fullmatch), Allowed("auto, cpu, cuda or cuda:N")]
ModelName = Annotated[
    str,
    _check(_is_model_name),
    Allowed(
        "a model's name (letters, digits and ._:-/, a letter or digit first, not 'auto', no"
        " 'workflow/' first)"
    ),
]
EngineName = Annotated[
    str,
    _check(lambda text: _ENGINE_NAME.fullmatch(text) and text != "auto"),
    Allowed("an engine's name (small letters, digits, _ and -)", known=ENGINE_NAMES),
]
Source = Annotated[
    str,
    _check(_is_source),
    Allowed(
        "hf:ORG/NAME[@REV], path:DIR_OR_GGUF, pypi:DIST==VERSION#FOLDER_OR_FILE, openai:URL or"
        " openai:#NAME"
    ),
]
EndpointEntry = Annotated[
    str,
    _check(find_endpoints),
    Allowed(
        "http[s]://HOST[:PORT], dns:http[s]://NAME[:PORT], srv:http[s]://_SERVICE._PROTOCOL.NAME or"
        " kubernetes:http[s]://SERVICE[.NAMESPACE][:PORT], without a user's name"
    ),
]
IpAddress = Annotated[str, _check(_is_ip_address), Allowed("an IP address")]

# A YAML list is a Python list; the model holds it as a tuple, which strict mode would refuse.
_AsTuple = Strict(strict=False)
Texts = Annotated[tuple[Text, ...], _AsTuple]
ModelNames = Annotated[tuple[ModelName, ...], _AsTuple]
Hosts = Annotated[tuple[Host, ...], _AsTuple]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], _AsTuple, Field(min_length=1)]
Origins = Annotated[tuple[Origin, ...], _AsTuple]
EndpointEntries = Annotated[tuple[EndpointEntry, ...], _AsTuple]
EngineNames = Annotated[tuple[EngineName, ...], _AsTuple, Field(min_length=1)]
EnginePreference = Annotated[
    EngineNames | Literal["auto"] | None,
    BeforeValidator(_unwrap_auto),
    Allowed(
        "a list of engine names (vllm, deepspeed, openvino, onnx, pytorch or a plug-in's),"
        " or auto, or null"
    ),
]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]
Dtype = Literal["auto", "fp32", "bf16", "fp16", "int8", "int4"]
