import { FAINT, HOUSE_STYLE, INK, panelTitle, renderSvg, type Panel } from "./svg.ts";

/** A number for each layer and head. */
export interface HeadPanel {
  readonly title: string;
  /** [layers][heads]; null, or a layer without heads, is left blank. */
  readonly values: readonly (readonly (number | null)[])[];
  /** The values of the first and the last colour; those of the data unless given. */
  readonly domain?: readonly [number, number];
  /** Given where values are ratios: colours on a logarithmic scale, red from 0.1 to 1 and blue from 1 to 10. */
  readonly ratio?: true;
  /** What the colours say, above their scale. */
  readonly about?: string;
}

export interface HeadFigure {
  readonly title: string;
  readonly subtitle?: readonly string[];
  /** The query heads of a layer. */
  readonly heads: number;
  readonly panels: readonly HeadPanel[];
  /** Heads with a frame around their cell, as pairs of layer and head. */
  readonly marked?: readonly (readonly [layer: number, head: number])[];
}

const RATIOS = { domain: [0.1, 1, 10], range: ["#b2402a", "#f3f4f8", "#08306b"], ticks: [0.1, 0.3, 1, 3, 10] };

const CELL = { most: 26, width: 260, height: 420 };

/** Numbers by layer (upwards) and head (to the right), an SVG of panels side by side. The same input gives the same bytes. */
export function headFigure({ title, subtitle, heads, panels, marked = [] }: HeadFigure): Promise<string> {
  return renderSvg({
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: { text: title, ...(subtitle && { subtitle: [...subtitle] }), anchor: "start", offset: 14 },
    hconcat: panels.map((panel, i) => panelOf(panel, { heads, marked, first: i === 0 })),
    spacing: 36,
    resolve: { scale: { color: "independent" } },
    config: HOUSE_STYLE,
  });
}

interface Place extends Required<Pick<HeadFigure, "heads" | "marked">> {
  readonly first: boolean;
}

function panelOf(panel: HeadPanel, { heads, marked, first }: Place): Panel {
  const { title, values, domain, ratio, about } = panel;
  const layers = values.length;
  const names = (count: number) => Array.from({ length: count }, (_, i) => i);
  const cells = values.flatMap((row, layer) =>
    row.flatMap((value, head) =>
      value === null ? [] : [{ layer, head, value: ratio ? Math.min(10, Math.max(0.1, value)) : value }],
    ),
  );
  // Labels at every cell would run into each other.
  const labelled = (count: number) => names(count).filter((i) => i % Math.ceil(count / 16) === 0);
  const cellsOf = {
    data: { values: cells },
    mark: { type: "rect" as const, stroke: "white", strokeWidth: layers > 40 || heads > 20 ? 0 : 0.5 },
    encoding: {
      x: {
        field: "head",
        type: "ordinal" as const,
        title: "head",
        scale: { domain: names(heads) },
        axis: { values: labelled(heads), labelAngle: 0 },
      },
      y: {
        field: "layer",
        type: "ordinal" as const,
        title: first ? "layer" : null,
        scale: { domain: names(layers).toReversed() },
        axis: { values: labelled(layers) },
      },
      color: {
        field: "value",
        type: "quantitative" as const,
        scale: ratio
          ? {
              type: "log" as const,
              domain: RATIOS.domain,
              range: RATIOS.range,
              interpolate: "rgb" as const,
              clamp: true,
            }
          : { scheme: "viridis" as const, ...(domain && { domain: [...domain], clamp: true }), zero: false },
        legend: {
          title: about ?? null,
          orient: "bottom" as const,
          gradientLength: Math.min(CELL.width, CELL.most * heads),
          ...(ratio && { values: RATIOS.ticks, format: "~g" }),
        },
      },
    },
  };
  return {
    title: panelTitle(title),
    width: Math.min(CELL.width, CELL.most * heads),
    height: Math.min(CELL.height, CELL.most * layers),
    view: { stroke: FAINT },
    ...(marked.length === 0
      ? cellsOf
      : {
          layer: [
            cellsOf,
            {
              data: { values: marked.map(([layer, head]) => ({ layer, head })) },
              mark: { type: "rect", fill: null, stroke: INK, strokeWidth: 1.5 },
              encoding: { x: cellsOf.encoding.x, y: cellsOf.encoding.y },
            },
          ],
        }),
  };
}
