// Puts numbers and times into words, the same way everywhere.

export const NONE = "–";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function formatCount(value) {
  return isNumber(value) ? whole.format(value) : NONE;
}

/** A number with as many digits as its size deserves. */
export function formatNumber(value) {
  if (!isNumber(value)) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 100) return whole.format(value);
  return value.toFixed(size >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}

export function formatSeconds(seconds) {
  if (!isNumber(seconds)) return NONE;
  if (seconds === 0) return "0 s";
  if (seconds < 0.01) return `${formatNumber(seconds * 1000)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return formatDuration(seconds);
}

/** Minutes and more; no fractions of a second. */
export function formatDuration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return pairOf(Math.floor(s / 60), "min", s % 60, "s");
  const hours = Math.floor(s / 3600);
  if (hours < 48) return pairOf(hours, "h", Math.floor((s % 3600) / 60), "min");
  return pairOf(Math.floor(hours / 24), "days", hours % 24, "h");
}

const pairOf = (large, unit, small, smallUnit) =>
  small > 0 ? `${large} ${unit} ${small} ${smallUnit}` : `${large} ${unit}`;

export function formatBytes(bytes) {
  if (!isNumber(bytes)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = bytes;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit > 0 && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function formatRatio(ratio) {
  if (!isNumber(ratio)) return NONE;
  const percent = ratio * 100;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

export function formatClock(time) {
  const date = time instanceof Date ? time : new Date(time);
  return Number.isNaN(date.getTime()) ? NONE : clock.format(date);
}

/** Hours and minutes, where seconds would only fill space. */
export const formatMinute = (time) => formatClock(time).slice(0, 5);

/** The time of day, with the date where that is not today's. */
export function formatMoment(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return NONE;
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

export function formatAgo(iso, now = Date.now()) {
  const seconds = (now - new Date(iso).getTime()) / 1000;
  return Number.isNaN(seconds) ? NONE : `${formatDuration(Math.max(0, seconds))} ago`;
}

export function plural(count, word, many = `${word}s`) {
  return `${formatCount(count)} ${count === 1 ? word : many}`;
}

export const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** "high_latency" as "High latency". */
export function sentenceCase(word) {
  return capitalize(String(word).replaceAll("_", " "));
}
