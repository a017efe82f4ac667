// Asks for the key, which stays in this tab.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { getKey, setKey, useLink } from "./server.js";

const dialog = { show: () => {} };

export const askForKey = () => dialog.show();

function sayWhy(refusal) {
  if (!refusal) return "The calls of this page are sent with this key.";
  return refusal.hasKey
    ? "The server does not know this key. Check it, or enter another one of api.api_keys."
    : "This server asks for a key. Enter one of api.api_keys.";
}

export function KeyDialog() {
  const { refusal } = useLink();
  const box = useRef(null);
  const field = useRef(null);
  const wasAsked = useRef(false);
  const [hasKey, setHasKey] = useState(Boolean(getKey()));
  const show = () => {
    if (!box.current || box.current.open) return;
    field.current.value = "";
    setHasKey(Boolean(getKey()));
    box.current.showModal();
  };
  useEffect(() => {
    dialog.show = show;
  }, []);
  useEffect(() => {
    // Once by itself, and again for a key that was wrong; whoever closes it is left in peace.
    if (refusal && (refusal.hasKey || !wasAsked.current)) {
      wasAsked.current = true;
      show();
    }
  }, [refusal]);

  function keep(event) {
    event.preventDefault();
    const key = field.current.value.trim();
    if (!key) return;
    box.current.close();
    setKey(key);
  }
  function forget() {
    box.current.close();
    setKey("");
  }
  return html`<dialog ref=${box} class="dialog" aria-labelledby="key-title">
    <form onSubmit=${keep}>
      <h2 id="key-title">Key</h2>
      <p role="status">${sayWhy(refusal)}</p>
      <label class="field">
        <span>API key</span>
        <input ref=${field} type="password" name="key" autocomplete="off" spellcheck=${false} required />
      </label>
      <p class="hint">
        To load, unload or drain models, and to see alerts and requests, it has to be a key with
        admin: true. It is kept in this tab until the tab is closed.
      </p>
      <div class="buttons">
        <button type="submit" class="primary">Use this key</button>
        ${hasKey && html`<button type="button" onClick=${forget}>Forget the key</button>`}
        <button type="button" onClick=${() => box.current.close()}>Cancel</button>
      </div>
    </form>
  </dialog>`;
}

/** Stays while the server refuses to answer without a good key. */
export function KeyBanner() {
  const { refusal } = useLink();
  if (!refusal) return null;
  return html`<div class="banner" data-tone="warn" role="status">
    <span>${sayWhy(refusal)}</span>
    <button type="button" onClick=${askForKey}>Enter a key</button>
  </div>`;
}
