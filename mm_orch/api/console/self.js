// What the system knows of itself: what it can do, how it is doing, and what it has learned.

import { html } from "./vendor/htm-preact.module.js";
import { Awaited, Empty, Facts, Pill, Table } from "./parts.js";
import { usePoll } from "./server.js";
import { capitalize, formatCount, formatDuration, formatNumber, formatRatio, formatSeconds, NONE, plural } from "./words.js";

const formatSigned = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

const ABILITY_COLUMNS = [
  { name: "Workflow", isTight: true, render: (row) => html`<strong>${row.name}</strong>` },
  { name: "State", isTight: true, render: (row) => html`<${Pill} state=${row.state} />` },
  { name: "What it does", isLong: true, render: (row) => row.detail ? capitalize(row.detail) : row.summary },
];

const MODEL_COLUMNS = [
  { name: "Model", isTight: true, render: (row) => html`<strong>${row.name}</strong>` },
  { name: "State", isTight: true, render: (row) => html`<${Pill} state=${row.state} />` },
  { name: "Engine", isTight: true, render: (row) => row.engine ?? NONE },
  { name: "Why", isLong: true, render: (row) => capitalize(row.detail) },
];

function Abilities({ model }) {
  const switches = Object.entries(model.features).map(([name, isOn]) => `${name} ${isOn ? "on" : "off"}`);
  return html`<section aria-labelledby="abilities-title">
    <div class="section-head">
      <h2 id="abilities-title">What it can do now</h2>
      <p class="hint">${capitalize(switches.join(", "))}</p>
    </div>
    <${Table} caption="Workflows and whether they can be used" columns=${ABILITY_COLUMNS} rows=${model.workflows} keyOf=${(row) => row.name} />
    <${Table} caption="Models and whether they can answer" columns=${MODEL_COLUMNS} rows=${model.models} keyOf=${(row) => row.name} />
  </section>`;
}

/** A number from -1 to 1, as a mark on a line whose middle is 0. */
function Scale({ name, value, low, high }) {
  return html`<div class="scale">
    <p><strong>${name}</strong> ${formatSigned(value)}</p>
    <div class="scale-line" role="img" aria-label=${`${name} ${formatSigned(value)}, from −1 (${low}) to +1 (${high})`}>
      <span class="scale-mark" style=${{ left: `${((value + 1) / 2) * 100}%` }}></span>
    </div>
    <p class="scale-ends hint"><span>${low}</span><span>${high}</span></p>
  </div>`;
}

function moodWords(mood) {
  const offset = mood.temperature_offset !== 0 && `temperature ${formatSigned(mood.temperature_offset)}`;
  const set = [mood.instruction && `“${mood.instruction}”`, offset].filter(Boolean).join(", ") || "nothing";
  return mood.has_effects
    ? `Where a conversation's caller sets none, it sets now: ${set}.`
    : `It changes no answer, because consciousness.emotion.enabled is false; else it would set now: ${set}.`;
}

function Mood({ mood }) {
  return html`<section class="card" aria-labelledby="mood-title">
    <div class="model-head">
      <h2 id="mood-title">Mood</h2>
      <p class="hint">Half of it is gone after ${formatDuration(mood.half_life_s)}</p>
    </div>
    <${Scale} name="Valence" value=${mood.valence} low="failures" high="successes" />
    <${Scale} name="Arousal" value=${mood.arousal} low="routine" high="trouble" />
    <p>${moodWords(mood)}</p>
  </section>`;
}

function Goals({ goals }) {
  return html`<section class="card" aria-labelledby="goals-title">
    <h2 id="goals-title">Goals</h2>
    <p class="hint">What counts when a model or a workflow is chosen</p>
    ${["quality", "latency", "cost"].map(
      (name) => html`<div key=${name} class="cache">
        <p>${capitalize(name)} ${formatRatio(goals[name])}</p>
        <div class="bar" role="img" aria-label=${`${name} counts ${formatRatio(goals[name])}`}>
          <span class="bar-used" style=${{ width: `${goals[name] * 100}%` }}></span>
        </div>
      </div>`,
    )}
  </section>`;
}

