import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** Where downloads are kept: LONGCTX_CACHE, else XDG_CACHE_HOME/longctx, else ~/.cache/longctx. Not created here. */
export function cacheDirectory(): string {
  const own = process.env["LONGCTX_CACHE"];
  if (own) return resolve(own);
  const shared = process.env["XDG_CACHE_HOME"];
  return shared ? join(resolve(shared), "longctx") : join(homedir(), ".cache", "longctx");
}
