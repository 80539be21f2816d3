/** Two models, two times of one, or two jobs, side by side. What is compared is in the address. */

import { html } from "../lib/preact.js";
import { setQuery } from "../lib/router.js";
import { getJson } from "../lib/api.js";
import { useLoaded } from "../lib/load.js";
import { Loading, Notice, PageHead, ProblemNotice, Segmented } from "../lib/parts.js";
import { Models } from "./compare/models.js";
import { Jobs } from "./compare/jobs.js";

const JOB = /^[0-9a-z]{26}$/;
const WHAT = [
  { value: "models", title: "Models" },
  { value: "jobs", title: "Jobs and studies" },
];

/** @param {{query: URLSearchParams}} props */
export default function Compare({ query }) {
  const [a, b] = [query.get("a"), query.get("b")];
  const jobs = [a, b].map((each) => JOB.test(each ?? ""));
  const what = query.get("what") === "jobs" || jobs.some(Boolean) ? "jobs" : "models";
  return html`
    <${PageHead}
      title="Compare"
      lead="Two models, two times of one model, two jobs or two studies. Colours and axes mean the same on both sides."
    />
    <div class="stack">
      <${Segmented}
        label="Compare"
        options=${WHAT}
        value=${what}
        onChange=${(/** @type {string} */ value) =>
          setQuery({ ...NOTHING, what: value === "models" ? null : value })}
      />
      ${what === "jobs"
        ? html`<${Jobs} a=${jobs[0] ? a : null} b=${jobs[1] ? b : null} query=${query} />`
        : html`<${ReadyModels} a=${a} b=${b} query=${query} />`}
    </div>
  `;
}

/** What the address of one comparison has, and that of another kind has not. */
const NOTHING = Object.fromEntries(
  ["a", "b", "ta", "tb", "ca", "cb", "va", "vb", "part", "order", "class", "measure"].map((name) => [name, null]),
);

/** @param {{a: string | null, b: string | null, query: URLSearchParams}} props */
function ReadyModels({ a, b, query }) {
  const { data, error, reload } = useLoaded((signal) => getJson("/models", { signal }), []);
  if (error) return html`<${ProblemNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading}>Loading models</${Loading}>`;
  /** @type {any[]} */
  const models = data.models;
  const ready = models.filter((each) => each.ready);
  const first = a ?? ready[0]?.name;
  if (!first) return html`<${Notice} kind="info" title="No model is ready">Models that are ready can be compared.</${Notice}>`;
  const takes = (/** @type {any} */ model) => Object.keys(model?.conditions ?? {}).join();
  const like = takes(models.find(({ name }) => name === first));
  const other = ready.find((each) => each.name !== first && takes(each) === like);
  return html`<${Models} a=${first} b=${b ?? other?.name ?? first} ready=${ready.map(({ name }) => name)} query=${query} />`;
}
