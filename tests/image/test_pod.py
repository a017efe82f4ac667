"""The image runs as the manifests say: it answers, may do little, and ends as it promises."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest

from tests.available import require_program
from tests.image.pod import Pod, make_volume, play, podman, remove, try_podman

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.models.stored import StoredModel

# Enough to be asked for other things meanwhile.
NUM_TOKENS = 1000


@pytest.fixture(scope="module")
def image() -> str:
    name = os.environ.get("MUAI_IMAGE", "")
    if not name:
        pytest.skip("MUAI_IMAGE names no image; make test-image builds one and runs this")
    require_program("podman")
    return name


@pytest.fixture(scope="module")
def volume(image: str, builtin_model: StoredModel) -> Iterator[str]:
    assert image
    name = f"muai-{uuid.uuid4().hex[:8]}"
    make_volume(name, Path(builtin_model.directory))
    yield name
    podman("volume", "rm", "--force", name)


@pytest.fixture(scope="module")
def pod(image: str, volume: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    running = play(image, volume, tmp_path_factory.mktemp("pod"))
    yield running
    remove(running)


def test_the_pod_answers_an_official_client(pod: Pod) -> None:
    with pod.open_client() as client:
        answer = client.chat.completions.create(
            model="smollm2-135m", messages=[{"role": "user", "content": "Say hi."}], max_tokens=8
        )

    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8


def test_nobody_without_a_key_is_answered(pod: Pod) -> None:
    assert pod.get("/v1/models")[0] == 401


@pytest.mark.parametrize("path", ["/live", "/ready", "/health"])
def test_probes_are_answered_without_a_key(pod: Pod, path: str) -> None:
    assert pod.get(path)[0] == 200


def test_the_metrics_that_it_is_scaled_by_have_a_port_of_their_own(pod: Pod) -> None:
    status, text = pod.get("/metrics", port=pod.metrics_port)

    assert status == 200
    assert 'requests_waiting{model="smollm2-135m"}' in text
    assert 'kv_cache_usage_ratio{model="smollm2-135m"}' in text


def test_it_is_nobody_and_may_write_only_its_volumes(pod: Pod) -> None:
    assert pod.execute("id", "-u").stdout.strip() == "10001"
    assert "Read-only" in pod.execute("touch", "/app/x").stderr
    assert pod.execute("touch", "/data/x", "/tmp/x").returncode == 0  # noqa: S108
    status = pod.execute("cat", "/proc/1/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_what_its_hook_calls_is_there(pod: Pod) -> None:
    assert pod.execute("sleep", "0").returncode == 0


def test_the_images_own_health_check_passes(image: str, volume: str) -> None:
    [told] = json.loads(podman("image", "inspect", image))
    [kind, *command] = told["Healthcheck"]["Test"]
    name = f"muai-{uuid.uuid4().hex[:8]}"
    assert kind == "CMD"
    # Without a network, the image's own ports are free.
    options = ["--detach", "--network", "none", "--log-driver", "k8s-file"]
    podman("run", *options, "--name", name, "--volume", f"{volume}:/data", image)
    try:
        results = (try_podman("exec", name, *command) for _ in range(100))
        assert any(result.returncode == 0 for result in results)
    finally:
        podman("rm", "--force", "--time", "5", name)


def test_a_pod_that_is_told_to_end_finishes_its_answers_and_takes_no_more(
    image: str, volume: str, tmp_path: Path
) -> None:
    pod = play(image, volume, tmp_path)
    try:
        with pod.open_client() as client:
            stream = client.chat.completions.create(
                model="smollm2-135m",
                messages=[{"role": "user", "content": "Tell a story."}],
                max_tokens=NUM_TOKENS,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            next(stream)
            with pod.ending():
                pod.wait_until("/ready", 503)
                assert pod.get("/live")[0] == 200
                with pytest.raises(openai.InternalServerError) as refused:
                    client.completions.create(model="smollm2-135m", prompt="Hi", max_tokens=1)
                chunks = list(stream)
        code = podman("inspect", pod.container, "--format", "{{.State.ExitCode}}")
    finally:
        remove(pod)

    assert refused.value.status_code == 503
    assert refused.value.code == "draining"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == NUM_TOKENS
    assert code == "0"
