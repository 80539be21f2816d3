/** The frame around every view: navigation, theme, whether the service answers; and which view an address shows. */

import { computed, html, render, useEffect, useErrorBoundary, useRef, useState } from "./lib/preact.js";
import { href, listen, place, PREFIX } from "./lib/router.js";
import { announced, Button, Loading, Notice, PageHead, ProblemNotice, Segmented } from "./lib/parts.js";
import { theme } from "./lib/theme.js";
import { keepFocus } from "./lib/focus.js";
import { health, useHealth } from "./lib/health.js";
import { forget, key } from "./lib/key.js";
import { install, KeyDialog } from "./lib/keyed.js";
import { Waits } from "./lib/waits.js";

/**
 * @typedef {object} Route
 * @property {RegExp} path
 * @property {string} view the module in `views/`; service/routes/pages.py names it for the same address
 * @property {string} section what the navigation shows as current
 * @property {(params: Record<string, string>) => string} title
 */

/** @type {Route[]} */
const ROUTES = [
  { path: /^\/ui\/(models\/?)?$/, view: "models", section: "models", title: () => "Models" },
  { path: /^\/ui\/models\/(?<name>[^/]+)$/, view: "model", section: "models", title: (given) => given.name ?? "" },
  { path: /^\/ui\/new$/, view: "new", section: "new", title: () => "New job" },
  { path: /^\/ui\/jobs$/, view: "jobs", section: "jobs", title: () => "Jobs" },
  { path: /^\/ui\/jobs\/(?<id>[^/]+)$/, view: "job", section: "jobs", title: (given) => `Job ${given.id}` },
  { path: /^\/ui\/compare$/, view: "compare", section: "compare", title: () => "Compare" },
];

const SECTIONS = [
  { id: "models", path: "/ui/", title: "Models" },
  { id: "new", path: "/ui/new", title: "New job" },
  { id: "jobs", path: "/ui/jobs", title: "Jobs" },
  { id: "compare", path: "/ui/compare", title: "Compare" },
];

const HEALTH_SECONDS = 30;

/** @param {string} path */
function routeOf(path) {
  for (const route of ROUTES) {
    const found = route.path.exec(path);
    if (found) {
      try {
        const given = Object.entries(found.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]);
        return { route, params: /** @type {Record<string, string>} */ (Object.fromEntries(given)) };
      } catch {
        return null; // a "%" that stands for no character
      }
    }
  }
  return null;
}

function Brand() {
  return html`<a class="brand" href=${href("/ui/")}>
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="#0072b2" />
      <path d="M6 26V6h4v20zm6 0V12h4v14zm6 0v-8h4v8z" fill="#fff" />
      <path d="M24 26v-3h3v3z" fill="#e69f00" />
    </svg>
    tailprune
  </a>`;
}

/** @param {{section?: string | undefined}} props */
function Navigation({ section }) {
  return html`<nav class="frame-nav" aria-label="Pages">
    <ul class="nav">
      ${SECTIONS.map(
        ({ id, path, title }) =>
          html`<li><a href=${href(path)} aria-current=${id === section ? "page" : undefined}>${title}</a></li>`,
      )}
    </ul>
  </nav>`;
}

function ThemeSwitch() {
  const options = [
    { value: "auto", title: "Auto" },
    { value: "light", title: "Light" },
    { value: "dark", title: "Dark" },
  ];
  return html`<${Segmented}
    label="Theme"
    hideLabel
    options=${options}
    value=${theme.value}
    onChange=${(/** @type {import("./lib/theme.js").Theme} */ chosen) => (theme.value = chosen)}
  />`;
}

/** What the footer says of the service; asked every half minute, while the page is seen. */
function Health() {
  useHealth(HEALTH_SECONDS);
  const { ready, error } = health.value;
  if (error) return html`<span>the service does not answer, or has no Redis</span>`;
  if (!ready) return html`<span></span>`;
  const { workers, queued } = ready;
  return html`<span>${workers.length} ${workers.length === 1 ? "worker" : "workers"}, ${queued} queued</span>`;
}

function NotFound() {
  return html`<${PageHead} title="No such page" lead="There is nothing at this address." />
    <p><a href=${href("/ui/")}>The models</a> are a place to begin.</p>`;
}

