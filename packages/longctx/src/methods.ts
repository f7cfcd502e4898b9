import { readJson } from "#platform";
import { compose, MethodRegistry, type Composition } from "@longctx/core";
import { infiniMethods } from "@longctx/infini";
import { parseScroll, retrievalMethods, type ScrollSpec } from "@longctx/retrieval";
import { ropeMethods } from "@longctx/rope";
import { windowMethods } from "@longctx/windows";

/** Every method there is: what the command line, the benchmark, the tests and the docs read. */
export const methods = new MethodRegistry(
  [...ropeMethods, ...windowMethods, ...infiniMethods, ...retrievalMethods],
  readJson,
);

/** `yarn:factor=4+streaming:sinks=4,window=1020` as one method. @throws LongctxError "method", "file" */
export function parseMethod(spec: string): Composition {
  return compose(...methods.parse(spec));
}

/** `scroll:chunk=1024,heads=14.3/15.6` as the options of a reader. @throws LongctxError "argument", "file" */
export function parseReader(spec: string): ScrollSpec {
  return parseScroll(spec, readJson);
}
