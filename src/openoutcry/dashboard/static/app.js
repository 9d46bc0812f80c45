// The page's frame: the bar with the switch, the screens' links, and which screen an address shows.
import { html, render, useEffect, useState } from "./dom.js";
import { barred, stale, store, useStore, whoAmI } from "./store.js";
import { Bar } from "./bar.js";
import { Empty, go } from "./ui.js";

const SCREENS = [
  { name: "Floor", at: "/", match: /^\/$|^\/s\//, file: "floor" },
  { name: "Rounds", at: "/rounds", match: /^\/rounds/, file: "rounds" },
  { name: "Events", at: "/events", match: /^\/events/, file: "events" },
  { name: "Why", at: "/why", match: /^\/why/, file: "why" },
  { name: "Dead letters", at: "/dead", match: /^\/dead/, file: "dead" },
  { name: "Journal", at: "/journal", match: /^\/journal/, file: "journal" },
  { name: "Compare", at: "/compare", match: /^\/compare/, file: "compare", when: () => store.me?.compares },
  { name: "Desks", at: "/desks", match: /^\/desks/, file: "desks", when: () => store.pulse?.link },
];
const loaded = {};

function useAddress() {
  const [, set] = useState(0);
  useEffect(() => {
    const moved = () => set((n) => n + 1);
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  return { path: location.pathname, query: Object.fromEntries(new URLSearchParams(location.search)) };
}

function Screen({ path, query }) {
  const [, set] = useState(0), screen = SCREENS.find((s) => s.match.test(path));
  const Component = screen && loaded[screen.file];
  useEffect(() => {
    if (!screen) return;
    document.title = `${screen.name} · ${store.me?.firm || "openoutcry"}`;
    if (!Component) import(`./screens/${screen.file}.js`).then((m) => { loaded[screen.file] = m.default; }, (e) => { loaded[screen.file] = () => html`<${Empty}>This screen could not be loaded: ${e.message}<//>`; }).then(() => set((n) => n + 1));
  });
  if (!screen) return html`<${Empty}>There is no such screen. <a href="/">To the floor</a><//>`;
  const args = path.split("/").slice(2).map(decodeURIComponent);
  return Component && html`<h1 class="sr">${screen.name}</h1><${Component} path=${path} query=${query} args=${args} />`;
}

function Theme() {
  const [theme, set] = useState(document.documentElement.dataset.theme || "");
  const next = { "": "dark", dark: "light", light: "" }[theme];
  const change = () => {
    set(next);
    next ? localStorage.setItem("theme", next) : localStorage.removeItem("theme");
    next ? (document.documentElement.dataset.theme = next) : delete document.documentElement.dataset.theme;
  };
  return html`<button class="bare" onClick=${change} title="Light, dark, or as the system is">${theme || "auto"}</button>`;
}

function Page() {
  useStore();
  const { path, query } = useAddress(), old = stale();
  if (store.refused) return html`<main id="main" class="alone"><h1>Not logged in</h1><p>${store.refused}</p><p>Open the address that <code>openoutcry page</code> printed in its terminal; this page goes on by itself then.</p></main>`;
  return html`<a class="skip" href="#main">To the content</a>
    <${Bar} />
    <nav aria-label="Screens">${SCREENS.filter((s) => !s.when || s.when() || s.match.test(path)).map((s) => html`<a href=${s.at} aria-current=${s.match.test(path) ? "page" : null}>${s.name}</a>`)}
      <span class="rest">${store.me && store.me.role !== "act" && html`<span class="quiet" title=${barred()}>look only</span>`}<${Theme} /></span></nav>
    <main id="main" tabindex="-1" class=${old && store.pulse ? "old" : ""}><${Screen} path=${path} query=${query} /></main>`;
}

/** Focus the search field as soon as its screen is there. */
function focusSearch(tries) {
  const search = document.querySelector("[data-search]");
  if (search) search.focus();
  else if (tries) setTimeout(focusSearch, 50, tries - 1);
}

// Links within the page change the address and nothing else; the back button works.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.origin !== location.origin) return;
  if (link.hash) return document.getElementById(link.hash.slice(1))?.focus();
  event.preventDefault();
  go(link.pathname + link.search);
});
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    if (!document.querySelector("[data-search]")) go("/events");
    focusSearch(20);
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    const panel = document.querySelector(".panel [data-close]");
    if (panel) panel.click();
    else if (typing) event.target.blur();
    else document.querySelector("[data-close]")?.click();
  }
});

render(html`<${Page} />`, document.body);
whoAmI();
