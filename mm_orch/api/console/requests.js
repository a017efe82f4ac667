// The last requests, and of one why it took as long as it did.

import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.module.js";
import { explain, summarize } from "./explain.js";
import { Awaited, Choice, Empty, Facts, Pill, Table } from "./parts.js";
import { usePoll } from "./server.js";
import { lanesOf, PHASES, ticksOf, waitsOf } from "./timeline.js";
import { formatCount, formatMoment, formatSeconds, plural } from "./words.js";

const PATH = "admin/requests?limit=100";
const ORDERS = [
  ["newest", "Newest first"],
  ["slowest", "Slowest first"],
];

// A bar that is shorter than this has no room for its name.
const NAMED_SHARE = 0.16;

const percent = (part, whole) => `${whole > 0 ? (part / whole) * 100 : 0}%`;
const linkTo = (id) => `#/requests/${encodeURIComponent(id)}`;
const buttonOf = (id) => `request-${id}`;

function Bars({ phases, total, isNamed = false }) {
  return phases.map(
    ({ kind, start, end }) => html`<span
      key=${`${kind} ${start}`}
      class="phase"
      data-kind=${kind}
      style=${{ left: percent(start, total), width: percent(end - start, total) }}
      title=${`${PHASES[kind]}: ${formatSeconds(end - start)}`}
    >${isNamed && end - start > total * NAMED_SHARE && `${PHASES[kind]} ${formatSeconds(end - start)}`}</span>`,
  );
}

function Timeline({ request }) {
  const total = request.total_s;
  const lanes = lanesOf(request);
  const kinds = [...new Set(lanes.flatMap((lane) => lane.phases.map((phase) => phase.kind)))];
  return html`<figure class="timeline" aria-label="Timeline">
    <ul class="legend">
      ${kinds.map((kind) => html`<li key=${kind}><span class="swatch phase" data-kind=${kind}></span>${PHASES[kind]}</li>`)}
    </ul>
    <div class="lanes">
      ${lanes.map(
        (lane, index) => html`<div key=${index} class="lane">
          <span class="lane-name">${lane.engine || "no engine"}</span>
          <div class="lane-track">
            <${Bars} phases=${lane.phases} total=${total} isNamed />
            ${lane.error && html`<span class="lost" style=${{ left: percent(lane.attempt.ended_s, total) }} title=${lane.error}></span>`}
          </div>
          ${lane.error && html`<p class="lane-error">Lost at ${formatSeconds(lane.attempt.ended_s)}: ${lane.error}</p>`}
        </div>`,
      )}
      <div class="lane axis" aria-hidden="true">
        <span></span>
        <div class="lane-track">
          ${ticksOf(total).map((tick) => html`<span key=${tick} class="tick" style=${{ left: percent(tick, total) }}>${formatSeconds(tick)}</span>`)}
        </div>
      </div>
    </div>
    <details>
      <summary>All phases as numbers</summary>
      <${PhaseTable} lanes=${lanes} total=${total} />
    </details>
  </figure>`;
}

const PHASE_COLUMNS = [
  { name: "Engine", render: (row) => row.engine },
  { name: "Phase", render: (row) => html`<span class="swatch phase" data-kind=${row.kind}></span> ${PHASES[row.kind]}` },
  { name: "Begins at", isNumber: true, render: (row) => formatSeconds(row.start) },
  { name: "Takes", isNumber: true, render: (row) => html`<strong>${formatSeconds(row.end - row.start)}</strong>` },
  { name: "Share", isNumber: true, render: (row) => `${Math.round(row.share * 100)} %` },
];

function PhaseTable({ lanes, total }) {
  const rows = lanes.flatMap((lane, number) =>
    lane.phases.map((phase) => ({ ...phase, number, engine: lane.engine, share: total > 0 ? (phase.end - phase.start) / total : 0 })),
  );
  return html`<${Table} caption="Phases of this request" columns=${PHASE_COLUMNS} rows=${rows} keyOf=${(row) => `${row.number} ${row.kind} ${row.start}`} />`;
}

function Reasons({ request, maxBatchSize }) {
  const [, ...others] = explain(request, maxBatchSize);
  return html`<div class="why" role="status">
    <p class="why-first">${summarize(request, maxBatchSize)}</p>
    ${others.length > 0 && html`<ul>${others.map(({ sentence }) => html`<li key=${sentence}>${sentence}</li>`)}</ul>`}
  </div>`;
}

function Detail({ request, maxBatchSize, onClose }) {
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), [request.request_id]);
  return html`<section class="card detail" aria-labelledby="request-title">
    <div class="model-head">
      <h2 id="request-title" ref=${heading} tabindex="-1">Why ${formatSeconds(request.total_s)}?</h2>
      <${Pill} state=${request.status} />
      <button type="button" class="close" onClick=${onClose}>Close</button>
    </div>
    <${Reasons} request=${request} maxBatchSize=${maxBatchSize} />
    ${request.error_type && request.status !== "cancelled" && html`<div class="note" data-tone="bad"><p><strong>${request.error_type}</strong>${request.error_message && `: ${request.error_message}`}</p></div>`}
    <${Timeline} request=${request} />
    <${Facts}
      facts=${[
        ["Model", request.model],
        ["Engine", request.engine],
        ["Operation", request.operation.replaceAll("_", " ")],
        ["Began", formatMoment(request.at)],
        ["Prompt", plural(request.num_prompt_tokens, "token")],
        ["From the cache", formatCount(request.num_cached_tokens)],
        ["Answer", plural(request.num_generated_tokens, "token")],
        ["First token", formatSeconds(request.ttft_s)],
        ["In queue", formatSeconds(waitsOf(request).queued)],
        ["Before it", `${formatCount(request.num_running_before)} ran, ${formatCount(request.num_waiting_before)} waited`],
        ["Ended by", request.finish_reasons.join(", ")],
      ]}
    />
    <p class="hint">
      Request <code>${request.request_id}</code>${request.trace_id && html`, trace <code>${request.trace_id}</code>`}
    </p>
  </section>`;
}

