// Small pieces that several pages show.

import { html, useState } from "./vendor/htm-preact.module.js";
import { askForKey } from "./key.js";
import { sentenceCase } from "./words.js";

const TONES = {
  ready: "good",
  healthy: "good",
  success: "good",
  resolved: "good",
  closed: "good",
  loaded: "good",
  available: "good",
  loading: "busy",
  restarting: "warn",
  degraded: "warn",
  half_open: "warn",
  draining: "warn",
  warning: "warn",
  timeout: "warn",
  rejected: "warn",
  gated: "warn",
  stuck: "bad",
  failing: "bad",
  broken: "bad",
  failed: "bad",
  unhealthy: "bad",
  error: "bad",
  critical: "bad",
  firing: "bad",
  open: "bad",
};

/** A state in one word; its colour only underlines the word. */
export function Pill({ state, label = sentenceCase(state) }) {
  return html`<span class="pill" data-tone=${TONES[state] ?? "plain"}>${label}</span>`;
}

/** What the server refused, in its own words, and what to do about it. */
export function Problem({ error, onDismiss = null }) {
  // The banners tell of those two already.
  if (!error || error.isAway || error.status === 401) return null;
  return html`<div class="note" data-tone="bad" role="alert">
    <p>${error.message}</p>
    <div class="buttons">
      ${error.isAboutKey &&
      html`<button type="button" onClick=${askForKey}>Use another key</button>`}
      ${onDismiss && html`<button type="button" onClick=${onDismiss}>Dismiss</button>`}
    </div>
  </div>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** What stands while nothing is known: the reason, or that the first answer is awaited. */
export function Awaited({ error, what }) {
  if (error?.status === 401) return html`<${Empty}>Enter a key to see ${what}.<//>`;
  if (error && !error.isAway) return html`<${Problem} error=${error} />`;
  return html`<${Empty}>${error ? `No ${what}: the server does not answer.` : `Reading ${what} …`}<//>`;
}

/** Facts as names and values; those without a value are left out. */
export function Facts({ facts }) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">
    ${known.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** A table that becomes cards on a phone. columns: [{name, render(row), isNumber, isTight, isLong}] */
export function Table({ columns, rows, keyOf, caption, isChosen = () => false }) {
  return html`<div class="table-box">
    <table>
      <caption class="unseen">${caption}</caption>
      <thead>
        <tr>${columns.map((column) => html`<th key=${column.name} scope="col" class=${classOf(column)}>${column.name}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) => html`<tr key=${keyOf(row)} class=${isChosen(row) ? "chosen" : ""}>
            ${columns.map(
              (column) =>
                html`<td key=${column.name} data-name=${column.name} class=${classOf(column)}><div>${column.render(row)}</div></td>`,
            )}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

const classOf = ({ isNumber, isTight, isLong }) =>
  isNumber ? "number" : isTight ? "tight" : isLong ? "long" : "";

/** A choice among few, as a labelled select. options: [[value, text]] */
export function Choice({ label, value, options, onChange }) {
  return html`<label class="choice">
    <span>${label}</span>
    <select value=${value} onChange=${(event) => onChange(event.currentTarget.value)}>
      ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
    </select>
  </label>`;
}

/**
 * Runs one action at a time: {run(name, action), running, error, clear}.
 * An action that fails leaves its error, never an exception.
 */
export function useAction() {
  const [state, setState] = useState({ running: null, error: null });
  async function run(name, action) {
    if (state.running) return;
    setState({ running: name, error: null });
    try {
      await action();
      setState({ running: null, error: null });
    } catch (error) {
      setState({ running: null, error });
    }
  }
  return { ...state, run, clear: () => setState({ running: null, error: null }) };
}
