import { defineMethod } from "@longctx/core";

/** The model as it is, to which every method is compared; it can be combined with all of them. */
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
