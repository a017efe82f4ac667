// The models and their engines: what state they are in, why, and what can be done about it.

import { html, useState } from "./vendor/htm-preact.module.js";
import { Awaited, Facts, Pill, Problem, Table, useAction } from "./parts.js";
import { call, refresh, usePoll } from "./server.js";
import { formatBytes, formatCount, formatRatio, formatSeconds, plural } from "./words.js";

const CIRCUIT_WORDS = {
  closed: "in use",
  half_open: "tried again now",
  open: "left out after failures",
};

/** A button that stays where it is, with the focus, while its action runs. */
function Action({ name, label, running, onRun, isPrimary = false, isDanger = false }) {
  const isRunning = running === name;
  return html`<button
    type="button"
    class=${isDanger ? "danger" : isPrimary ? "primary" : ""}
    aria-disabled=${running ? "true" : null}
    aria-busy=${isRunning ? "true" : null}
    onClick=${() => !running && onRun()}
  >
    ${isRunning ? `${label} …` : label}
  </button>`;
}

function ModelActions({ model }) {
  const action = useAction();
  const path = `api/models/${model.name.split("/").map(encodeURIComponent).join("/")}`;
  const post = (name, query = "") =>
    action.run(name, async () => {
      try {
        await call("POST", `${path}/${name}${query}`);
      } finally {
        refresh("api/status");
      }
    });
  const isUnloaded = model.phase === "unloaded";
  const isBusy = action.error?.status === 409;
  return html`
    <div class="buttons" role="group" aria-label=${`Actions for ${model.name}`}>
      ${isUnloaded || model.phase === "failed"
        ? html`<${Action} name="load" label="Load" isPrimary running=${action.running} onRun=${() => post("load")} />`
        : html`<${Action} name="unload" label="Unload" running=${action.running} onRun=${() => post("unload")} />`}
      ${model.is_draining
        ? html`<${Action} name="resume" label="Resume" isPrimary running=${action.running} onRun=${() => post("resume")} />`
        : !isUnloaded && html`<${Action} name="drain" label="Drain" running=${action.running} onRun=${() => post("drain")} />`}
    </div>
    ${isBusy
      ? html`<div class="note" data-tone="warn" role="alert">
          <p>${model.name} answers requests now. Drain it and unload it when they have ended, or break them off.</p>
          <div class="buttons">
            <${Action} name="force" label="Unload anyway" isDanger running=${action.running} onRun=${() => post("unload", "?force=true")} />
            <button type="button" onClick=${action.clear}>Keep it</button>
          </div>
        </div>`
      : html`<${Problem} error=${action.error} onDismiss=${action.clear} />`}
  `;
}

function Cache({ cache }) {
  if (!cache) return null;
  const used = 1 - (cache.num_free + cache.num_cached) / cache.num_blocks;
  const kept = cache.num_cached / cache.num_blocks;
  const hits = cache.num_prompt_tokens > 0 ? cache.num_reused_tokens / cache.num_prompt_tokens : null;
  return html`<div class="cache">
    <div class="bar" role="img" aria-label=${`KV cache: ${formatRatio(used)} in use, ${formatRatio(kept)} kept for reuse`}>
      <span class="bar-used" style=${{ width: `${used * 100}%` }}></span>
      <span class="bar-kept" style=${{ width: `${kept * 100}%` }}></span>
    </div>
    <p class="hint">
      KV cache: ${formatRatio(used)} in use, ${formatRatio(kept)} kept for reuse of
      ${" "}${plural(cache.num_blocks, "block")}; ${hits === null ? "no prompt yet" : `${formatRatio(hits)} of prompt tokens reused`},
      ${" "}${plural(cache.num_evictions, "eviction")}
    </p>
  </div>`;
}

/** Why a model is as it is, as sentences. */
function whysOf(model) {
  const whys = [];
  if (model.is_draining) whys.push("It drains: running requests end, new ones are refused until it is resumed.");
  if (model.wanted_engine) whys.push(`Runs on ${model.engine} in place of ${model.wanted_engine}: ${model.fallback_reason}`);
  if (model.detail) whys.push(model.detail);
  if (model.seconds_without_step > 5) whys.push(`No step for ${formatSeconds(model.seconds_without_step)} though it has requests.`);
  for (const [engine, state] of Object.entries(model.circuits ?? {})) {
    if (state !== "closed") whys.push(`Engine ${engine} is ${CIRCUIT_WORDS[state] ?? state} (circuit ${state.replace("_", " ")}).`);
  }
  const standIn = model.stand_in;
  if (standIn) {
    const size = standIn.memory_bytes ? `, ${formatBytes(standIn.memory_bytes)}` : "";
    const detail = standIn.detail ? `: ${standIn.detail}` : "";
    whys.push(`Stand-in on ${standIn.engine ?? "no engine"} for what its engine cannot do: ${standIn.phase}${size}${detail}`);
  }
  if (model.replicas?.length > 1) {
    for (const one of model.replicas) {
      const hits = one.cache_hit_ratio === null ? "" : `, ${Math.round(one.cache_hit_ratio * 100)} % of prompt tokens found in its cache`;
      const phase = one.is_draining ? "draining" : one.phase;
      whys.push(`Replica ${one.number} on ${one.engine ?? "no engine"}: ${phase}, ${one.num_queued_tokens} tokens queued${hits}${one.detail ? `: ${one.detail}` : ""}`);
    }
  }
  const scaling = model.scaling;
  if (scaling) {
    const decided = scaling.count === null ? "nothing was decided yet" : `${scaling.count} (${scaling.direction}) since ${scaling.at}: ${scaling.rationale}`;
    whys.push(`${scaling.least} to ${scaling.most} replicas follow the load; ${decided}`);
  }
  if (model.replicas_detail) whys.push(`${model.replicas.length} of ${model.num_wanted_replicas} replicas: ${model.replicas_detail}`);
  return whys;
}

