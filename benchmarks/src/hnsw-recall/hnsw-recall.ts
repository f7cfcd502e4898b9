import { join, resolve } from "node:path";
import { describeMachine, sourceRevision } from "../machine.ts";
import { table } from "../peers/report.ts";
import { readResult, RUNS, writeResult } from "../places.ts";
import { Progress } from "../progress.ts";
import { askedOf, type Asked, type Positions } from "./asked.ts";
import { collect, type Collected } from "./collect.ts";
import { inJavaScript, inKernels, inOnnxruntime } from "./exact.ts";
import { COUNTS, exactTime, mean, measure, truthOf, type Build } from "./measure.ts";
import { crossing, knee, type ExactTimes, type Point } from "./outcome.ts";

export interface HnswRecallOptions {
  readonly model: string;
  readonly lengths: readonly number[];
  readonly layers: readonly number[];
  /** The folder of kept keys and queries; benchmarks/runs unless given. */
  readonly kept: string | null;
  readonly dry: boolean;
  readonly command: string;
}

const EFS = [32, 64, 128, 256, 512, 1024, 4096];
const PLAIN: Build = { keys: "sphere, examples", M: 16, efConstruction: 200 };
const BUILDS: readonly Build[] = [
  { ...PLAIN, keys: "raw" },
  { ...PLAIN, keys: "sphere" },
  ...[8, 16, 32].flatMap((M) => [100, 200].map((efConstruction): Build => ({ ...PLAIN, M, efConstruction }))),
];
/**
 * Beyond so many keys, which take minutes to add, there is no graph of raw keys, no search with all keys as candidates,
 * no other positions, and only some of the graphs.
 */
const MANY = 40_000;

/** The graphs that are built: at other positions two are enough to see the difference. */
function buildsFor(positions: Positions, rows: number): readonly Build[] {
  const others: readonly Build[] = [PLAIN, { ...PLAIN, keys: "sphere" }];
  if (positions === "true") return others;
  return rows <= MANY ? BUILDS : [...others, { ...PLAIN, M: 8, efConstruction: 100 }, { ...PLAIN, M: 32 }];
}

function efsFor({ M, efConstruction }: Build, rows: number): readonly number[] {
  const all = rows <= MANY && M === PLAIN.M && efConstruction === PLAIN.efConstruction;
  return all ? [...EFS, rows] : EFS;
}

/** The method that reads the novel, whose window is also that of the retrieval. */
const WINDOW = 2044;
const METHOD = `lm-infinite:sinks=4,window=${WINDOW}`;
/** Every so many of the last tokens asks. */
const STEP = 2;

/** Recall, insertions and searches of hnsw on the keys and queries of a model, beside exact search. */
export async function hnswRecall(options: HnswRecallOptions): Promise<void> {
  const { model, lengths, layers, kept, dry, command } = options;
  const folder = kept === null ? join(RUNS, "hnsw-recall") : resolve(process.env["INIT_CWD"] ?? ".", kept);
  const collected = await collect({ model, method: METHOD, layers, lengths, folder });
  const { keyHeads } = collected.config;
  const heads = layers.flatMap((layer) => Array.from({ length: keyHeads }, (_, head) => ({ layer, head })));
  const work = lengths.reduce((sum, length) => sum + length * heads.length, 0);
  const progress = new Progress(work * (BUILDS.length + 1));
  const conditions = { benchmark: "hnsw-recall", version: 1, method: METHOD, layers, window: WINDOW };
  let points: Point[] = [];
  let exact: ExactTimes[] = [];
  const write = () => {
    const all = withLast(conditions, points, exact);
    if (!dry)
      writeResult("hnsw-recall", {
        ...conditions, date: new Date().toISOString(), command, machine: describeMachine(), revision: sourceRevision(),
        exact: all.exact, knee: knee(all.points), crossing: crossing(all.points, all.exact), points: all.points,
      }); // prettier-ignore
    return all;
  };
  for (const length of [...lengths].sort((a, b) => a - b)) {
    for (const positions of ["constant", "true"] as const) {
      if (positions === "true" && length > MANY) continue;
      const results: { build: Build; result: ReturnType<typeof measure> }[] = [];
      const times: Record<string, number>[] = [];
      const [pointsBefore, exactBefore] = [points, exact];
      for (const { layer, head } of heads) {
        const asked = askedOf(collected, { layer, head, length, window: WINDOW, positions, step: STEP });
        const rows = asked.keys.length / collected.config.headSize;
        const { truth, microseconds } = await exactly(asked, collected, positions === "constant");
        times.push(microseconds);
        for (const build of buildsFor(positions, rows)) {
          const result = measure(build, efsFor(build, rows), asked, truth, collected.config.headSize);
          results.push({ build, result });
          const { recall, microseconds: took } = result.searched[2];
          progress.step(
            `${rows} keys, ${positions}, ${layer}.${head}: ${nameOf(build)}: ${result.insertsPerSecond.toFixed(0)} inserts/s; ef 128: recall@32 ${recall[1].toFixed(3)}, ${took.toFixed(0)} µs`,
            length,
          );
        }
        // What there is so far is written after every head, since the long ones take hours on a busy machine.
        points = [...pointsBefore, ...pointsOf(results, positions, rows)];
        if (positions === "constant") exact = [...exactBefore, { keyCount: rows, microseconds: averaged(times) }];
        write();
      }
    }
  }
  const all = write();
  process.stdout.write(`${report(all.points, all.exact)}\n`);
}

