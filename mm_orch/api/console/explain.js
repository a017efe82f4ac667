// Finds why a request took as long as it did; knows nothing of pages.

import { attemptsOf, waitsOf } from "./timeline.js";
import { formatCount, formatSeconds, plural } from "./words.js";

// A part that takes less of the whole than this is no reason.
const WAIT_SHARE = 0.2;
const PREFILL_SHARE = 0.25;
const SHARED_DECODE_SHARE = 0.3;
const DELIVER_SHARE = 0.3;
const DECODE_SHARE = 0.5;
// A loss that took this much comes first, also where the answer itself took longer.
const FAILOVER_SHARE = 0.1;
// Fewer computed tokens make no long prompt, fewer generated ones no long answer.
const LONG_PROMPT_TOKENS = 256;
const LONG_ANSWER_TOKENS = 64;
// Where the server does not say how many sequences a batch holds.
const MANY_SEQUENCES = 8;

/**
 * Returns all reasons: [{kind, seconds, sentence}]. A failover that took its share of the time
 * comes first, then that with the most seconds.
 * Kinds: wait, start, prepare, prefill, failover, batch, decode, deliver.
 * maxBatchSize is how many sequences the model's batch holds, null where unknown.
 */
export function explain(told, maxBatchSize = null) {
  if (!(told.total_s > 0)) return [];
  const request = { ...told, attempts: attemptsOf(told) };
  const isLoss = ({ kind, seconds }) => kind === "failover" && seconds >= FAILOVER_SHARE * request.total_s;
  return [
    ...findWait(request, maxBatchSize),
    ...findPrefill(request),
    ...findFailovers(request),
    ...findDecode(request, maxBatchSize),
    ...findDelivery(request),
  ].sort((a, b) => isLoss(b) - isLoss(a) || b.seconds - a.seconds);
}

/** One sentence, also where nothing stands out. */
export function summarize(request, maxBatchSize = null) {
  const [first] = explain(request, maxBatchSize);
  if (first) return first.sentence;
  return `Nothing stands out: all of it took ${formatSeconds(request.total_s)}.`;
}

function findWait(request, maxBatchSize) {
  const total = request.total_s;
  const { prepared, absent, queued } = waitsOf(request);
  const found = [];
  if (prepared >= WAIT_SHARE * total) {
    found.push({
      kind: "prepare",
      seconds: prepared,
      sentence: `Preparing the prompt took ${formatSeconds(prepared)} of ${formatSeconds(total)}.`,
    });
  }
  if (absent >= WAIT_SHARE * total) {
    found.push({
      kind: "start",
      seconds: absent,
      sentence: `Waited ${formatSeconds(absent)} of ${formatSeconds(total)} for the model's worker to be there: it was being loaded or started again.`,
    });
  }
  if (queued >= WAIT_SHARE * total) {
    found.push({
      kind: "wait",
      seconds: queued,
      sentence: sayWait(request, queued, maxBatchSize),
    });
  }
  return found;
}

function sayWait(request, queued, maxBatchSize) {
  const hasRun = request.attempts.some((attempt) => attempt.started_s !== null);
  const running = request.num_running_before;
  const waiting = request.num_waiting_before;
  const holds = maxBatchSize ? ` (the batch holds ${formatCount(maxBatchSize)})` : "";
  const separator = running + waiting > 0 ? ":" : ",";
  const length = hasRun
    ? `Waited ${formatSeconds(queued)} of ${formatSeconds(request.total_s)}`
    : `Waited ${formatSeconds(queued)} and never ran`;
  return `${length}${separator} ${sayBefore(running, waiting, holds)}.`;
}

function sayBefore(running, waiting, holds) {
  if (running + waiting === 0) return "though no other request of the model was before it";
  // Counted when it came: of a burst none runs yet, however many the batch has room for.
  if (running === 0) return `${plural(waiting, "request")} had come before it and none ran yet${holds}`;
  return `${plural(running, "request")} ran and ${formatCount(waiting)} waited before it${holds}`;
}

function findPrefill(request) {
  const [first] = request.attempts;
  if (!first || first.started_s === null) return [];
  const seconds = (first.first_token_s ?? first.ended_s) - first.started_s;
  if (seconds < PREFILL_SHARE * request.total_s) return [];
  return [{ kind: "prefill", seconds, sentence: sayPrefill(request, first, seconds) }];
}