function nextWords(development) {
  const { num_successes: good, num_runs: all, stages, stage } = development;
  const seen = `${formatCount(good)} of ${plural(all, "run")} succeeded at this stage`;
  if (stage >= stages.length - 1) return `${seen}. It is the last one.`;
  const needed = `${formatCount(development.min_successes)} successes and a lower bound of ${formatRatio(development.min_success_ratio)}`;
  return `${seen}; the lower bound of their share (95 % interval) is ${formatRatio(development.lower_bound)}. The next one needs ${needed}.`;
}

function Development({ development }) {
  return html`<section class="card" aria-labelledby="stage-title">
    <div class="model-head">
      <h2 id="stage-title">Stage ${development.stage}</h2>
      <${Pill} state=${development.is_gating ? "gated" : "available"} label=${development.is_gating ? "Later stages are refused" : "Nothing is refused"} />
    </div>
    <p>${nextWords(development)}</p>
    <ol class="stages">
      ${development.stages.map(
        ({ number, workflows }) => html`<li key=${number} aria-current=${number === development.stage ? "step" : null}>
          <strong>Stage ${number}</strong> ${workflows.map((name) => (name === "*" ? "every workflow" : name)).join(", ") || "nothing more"}
        </li>`,
      )}
    </ol>
  </section>`;
}

const outcomeColumns = (what) => [
  { name: what, isTight: true, render: ([name]) => html`<strong>${name}</strong>` },
  { name: "Remembered", isNumber: true, render: ([, row]) => formatCount(row.num_outcomes) },
  { name: "Succeeded", isNumber: true, render: ([, row]) => formatRatio(row.success_ratio) },
  { name: "Whole answer", isNumber: true, render: ([, row]) => formatSeconds(row.latency_s) },
  { name: "Tokens", isNumber: true, render: ([, row]) => formatNumber(row.num_tokens) },
  { name: "Confidence", isNumber: true, render: ([, row]) => formatRatio(row.confidence) },
  { name: "Feedback", isNumber: true, render: ([, row]) => (row.feedback === null ? NONE : formatSigned(row.feedback)) },
];

function Outcomes({ what, many, outcomes }) {
  const rows = Object.entries(outcomes);
  if (rows.length === 0) return html`<${Empty}>No outcome of ${many} is remembered yet.<//>`;
  return html`<${Table} caption=${`Past outcomes of ${many}`} columns=${outcomeColumns(what)} rows=${rows} keyOf=${([name]) => name} />`;
}

function Memory({ memory }) {
  return html`<section aria-labelledby="memory-title">
    <div class="section-head">
      <h2 id="memory-title">Memory of outcomes</h2>
      <p class="hint">An outcome counts half after ${formatDuration(memory.half_life_s)}; no text is kept</p>
    </div>
    ${memory.problem && html`<div class="note" data-tone="bad" role="alert"><p>It cannot be stored now: ${memory.problem}</p></div>`}
    <${Outcomes} what="Workflow" many="workflows" outcomes=${memory.workflows} />
    <${Outcomes} what="Model" many="models" outcomes=${memory.models} />
  </section>`;
}

export function Self() {
  const { data, error } = usePoll("api/consciousness");
  if (error?.status === 404) {
    return html`<div class="note" data-tone="plain"><p>${error.message}</p></div>`;
  }
  if (!data) return html`<${Awaited} error=${error} what="what the system knows of itself" />`;
  const { self_model: model } = data;
  return html`
    <section class="card health" data-tone=${model.health} aria-label="Health">
      <div class="health-line">
        <${Pill} state=${model.health} />
        <p>${model.is_ready ? "Ready for requests." : `Not ready: ${model.not_ready_because}.`}</p>
        <p class="hint">Up ${formatDuration(model.uptime_s)} · version ${model.version}</p>
      </div>
      <${Facts}
        facts=${[
          ["Default model", model.default_model],
          ["Running", formatCount(model.num_running)],
          ["Waiting", `${formatCount(model.num_waiting)} of ${formatCount(model.queue_capacity)}`],
        ]}
      />
      ${model.health_reasons.length > 0 && html`<ul class="reasons">${model.health_reasons.map((reason) => html`<li key=${reason}>${capitalize(reason)}</li>`)}</ul>`}
    </section>
    <${Abilities} model=${model} />
    <div class="self-cards">
      <${Mood} mood=${data.mood} />
      <${Goals} goals=${data.goals} />
      <${Development} development=${data.development} />
    </div>
    <${Memory} memory=${data.memory} />
  `;
}
