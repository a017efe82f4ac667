// What is wrong now, and what was.

import { html } from "./vendor/htm-preact.module.js";
import { Awaited, Empty, Pill, Table } from "./parts.js";
import { usePoll } from "./server.js";
import { formatAgo, formatMoment, formatNumber, sentenceCase } from "./words.js";

const about = (alert) => [alert.model, alert.engine && `on ${alert.engine}`].filter(Boolean).join(" ") || "the server";
const keyOf = (alert) => [alert.alert_type, alert.model, alert.engine].join(" ");

function FiringAlert({ alert }) {
  const isMeasured = alert.value !== null && alert.value !== undefined;
  return html`<li class="card alert" data-tone=${alert.severity}>
    <div class="model-head">
      <h3>${sentenceCase(alert.alert_type)}</h3>
      <${Pill} state=${alert.severity} />
    </div>
    <p>${alert.message}</p>
    <p class="hint">
      ${about(alert)} · since ${formatMoment(alert.since)} (${formatAgo(alert.since)})
      ${isMeasured && ` · ${formatNumber(alert.value)} where ${formatNumber(alert.limit)} is the limit`}
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

export function Alerts() {
  const { data, error } = usePoll("admin/alerts");
  if (error?.status === 404) {
    return html`<div class="note" data-tone="plain">
      <p><strong>Nothing watches for trouble: alerts are off.</strong> Set monitoring.enabled: true in the configuration and start the server again.</p>
    </div>`;
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
  `;
}
