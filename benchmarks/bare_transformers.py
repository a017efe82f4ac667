"""The script that a user would write without us: load, template, generate, stream.

usage: bare_transformers.py MODEL_DIRECTORY QUESTION
"""

from __future__ import annotations

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer


def main() -> None:
    """Stream an answer to standard output."""
    directory, question = sys.argv[1:3]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    streamer = TextStreamer(tokenizer, skip_prompt=True)
    model.generate(**prompt, max_new_tokens=16, do_sample=False, streamer=streamer)


if __name__ == "__main__":
    main()
