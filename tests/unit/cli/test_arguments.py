from __future__ import annotations

import re
from pathlib import Path

import pytest

from mm_orch.benchmarking.objective import Objective
from mm_orch.cli.actions import Action
from mm_orch.cli.arguments import parse_arguments
from mm_orch.config.environment import path_by_variable


@pytest.mark.parametrize(
    ("words", "action"),
    [
        (["What?"], Action.QUERY),
        (["-"], Action.QUERY),
        (["--mode", "chat"], Action.CHAT),
        (["--server"], Action.SERVER),
        (["--serve"], Action.SERVER),
        (["--status"], Action.STATUS),
        (["--check-config"], Action.CHECK_CONFIG),
        (["--print-config"], Action.PRINT_CONFIG),
        (["--model-info"], Action.MODEL_INFO),
        (["--pull", "m"], Action.PULL),
        (["--remove", "m"], Action.REMOVE),
        (["--benchmark"], Action.BENCHMARK),
        (["--plan"], Action.PLAN),
        (["--test-alert"], Action.TEST_ALERT),
        ([], None),
        (["--verbose"], None),
    ],
)
def test_each_call_has_one_meaning(words: list[str], action: Action | None) -> None:
    assert parse_arguments(words).action is action


def test_everything_about_a_call_is_read() -> None:
    words = (
        "--model m --engine e --max-tokens 5 --temperature 0.5 --json --config c.yaml"
        " --host ::1 --port 0 --log-level debug --verbose"
    )

    arguments = parse_arguments(["What?", *words.split()])

    assert (arguments.query, arguments.model, arguments.engine) == ("What?", "m", "e")
    assert (arguments.max_tokens, arguments.temperature, arguments.json) == (5, 0.5, True)
    assert (arguments.config, arguments.host, arguments.port) == (Path("c.yaml"), "::1", 0)
    assert (arguments.log_level, arguments.verbose) == ("DEBUG", True)


def test_everything_about_a_benchmark_is_read() -> None:
    words = "--model m --benchmark-output d --benchmark-format csv --quick --url https://h:1/v1"

    arguments = parse_arguments(["--benchmark", *words.split(), "--objective", "ttft=5,itl=2.5"])

    assert arguments.model == "m"
    assert (arguments.benchmark_output, arguments.benchmark_format) == (Path("d"), "csv")
    assert (arguments.quick, arguments.url) == (True, "https://h:1/v1")
    assert arguments.objective == Objective(ttft_ms=5, itl_ms=2.5)


@pytest.mark.parametrize(
    ("words", "is_watched", "interval_s"),
    [("", False, 2.0), ("--watch", True, 2.0), ("--watch --json --interval 0.5", True, 0.5)],
)
def test_a_status_may_be_watched(words: str, is_watched: bool, interval_s: float) -> None:  # noqa: FBT001 - from the table
    arguments = parse_arguments(["--status", *words.split()])

    assert (arguments.watch, arguments.interval_s) == (is_watched, interval_s)


def test_a_dash_leaves_the_query_to_standard_input() -> None:
    assert parse_arguments(["-"]).query is None


def test_model_info_takes_a_name_or_none() -> None:
    assert parse_arguments(["--model-info"]).subject is None
    assert parse_arguments(["--model-info", "m"]).subject == "m"


def test_several_files_are_uploaded_at_once() -> None:
    assert parse_arguments(["--upload", "a.md", "b.pdf"]).uploads == (Path("a.md"), Path("b.pdf"))
    assert parse_arguments(["q"]).uploads == ()


