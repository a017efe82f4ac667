// One conversation with a model: what was said, and the answer that is streaming in.

import { send, ServerError } from "./server.js";

/**
 * Yields the payload of each server-sent event, parsed; ends at [DONE].
 * An event with an error is thrown as one.
 */
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = dataOf(part);
        if (data === "[DONE]") return;
        if (data) yield parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(part) {
  return part
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trim())
    .join("\n");
}

function parse(data) {
  const event = JSON.parse(data);
  if (event.error) throw new ServerError(event.error.message, { status: 500, code: event.error.code });
  return event;
}

/** Lives as long as the page, so that one may look elsewhere while an answer comes. */
export class Chat {
  constructor() {
    this.turns = [];
    this.running = null;
    this.listener = () => {};
  }

  get isRunning() {
    return this.running !== null;
  }

  clear() {
    this.stop();
    this.turns = [];
    this.listener();
  }

  stop() {
    this.running?.abort();
  }

  /** Send what was said so far and this; the answer grows in the last turn. */
  async ask(text, { model, system, temperature, maxTokens }) {
    if (this.isRunning || !text.trim()) return;
    const answer = { role: "assistant", text: "", thoughts: "", facts: null, error: null, isStopped: false };
    this.turns = [...this.turns, { role: "user", text }, answer];
    this.running = new AbortController();
    this.listener();
    const body = {
      messages: this.messages(system),
      stream: true,
      stream_options: { include_usage: true },
    };
    if (model) body.model = model;
    if (temperature !== null) body.temperature = temperature;
    if (maxTokens !== null) body.max_tokens = maxTokens;
    try {
      await this.receive(answer, body);
    } catch (error) {
      if (error.name === "AbortError") answer.isStopped = true;
      else answer.error = error instanceof ServerError ? error : new ServerError("The answer broke off: the connection was lost.");
    }
    this.running = null;
    this.listener();
  }

  messages(system) {
    // What failed is left out together with its question.
    const said = this.turns
      .filter((turn, index) => turn.text && !turn.error && !this.turns[index + 1]?.error)
      .map(({ role, text }) => ({ role, content: text }));
    return system.trim() ? [{ role: "system", content: system.trim() }, ...said] : said;
  }

  async receive(answer, body) {
    const begin = performance.now();
    const response = await send("POST", "v1/chat/completions", { body, signal: this.running.signal });
    answer.facts = {
      model: response.headers.get("x-muai-model"),
      engine: response.headers.get("x-muai-engine"),
      fallback: response.headers.get("x-muai-fallback"),
      failovers: [],
      usage: null,
      finish: null,
      firstS: null,
      totalS: null,
    };
    let numChunks = 0;
    for await (const event of readEvents(response)) {
      const now = (performance.now() - begin) / 1000;
      numChunks += this.take(answer, event, now);
      answer.facts.totalS = now;
      answer.facts.numChunks = numChunks;
      this.listener();
    }
  }

  /** Add one event; returns whether it brought text, as 1 or 0. */
  take(answer, event, now) {
    const { facts } = answer;
    if (event.usage) facts.usage = event.usage;
    if (event.muai?.failovers) facts.failovers = event.muai.failovers;
    const [choice] = event.choices;
    if (!choice) return 0;
    const { content = "", reasoning_content: thoughts = "" } = choice.delta;
    if (choice.finish_reason) facts.finish = choice.finish_reason;
    if (!content && !thoughts) return 0;
    answer.text += content;
    answer.thoughts += thoughts;
    facts.firstS ??= now;
    facts.lastS = now;
    return 1;
  }
}
