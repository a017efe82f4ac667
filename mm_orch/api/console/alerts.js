// What is wrong now, what was, and who was told.

import { html } from "./vendor/htm-preact.module.js";
import { Awaited, Empty, Pill, Table } from "./parts.js";
import { usePoll } from "./server.js";
import { formatAgo, formatCount, formatMoment, formatNumber, formatRatio, formatSeconds, NONE, sentenceCase } from "./words.js";

const about = (alert) => [alert.model, alert.engine && `on ${alert.engine}`].filter(Boolean).join(" ") || "the server";
const keyOf = (alert) => [alert.alert_type, alert.model, alert.engine].join(" ");

// What an alert's value and limit are, by its kind.
const FORMATS = {
  high_latency: (milliseconds) => formatSeconds(milliseconds / 1000),
  high_error_rate: formatRatio,
  high_memory: (percent) => `${formatNumber(percent)} %`,
  low_throughput: (rate) => `${formatNumber(rate)} requests/s`,
  gpu_failed: (count) => `${formatNumber(count)} ${count === 1 ? "GPU" : "GPUs"}`,
  anomaly: formatSeconds,
};

function FiringAlert({ alert }) {
  const isMeasured = alert.value !== null && alert.value !== undefined;
  const format = FORMATS[alert.alert_type] ?? formatNumber;
  return html`<li class="card alert" data-tone=${alert.severity}>
    <div class="model-head">
      <h3>${sentenceCase(alert.alert_type)}</h3>
      <${Pill} state=${alert.severity} />
    </div>
    <p>${alert.message}</p>
    <p class="hint">
      ${about(alert)} · since ${formatMoment(alert.since)} (${formatAgo(alert.since)})
      ${isMeasured && ` · ${format(alert.value)} where ${format(alert.limit)} is the limit`}
    </p>
  </li>`;
}

const COLUMNS = [
  { name: "When", isTight: true, render: (row) => formatMoment(row.at) },
  { name: "Change", render: (row) => html`<${Pill} state=${row.status} />` },
  { name: "Severity", render: (row) => html`<${Pill} state=${row.severity} />` },
  { name: "Alert", isTight: true, render: (row) => html`<strong>${sentenceCase(row.alert_type)}</strong>` },
  { name: "About", isTight: true, render: about },
  { name: "Message", isLong: true, render: (row) => row.message },
];

const DESTINATION_COLUMNS = [
  { name: "Destination", isTight: true, render: (row) => html`<strong>${row.name}</strong>` },
  { name: "State", isTight: true, render: (row) => html`<${Pill} state=${row.problem ? "failed" : "healthy"} label=${row.problem ? "Does not take them" : "No problem"} />` },
  { name: "Sent", isNumber: true, render: (row) => formatCount(row.num_sent) },
  { name: "Waiting", isNumber: true, render: (row) => formatCount(row.num_waiting) },
  { name: "Given up", isNumber: true, render: (row) => formatCount(row.num_failed) },
  { name: "Dropped", isNumber: true, render: (row) => formatCount(row.num_dropped) },
  { name: "Problem", isLong: true, render: (row) => row.problem || NONE },
];

function Destinations({ destinations }) {
  return html`<section aria-labelledby="destinations-title">
    <h2 id="destinations-title">Who is told</h2>
    ${destinations.length === 0
      ? html`<${Empty}>Nobody: name destinations in monitoring.anomaly.alert_destinations.<//>`
      : html`<${Table} caption="Destinations of alerts" columns=${DESTINATION_COLUMNS} rows=${destinations} keyOf=${(row) => row.name} />`}
  </section>`;
}

export function Alerts() {
  const { data, error } = usePoll("admin/alerts");
  if (error?.status === 404) {
    // Monitoring or alerts alone may be off: the server knows which.
    return html`<div class="note" data-tone="plain"><p>${error.message}</p></div>`;
  }
  if (!data) return html`<${Awaited} error=${error} what="alerts" />`;
  return html`
    <section aria-labelledby="firing-title" aria-live="polite">
      <h2 id="firing-title">Firing now</h2>
      ${data.firing.length === 0
        ? html`<${Empty}>Nothing fires.<//>`
        : html`<ul class="stack">${data.firing.map((alert) => html`<${FiringAlert} key=${keyOf(alert)} alert=${alert} />`)}</ul>`}
    </section>
    <section aria-labelledby="history-title">
      <h2 id="history-title">History</h2>
      ${data.history.length === 0
        ? html`<${Empty}>No alert has fired since the server started.<//>`
        : html`<${Table} caption="Alerts so far" columns=${COLUMNS} rows=${data.history} keyOf=${(row) => `${keyOf(row)} ${row.status} ${row.at}`} />`}
    </section>
    <${Destinations} destinations=${data.destinations} />
  `;
}
