"""Posts JSON to one address of somebody else's; its errors never name that address."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S = 10.0
_MAX_SHOWN_BYTES = 300
_SUCCESS = 2
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class DeliveryError(Exception):
    """A destination did not take what it was sent.

    Attributes:
        error_type: class name of what went wrong.
        may_retry: whether the same may be taken later.
    """

    def __init__(self, reason: str, *, error_type: str, may_retry: bool) -> None:
        super().__init__(reason)
        self.error_type = error_type
        self.may_retry = may_retry


class JsonPost:
    """One address and the connection to it, which is opened when first needed.

    Args:
        url: where to; it may hold a secret, so nothing said here repeats it.
        shows_answers: whether what the other side says of a refusal is passed on.
    """

    def __init__(
        self, url: str, *, timeout_s: float = _TIMEOUT_S, shows_answers: bool = False
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._shows_answers = shows_answers
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: object) -> None:
        """Send the body as JSON and see it accepted.

        Raises:
            DeliveryError: it was not; says whether it may be sent again.
        """
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s)
            )
        try:
            async with self._session.post(self._url, json=body, allow_redirects=False) as response:
                if response.status // 100 != _SUCCESS:
                    shown = await response.content.read(_MAX_SHOWN_BYTES)
                    self._refuse(response.status, shown.decode(errors="replace").strip())
        except TimeoutError as error:
            reason = f"no answer within {self._timeout_s:g} s"
            raise _failure(reason, error, may_retry=True) from None
        except aiohttp.InvalidURL as error:
            raise _failure("its address is not valid", error, may_retry=False) from None
        except (aiohttp.ClientError, OSError) as error:
            # Its own words may name the address; what the system says of the connection does not.
            reason = _system_words(error) or type(error).__name__
            raise _failure(reason, error, may_retry=True) from None

    async def aclose(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _refuse(self, status: int, answer: str) -> None:
        words = f": {answer}" if answer and self._shows_answers else ""
        raise DeliveryError(
            f"it answered {status}{words}",
            error_type=DeliveryError.__name__,
            may_retry=status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER,
        )


def _system_words(error: Exception) -> str:
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None) or 0
    # A name that cannot be resolved has a negative number and words without the name.
    return os.strerror(number) if number > 0 else str(getattr(inner, "strerror", None) or "")


def _failure(reason: str, error: Exception, *, may_retry: bool) -> DeliveryError:
    return DeliveryError(reason, error_type=type(error).__name__, may_retry=may_retry)
