// How the whole is: health in words, numbers of now, lines of the last minutes.

import { html, useMemo, useState } from "./vendor/htm-preact.module.js";
import { BYTE_STEPS, Chart, COUNT_STEPS } from "./charts.js";
import { Awaited, Choice, Pill, Problem, Table } from "./parts.js";
import { lastTotal, modelNames, seriesOf, useMetrics } from "./metrics.js";
import { usePoll } from "./server.js";
import { capitalize, formatBytes, formatCount, formatDuration, formatNumber, formatRatio, formatSeconds, NONE, plural, sentenceCase } from "./words.js";

const HEALTH_WORDS = {
  healthy: "All is well",
  degraded: "It serves, but not as it should",
  unhealthy: "It cannot serve",
};

function healthWords(health, numFiring) {
  if (health.status === "healthy" && numFiring > 0) return `It serves, but ${numFiring === 1 ? "an alert fires" : `${numFiring} alerts fire`}`;
  return HEALTH_WORDS[health.status] ?? health.status;
}

function Health({ status, numFiring }) {
  const { health } = status;
  const loaded = `${health.models_loaded.length} of ${plural(status.models.length, "model")} loaded`;
  const isReady = status.is_draining
    ? "drains: new requests are refused"
    : status.is_ready
      ? "ready for requests"
      : "not ready for requests";
  return html`<section class="card health" data-tone=${health.status} aria-label="Health">
    <div class="health-line">
      <${Pill} state=${health.status} />
      <p><strong>${healthWords(health, numFiring)}.</strong> ${loaded}, ${isReady}.</p>
      <p class="hint">Up ${formatDuration(health.uptime_seconds)} · version ${health.version}</p>
    </div>
    ${health.degradation_reasons.length > 0 &&
    html`<ul class="reasons">
      ${health.degradation_reasons.map((reason) => html`<li key=${reason}>${capitalize(reason)}</li>`)}
    </ul>`}
  </section>`;
}

function FiringAlerts({ firing }) {
  if (firing.length === 0) return null;
  const [first, ...others] = firing;
  const rest = others.length > 0 ? ` And ${plural(others.length, "other")}.` : "";
  return html`<div class="note" data-tone=${first.severity}>
    <p><strong>${sentenceCase(first.alert_type)}:</strong> ${first.message}${rest} <a href="#/alerts">See the alerts</a></p>
  </div>`;
}

function Tile({ name, value, hint = "" }) {
  return html`<div class="tile">
    <dt>${name}</dt>
    <dd>${value}</dd>
    ${hint && html`<dd class="hint">${hint}</dd>`}
  </div>`;
}

function Tiles({ status, metrics }) {
  if (!metrics) {
    return html`<dl class="tiles">
      <${Tile} name="Ended a second, lately" value=${formatNumber(status.requests_per_second)} />
      <${Tile} name="Running" value=${formatCount(status.num_running)} />
      <${Tile} name="Waiting" value=${formatCount(status.num_waiting)} hint=${`room for ${formatCount(status.health.queue_capacity)}`} />
    </dl>`;
  }
  const last = lastTotal(metrics);
  const memory = metrics.resources.memory_used_bytes?.last ?? null;
  const { num_requests: num, num_failed: failed } = sum(metrics.models);
  return html`<dl class="tiles">
    <${Tile} name="Requests a second" value=${formatNumber(last.requests_per_second)} />
    <${Tile} name="Tokens a second" value=${formatNumber(last.tokens_per_second)} />
    <${Tile} name="First token, median" value=${formatSeconds(last.time_to_first_token_p50)} hint=${last.time_to_first_token_p95 ? `95 % within ${formatSeconds(last.time_to_first_token_p95)}` : ""} />
    <${Tile} name="Running" value=${formatCount(status.num_running)} hint=${`${formatCount(status.num_waiting)} waiting, room for ${formatCount(status.health.queue_capacity)}`} />
    <${Tile} name="From the cache" value=${formatRatio(last.cache_hit_ratio)} hint="of prompt tokens" />
    <${Tile} name="Failed" value=${num > 0 ? formatRatio(failed / num) : NONE} hint=${`${formatCount(failed)} of ${formatCount(num)} in ${formatDuration(metrics.window_seconds)}`} />
    ${memory !== null && html`<${Tile} name="Memory" value=${formatBytes(memory)} hint=${`of ${formatBytes(metrics.resources.memory_total_bytes)}`} />`}
  </dl>`;
}

function sum(models) {
  const total = { num_requests: 0, num_failed: 0 };
  for (const model of models) {
    total.num_requests += model.num_requests ?? 0;
    total.num_failed += model.num_failed ?? 0;
  }
  return total;
}

const SPANS = [
  ["300", "5 min"],
  ["900", "15 min"],
  ["1800", "30 min"],
];

