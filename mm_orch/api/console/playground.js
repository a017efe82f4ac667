// Talk to a model, and see who answered and how fast.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { Chat } from "./chat.js";
import { Choice, Empty, Facts, Problem } from "./parts.js";
import { usePoll } from "./server.js";
import { formatCount, formatNumber, formatSeconds } from "./words.js";

const chat = new Chat();
// Kept while one looks at another page.
const wishes = { model: "", system: "", temperature: 0.7, maxTokens: 256 };
const draft = { text: "" };

function useChat() {
  const [, redraw] = useState(0);
  useEffect(() => {
    chat.listener = () => redraw((count) => count + 1);
    return () => {
      chat.listener = () => {};
    };
  }, []);
}

function paceOf({ usage, firstS, lastS }) {
  const numTokens = usage?.completion_tokens ?? 0;
  const seconds = lastS - firstS;
  return numTokens > 1 && seconds > 0 ? (numTokens - 1) / seconds : null;
}

function AnswerFacts({ facts }) {
  const { usage } = facts;
  const pace = paceOf(facts);
  return html`
    ${facts.fallback && html`<p class="hint">Another engine than the preferred one answers: ${facts.fallback}</p>`}
    ${facts.failovers.map(
      (one, index) => html`<p key=${index} class="hint">Engine ${one.from} was lost after ${formatCount(one.delivered_tokens)} tokens, ${one.to} went on: ${one.reason}</p>`,
    )}
    <${Facts}
      facts=${[
        ["Model", facts.model],
        ["Engine", facts.engine],
        ["First token", facts.firstS === null ? null : formatSeconds(facts.firstS)],
        ["Tokens a second", pace === null ? null : formatNumber(pace)],
        ["Prompt", usage && `${formatCount(usage.prompt_tokens)} tokens`],
        ["From the cache", usage && formatCount(usage.prompt_tokens_details?.cached_tokens ?? 0)],
        ["Answer", usage && `${formatCount(usage.completion_tokens)} tokens`],
        ["Total", facts.finish && formatSeconds(facts.totalS)],
        ["Ended by", facts.finish],
      ]}
    />
  `;
}

function Turn({ turn, isRunning }) {
  if (turn.role === "user") return html`<li class="turn user"><h3 class="unseen">You</h3><p>${turn.text}</p></li>`;
  return html`<li class="turn assistant">
    <h3 class="unseen">Answer</h3>
    ${turn.thoughts && html`<details><summary>Thoughts</summary><p>${turn.thoughts}</p></details>`}
    <p class=${isRunning ? "streaming" : ""}>${turn.text}</p>
    ${turn.isStopped && html`<p class="hint">Stopped.</p>`}
    ${turn.error?.isAway ? html`<div class="note" data-tone="bad" role="alert"><p>${turn.error.message}</p></div>` : html`<${Problem} error=${turn.error} />`}
    ${turn.facts && html`<${AnswerFacts} facts=${turn.facts} />`}
  </li>`;
}

function Wishes({ models, defaultModel, onChange }) {
  const set = (name, read) => (event) => onChange(name, read(event.currentTarget.value));
  const text = (value) => value;
  const number = (value) => (value === "" ? null : Number(value));
  const options = models.map(({ name, phase }) => [name, phase === "ready" ? name : `${name} (${phase})`]);
  return html`<div class="card wishes">
    <${Choice} label="Model" value=${wishes.model || defaultModel} options=${options} onChange=${(value) => onChange("model", value)} />
    <details open=${matchMedia("(min-width: 900px)").matches}>
      <summary>Options</summary>
      <div class="options">
        <label class="field">
          <span>System prompt</span>
          <textarea rows="3" value=${wishes.system} placeholder="None" onInput=${set("system", text)}></textarea>
        </label>
        <label class="field">
          <span>Temperature</span>
          <input type="number" min="0" max="2" step="0.1" value=${wishes.temperature} onInput=${set("temperature", number)} />
        </label>
        <label class="field">
          <span>Max tokens</span>
          <input type="number" min="1" step="1" value=${wishes.maxTokens} onInput=${set("maxTokens", number)} />
        </label>
      </div>
    </details>
  </div>`;
}

function Composer({ model }) {
  const [text, setText] = useState(draft.text);
  const keep = (value) => {
    draft.text = value;
    setText(value);
  };
  function ask(event) {
    event.preventDefault();
    if (chat.isRunning || !text.trim()) return;
    chat.ask(text, { ...wishes, model: wishes.model || model });
    keep("");
  }
  function press(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) ask(event);
    if (event.key === "Escape") chat.stop();
  }
  return html`<form class="composer" onSubmit=${ask}>
    <label class="field">
      <span class="unseen">Message</span>
      <textarea rows="2" value=${text} placeholder="Say something" onInput=${(event) => keep(event.currentTarget.value)} onKeyDown=${press}></textarea>
    </label>
    <div class="buttons">
      <button type="submit" class="primary" aria-disabled=${chat.isRunning ? "true" : null}>Send</button>
      <button type="button" aria-disabled=${chat.isRunning ? null : "true"} onClick=${() => chat.stop()}>Stop</button>
      <button type="button" onClick=${() => chat.clear()}>New chat</button>
      <span class="hint">Enter sends, Shift+Enter begins a line, Escape stops.</span>
    </div>
  </form>`;
}

export function Playground() {
  useChat();
  const { data: status } = usePoll("api/status");
  const [, redraw] = useState(0);
  const end = useRef(null);
  const last = chat.turns.at(-1);
  useEffect(() => {
    if (chat.isRunning) end.current?.scrollIntoView({ block: "nearest" });
  }, [last?.text.length, chat.turns.length]);
  const models = (status?.models ?? []).filter((model) => model.task !== "embed");
  const change = (name, value) => {
    wishes[name] = value;
    redraw((count) => count + 1);
  };
  return html`<div class="playground">
    <${Wishes} models=${models} defaultModel=${status?.default_model ?? ""} onChange=${change} />
    <div class="card conversation">
      <div>
        <ol class="turns" role="log" aria-label="Conversation" aria-busy=${chat.isRunning ? "true" : "false"}>
          ${chat.turns.map((turn, index) => html`<${Turn} key=${index} turn=${turn} isRunning=${chat.isRunning && turn === last} />`)}
        </ol>
        ${chat.turns.length === 0 && html`<${Empty}>Ask a model something. The answer streams in, with who gave it and how fast.<//>`}
        <div ref=${end}></div>
      </div>
      <${Composer} model=${status?.default_model ?? ""} />
    </div>
  </div>`;
}
