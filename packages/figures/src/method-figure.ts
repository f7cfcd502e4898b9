import {
  choicesOf,
  distanceMatrix,
  LongctxError,
  planOfText,
  rotaryPairs,
  type Method,
  type RotaryPairs,
  type RotationOptions,
} from "@longctx/core";
import type { TopLevelSpec } from "vega-lite";
import { colourAt, distanceColours } from "./distance-colours.ts";
import { distanceMap, type MapPanel } from "./distance-map.ts";
import { spectrum } from "./spectrum.ts";
import { HOUSE_STYLE, renderSvg } from "./svg.ts";

/** Cells of the map on a side, at most. */
const CELLS = 96;
/** A picture needs no more colours, and its palette has no room for more. */
const LEVELS = 240;
/** Beyond it a picture takes minutes. */
const LONGEST = 2 ** 20;

/**
 * A method as a picture, an SVG: on the left g(m, n), the distance at which query m meets token n, blank where it does
 * not see it; on the right h(i), the turns of each rotary pair within the trained distances, before and after. `length` is
 * 4 T unless given. Of a text longer than 96 tokens a cell shows its last query and its first token. @throws LongctxError
 */
export async function methodFigure(method: Method, options: RotationOptions = {}): Promise<string> {
  if ((options.length ?? 0) > LONGEST)
    throw new LongctxError("argument", `length is ${options.length}, but a picture is of at most ${LONGEST} tokens.`);
  const report = rotaryPairs(method, options);
  return renderSvg(specification(method, report, options));
}

function specification(method: Method, report: RotaryPairs, options: RotationOptions): TopLevelSpec {
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: { text: method.spec, subtitle: subtitles(method, report, options), anchor: "start", offset: 18 },
    hconcat: [distanceMap(mapPanel(method, report, options)), spectrum(report)],
    spacing: 56,
    config: HOUSE_STYLE,
  };
}

function mapPanel(method: Method, report: RotaryPairs, options: RotationOptions): MapPanel {
  const { length, trainedReach, distance } = report;
  const cells = Math.min(CELLS, length);
  const edge = (cell: number): number => Math.floor((cell * length) / cells);
  const { values } = distanceMatrix(method, length, {
    ...options,
    queries: Array.from({ length: cells }, (_, cell) => edge(cell + 1) - 1),
    tokens: Array.from({ length: cells }, (_, cell) => edge(cell)),
  });
  const stops = distanceColours(trainedReach, distance.least, distance.most);
  const step = (distance.most - distance.least) / LEVELS || 1;
  const colours = Array.from(values, (value) =>
    Number.isNaN(value) ? null : colourAt(stops, distance.least + Math.round((value - distance.least) / step) * step),
  );
  return { length, cells, trainedReach, stops, colours };
}

function subtitles(method: Method, report: RotaryPairs, options: RotationOptions): string[] {
  const { length, trainedReach, distance, pairs, amplitude } = report;
  const plan = planOfText(method, { ...options, length });
  const { temperature, memory } = plan;
  const taken = Math.max(0, ...choicesOf(plan).map((choice) => choice.count * choice.size));
  const critical = pairs.filter((pair) => pair.critical).length;
  const outside = pairs.filter((pair) => !pair.inDistribution).length;
  const scores = amplitude ** 2 * (temperature?.at(length - 1) ?? 1);
  return [
    `a text of ${count(length)} tokens, trained on distances below ${count(trainedReach)}; distances from ${rounded(distance.least)} to ${rounded(distance.most)}`,
    `${critical} of ${pairs.length} rotary pairs never complete a turn in training; ${outside === 0 ? "none meets" : `${outside} ${outside === 1 ? "meets" : "meet"}`} angles that were not seen there`,
    ...(taken === 0 ? [] : [`not drawn: up to ${count(taken)} tokens more that the queries choose`]),
    ...(memory ? ["not drawn: a memory of all that lies before the query's own segment of the text"] : []),
    ...(scores === 1 ? [] : [`scores of the last query times ${scores.toFixed(3)}`]),
  ];
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** Distances may be fractions. */
function rounded(value: number): string {
  return count(Number(value.toFixed(2)));
}
