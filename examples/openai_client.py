"""Asks a server with OpenAI's own client: in one piece, streamed, and as JSON of a given shape.

usage: python examples/openai_client.py [URL]

URL is the server's, http://127.0.0.1:8000 by default. Needs `pip install openai`.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from openai import OpenAI

if TYPE_CHECKING:
    from openai.types.chat.completion_create_params import ResponseFormat

MODEL = "smollm2-135m"
CITY: ResponseFormat = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 30},
                "is_capital": {"type": "boolean"},
            },
            "required": ["name", "is_capital"],
            "additionalProperties": False,
        },
    },
}


def main() -> None:
    """Ask three times and print the answers."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    # Waits as long as Retry-After says and tries again where the server is full.
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5)

    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is machine learning?"}],
        max_tokens=32,
        temperature=0,
    )
    print(answer.choices[0].message.content)
    if answer.usage:
        print(f"{answer.usage.completion_tokens} tokens")

    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Why is the sky blue?"}],
        max_tokens=48,
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    shaped = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe the city of Tokyo as JSON."}],
        response_format=CITY,
        temperature=0,
    )
    print(json.loads(shaped.choices[0].message.content or ""))


if __name__ == "__main__":
    main()
