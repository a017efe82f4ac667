"""A LangChain chain whose model is this server's: a prompt, the model, a parser; streamed.

usage: python examples/langchain_chain.py [URL]

URL is the server's, http://127.0.0.1:8000 by default. Needs `pip install langchain-openai`.
"""

from __future__ import annotations

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import SecretStr


def main() -> None:
    """Stream one answer, then answer two questions in one batch."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    model = ChatOpenAI(
        base_url=f"{url}/v1",
        api_key=SecretStr("none"),
        model="smollm2-135m",
        temperature=0,
        max_completion_tokens=48,
    )
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You answer in one short sentence."), ("user", "What is {thing}?")]
    )
    chain = prompt | model | StrOutputParser()

    for text in chain.stream({"thing": "machine learning"}):
        print(text, end="", flush=True)
    print()
    # Both are sent at once; the server computes them in one batch.
    for answer in chain.batch([{"thing": "a volcano"}, {"thing": "a glacier"}]):
        print(answer)


if __name__ == "__main__":
    main()