function sayPrefill(request, attempt, seconds) {
  const prompt = request.num_prompt_tokens;
  const cached = attempt.num_cached_tokens;
  const took = formatSeconds(seconds);
  const tokens = plural(prompt, "token");
  if (request.operation === "embeddings") return `Computing the vectors of ${tokens} took ${took}.`;
  const reused = `${formatCount(cached)} came from the cache`;
  if (attempt.first_token_s === null) {
    return `The first token had not come after ${took} of prefill: ${tokens}, ${reused}.`;
  }
  if (prompt - cached >= LONG_PROMPT_TOKENS) {
    return `Long prompt: ${tokens} took ${took} to prefill, ${reused}.`;
  }
  if (attempt.max_batch_size > 1) {
    return `Slow prefill: ${tokens} took ${took} in steps shared with up to ${plural(attempt.max_batch_size, "sequence")}, ${reused}.`;
  }
  return `Slow prefill: ${tokens} took ${took}, ${reused}.`;
}

function findFailovers(request) {
  return request.attempts.flatMap((attempt, index) => {
    if (!attempt.error) return [];
    const next = request.attempts[index + 1];
    const after = `after ${plural(attempt.num_tokens, "token")}`;
    if (!next) {
      const seconds = Math.max(0, request.total_s - attempt.ended_s);
      const sentence = `Engine ${attempt.engine} was lost ${after}, and no other went on.`;
      return [{ kind: "failover", seconds, sentence }];
    }
    const resumed = next.first_token_s ?? next.ended_s;
    const seconds = Math.max(0, resumed - attempt.ended_s);
    const goesOn =
      next.first_token_s === null
        ? `${next.engine} took over and gave no token in ${formatSeconds(seconds)}`
        : `${next.engine} went on ${formatSeconds(seconds)} later`;
    const sentence = `Engine ${attempt.engine} was lost ${after}; ${goesOn}.`;
    return [{ kind: "failover", seconds, sentence }];
  });
}

function findDecode(request, maxBatchSize) {
  const numChoices = Math.max(1, request.finish_reasons.length);
  return request.attempts.flatMap((attempt) => {
    if (attempt.first_token_s === null) return [];
    const seconds = attempt.ended_s - attempt.first_token_s;
    const numSteps = attempt.num_tokens / numChoices - 1;
    if (numSteps < 1 || seconds <= 0) return [];
    const pace = formatSeconds(seconds / numSteps);
    const share = seconds / request.total_s;
    const found = [];
    if (share >= SHARED_DECODE_SHARE && isCrowded(attempt.max_batch_size, maxBatchSize)) {
      found.push({
        kind: "batch",
        seconds,
        sentence: `${nameBatch(attempt.max_batch_size, maxBatchSize)}: its steps were shared with up to ${formatCount(attempt.max_batch_size)} sequences, ${pace} a token.`,
      });
    }
    const isLong = attempt.num_tokens / numChoices >= LONG_ANSWER_TOKENS;
    if (share >= DECODE_SHARE && (isLong || found.length === 0)) {
      found.push({
        kind: "decode",
        seconds,
        sentence: `${isLong ? "Long answer" : "Slow answer"}: ${plural(attempt.num_tokens, "token")} took ${formatSeconds(seconds)} to generate, ${pace} each.`,
      });
    }
    return found;
  });
}

function findDelivery(request) {
  const last = request.attempts.at(-1);
  if (!last || last.error) return [];
  const seconds = request.total_s - last.ended_s;
  if (seconds < DELIVER_SHARE * request.total_s) return [];
  const sentence = `Its last token was there after ${formatSeconds(last.ended_s)}; its client took ${formatSeconds(seconds)} more to get the answer.`;
  return [{ kind: "deliver", seconds, sentence }];
}

function isCrowded(size, maxBatchSize) {
  if (size < 2) return false;
  return size >= (maxBatchSize ? Math.max(2, maxBatchSize / 2) : MANY_SEQUENCES);
}

function nameBatch(size, maxBatchSize) {
  return maxBatchSize && size >= maxBatchSize ? "Full batch" : "Shared batch";
}
