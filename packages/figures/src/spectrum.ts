import type { RotaryPairs } from "@longctx/core";
import { FAINT, INK, MUTED, panelTitle, type Panel } from "./svg.ts";

const WIDTH = 400;
const HEIGHT = 384;
const BEFORE = "checkpoint";
const SEEN = "method, angles seen in training";
const UNSEEN = "method, angles never seen";
const COLOURS = { [BEFORE]: "#b4b5be", [SEEN]: "#31688e", [UNSEEN]: "#e85d3c" };

/** h(i) as turns of each rotary pair within the trained distances, before and after a method; a pair that stands still lies on the floor. */
export function spectrum({ pairs }: RotaryPairs): Panel {
  const turns = pairs.flatMap(({ turnsBefore, turnsAfter }) => [turnsBefore, turnsAfter]).filter((value) => value > 0);
  const floor = Math.min(1, ...turns) * 0.6;
  const ceiling = Math.max(1, ...turns) * 1.3;
  const values = pairs.flatMap(({ pair, turnsBefore, turnsAfter, inDistribution }) => [
    { pair, turns: Math.max(turnsBefore, floor), kind: BEFORE },
    { pair, turns: Math.max(turnsAfter, floor), kind: inDistribution ? SEEN : UNSEEN },
  ]);
  const x = {
    field: "pair",
    type: "quantitative" as const,
    title: "rotary pair i",
    scale: { domain: [-0.5, pairs.length - 0.5], nice: false },
    axis: { tickMinStep: 1, format: "d" },
  };
  const y = {
    field: "turns",
    type: "quantitative" as const,
    title: "turns within the trained distances",
    scale: { type: "log" as const, domain: [floor, ceiling], nice: false },
    axis: { format: "~g", grid: true, gridColor: "#efeff3", values: powersOfTen(floor, ceiling) },
  };
  const color = {
    field: "kind",
    type: "nominal" as const,
    scale: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
    legend: { title: null, orient: "bottom" as const, columns: 1, symbolType: "circle", symbolOpacity: 1 },
  };
  return {
    title: panelTitle("frequencies h(i)", 6),
    width: WIDTH,
    height: HEIGHT,
    view: { stroke: FAINT },
    layer: [
      {
        data: { values: [{ turns: 1, text: "one turn" }] },
        layer: [
          { mark: { type: "rule", strokeDash: [3, 3], color: INK }, encoding: { y } },
          {
            mark: { type: "text", align: "right", dx: -4, dy: -7, color: MUTED, fontSize: 11 },
            encoding: { y, x: { value: WIDTH }, text: { field: "text" } },
          },
        ],
      },
      {
        data: { values: values.filter(({ kind }) => kind === BEFORE) },
        mark: { type: "line", strokeWidth: 5, opacity: 0.55, strokeCap: "round", clip: true },
        encoding: { x, y, color },
      },
      {
        data: { values: values.filter(({ kind }) => kind !== BEFORE) },
        mark: { type: "circle", size: 26, opacity: 1 },
        encoding: { x, y, color },
      },
      {
        data: {
          values: pairs
            .filter(({ turnsAfter }) => turnsAfter === 0)
            .slice(-1)
            .map(({ pair }) => ({ pair, turns: floor })),
        },
        mark: { type: "text", text: "do not turn", align: "right", dx: 4, dy: -10, color: MUTED, fontSize: 11 },
        encoding: { x, y },
      },
    ],
  };
}

function powersOfTen(from: number, to: number): number[] {
  const [first, last] = [Math.ceil(Math.log10(from) - 1e-9), Math.floor(Math.log10(to))];
  return Array.from({ length: last - first + 1 }, (_, step) => 10 ** (first + step));
}
