import { HOUSE_STYLE, INK, MUTED, renderSvg } from "./svg.ts";

export interface LineSeries {
  readonly name: string;
  /** null leaves a gap. */
  readonly points: readonly { readonly x: number; readonly y: number | null }[];
}

interface LineAxis {
  readonly title: string;
  readonly log?: boolean;
  /** Values with a label; some that fit unless given. */
  readonly values?: readonly number[];
  /** As d3 writes numbers: ",d" for whole numbers. */
  readonly format?: string;
  /** Data beyond it is cut off. */
  readonly domain?: readonly [number, number];
}

export interface LineFigure {
  readonly title: string;
  readonly subtitle?: string;
  readonly x: LineAxis;
  readonly y: LineAxis;
  readonly series: readonly LineSeries[];
  /** A dashed line across, such as the trained window. */
  readonly mark?: { readonly x: number; readonly text: string };
  readonly width?: number;
  readonly height?: number;
}

// Okabe and Ito's colours without yellow, which does not read on white; then the same dashed.
const COLOURS = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/** Curves of more points are lines without dots. */
const DOTTED = 32;

/** Curves over a common axis, an SVG; series beyond the seventh are dashed. */
export function lineFigure({
  title,
  subtitle,
  x,
  y,
  series,
  mark,
  width = 620,
  height = 360,
}: LineFigure): Promise<string> {
  const names = series.map(({ name }) => name);
  const axis = ({ values, format }: LineAxis): object => ({ grid: true, gridColor: "#efeff3", values, format });
  const scale = ({ log, domain }: LineAxis): object => ({
    domain,
    nice: domain === undefined,
    ...(log ? { type: "log" } : { zero: false }),
  });
  const order = { domain: names };
  const dotted = series.every(({ points }) => points.length <= DOTTED);
  return renderSvg({
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: { text: title, ...(subtitle === undefined ? {} : { subtitle }), anchor: "start", offset: 14 },
    width,
    height,
    layer: [
      {
        data: { values: series.flatMap(({ name, points }) => points.map((point) => ({ ...point, name }))) },
        mark: {
          type: "line",
          strokeWidth: 2,
          strokeCap: "round", // shows a point between two gaps
          clip: true,
          invalid: "break-paths-filter-domains",
          point: dotted && { size: 22, filled: true },
        },
        encoding: {
          x: { field: "x", type: "quantitative", title: x.title, axis: axis(x), scale: scale(x) },
          y: { field: "y", type: "quantitative", title: y.title, axis: axis(y), scale: scale(y) },
          color: {
            field: "name",
            type: "nominal",
            scale: { ...order, range: names.map((_, index) => COLOURS[index % COLOURS.length]) },
            legend: { title: null, symbolType: "stroke", symbolStrokeWidth: 2 },
          },
          strokeDash: {
            field: "name",
            type: "nominal",
            scale: { ...order, range: names.map((_, index) => (index < COLOURS.length ? [1, 0] : [5, 3])) },
          },
        },
      },
      ...(mark === undefined
        ? []
        : [
            {
              data: { values: [mark] },
              layer: [
                {
                  mark: { type: "rule" as const, strokeDash: [3, 3], color: INK },
                  encoding: { x: { field: "x", type: "quantitative" as const } },
                },
                {
                  mark: { type: "text" as const, align: "left" as const, dx: 4, dy: 8, color: MUTED, fontSize: 11 },
                  encoding: {
                    x: { field: "x", type: "quantitative" as const },
                    y: { value: 0 },
                    text: { field: "text" },
                  },
                },
              ],
            },
          ]),
    ],
    config: HOUSE_STYLE,
  });
}
