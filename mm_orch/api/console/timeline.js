// Cuts a request's time into phases; knows nothing of pages.

export const PHASES = {
  prepare: "Prepare",
  start: "Wait for the worker",
  queue: "Queue",
  prefill: "Prefill",
  decode: "Decode",
  deliver: "Hand over",
};

/**
 * Returns what each worker did of a request. Where that was not noted, as of a server elsewhere,
 * the request's own times tell of one.
 */
export function attemptsOf(request) {
  if (request.attempts.length > 0 || request.queue_wait_s === null) return request.attempts;
  const attempt = {
    engine: request.engine,
    submitted_s: request.routed_s ?? 0,
    started_s: request.queue_wait_s,
    first_token_s: request.ttft_s,
    ended_s: request.total_s,
    num_tokens: request.num_generated_tokens,
    num_cached_tokens: request.num_cached_tokens,
    max_batch_size: 0,
    error: "",
  };
  return [attempt];
}

/**
 * Returns what came before a request's first step, in seconds: {prepared, absent, queued}. Absent
 * was the model's worker, that was being loaded or started again.
 */
export function waitsOf(request) {
  const attempts = attemptsOf(request);
  const [first] = attempts;
  const hasRun = attempts.some((attempt) => attempt.started_s !== null);
  const end = request.queue_wait_s ?? first?.started_s ?? (hasRun ? 0 : request.total_s);
  const prepared = Math.min(request.routed_s ?? 0, end);
  const submitted = Math.min(Math.max(first?.submitted_s ?? prepared, prepared), end);
  const gated = Math.min(request.gate_wait_s, submitted - prepared);
  return { prepared, absent: submitted - prepared - gated, queued: end - submitted + gated };
}

/**
 * Returns one lane for each attempt: [{engine, error, attempt, phases: [{kind, start, end}]}],
 * in seconds after the request's begin. A request that no worker got has one lane that waits.
 */
export function lanesOf(request) {
  const { total_s: total } = request;
  const attempts = attemptsOf(request);
  if (attempts.length === 0) {
    return [{ engine: request.engine, error: "", attempt: null, phases: waitBefore(request, total, "queue") }];
  }
  return attempts.map((attempt, index) => {
    const before = index === 0 ? waitBefore(request, attempt.submitted_s, "start") : [];
    const isLast = index === attempts.length - 1;
    const after = isLast ? [{ kind: "deliver", start: attempt.ended_s, end: total }] : [];
    const phases = [...before, ...phasesOf(attempt), ...after].filter(({ start, end }) => end > start);
    return { engine: attempt.engine, error: attempt.error, attempt, phases };
  });
}

function waitBefore(request, end, kind) {
  const routed = Math.min(request.routed_s ?? 0, end);
  const passed = Math.min(routed + request.gate_wait_s, end);
  return [
    { kind: "prepare", start: 0, end: routed },
    { kind: "queue", start: routed, end: passed },
    { kind, start: passed, end },
  ].filter((phase) => phase.end > phase.start);
}

function phasesOf(attempt) {
  const { submitted_s: submitted, started_s: started, first_token_s: first, ended_s: ended } = attempt;
  return [
    { kind: "queue", start: submitted, end: started ?? ended },
    started !== null && { kind: "prefill", start: started, end: first ?? ended },
    first !== null && { kind: "decode", start: first, end: ended },
  ].filter(Boolean);
}

/** Round places on the axis, at most about six. */
export function ticksOf(total) {
  if (!(total > 0)) return [0];
  const rough = total / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let index = 0; index * step <= total * 1.0001; index += 1) ticks.push(index * step);
  return ticks;
}
