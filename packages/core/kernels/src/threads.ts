import { attentionPart, scoresOfPart } from "./attention";
import { listsPart } from "./lists";
import { nearestPart } from "./nearest";
import { Product, productPart } from "./products";

/**
 * Where threads meet; the caller keeps the first 512 bytes free. Work is claimed part by part through `REMAINING`, and
 * whoever has claimed one may rely on the job until it has counted it as done.
 */
const REMAINING: usize = 64;
const DONE: usize = 128;
const JOB: usize = 192;
const KIND: usize = 200;
const SLEEPERS: usize = 256;
/** How often a thread looks for work before it sleeps, which the host writes. */
const PATIENCE: usize = 208;

/** Kinds of jobs. */
export const PRODUCT = 0;
export const ATTENTION = 1;
export const SCORES = 2;
export const LISTS = 3;
export const NEAREST = 4;

/** Does the parts of a job together with the threads that serve. */
export function share(kind: i32, job: usize, parts: i32): void {
  store<usize>(JOB, job);
  store<i32>(KIND, kind);
  atomic.store<i32>(DONE, 0);
  atomic.store<i32>(REMAINING, parts);
  if (atomic.load<i32>(SLEEPERS) > 0) atomic.notify(REMAINING, -1);
  while (claim()) {}
  while (atomic.load<i32>(DONE) < parts) {}
}

/** A thread's life: takes part in jobs until `stop`. */
export function serve(): void {
  const patience = load<i32>(PATIENCE);
  for (let spins = 0; atomic.load<i32>(REMAINING) >= 0; ) {
    if (claim()) spins = 0;
    else if (++spins > patience) {
      atomic.add<i32>(SLEEPERS, 1);
      atomic.wait<i32>(REMAINING, 0, -1);
      atomic.sub<i32>(SLEEPERS, 1);
      spins = 0;
    }
  }
}

export function stop(): void {
  atomic.store<i32>(REMAINING, -1);
  atomic.notify(REMAINING, -1);
}

/** Takes one part of the job at hand; false when there is none. */
function claim(): bool {
  const remaining = atomic.load<i32>(REMAINING);
  if (remaining <= 0) return false;
  if (atomic.cmpxchg<i32>(REMAINING, remaining, remaining - 1) != remaining) return true;
  const job = load<usize>(JOB);
  const part = remaining - 1;
  const kind = load<i32>(KIND);
  if (kind == PRODUCT) productPart(changetype<Product>(job), part);
  else if (kind == ATTENTION) attentionPart(job, part);
  else if (kind == SCORES) scoresOfPart(job, part);
  else if (kind == LISTS) listsPart(job, part);
  else nearestPart(job, part);
  atomic.add<i32>(DONE, 1);
  return true;
}
