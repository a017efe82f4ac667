"""Answers a file of questions, several at a time; goes on where it was stopped.

usage: python examples/batch_job.py QUESTIONS ANSWERS [--url URL] [--at-once N]

QUESTIONS has a JSON object a line: {"id": "1", "question": "..."}. ANSWERS gets one a line as each
is answered: {"id": "1", "answer": "..."}, or {"id": "1", "error": "..."}. What ANSWERS has an
answer to is not asked again. Needs `pip install openai`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TextIO

from openai import AsyncOpenAI, OpenAIError


def main() -> int:
    """Answer what has no answer yet; return 1 where some could not be answered."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--at-once", type=int, default=8, metavar="N")
    options = parser.parse_args()
    try:
        questions = read_questions(options.questions)
        kept = keep_answers(options.answers) if options.answers.exists() else set()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    todo = [one for one in questions if one[0] not in kept]
    print(f"{len(todo)} of {len(questions)} to answer", file=sys.stderr)
    with options.answers.open("a", encoding="utf-8") as file:
        num_failed = asyncio.run(answer_all(todo, file, options.url, options.at_once))
    print(f"{len(todo) - num_failed} answered, {num_failed} failed", file=sys.stderr)
    return 1 if num_failed else 0


def read_questions(path: Path) -> list[tuple[str, str]]:
    """Return the id and the question of each line.

    Raises:
        OSError, ValueError: the file cannot be read, or one of its lines is none.
    """
    questions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            one = json.loads(line)
            questions.append((str(one["id"]), str(one["question"])))
        except (ValueError, KeyError, TypeError) as error:
            message = f'must be like {{"id": "1", "question": "..."}}, not {line!r}'
            raise ValueError(f"{path}, line {number}: {message}") from error
    return questions


def keep_answers(path: Path) -> set[str]:
    """Return whose answers a file has, and leave only those in it.

    Errors are asked again, and so is a last line that was cut off when the job was stopped.
    """
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    kept = [line for line in whole if "answer" in json.loads(line)]
    written = path.with_name(f"{path.name}.new")
    written.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    written.replace(path)
    return {json.loads(line)["id"] for line in kept}


async def answer_all(todo: list[tuple[str, str]], file: TextIO, url: str, at_once: int) -> int:
    """Write an answer to each as soon as there is one; return how many failed."""
    places = asyncio.Semaphore(at_once)
    # It obeys Retry-After; what is refused because the server is full is asked again.
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=10) as client:

        async def answer(name: str, question: str) -> bool:
            async with places:
                try:
                    reply = await client.chat.completions.create(
                        model="smollm2-135m",
                        messages=[{"role": "user", "content": question}],
                        max_tokens=64,
                        temperature=0,
                    )
                except OpenAIError as error:
                    result: dict[str, str | None] = {"id": name, "error": str(error)}
                else:
                    result = {"id": name, "answer": reply.choices[0].message.content}
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
            file.flush()
            return "answer" in result

        return (await asyncio.gather(*(answer(*one) for one in todo))).count(False)


if __name__ == "__main__":
    sys.exit(main())
