import { LongctxError } from "@longctx/core";

/** What a call says that it failed with, code first; "" when it went well. */
export async function failure(act: () => Promise<unknown>): Promise<string> {
  try {
    await act();
    return "";
  } catch (error) {
    return error instanceof LongctxError ? `${error.code}: ${error.message}` : `defect: ${String(error)}`;
  }
}
