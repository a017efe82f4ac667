"""A conversation of five turns, and how much of each prompt the server had computed before.

usage: python examples/multi_turn.py [URL]

URL is the server's, http://127.0.0.1:8000 by default. Needs `pip install openai`. Each turn sends
the whole conversation again, as OpenAI's API wants it; what it shares with an earlier prompt is
read from the KV cache.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from openai import OpenAI

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

QUESTIONS = (
    "I want to see a volcano. Which country should I go to?",
    "What should I take with me?",
    "How long should I stay?",
    "What will the weather be like?",
    "Say all that in one sentence.",
)


def main() -> None:
    """Hold the conversation and print a line a turn, then the total."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5)
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You are a friendly guide. You answer in two sentences."}
    ]
    num_prompt_tokens = num_cached_tokens = 0
    print("turn  prompt tokens  of the cache")
    for turn, question in enumerate(QUESTIONS, start=1):
        messages.append({"role": "user", "content": question})
        answer = client.chat.completions.create(
            model="smollm2-135m", messages=messages, max_tokens=48, temperature=0
        )
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        usage = answer.usage
        if usage is None or usage.prompt_tokens_details is None:
            sys.exit("The server tells no usage; is it another one?")
        num_cached = usage.prompt_tokens_details.cached_tokens or 0
        print(f"{turn:4}  {usage.prompt_tokens:13}  {num_cached:12}")
        num_prompt_tokens += usage.prompt_tokens
        num_cached_tokens += num_cached
    print(
        f"{num_cached_tokens / num_prompt_tokens:.0%} of all prompt tokens were not computed again"
    )


if __name__ == "__main__":
    main()