function ModelCard({ model, isDefault }) {
  const names = [isDefault && "default", model.task === "embed" && "embeddings", ...model.aliases.map((alias) => `also ${alias}`)].filter(Boolean);
  const whys = whysOf(model);
  const isLoaded = model.phase !== "unloaded";
  return html`<li class="card model">
    <div class="model-head">
      <h3>${model.name}</h3>
      <${Pill} state=${model.phase} />
      ${model.is_draining && html`<${Pill} state="draining" />`}
    </div>
    <p class="hint">${[model.source, ...names].join(" · ")}</p>
    ${whys.length > 0 && html`<ul class="reasons">${whys.map((why) => html`<li key=${why}>${why}</li>`)}</ul>`}
    ${isLoaded &&
    html`<${Facts}
      facts=${[
        ["Engine", model.engine],
        ["Running", model.max_batch_size ? `${formatCount(model.num_running)} of ${formatCount(model.max_batch_size)}` : formatCount(model.num_running)],
        ["Waiting", formatCount(model.num_waiting)],
        ["Memory", model.memory_bytes ? formatBytes(model.memory_bytes) : null],
        ["Context", model.context_length ? plural(model.context_length, "token") : null],
        ["Number format", model.dtype],
        ["Device", model.device],
        ["Dimensions", model.dimensions],
        ["Restarts", model.num_restarts ? formatCount(model.num_restarts) : null],
        ["Process", model.worker_pid],
      ]}
    />`}
    <${Cache} cache=${model.cache} />
    <${ModelActions} model=${model} />
  </li>`;
}

function ServerDrain({ status }) {
  const action = useAction();
  const [isAsking, setIsAsking] = useState(false);
  const post = (name) =>
    action.run(name, async () => {
      setIsAsking(false);
      try {
        await call("POST", `admin/${name}`);
      } finally {
        refresh("api/status");
      }
    });
  return html`<section class="card" aria-label="The whole server">
    <div class="model-head">
      <h2>The whole server</h2>
      <${Pill} state=${status.is_draining ? "draining" : "ready"} label=${status.is_draining ? "Draining" : "Takes requests"} />
    </div>
    <p class="hint">
      ${plural(status.num_running, "request")} running, ${formatCount(status.num_waiting)} waiting.
      ${" "}Draining lets them end and refuses new ones, for all models.
    </p>
    <div class="buttons">
      ${status.is_draining
        ? html`<${Action} name="resume" label="Resume the server" isPrimary running=${action.running} onRun=${() => post("resume")} />`
        : !isAsking && html`<${Action} name="ask" label="Drain the server" running=${action.running} onRun=${() => setIsAsking(true)} />`}
    </div>
    ${isAsking && !status.is_draining &&
    html`<div class="note" data-tone="warn" role="alert">
      <p>From then on every new request is refused with 503, until the server is resumed.</p>
      <div class="buttons">
        <${Action} name="drain" label="Drain it now" isDanger running=${action.running} onRun=${() => post("drain")} />
        <button type="button" onClick=${() => setIsAsking(false)}>Cancel</button>
      </div>
    </div>`}
    <${Problem} error=${action.error} onDismiss=${action.clear} />
  </section>`;
}

const ENGINE_COLUMNS = [
  { name: "Engine", isTight: true, render: (row) => html`<strong>${row.engine}</strong>` },
  { name: "State", render: (row) => html`<${Pill} state=${row.is_available ? "ready" : "unavailable"} label=${row.is_available ? "Can run here" : "Cannot run here"} />` },
  { name: "Why", isLong: true, render: (row) => row.reason || (row.is_available ? "" : "The probe gave no reason.") },
  { name: "What would change that", isLong: true, render: (row) => row.remedy },
];

export function Models() {
  const { data: status, error } = usePoll("api/status");
  if (!status) return html`<${Awaited} error=${error} what="the models" />`;
  return html`
    <section aria-labelledby="models-title">
      <h2 id="models-title">Models</h2>
      <ul class="cards">
        ${status.models.map((model) => html`<${ModelCard} key=${model.name} model=${model} isDefault=${model.name === status.default_model} />`)}
      </ul>
    </section>
    <${ServerDrain} status=${status} />
    <section aria-labelledby="engines-title">
      <h2 id="engines-title">Engines of this machine</h2>
      <${Table} caption="Engines of this machine" columns=${ENGINE_COLUMNS} rows=${status.engines} keyOf=${(row) => row.engine} />
    </section>
  `;
}
