// The frame around the pages: which page, its heading, the server's state, the theme.

import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { Alerts } from "./alerts.js";
import { askForKey, KeyBanner, KeyDialog } from "./key.js";
import { Models } from "./models.js";
import { Overview } from "./overview.js";
import { Pill } from "./parts.js";
import { Playground } from "./playground.js";
import { Requests } from "./requests.js";
import { Self } from "./self.js";
import { useLink, usePoll } from "./server.js";
import { applyTheme, nextTheme, readTheme } from "./theme.js";
import { Tuner } from "./tuner.js";
import { formatClock, sentenceCase } from "./words.js";

const PAGES = {
  overview: { name: "Overview", title: "Overview", show: Overview },
  models: { name: "Models", title: "Engines and models", show: Models },
  alerts: { name: "Alerts", title: "Alerts", show: Alerts },
  requests: { name: "Requests", title: "Recent requests", show: Requests },
  tuner: { name: "Tuner", title: "Tuner", show: Tuner },
  self: { name: "Self", title: "What the system knows of itself", show: Self },
  playground: { name: "Playground", title: "Playground", show: Playground },
};

/** "#/requests/abc" as ["requests", "abc"]; what is unknown is the overview. */
function readRoute() {
  const [, page = "", ...rest] = location.hash.split("/");
  return [Object.hasOwn(PAGES, page) ? page : "overview", decode(rest.join("/"))];
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function useRoute() {
  const [route, setRoute] = useState(readRoute());
  useEffect(() => {
    const follow = () => setRoute(readRoute());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

function Navigation({ page, numAlerts }) {
  const list = useRef(null);
  const hasAlerts = numAlerts > 0;
  useEffect(() => {
    // On a narrow screen not all names fit.
    list.current.querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  }, [page, hasAlerts]);
  return html`<nav ref=${list} aria-label="Pages">
    ${Object.entries(PAGES).map(
      ([key, { name }]) => html`<a
        key=${key}
        href=${`#/${key}`}
        aria-current=${key === page ? "page" : null}
      >
        ${name}${key === "alerts" && hasAlerts && html` <span class="count" aria-label="${numAlerts} firing">${numAlerts}</span>`}
      </a>`,
    )}
  </nav>`;
}

function ServerState({ status }) {
  const { isAway, refusal } = useLink();
  const state = isAway ? "away" : refusal ? "locked" : (status?.health.status ?? "connecting");
  const words = { away: "Server away", locked: "Needs a key", connecting: "Connecting" };
  const tone = { away: "error", locked: "warning" }[state] ?? state;
  return html`<div role="status" class="server-state">
    <${Pill} state=${tone} label=${words[state] ?? sentenceCase(state)} />
  </div>`;
}

function ThemeButton() {
  const [theme, setTheme] = useState(readTheme());
  const change = () => setTheme(applyTheme(nextTheme(theme)));
  return html`<button type="button" class="quiet" onClick=${change} title="Change the theme">
    <span class="wide">Theme: </span>${theme}
  </button>`;
}

function AwayBanner() {
  const { isAway, awaySince } = useLink();
  if (!isAway) return null;
  return html`<div class="banner" data-tone="bad" role="alert">
    The server has not answered since ${formatClock(awaySince)}. What you see is from before; it is
    asked again every two seconds.
  </div>`;
}

function App() {
  const [page, detail] = useRoute();
  const { title, show: Page } = PAGES[page];
  const { isAway } = useLink();
  const { data: status } = usePoll("api/status");
  const { data: alerts } = usePoll("admin/alerts");
  const heading = useRef(null);
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${title} · MuAI console`;
    // Whoever follows a link with the keyboard goes on where the new page begins.
    if (!isFirst.current) heading.current.focus();
    isFirst.current = false;
  }, [page]);
  return html`
    <button type="button" class="skip" onClick=${() => heading.current.focus()}>Skip to the page</button>
    <header>
      <a class="brand" href="#/overview"><img src="console/icon.svg" alt="" width="28" height="28" />MuAI</a>
      <${Navigation} page=${page} numAlerts=${alerts?.firing?.length ?? 0} />
      <div class="tools">
        <${ServerState} status=${status} />
        <button type="button" class="quiet" onClick=${askForKey}>Key</button>
        <${ThemeButton} />
      </div>
    </header>
    <${AwayBanner} />
    <${KeyBanner} />
    <main class=${isAway ? "stale" : ""}>
      <h1 ref=${heading} tabindex="-1">${title}</h1>
      <${Page} detail=${detail} />
    </main>
    <${KeyDialog} />
  `;
}

applyTheme(readTheme());
render(html`<${App} />`, document.getElementById("app"));
