// What a client in TypeScript does with the types that openapi-typescript makes of the contract.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type AnyJob = components["schemas"]["AnyJob"];

const client = createClient<paths>({ baseUrl: process.argv[2]! });
const model = "tiny";
const wait = { header: { Prefer: "wait=60" } };
const PNG = [0x89, 0x50, 0x4e, 0x47];
const calls: [name: string, call: () => Promise<void>][] = [
  ["models", async () => {
    const { data } = await client.GET("/models");
    assert.ok(data!.models.some((each) => each.name === model && each.ready));
  }],
  ["model", async () => {
    const { data } = await client.GET("/models/{model}", { params: { path: { model } } });
    assert.deepEqual(data!.class_names, ["circle", "square", "star", "ring"]);
    assert.match(data!.digest!, /^[0-9a-f]{64}$/);
  }],
  ["prune-sample, its pictures, and the job", async () => {
    const { data, response } = await client.POST("/prune-sample", {
      params: wait, body: { model, threshold: [0.5, 1], labels: ["star", 0] },
    });
    assert.equal(response.status, 200);
    assert.deepEqual(data!.request.labels, [2, 0]);
    const shown = data!.result!.variants.map((variant) => variant.removed?.fraction ?? 0);
    assert.equal(shown.length, 3);
    const grid = await client.GET("/jobs/{id}/artifacts/{name}", {
      params: { path: { id: data!.id, name: data!.result!.grid } }, parseAs: "arrayBuffer",
    });
    assert.deepEqual([...new Uint8Array(grid.data!)].slice(0, 4), PNG);
    const job = await client.GET("/jobs/{id}", { params: { path: { id: data!.id } } });
    assert.equal(about(job.data!), "3 variants");
  }],
  ["study", async () => {
    const { data } = await client.POST("/studies", {
      params: wait,
      body: { model, grid: { thresholds: [0.5], schedules: [{ when: "last", count: 2 }] }, measures: ["drift"] },
    });
    assert.equal(data!.result!.variants[1]!.name, "tail 0.5, last 2 steps");
    assert.ok(data!.result!.variants[1]!.scores.drift!.value! > 0);
  }],
  ["extract", async () => {
    const { data } = await client.POST("/extract", { params: wait, body: { model, parts: ["y"] } });
    assert.deepEqual(data!.result!.shapes["y"], [4, 32]);
  }],
  ["compact", async () => {
    const { data } = await client.POST("/compact", { params: wait, body: { model, keep: 8, by: "directions" } });
    assert.ok(data!.result!.parameters.after < data!.result!.parameters.before);
  }],
  ["metrics", async () => {
    const { data, response } = await client.GET("/metrics/{model}", {
      params: { path: { model }, query: { part: "y", threshold: [0.5] }, ...wait },
    });
    assert.equal(response.status, 200);
    assert.ok(data !== undefined && "npr" in data && data.npr > 0 && data.npr <= 1);
  }],
  ["figure", async () => {
    const { data } = await client.GET("/metrics/{model}/figures/{figure}", {
      params: { path: { model, figure: "histogram" }, ...wait }, parseAs: "arrayBuffer",
    });
    assert.deepEqual([...new Uint8Array(data as ArrayBuffer)].slice(0, 4), PNG);
  }],
  ["jobs", async () => {
    const { data } = await client.GET("/jobs", { params: { query: { kind: ["prune-sample"], limit: 1 } } });
    assert.equal(data!.jobs[0]!.title, "prune-sample of tiny at 0.5, 1");
    assert.equal(data!.jobs[0]!.problem, null);
  }],
  ["404", async () => {
    const { error } = await client.GET("/models/{model}", { params: { path: { model: "absent" } } });
    assert.equal(error!.type, "urn:tailprune:problem:unknown-model");
  }],
  ["409", async () => {
    const { error } = await client.DELETE("/models/{model}", { params: { path: { model } } });
    assert.equal(error!.status, 409);
  }],
  ["422", async () => {
    const { error } = await client.POST("/prune-sample", { body: { model, threshold: 0.5, labels: ["cricle"] } });
    assert.match(error!.errors![0]!.message, /the closest name is 'circle'/);
  }],
];

/** `kind` decides the type of the result. */
function about(job: AnyJob): string {
  switch (job.kind) {
    case "prune-sample": return `${job.result?.variants.length} variants`;
    case "study": return `${job.result?.measures.length} measures`;
    case "extract": return `${job.result?.bytes} bytes`;
    case "compact": return `${job.result?.kept} kept`;
    case "compact-transformer": return `${job.result?.rank} directions`;
    case "metrics": return `nPR ${job.result?.npr}`;
    case "figure": return `${job.result?.caption}`;
    case "cosine": return `cosine ${job.result?.mean}`;
    case "over-time": return `${job.result?.npr.length} times`;
    case "removal": return `${job.result?.prunes.length} prunes`;
    case "edit": return `${job.result?.variants.length} strengths`;
    case "figure-transformer": return `${job.result?.caption}`;
    case "metrics-transformer": return `${job.result?.parts.length} parts of c`;
    case "over-time-transformer": return `${job.result?.timesteps.length} times`;
    case "anatomy": return `${job.result?.adaln_parameters} parameters of AdaLN`;
    case "attribution": return `${job.result?.attributes.length} attributes`;
    case "register": return `${job.result?.parameters} parameters`;
  }
}

for (const [name, call] of calls) {
  await call();
  console.log(name);
}
