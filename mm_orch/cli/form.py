"""Writes the form in which a file is sent."""

from __future__ import annotations

import uuid


def write_form(name: str, content: bytes) -> tuple[bytes, str]:
    """Return a form with a file, and its Content-Type (RFC 7578, names in UTF-8)."""
    boundary = uuid.uuid4().hex
    plain = name.replace("\\", r"\\").replace('"', r"\"")
    plain = plain.replace("\r", "%0D").replace("\n", "%0A")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{plain}"\r\n\r\n'
    )
    form = b"".join([head.encode(errors="replace"), content, f"\r\n--{boundary}--\r\n".encode()])
    return form, f"multipart/form-data; boundary={boundary}"