/** Adds what was measured at other lengths to what this run measured, if the conditions were the same. */
function withLast(
  conditions: Readonly<Record<string, unknown>>,
  points: readonly Point[],
  exact: readonly ExactTimes[],
): { points: Point[]; exact: ExactTimes[] } {
  const last = readResult("hnsw-recall");
  const same = Object.entries(conditions).every(
    ([name, value]) => JSON.stringify(last?.[name]) === JSON.stringify(value),
  );
  const merged = <Row extends { readonly keyCount: number }>(own: readonly Row[], name: "points" | "exact"): Row[] => {
    const others = same ? (last![name] as readonly Row[]) : [];
    const kept = others.filter(({ keyCount }) => own.every((row) => row.keyCount !== keyCount));
    return [...kept, ...own].sort((a, b) => a.keyCount - b.keyCount);
  };
  return { points: merged(points, "points"), exact: merged(exact, "exact") };
}

/** The best rows of every query, and how long each exact search takes. */
async function exactly(asked: Asked, { config }: Collected, timed: boolean) {
  const { headSize, queryHeads, keyHeads } = config;
  const plain = inJavaScript(asked.keys, headSize);
  const truth = await truthOf(plain, asked);
  const microseconds: Record<string, number> = {};
  if (timed) {
    const others = [
      inKernels(asked.keys, headSize, "float32"),
      inKernels(asked.keys, headSize, "float16"),
      await inOnnxruntime(asked.keys, headSize, 32),
    ];
    for (const search of [plain, ...others]) {
      microseconds[search.name] = await exactTime(search, asked, queryHeads / keyHeads);
      await search.release();
    }
  }
  return { truth, microseconds };
}

function averaged(times: readonly Record<string, number>[]): Record<string, number> {
  return Object.fromEntries(Object.keys(times[0]).map((name) => [name, mean(times.map((one) => one[name]))]));
}

/** Means over the key heads that a build and an ef were measured on. */
function pointsOf(
  results: readonly { build: Build; result: ReturnType<typeof measure> }[],
  positions: Positions,
  keyCount: number,
): Point[] {
  return buildsFor(positions, keyCount).flatMap((build) => {
    const own = results.filter((one) => nameOf(one.build) === nameOf(build)).map(({ result }) => result);
    return efsFor(build, keyCount).map((ef, i): Point => {
      const searched = own.map((result) => result.searched[i]);
      const [recall8, recall32, recall128] = COUNTS.map((_, k) => mean(searched.map(({ recall }) => recall[k])));
      return {
        ...build,
        positions,
        keyCount,
        heads: own.length,
        ef,
        insertsPerSecond: mean(own.map(({ insertsPerSecond }) => insertsPerSecond)),
        bytesPerKey: mean(own.map(({ bytesPerKey }) => bytesPerKey)),
        recall8,
        recall32,
        recall128,
        worstRecall32: Math.min(...searched.map(({ recall }) => recall[1])),
        mass32: mean(searched.map(({ mass }) => mass)),
        microseconds: mean(searched.map(({ microseconds }) => microseconds)),
      };
    });
  });
}

function nameOf({ keys, M, efConstruction }: Build): string {
  return `${keys}, M=${M}, efConstruction=${efConstruction}`;
}

function report(points: readonly Point[], exact: readonly ExactTimes[]): string {
  const rows = points.map((point) => [
    String(point.keyCount),
    point.positions,
    nameOf(point),
    String(point.ef),
    ...[point.recall8, point.recall32, point.recall128, point.worstRecall32, point.mass32].map((value) =>
      value.toFixed(3),
    ),
    point.microseconds.toFixed(0),
    point.insertsPerSecond.toFixed(0),
  ]);
  const curves = table(
    [
      "keys",
      "positions",
      "graph",
      "ef",
      "recall@8",
      "@32",
      "@128",
      "worst head @32",
      "mass@32",
      "µs a query",
      "inserts/s",
    ],
    rows,
  );
  const times = table(
    ["keys", ...Object.keys(exact[0].microseconds)],
    exact.map(({ keyCount, microseconds }) => [
      String(keyCount),
      ...Object.values(microseconds).map((value) => value.toFixed(0)),
    ]),
  );
  const crossings = crossing(points, exact).map(
    ({ recall, keys }) =>
      `recall@32 of ${recall}: ${keys === null ? "never faster here" : `faster from about ${keys} keys`}`,
  );
  const best = knee(points);
  return `${curves}\n\nExact search, µs a query (three queries share a key head):\n\n${times}\n\n${crossings.join("\n")}\n\nKnee: ${nameOf(best)}, ef=${best.ef}`;
}
