"""Names of every span, event and attribute.

Source: OpenTelemetry's semantic conventions, for HTTP servers (stable) and for generative AI (in
development, so that they stand here and nowhere else). What these do not name is under ``muai.``.
"""

from __future__ import annotations

SCOPE = "mm_orch"

# Spans, as a tree: request > route, queue, inference > prefill, decode. Those of a workflow stand
# below the span of the step that asked for them, and that below request, as the choice of the
# workflow does.
REQUEST = "request"
ROUTE = "route"
QUEUE = "queue"
INFERENCE = "inference"
PREFILL = "prefill"
DECODE = "decode"
STEP = "workflow.step"
WORKFLOW_ROUTE = "workflow.route"

# Events within spans.
EXCEPTION = "exception"
FAILOVER = "failover"

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACK = "exception.stacktrace"
OTHER_METHOD = "_OTHER"
"""What the convention calls a method that is none of HTTP's."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
OUR_PROVIDER = "muai"

REQUEST_ID = "muai.request.id"
STATUS = "muai.request.status"
MODEL = "muai.model"
ENGINE = "muai.engine"
BATCH_SIZE = "muai.batch.size"
CACHED_TOKENS = "muai.cached_tokens"
GENERATED_TOKENS = "muai.generated_tokens"
TTFT_S = "muai.ttft_s"
QUEUE_WAIT_S = "muai.queue.wait_s"
NUM_WAITING = "muai.queue.num_waiting"
NUM_RUNNING = "muai.queue.num_running"
FROM_ENGINE = "muai.failover.from_engine"
TO_ENGINE = "muai.failover.to_engine"
REASON = "muai.failover.reason"
WORKFLOW_NAME = "muai.workflow.name"
# Each of the two stands before .by, .reason, .alternatives and .ruled_out.
WORKFLOW_CHOICE = "muai.route.workflow"
MODEL_CHOICE = "muai.route.model"
CONFIDENCE = f"{WORKFLOW_CHOICE}.confidence"
STEP_NAME = "muai.workflow.step"
STEP_OUTCOME = "muai.workflow.step.outcome"
STEP_ATTEMPTS = "muai.workflow.step.attempts"
