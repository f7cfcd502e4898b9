import { defineMethod, instantiate, type Method } from "@longctx/core";

/** The model as it is; the row that every comparison starts from. */
export const noneMethod = defineMethod({
  name: "none",
  axes: [],
  summary: "The model as it is.",
  definition: "h(i) = θ_i; g(m, n) = m − n, visible where n ≤ m; τ = 1",
  paper: "none",
  deviations: "none",
  parameters: {},
  create: (_, spec): Method => ({ spec, axes: [] }),
});

/** The model as it is, which composes with every method. */
export function none(): Method {
  return instantiate(noneMethod, {});
}
