import { readJson } from "#platform";
import { compose, MethodRegistry, type Composition } from "@longctx/core";
import { infiniMethods } from "@longctx/infini";
import { retrievalMethods } from "@longctx/retrieval";
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
