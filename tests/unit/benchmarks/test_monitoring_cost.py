"""What the benchmark of monitoring makes of its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from benchmarks import monitoring_collectors, monitoring_on_off
from benchmarks.monitored_servers import ECHO
from benchmarks.monitoring_collectors import CLOSED, COLLECTORS, HANGING, LIVE, Collected, Memory
from benchmarks.monitoring_on_off import MODEL, OFF, ON, OnOff
from benchmarks.rounds import Comparison
from benchmarks.servers import otlp_sink
from benchmarks.statistics import Ratio, Verdict, judge_not_above, judge_same
from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.server_process import free_port
from mm_orch.benchmarking.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def rounds_of(
    total_s: Mapping[str, float], cpu_s: Mapping[str, Sequence[float]] | None = None
) -> Comparison:
    """Three rounds in which each request of a contender took so long, and each run so much."""
    comparison = Comparison()
    for name, one_s in total_s.items():
        record = RequestRecord(
            session=0, turn=0, begin_s=0.0, pieces_s=(one_s / 2, one_s), end_s=one_s
        )
        run = RunRecord(
            workload="w", load="l", requests=(record,), wall_s=one_s, generator_cpu_s=0.0
        )
        comparison.summaries[name] = [summarise(run)] * 3
        comparison.cpu_s[name] = list((cpu_s or {}).get(name, [1.0] * 3))
    return comparison


@pytest.mark.parametrize(
    ("low", "high", "is_same", "is_not_above"),
    [
        (0.98, 1.02, Verdict.MET, Verdict.MET),
        (1.001, 1.02, Verdict.MISSED, Verdict.MISSED),
        (0.9, 0.99, Verdict.MISSED, Verdict.MET),
    ],
)
def test_a_difference_is_shown_when_the_interval_excludes_one(
    low: float, high: float, is_same: Verdict, is_not_above: Verdict
) -> None:
    ratio = Ratio(median=(low + high) / 2, low=low, high=high, num_pairs=11)

    assert judge_same(ratio) is is_same
    assert judge_not_above(ratio, 1.0) is is_not_above


@pytest.mark.parametrize(
    ("cpu_s", "on_s", "verdicts"),
    [
        ([1.01] * 3, 1.0, [Verdict.MET, Verdict.MET]),
        ([1.00, 1.01, 1.03], 1.0, [Verdict.NOT_SHOWN, Verdict.MET]),
        ([1.03] * 3, 1.01, [Verdict.MISSED, Verdict.MISSED]),
    ],
)
def test_processor_time_and_throughput_are_judged_with_the_model(
    cpu_s: list[float], on_s: float, verdicts: list[Verdict]
) -> None:
    comparison = rounds_of({OFF: 1.0, ON: on_s}, {ON: cpu_s})
    measured = {MODEL: OnOff(engine="openvino", by_streams={8: comparison})}

    told = monitoring_on_off.note_on_off({}, measured)

    assert told == dict(zip(["model_8_cpu", "model_8_throughput"], verdicts, strict=True))
    [row] = monitoring_on_off.rows_of(measured)
    assert len(row) == len(monitoring_on_off.HEAD)
    assert [row[5], row[9]] == [verdict.value for verdict in verdicts]


def test_the_echo_engine_tells_microseconds_without_a_bar() -> None:
    comparison = rounds_of({OFF: 1.0, ON: 1.0}, {OFF: [0.001] * 3, ON: [0.0011, 0.00164, 0.002]})
    measured = {ECHO: OnOff(engine="echo", notes={"num_pairs": 3}, by_streams={32: comparison})}
    figures: dict[str, object] = {}

    assert monitoring_on_off.note_on_off(figures, measured) == {}
    assert figures["echo_32_off_cpu_us_per_request"] == 1000.0
    assert figures["echo_32_added_cpu_us_per_request"] == 640.0
    assert figures["echo_32_added_cpu_us_per_token"] == 10.0
    assert figures["echo_num_pairs"] == 3
    assert monitoring_on_off.rows_of(measured)[0][5] == ""


def test_a_waiting_server_that_computes_is_a_fault() -> None:
    one = OnOff(engine="openvino", by_streams={8: Comparison(idle_cpu_share=0.2, faults=["odd"])})

    one.note_faults()

    assert one.faults == ["odd", "openvino, 8 streams: who waited took 20% of a core"]


def collected(*, hanging_s: float = 1.0, growth_mib: float = 0.0, stop_s: float = 0.3) -> Collected:
    names = (monitoring_collectors.OFF, *COLLECTORS)
    memory = {name: Memory(first_mib=100.0, last_mib=101.0, stop_s=0.3) for name in names}
    memory[HANGING] = Memory(first_mib=100.0, last_mib=101.0 + growth_mib, stop_s=stop_s)
    latency = rounds_of(dict.fromkeys(names, 1.0) | {HANGING: hanging_s})
    return Collected(latency=latency, memory=memory, num_spans=6)


@pytest.mark.parametrize(
    ("measured", "missed"),
    [
        (collected(), set()),
        (
            collected(hanging_s=1.1),
            {f"hanging_{figure}" for figure in monitoring_collectors._FIGURES},
        ),
        (collected(growth_mib=16.5), {"hanging_memory"}),
        (collected(stop_s=40.0), {"hanging_stop"}),
    ],
)
def test_a_silent_collector_is_held_against_no_tracing(
    measured: Collected, missed: set[str]
) -> None:
    verdicts = monitoring_collectors.note_collectors({}, measured)

    assert {name for name, verdict in verdicts.items() if verdict is not Verdict.MET} == missed
    assert f"{CLOSED}_ttft_p95_s" in verdicts
    assert f"{LIVE}_ttft_p95_s" not in verdicts


def test_the_rows_name_every_collector() -> None:
    measured = collected(growth_mib=16.5)

    rows = monitoring_collectors.rows_of(measured.latency)
    memory_rows = monitoring_collectors.memory_rows_of(measured.memory)

    assert {len(row) for row in rows} == {len(monitoring_collectors.HEAD)}
    assert rows[0] == (LIVE, "ttft_p50_s", "0.5", "0.5", "1 (1 to 1)", "")
    assert memory_rows[0] == ("no_tracing", "100.0", "101.0", "1.0", "", "0.30", "")
    assert memory_rows[-1] == (HANGING, "100.0", "117.5", "17.5", "missed", "0.30", "met")


def test_the_sink_counts_spans() -> None:
    sink, address = otlp_sink.Sink(), f"127.0.0.1:{free_port()}"
    request = wire.ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(3):
        spans.add()
    server = otlp_sink.start(sink, address)
    try:
        with grpc.insecure_channel(address) as channel:
            TraceServiceStub(channel).Export(request)
    finally:
        server.stop(None).wait()

    assert sink.num_spans == 3