def test_a_query_may_begin_with_a_dash_after_two() -> None:
    assert parse_arguments(["--", "--what?"]).query == "--what?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--max-tokens 0 q", "'0' is not allowed; give a whole number, 1 or more"),
        ("--max-tokens x q", "'x' is not allowed; give a whole number, 1 or more"),
        ("--max-tokens 1.5 q", "give a whole number"),
        ("--temperature 2.1 q", "'2.1' is not allowed; give a number from 0 to 2"),
        ("--temperature nan q", "give a number from 0 to 2"),
        ("--temperature -1 q", "'-1' is not allowed"),
        ("--port 65536 --server", "give a whole number from 0 to 65535"),
        ("--log-level loud q", "DEBUG"),
        ("--mode sing", "chat"),
        ("--nonsense q", "--nonsense is no option; see muai --help"),
        ("--sevrer", "--sevrer is no option; did you mean --server? All stand in muai --help"),
        ("--cluster auto hello", "--cluster goes with --server"),
        ("--serv", "--serv"),
        ("--status --workflow rag", "--workflow goes with a query or --mode chat"),
        ("What is this", 'put it in quotes, "What is this"'),
        ("--server --status", "--server and --status do not go together"),
        ("--test-alert --server", "--server and --test-alert do not go together"),
        ("--status q", "a query and --status do not go together"),
        ("--watch", "--watch goes with --status"),
        ("--server --watch", "--watch goes with --status"),
        ("--status --interval 1", "--interval goes with --status --watch"),
        ("--server --interval 1", "--interval goes with --status"),
        ("--status --watch --interval 0", "'0' is not allowed; give a number of seconds from 0.1"),
        ("--status --watch --interval nan", "give a number of seconds from 0.1 to 3600"),
        ("--status --model m", "--model goes with a query or --mode chat"),
        ("--server --model m", "first of monitoring.server.preload_models (environment MUAI_MON_"),
        ("--server --engine onnx", "set optimization.engine_preference (environment MUAI_OPT_"),
        ("--server --engine onnx", "ENGINE_PREFERENCE=onnx), for one of its models models.NAME."),
        ("--status --engine onnx", "--engine goes with a query or --mode chat\n"),
        ("--server --workflow rag_qa", "workflow_type of POST /api/query, or workflow/NAME as the"),
        ("--server --max-tokens 5", "each request to a server says max_tokens itself"),
        ("--server --temperature 0", "--temperature goes with a query or --mode chat; each "),
        ("--server --json", "for a server's log in JSON set system.log_format to json"),
        ("--mode chat --json", "--json goes with a query or --status or --model-info"),
        ("--status --traffic rate=1", "--traffic goes with --plan"),
        ("--benchmark --hardware l4", "--hardware goes with --plan"),
        ("--pull", "expected one argument"),
        ("--upload", "expected at least one argument"),
        ("--server --upload a.md", "--server and --upload do not go together"),
        ("--upload a.md --model m", "--model goes with a query or --mode chat"),
        ("--quick q", "--quick goes with --benchmark"),
        ("--server --url http://h:1", "--url goes with --benchmark or --plan; a server of your"),
        ("--status --benchmark-output d", "--benchmark-output goes with --benchmark"),
        ("--benchmark-format csv", "--benchmark-format goes with --benchmark"),
        ("--benchmark --benchmark-format xml", "'json', 'csv'"),
        ("--benchmark --url h:1", "give a server's address like http://127.0.0.1:8000"),
        ("--benchmark --url ftp://h:1", "'ftp://h:1' is not allowed"),
        ("--benchmark --objective fast", "'fast' is no bound; give one or more of ttft=MS"),
        ("--benchmark --objective ttft=0", "ttft='0' is no time"),
        ("--server --objective ttft=5", "--objective goes with --benchmark"),
        ("--benchmark --max-tokens 4", "--max-tokens goes with a query or --mode chat"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(words.split())

    assert end.value.code == 2
    stderr = capsys.readouterr().err
    assert said in stderr
    assert len(stderr.splitlines()) == 2


@pytest.mark.parametrize("option", ["--model", "--engine"])
def test_the_variable_that_a_server_is_told_to_set_sets_the_option_beside_it(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--server", option, "tiny"])

    [(key, variable)] = re.findall(r"(\S+) \(environment (\w+)", capsys.readouterr().err)
    assert ".".join(path_by_variable()[variable]) == key


@pytest.mark.parametrize("option", ["--model", "--engine", "--pull", "--remove", "--host"])
def test_an_empty_name_is_refused(option: str) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(["q", option, ""])

    assert end.value.code == 2
