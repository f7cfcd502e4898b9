import { defineMethod } from "@longctx/core";

/** The model as it is, `none()`: what every comparison starts from; it composes with every method. */
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
