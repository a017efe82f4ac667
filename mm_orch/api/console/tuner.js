// What the tuner changed, why, and what came of it.

import { html } from "./vendor/htm-preact.module.js";
import { Awaited, Empty, Pill, Table } from "./parts.js";
import { usePoll } from "./server.js";
import { formatMoment, formatNumber, NONE, sentenceCase } from "./words.js";

const nameOf = (key) => key.split(".").at(-1);

function describeChange(row) {
  const keys = Object.keys(row.new_values);
  if (keys.length === 0) return NONE;
  return keys.map((key) => `${nameOf(key)} ${row.old_values[key]} → ${row.new_values[key]}`).join(", ");
}

function describeFigures(figures) {
  if (!figures) return NONE;
  const p95 = figures.latency_p95_s;
  const latency = p95 === null || p95 === undefined ? "" : `, p95 ${formatNumber(p95)} s`;
  return `${formatNumber(figures.tokens_per_second)} tokens/s${latency}`;
}

const DECISION_COLUMNS = [
  { name: "When", isTight: true, render: (row) => formatMoment(row.at) },
  { name: "Decision", isTight: true, render: (row) => html`<${Pill} state=${row.kind} label=${sentenceCase(row.kind)} />` },
  { name: "Change", isTight: true, render: describeChange },
  { name: "Before", isTight: true, render: (row) => describeFigures(row.before) },
  { name: "After", isTight: true, render: (row) => describeFigures(row.after) },
  { name: "Why", isLong: true, render: (row) => row.rationale },
];

const VALUE_COLUMNS = [
  { name: "Option", isTight: true, render: (row) => html`<strong>${nameOf(row.key)}</strong>` },
  { name: "In force", isNumber: true, render: (row) => row.value },
  { name: "Note", render: (row) => row.note },
];

function noteOf(key, data) {
  if (key in data.on_trial) return `On trial, before ${data.on_trial[key]}.`;
  if (data.switched_off.includes(key)) return "Left alone, as the configuration says.";
  if (data.left_alone.includes(key)) return "Left alone, as the engine cannot change it.";
  return "";
}

const valuesOf = (data) =>
  Object.entries(data.values).map(([key, value]) => ({ key, value, note: noteOf(key, data) }));

export function Tuner() {
  const { data, error } = usePoll("admin/tuner");
  if (error?.status === 404) {
    return html`<div class="note" data-tone="plain"><p>${error.message}</p></div>`;
  }
  if (!data) return html`<${Awaited} error=${error} what="the tuner's decisions" />`;
  const target = data.target_p95_ms;
  return html`
    <section aria-labelledby="values-title">
      <h2 id="values-title">In force</h2>
      <p class="hint">
        ${target === null || target === undefined ? "No target for p95." : `p95 is to stay at or below ${formatNumber(target)} ms.`}
      </p>
      <${Table} caption="Tuned options" columns=${VALUE_COLUMNS} rows=${valuesOf(data)} keyOf=${(row) => row.key} />
    </section>
    <section aria-labelledby="decisions-title">
      <h2 id="decisions-title">Decisions</h2>
      ${data.decisions.length === 0
        ? html`<${Empty}>Nothing has been decided since the server started.<//>`
        : html`<${Table} caption="Decisions, the newest first" columns=${DECISION_COLUMNS} rows=${data.decisions} keyOf=${(row) => `${row.at} ${row.kind} ${row.parameter}`} />`}
    </section>
  `;
}
