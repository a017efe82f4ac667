"""Says how many replicas a load needs, with which limits, and what holds them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.benchmarking.objective import DEFAULT_OBJECTIVE
from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.benchmark_subject import open_subject
from mm_orch.cli.progress import make_progress
from mm_orch.cli.unknown_model import unknown_model
from mm_orch.cli.words import name_latency, name_ratio, name_size
from mm_orch.core.errors import InvalidValueError
from mm_orch.models.store import ModelStore
from mm_orch.planning.capacity import GOOD_RATIO, Site, make_plan
from mm_orch.planning.hardware import MACHINE, change_hardware, find_gpu, split_option
from mm_orch.planning.measuring import measure_server
from mm_orch.planning.model_shape import ModelShape
from mm_orch.planning.probe import probe_machine
from mm_orch.planning.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.benchmarking.objective import Objective
    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import Config, LoadedConfig
    from mm_orch.planning.capacity import CapacityPlan
    from mm_orch.planning.hardware import Hardware

_BYTES_PER_MIB = 1 << 20


def print_plan(loaded: LoadedConfig, arguments: Arguments) -> int:
    """Print the plan; return 0, 1 where no number of replicas keeps the objective, 2 wrong usage.

    Raises:
        MuAIError: the model cannot be fetched, or the server cannot be measured.
    """
    try:
        return _print_plan(loaded, arguments)
    except InvalidValueError as error:
        terminal.complain(str(error))
        return exit_codes.USAGE


def _print_plan(loaded: LoadedConfig, arguments: Arguments) -> int:
    options = arguments.plan
    traffic = Traffic.parse(options.traffic or "")
    objective = arguments.objective or DEFAULT_OBJECTIVE
    shape = (
        ModelShape.parse(options.model_shape)
        if options.model_shape is not None
        else _configured_shape(loaded.config, arguments.model)
    )
    hardware = _find_hardware(options.hardware)
    site, origin = _find_site(loaded, arguments, shape, hardware)
    plan = make_plan(site, traffic, objective)
    if arguments.json:
        terminal.say_json(
            {
                "model": shape.name,
                "hardware": hardware.words,
                "costs": origin,
                "traffic": traffic.words,
                "objective": objective.words,
                **msgspec.to_builtins(plan),
            }
        )
    else:
        terminal.say(f"Plan for {shape.name}; {origin}")
        for line in _lines(plan, traffic, objective):
            terminal.say(line)
    if plan.is_met:
        return exit_codes.DONE
    terminal.complain(
        f"the objective ({objective.words}) is kept by {name_ratio(plan.expected.good_ratio)} of"
        " the requests however many replicas there are: take faster hardware or a smaller model,"
        " or ask for less."
    )
    return exit_codes.FAILED


def _find_hardware(option: str | None) -> Hardware:
    name, fields = split_option(option or MACHINE)
    hardware = find_gpu(name) or probe_machine()
    return change_hardware(hardware, fields) if fields else hardware


def _configured_shape(config: Config, wanted: str | None) -> ModelShape:
    """Read a configured model's files, fetched where they are not there yet."""
    spelling = wanted or config.default_model_name
    name = config.model_name_by_spelling.get(spelling)
    if name is None:
        raise unknown_model(config, spelling, remedy="Or give --model-shape.")
    model = config.models[name]
    store = ModelStore(config.system.data_directory, progress=make_progress())
    return ModelShape.of(store.ensure(name, model.source, with_code=model.trust_remote_code))


def _find_site(
    loaded: LoadedConfig, arguments: Arguments, shape: ModelShape, hardware: Hardware
) -> tuple[Site, str]:
    """Return what a replica offers, and how that is known."""
    kv_bytes_per_token = shape.count_kv_bytes(hardware.kv_element_bytes)
    num_bytes = shape.count_kv_tokens(hardware) * kv_bytes_per_token
    if arguments.plan.hardware is None:
        # A server on a machine like this one takes no more than it is configured to.
        configured = loaded.config.optimization.cache.max_memory_mb * _BYTES_PER_MIB
        num_bytes = min(num_bytes, configured or shape.context_length * kv_bytes_per_token)
    kv_tokens = num_bytes // kv_bytes_per_token
    if not kv_tokens:
        raise InvalidValueError(
            f"--hardware: {hardware.name} has {name_size(int(hardware.memory_bytes))} for a model,"
            f" and the weights of {shape.name} take {name_size(int(shape.weight_bytes))}; give"
            " hardware with more memory"
        )
    if arguments.url is None:
        costs = shape.on(hardware)
        site = Site(costs=costs, kv_tokens=kv_tokens, kv_bytes_per_token=kv_bytes_per_token)
        return site, f"by the roofline of {hardware.name}: {hardware.words}"
    with open_subject(loaded, arguments) as subject:
        measured = measure_server(subject.target, subject.count_tokens, make_progress())
    site = Site(
        costs=measured.costs,
        kv_tokens=kv_tokens,
        kv_bytes_per_token=kv_bytes_per_token,
        overhead_s=measured.overhead_s,
    )
    distance = name_ratio(measured.residual_ratio)
    return site, f"by steps measured at {arguments.url} (median distance from the fit {distance})"


def _lines(plan: CapacityPlan, traffic: Traffic, objective: Objective) -> Iterator[str]:
    expected = plan.expected
    yield f"Traffic: {traffic.words}"
    yield f"Objective for {GOOD_RATIO:.0%} of the requests: {objective.words}"
    replicas = f"{plan.num_replicas} replica{'s' * (plan.num_replicas > 1)}"
    load = (
        f"{replicas}, {plan.load_ratio:.0%} loaded (one answers at most"
        f" {plan.capacity_per_s:.3g} requests/s)"
    )
    if plan.is_met:
        yield f"Needed: {load}; one more keeps the objective while one restarts"
    else:
        yield f"No number of replicas keeps the objective; what follows is of {load}"
    yield f"  optimization.batcher.max_batch_size: {plan.max_batch_size} (by {plan.batch_bound})"
    yield f"  optimization.batcher.max_batch_tokens: {plan.max_batch_tokens}"
    mib = -(-plan.kv_bytes // _BYTES_PER_MIB)
    yield f"  optimization.cache.max_memory_mb: {mib} for a full batch; more keeps prompts to reuse"
    yield f"  monitoring.server.queue_capacity: {plan.queue_capacity}, all replicas together"
    yield (
        f"Expected: first token after {name_latency(expected.ttft.p50_s)} (p95"
        f" {name_latency(expected.ttft.p95_s)}), a token every"
        f" {name_latency(expected.time_per_token.p50_s)} (p95"
        f" {name_latency(expected.time_per_token.p95_s)}), whole answer after"
        f" {name_latency(expected.total.p50_s)} (p95 {name_latency(expected.total.p95_s)})"
    )
    yield (
        f"  {expected.batch_size:.1f} sequences in a step, {name_ratio(expected.cached_ratio)} of"
        f" prompt tokens reused, {name_ratio(expected.good_ratio)} of requests within the objective"
    )
    if plan.bottleneck is None:
        yield "Bottleneck: none; twice as much of any one thing would serve no more requests"
    else:
        yield (
            f"Bottleneck: {plan.bottleneck}; twice as much, or twice as fast, would serve"
            f" {plan.gain:.2g} times as many requests"
        )
