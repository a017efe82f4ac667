// Talks to the server: the key, single calls, polling, and whether it is there at all.

import { useEffect, useState } from "./vendor/htm-preact.module.js";

// Relative to this module, so that it also works behind a prefix that a proxy takes away.
const ROOT = new URL("../", import.meta.url);
const KEY = "muai-key";
const POLL_MS = 2000;
// What is not there now may be there after a restart with another configuration.
const ABSENT_POLL_MS = 15000;
const TIMEOUT_MS = 10000;
// Loading a model can take minutes; the server has a deadline of its own.
const ACTION_TIMEOUT_MS = 600000;

/** What the server refused, or null as status where it did not answer. */
export class ServerError extends Error {
  constructor(message, { status = null, code = null, hasKey = false } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.hasKey = hasKey;
  }

  get isAway() {
    return this.status === null;
  }

  get isAboutKey() {
    return this.status === 401 || (this.status === 403 && this.hasKey);
  }
}

const listeners = new Set();
/** The link's state: isAway and since when, and the last refusal of a key. */
export const link = { isAway: false, awaySince: null, refusal: null };

function changeLink(change) {
  if (Object.entries(change).every(([name, value]) => link[name] === value)) return;
  Object.assign(link, change);
  for (const listener of [...listeners]) listener();
}

export function useLink() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return link;
}

export const getKey = () => sessionStorage.getItem(KEY) ?? "";

/** Keep the key for this tab alone, and ask everything again with it. */
export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  changeLink({ refusal: null });
  for (const poll of polls.values()) poll.refresh();
}

/** Send one request; resolves with the response, whose status is good, else throws ServerError. */
export async function send(method, path, { body = null, signal = null } = {}) {
  const key = getKey();
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== null) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method,
      headers,
      signal,
      body: body === null ? null : JSON.stringify(body),
      cache: "no-store",
    });
  } catch (error) {
    // Whoever broke it off knows; that says nothing of the server.
    if (error.name === "AbortError") throw error;
    noteAway();
    throw new ServerError("The server does not answer.");
  }
  noteHere();
  if (response.ok) {
    // Other paths may be open to anyone.
    if (link.refusal && path === "api/status") changeLink({ refusal: null });
    return response;
  }
  const error = await readError(response, Boolean(key));
  // One that was under way with an older key says nothing of this one.
  if (error.status === 401 && key === getKey()) changeLink({ refusal: error });
  throw error;
}

export async function call(method, path, { timeoutMs = ACTION_TIMEOUT_MS } = {}) {
  const response = await send(method, path, { signal: AbortSignal.timeout(timeoutMs) });
  return response.json();
}

async function readError(response, hasKey) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // A proxy's page, perhaps: its status must do.
  }
  const message = told.message ?? `The server answered with status ${response.status}.`;
  return new ServerError(message, { status: response.status, code: told.code ?? null, hasKey });
}

function noteAway() {
  if (!link.isAway) changeLink({ isAway: true, awaySince: new Date() });
}

function noteHere() {
  if (!link.isAway) return;
  changeLink({ isAway: false, awaySince: null });
  for (const poll of polls.values()) poll.refresh();
}

/** Asks one path again and again while anyone looks; all who look share it. */
class Poll {
  /** pathFor and merge let a path that tells only news be asked for those. */
  constructor(path, { pathFor = () => path, merge = (_, fresh) => fresh } = {}) {
    this.pathFor = pathFor;
    this.merge = merge;
    this.state = { data: null, error: null };
    this.listeners = new Set();
    this.timer = null;
    this.round = 0;
  }

  add(listener) {
    this.listeners.add(listener);
    if (this.listeners.size === 1) this.refresh();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.rest();
    };
  }

  rest() {
    clearTimeout(this.timer);
    this.timer = null;
    this.round += 1;
  }

  /** Ask now; an answer that is still under way no longer counts. */
  async refresh() {
    this.rest();
    if (this.listeners.size === 0 || document.hidden) return;
    const round = this.round;
    let waitMs = POLL_MS;
    try {
      this.state = { data: await this.ask(round), error: null };
    } catch (error) {
      if (round !== this.round) return;
      // What was known last stays while the server is away.
      this.state = { data: error.isAway ? this.state.data : null, error };
      if (error.status === 404 || error.status === 403) waitMs = ABSENT_POLL_MS;
      // Only another key changes that.
      if (error.isAboutKey) waitMs = null;
    }
    if (round !== this.round) return;
    for (const listener of [...this.listeners]) listener();
    if (waitMs !== null) this.timer = setTimeout(() => this.refresh(), waitMs);
  }

  async ask(round) {
    try {
      const fresh = await call("GET", this.pathFor(this.state.data), { timeoutMs: TIMEOUT_MS });
      return this.merge(this.state.data, fresh);
    } catch (error) {
      if (error instanceof ServerError) throw error;
      if (round === this.round) noteAway();
      throw new ServerError("The server does not answer in time.");
    }
  }
}

const polls = new Map();

function pollOf(path, options) {
  if (!polls.has(path)) polls.set(path, new Poll(path, options));
  return polls.get(path);
}

document.addEventListener("visibilitychange", () => {
  for (const poll of polls.values()) {
    if (document.hidden) poll.rest();
    else poll.refresh();
  }
});

/** What a path last answered: {data, error}, either null; asked every two seconds while shown. */
export function usePoll(path, options = undefined) {
  const [, redraw] = useState(0);
  useEffect(() => pollOf(path, options).add(() => redraw((count) => count + 1)), [path]);
  return pollOf(path, options).state;
}

/** Ask a path now, after something was changed there. */
export const refresh = (path) => pollOf(path).refresh();