function columnsFor(onChoose, chosenId) {
  return [
    {
      name: "Began",
      isTight: true,
      render: (row) => html`<button
        type="button"
        class="link"
        id=${buttonOf(row.request_id)}
        aria-expanded=${row.request_id === chosenId ? "true" : "false"}
        aria-label=${`Explain the request of ${formatMoment(row.at)}, ${row.model}`}
        onClick=${() => onChoose(row.request_id)}
      >
        ${formatMoment(row.at)}
      </button>`,
    },
    { name: "Model", render: (row) => html`${row.model} <span class="hint">${row.engine}</span>` },
    { name: "Ended", render: (row) => html`<${Pill} state=${row.status} />` },
    { name: "In → out", isNumber: true, render: (row) => `${formatCount(row.num_prompt_tokens)} → ${formatCount(row.num_generated_tokens)}` },
    { name: "Queue", isNumber: true, render: (row) => formatSeconds(waitsOf(row).queued) },
    { name: "First token", isNumber: true, render: (row) => formatSeconds(row.ttft_s) },
    { name: "Total", isNumber: true, render: (row) => html`<strong>${formatSeconds(row.total_s)}</strong>` },
    {
      name: "Where the time went",
      render: (row) => html`<span class="mini" aria-hidden="true">
        ${lanesOf(row).map((lane, index) => html`<${Bars} key=${index} phases=${lane.phases} total=${row.total_s} />`)}
      </span>`,
    },
  ];
}

function choose(requests, { model, status, order }) {
  const kept = requests.filter((one) => (!model || one.model === model) && (!status || one.status === status));
  return order === "slowest" ? [...kept].sort((a, b) => b.total_s - a.total_s) : kept;
}

const namesOf = (requests, key, all) => [["", all], ...[...new Set(requests.map((one) => one[key]))].sort().map((name) => [name, name])];

export function Requests({ detail: chosenId }) {
  const { data, error } = usePoll(PATH);
  const { data: status } = usePoll("api/status");
  const [wish, setWish] = useState({ model: "", status: "", order: "newest" });
  const [frozen, setFrozen] = useState(null);
  const kept = useRef(null);
  const requests = frozen ?? data?.requests ?? null;
  const shown = useMemo(() => (requests ? choose(requests, wish) : []), [requests, wish]);
  const found = requests?.find((one) => one.request_id === chosenId);
  // One that is being read stays, also when newer ones have pushed it out of the list.
  if (found) kept.current = found;
  const chosen = found ?? (kept.current?.request_id === chosenId ? kept.current : null);

  function close() {
    location.hash = "#/requests";
    document.getElementById(buttonOf(chosenId))?.focus();
  }
  useEffect(() => {
    if (!chosenId) return undefined;
    const leave = (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) close();
    };
    addEventListener("keydown", leave);
    return () => removeEventListener("keydown", leave);
  }, [chosenId]);

  if (error?.status === 404) {
    return html`<div class="note" data-tone="plain">
      <p><strong>No requests are kept: monitoring is off.</strong> Set monitoring.enabled: true in the configuration and start the server again.</p>
    </div>`;
  }
  if (!requests) return html`<${Awaited} error=${error} what="requests" />`;
  const modelOf = (name) => status?.models.find((model) => model.name === name);
  const toggle = (id) => {
    if (id === chosenId) close();
    else location.hash = linkTo(id);
  };
  const set = (name) => (value) => setWish({ ...wish, [name]: value });
  return html`
    ${chosen && html`<${Detail} request=${chosen} maxBatchSize=${modelOf(chosen.model)?.max_batch_size ?? null} onClose=${close} />`}
    ${chosenId && !chosen && html`<${Empty}>This request is not among the last ${plural(requests.length, "request")} any more. <a href="#/requests">See those</a>.<//>`}
    <section aria-label="Requests">
      <div class="section-head">
        <div class="filters">
          <${Choice} label="Model" value=${wish.model} options=${namesOf(requests, "model", "All")} onChange=${set("model")} />
          <${Choice} label="Ended" value=${wish.status} options=${namesOf(requests, "status", "All")} onChange=${set("status")} />
          <${Choice} label="Order" value=${wish.order} options=${ORDERS} onChange=${set("order")} />
          <button type="button" aria-pressed=${frozen ? "true" : "false"} onClick=${() => setFrozen(frozen ? null : requests)}>
            ${frozen ? "Go on" : "Hold still"}
          </button>
        </div>
        <p class="hint">${plural(shown.length, "request")}${frozen ? ", held still" : ", live"}</p>
      </div>
      ${shown.length === 0
        ? html`<${Empty}>${requests.length === 0 ? "No request has ended yet. Send one, from the playground for example." : "None of the last requests is like that."}<//>`
        : html`<${Table}
            caption="Recent requests"
            columns=${columnsFor(toggle, chosenId)}
            rows=${shown}
            keyOf=${(row) => row.request_id}
            isChosen=${(row) => row.request_id === chosenId}
          />`}
    </section>
  `;
}
