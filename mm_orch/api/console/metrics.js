// Follows the server's measurements: the whole history once, then only its new points.

import { usePoll } from "./server.js";

const PATH = "api/metrics";
// As long as the server itself keeps them.
const HISTORY_S = 1800;
// What a model that is left out of a point did in it.
const IDLE = { requests_per_second: 0, failures_per_second: 0, tokens_per_second: 0, requests_running: 0, requests_waiting: 0 };

const lastOf = (figures) => figures?.history.points.at(-1) ?? null;

function pathFor(known) {
  const last = lastOf(known);
  return last ? `${PATH}?after=${last.at}` : PATH;
}

function merge(known, fresh) {
  const begin = lastOf(known)?.at ?? -Infinity;
  const news = fresh.history.points.filter((point) => point.at > begin);
  const points = [...(known?.history.points ?? []), ...news];
  const end = points.at(-1)?.at ?? 0;
  const kept = points.filter((point) => point.at > end - HISTORY_S);
  return { ...fresh, history: { ...fresh.history, points: kept } };
}

export const useMetrics = () => usePoll(PATH, { pathFor, merge });

/** The last whole interval, of all models together; empty where there was none yet. */
export const lastTotal = (figures) => lastOf(figures)?.total ?? {};

/** One figure of all points, null where nothing was measured; model "" is all together. */
export function seriesOf(points, model, key) {
  return points.map((point) => (model ? (point.models[model] ?? IDLE) : point.total)[key] ?? null);
}

export function modelNames(figures) {
  const measured = figures.models.map((model) => model.model);
  return [...new Set([...measured, ...figures.history.points.flatMap((point) => Object.keys(point.models))])].sort();
}
