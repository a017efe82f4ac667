// Draws lines over time with uPlot, which index.html has loaded.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { readColor, watchTheme } from "./theme.js";
import { formatClock, formatMinute, NONE } from "./words.js";

const HEIGHT = 150;
/** Steps of an axis of bytes: powers of two, as the labels are. */
export const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);
/** Steps of an axis that counts. */
export const COUNT_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const MIN_SPAN_S = 60;
const TIME_STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
const FONT = "11px system-ui, sans-serif";

/**
 * A chart with its own legend, which tells the last values or those under the pointer.
 * series: [{label, color (a custom property), values}]; max fixes the upper end,
 * steps the axis; spanS is how many seconds are shown up to the last point.
 */
export function Chart({ title, hint = "", times, spanS, series, format, max = null, steps = undefined }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [pointed, setPointed] = useState(null);
  const [theme, countTheme] = useState(0);
  useEffect(() => watchTheme(() => countTheme((count) => count + 1)), []);
  useEffect(() => {
    const element = box.current;
    const options = makeOptions({ element, series, spanS, format, max, steps, onPoint: setPointed });
    plot.current = new window.uPlot(options, dataOf(times, series), element);
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) plot.current.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current.destroy();
    };
    // What the axis says depends on neither data nor time.
  }, [theme, series.length, spanS, max]);
  useEffect(() => plot.current.setData(dataOf(times, series)), [times, series]);

  const index = pointed !== null && pointed < times.length ? pointed : null;
  const at = index === null ? "" : formatClock(times[index] * 1000);
  return html`<figure class="chart">
    <figcaption>
      <h3>${title}</h3>
      <span class="hint">${at || hint}</span>
    </figcaption>
    <ul class="legend">
      ${series.map(
        ({ label, color, values }) => html`<li key=${label}>
          <span class="swatch" style=${{ background: `var(${color})` }}></span>
          ${label} <strong>${show(index === null ? lastOf(values) : values[index], format)}</strong>
        </li>`,
      )}
    </ul>
    <div ref=${box} class="plot" role="img" aria-label=${describe(title, series, format)}></div>
  </figure>`;
}

const dataOf = (times, series) => [times, ...series.map(({ values }) => values)];
const lastOf = (values) => values.at(-1) ?? null;
const show = (value, format) => (value === null || value === undefined ? NONE : format(value));

function describe(title, series, format) {
  const told = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) return `${label}: nothing yet`;
    return `${label}: now ${show(lastOf(values), format)}, highest ${format(Math.max(...known))}`;
  });
  return `${title}. ${told.join("; ")}.`;
}

function makeOptions({ element, series, spanS, format, max, steps, onPoint }) {
  const axis = {
    stroke: readColor("--faint", element),
    font: FONT,
    grid: { stroke: readColor("--line", element), width: 1 },
    ticks: { show: false },
  };
  return {
    width: element.clientWidth || 300,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "history" } },
    scales: { x: { range: (_, first, last) => [beginOf(first, last, spanS), last] }, y: { range: (_, __, high) => [0, max ?? (high > 0 ? high * 1.15 : 1)] } },
    axes: [
      { ...axis, grid: { show: false }, space: 44, incrs: TIME_STEPS, size: 24, values: (_, ticks) => ticks.map((tick) => formatMinute(tick * 1000)) },
      { ...axis, space: 34, size: 56, incrs: steps, values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...series.map(({ label, color }, index) => {
        const stroke = readColor(color, element);
        return {
          label,
          stroke,
          width: 1.75,
          fill: series.length === 1 && index === 0 ? fade(stroke) : undefined,
          points: { size: 4, fill: stroke, filter: findLone },
        };
      }),
    ],
    hooks: { setCursor: [(plot) => onPoint(plot.cursor.idx ?? null)] },
  };
}

/** Where the time axis begins: a server that has just started fills it little by little. */
function beginOf(first, last, spanS) {
  return Math.max(last - spanS, Math.min(first, last - MIN_SPAN_S));
}

/** Points without a neighbour, which no line would show; null where all are drawn as it is. */
function findLone(plot, series, isShowingAll) {
  if (isShowingAll) return null;
  const values = plot.data[series];
  return values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
}

/** The same colour, nearly transparent. */
function fade(color) {
  return color.replace(/^rgb\((.*)\)$/, "rgba($1, 0.1)");
}
