import { FAINT, HOUSE_STYLE, panelTitle, renderSvg, type Panel } from "./svg.ts";

/** A number for each layer and head. */
export interface HeadPanel {
  readonly title: string;
  /** [layers][heads]; null, or a layer without heads, is left blank. */
  readonly values: readonly (readonly (number | null)[])[];
  /** The values of the first and the last colour; those of the data unless given. */
  readonly domain?: readonly [number, number];
}

export interface HeadFigure {
  readonly title: string;
  readonly subtitle?: readonly string[];
  /** The query heads of a layer. */
  readonly heads: number;
  readonly panels: readonly HeadPanel[];
}

const CELL = { most: 26, width: 260, height: 420 };

/** Numbers by layer (upwards) and head (to the right), an SVG of panels side by side. The same input gives the same bytes. */
export function headFigure({ title, subtitle, heads, panels }: HeadFigure): Promise<string> {
  return renderSvg({
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: { text: title, ...(subtitle && { subtitle: [...subtitle] }), anchor: "start", offset: 14 },
    hconcat: panels.map((panel, i) => panelOf(panel, heads, i === 0)),
    spacing: 36,
    resolve: { scale: { color: "independent" } },
    config: HOUSE_STYLE,
  });
}

function panelOf({ title, values, domain }: HeadPanel, heads: number, first: boolean): Panel {
  const layers = values.length;
  const names = (count: number) => Array.from({ length: count }, (_, i) => i);
  const cells = values.flatMap((row, layer) =>
    row.flatMap((value, head) => (value === null ? [] : [{ layer, head, value }])),
  );
  // Labels at every cell would run into each other.
  const labelled = (count: number) => names(count).filter((i) => i % Math.ceil(count / 16) === 0);
  return {
    title: panelTitle(title),
    width: Math.min(CELL.width, CELL.most * heads),
    height: Math.min(CELL.height, CELL.most * layers),
    view: { stroke: FAINT },
    data: { values: cells },
    mark: { type: "rect", stroke: "white", strokeWidth: layers > 40 || heads > 20 ? 0 : 0.5 },
    encoding: {
      x: {
        field: "head",
        type: "ordinal",
        title: "head",
        scale: { domain: names(heads) },
        axis: { values: labelled(heads), labelAngle: 0 },
      },
      y: {
        field: "layer",
        type: "ordinal",
        title: first ? "layer" : null,
        scale: { domain: names(layers).toReversed() },
        axis: { values: labelled(layers) },
      },
      color: {
        field: "value",
        type: "quantitative",
        scale: { scheme: "viridis", ...(domain && { domain: [...domain], clamp: true }), zero: false },
        legend: { title: null, orient: "bottom", gradientLength: Math.min(CELL.width, CELL.most * heads) },
      },
    },
  };
}