/** @param {{error: unknown}} props */
function NotLoaded({ error }) {
  return html`<${PageHead} title="This page was not loaded" />
    <${Notice} kind="warn" role="alert">
      <p>tailprune was probably updated since this page was opened. ${String(error)}</p>
      <p><a href=${location.href} data-reload target="_self">Load the page again</a></p>
    </${Notice}>`;
}

/**
 * A view, or what went wrong while it was drawn: its address may have values that no page writes.
 * @param {{view: any, params: Record<string, string>, query: URLSearchParams}} props
 */
function Guarded({ view, params, query }) {
  const [error] = useErrorBoundary();
  if (!error) return html`<${view} params=${params} query=${query} />`;
  return html`<${PageHead} title="This page cannot be shown" lead="Its address may have a value that it cannot use." />
    <div class="stack">
      <${ProblemNotice} error=${error} />
      <p><a href=${href(place.value.path)}>Open it without the values of its address</a></p>
    </div>`;
}

/** @param {{route: Route, params: Record<string, string>}} props */
function View({ route, params }) {
  const [shown, setShown] = useState(/** @type {{route?: Route, view?: any, error?: unknown}} */ ({}));
  useEffect(() => {
    let current = true;
    import(`./views/${route.view}.js`).then(
      (module) => current && setShown({ route, view: module.default }),
      (error) => current && setShown({ route, error }),
    );
    return () => {
      current = false;
    };
  }, [route]);
  if (shown.route !== route) return html`<${Loading} />`;
  if (shown.error) return html`<${NotLoaded} error=${shown.error} />`;
  return html`<${Guarded} key=${place.value.visit} view=${shown.view} params=${params} query=${place.value.query} />`;
}

const path = computed(() => place.value.path);
const visit = computed(() => place.value.visit);

function App() {
  const found = routeOf(path.value);
  const title = found ? found.route.title(found.params) : "No such page";
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    document.title = `${title} · tailprune`;
  }, [title]);
  useEffect(() => keepFocus(/** @type {HTMLElement} */ (main.current)), []);
  useEffect(() => {
    if (visit.value === 0) return undefined; // the browser has just loaded the page, and begins at its top
    scrollTo(0, 0);
    return focusHeading(/** @type {HTMLElement} */ (main.current));
  }, [visit.value]);
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="frame-header">
      <div>
        <${Brand} />
        <${Navigation} section=${found?.route.section} />
        <div class="frame-tools"><${ThemeSwitch} /></div>
      </div>
    </header>
    <main class="frame-main" id="main" tabindex="-1" ref=${main}>
      ${found ? html`<${View} route=${found.route} params=${found.params} />` : html`<${NotFound} />`}
      <${Waits} />
    </main>
    <footer class="frame-footer">
      <div>
        <${Health} />
        <a href=${`${PREFIX}/docs`}>HTTP reference</a>
        <a href=${`${PREFIX}/openapi.yaml`}>openapi.yaml</a>
        ${
          key.value
            ? html`<${Button} small kind="quiet" onClick=${forgetKey}>Forget the key</${Button}>`
            : html`<a href=${`${PREFIX}/metrics`}>Telemetry</a>`
        }
      </div>
    </footer>
    <div class="sr-only" role="status" aria-live="polite">${announced.value}</div>
    <${KeyDialog} />
  `;
}

/** Forget the key, and with it all that was shown with it. */
function forgetKey() {
  forget();
  location.reload();
}

/**
 * Move the focus to the heading of a view as soon as there is one, so that screen readers and keys go on from there.
 * @param {HTMLElement} main
 */
function focusHeading(main) {
  const focus = () => main.querySelector("h1")?.focus({ preventScroll: true });
  if (main.querySelector("h1")) {
    focus();
    return undefined;
  }
  const seen = new MutationObserver(() => {
    if (!main.querySelector("h1")) return;
    seen.disconnect();
    focus();
  });
  seen.observe(main, { childList: true, subtree: true });
  return () => seen.disconnect();
}

listen();
install();
const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.replaceChildren();
render(html`<${App} />`, root);