function Charts({ metrics }) {
  const [model, setModel] = useState("");
  const [spanS, setSpanS] = useState("300");
  const { resources } = metrics;
  const { points } = metrics.history;
  const names = useMemo(() => modelNames(metrics), [metrics]);
  const times = useMemo(() => points.map((point) => point.at), [points]);
  const line = (label, color, key) => ({ label, color, values: seriesOf(points, model, key) });
  const ofMachine = (label, color, key) => ({ label, color, values: points.map((point) => point[key]) });
  const shared = { times, spanS: Number(spanS), hint: `last ${formatDuration(Number(spanS))}` };
  return html`<section aria-labelledby="charts-title">
    <div class="section-head">
      <h2 id="charts-title">Live</h2>
      <div class="filters">
        ${names.length > 0 &&
        html`<${Choice} label="Show" value=${model} onChange=${setModel} options=${[["", "All models"], ...names.map((name) => [name, name])]} />`}
        <${Choice} label="Time" value=${spanS} onChange=${setSpanS} options=${SPANS} />
      </div>
    </div>
    <div class="charts">
      <${Chart} title="Requests a second" ...${shared} format=${formatNumber} series=${[line("answered", "--series-1", "requests_per_second"), line("failed", "--series-5", "failures_per_second")]} />
      <${Chart} title="Tokens a second" ...${shared} format=${formatNumber} series=${[line("generated", "--series-1", "tokens_per_second")]} />
      <${Chart} title="Time to first token" ...${shared} format=${formatSeconds} series=${[line("median", "--series-1", "time_to_first_token_p50"), line("95 %", "--series-2", "time_to_first_token_p95")]} />
      <${Chart} title="Queue" ...${shared} format=${formatNumber} steps=${COUNT_STEPS} series=${[line("running", "--series-1", "requests_running"), line("waiting", "--series-2", "requests_waiting")]} />
      <${Chart} title="Batch size" ...${shared} format=${formatNumber} series=${[line("mean", "--series-1", "batch_size_mean")]} />
      <${Chart} title="Cache hit rate" ...${shared} format=${formatRatio} max=${1} series=${[line("of prompt tokens", "--series-3", "cache_hit_ratio")]} />
      ${!model &&
      html`<${Chart} title="Memory" ...${shared} format=${formatBytes} steps=${BYTE_STEPS} max=${resources.memory_total_bytes} series=${[ofMachine("used", "--series-4", "memory_used_bytes")]} />
        <${Chart} title="Processor" ...${shared} format=${(value) => `${Math.round(value)} %`} max=${100} series=${[ofMachine("used", "--series-4", "cpu_percent")]} />`}
    </div>
  </section>`;
}

const pair = (stats) => (stats ? `${formatSeconds(stats.p50)} / ${formatSeconds(stats.p95)}` : NONE);

const MODEL_COLUMNS = [
  { name: "Model", render: (row) => html`<strong>${row.model}</strong>` },
  { name: "Engine", render: (row) => row.engine },
  { name: "Requests", isNumber: true, render: (row) => formatCount(row.num_requests) },
  { name: "Failed", isNumber: true, render: (row) => formatRatio(row.error_rate) },
  { name: "Whole answer", isNumber: true, render: (row) => pair(row.latency) },
  { name: "First token", isNumber: true, render: (row) => pair(row.time_to_first_token) },
  { name: "Before first step", isNumber: true, render: (row) => pair(row.queue_wait) },
  { name: "Each token", isNumber: true, render: (row) => pair(row.inter_token_latency) },
  { name: "Tokens/s", isNumber: true, render: (row) => formatNumber(row.throughput_tokens_per_second) },
  { name: "KV in use", isNumber: true, render: (row) => formatRatio(row.kv_use_ratio) },
];

function ModelTable({ metrics }) {
  if (metrics.models.length === 0) return null;
  return html`<section aria-labelledby="by-model-title">
    <div class="section-head">
      <h2 id="by-model-title">By model and engine</h2>
      <p class="hint">Last ${formatDuration(metrics.window_seconds)}; times as median / 95 %</p>
    </div>
    <${Table} caption="Measurements by model and engine" columns=${MODEL_COLUMNS} rows=${metrics.models} keyOf=${(row) => `${row.model} ${row.engine}`} />
  </section>`;
}

const GPU_COLUMNS = [
  { name: "GPU", render: (row) => row.gpu_id },
  { name: "State", render: (row) => html`<${Pill} state=${row.is_healthy ? "healthy" : "failed"} label=${row.is_healthy ? "Healthy" : sentenceCase(row.fault || "cannot be read")} />` },
  { name: "Memory", isNumber: true, render: (row) => `${formatBytes(row.memory_used_bytes?.last)} of ${formatBytes(row.memory_total_bytes)}` },
  { name: "In use", isNumber: true, render: (row) => withUnit(row.utilization_percent?.last, "%") },
  { name: "Temperature", isNumber: true, render: (row) => withUnit(row.temperature_celsius?.last, "°C") },
];

// Not every card tells everything.
function withUnit(value, unit) {
  return value == null ? NONE : `${formatNumber(value)} ${unit}`;
}

function Gpus({ gpus }) {
  if (!gpus?.length) return null;
  return html`<section aria-labelledby="gpu-title">
    <h2 id="gpu-title">GPUs</h2>
    <${Table} caption="GPUs" columns=${GPU_COLUMNS} rows=${gpus} keyOf=${(row) => row.gpu_id} />
  </section>`;
}

function Unmeasured({ error }) {
  if (error?.status !== 404) return html`<${Awaited} error=${error} what="measurements" />`;
  return html`<div class="note" data-tone="plain">
    <p><strong>There are no charts: monitoring is off.</strong> Set monitoring.enabled: true in the configuration and start the server again. Health and models work without it.</p>
  </div>`;
}

export function Overview() {
  const { data: status, error } = usePoll("api/status");
  const { data: metrics, error: metricsError } = useMetrics();
  const firing = usePoll("admin/alerts").data?.firing ?? [];
  if (!status) return html`<${Awaited} error=${error} what="the state" />`;
  return html`
    <${Health} status=${status} numFiring=${firing.length} />
    <${FiringAlerts} firing=${firing} />
    <${Tiles} status=${status} metrics=${metrics} />
    ${metrics
      ? html`<${Charts} metrics=${metrics} />
          <${ModelTable} metrics=${metrics} />
          <${Gpus} gpus=${metrics.resources.gpus} />`
      : html`<${Unmeasured} error=${metricsError} />`}
    <${Problem} error=${error} />
  `;
}
