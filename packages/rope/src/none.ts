import { defineMethod } from "@longctx/core";

/** The unmodified model, which all methods are compared with; it can be combined with any method. */
export const none = defineMethod({
  name: "none",
  axes: [],
  summary: "The model as it is.",
  definition: "h(i) = θ_i; g(m, n) = m − n, visible where n ≤ m; τ = 1",
  paper: "none",
  deviations: "none",
  parameters: {},
  create: () => ({}),
});
