import { colourAt, cssColour, type ColourStop } from "./distance-colours.ts";
import { pngDataUri } from "./png.ts";
import { FAINT, HOUSE_STYLE, INK, panelTitle, renderSvg, type Panel } from "./svg.ts";

/** What each attention head of a model finds, and which heads are marked. */
export interface HeadsFigure {
  readonly title: string;
  readonly subtitle?: string;
  /** L, layers, and H, query heads of a layer. */
  readonly layers: number;
  readonly heads: number;
  /** [L, H]: the share of prompts in which the needle comes first, 0 to 1. */
  readonly first: ArrayLike<number>;
  /** [L, H]: the median of the needle's score over the best other sentence's. */
  readonly margin: ArrayLike<number>;
  /** Heads with a frame around them, as pairs of layer and head from 0. */
  readonly marked: readonly (readonly [layer: number, head: number])[];
}

/** Pixels of a cell's side, and those of a panel that cells share. */
const CELL = { least: 6, most: 36, together: 560 };
/** Two panels of at most this width stand side by side. */
const NARROW = 340;

const PALE = [243, 244, 248] as const;
const SHARES: readonly ColourStop[] = [
  { distance: 0, colour: PALE },
  { distance: 0.5, colour: [107, 152, 200] },
  { distance: 1, colour: [8, 48, 107] },
];
/** Powers of ten: red where another sentence scores above the needle. */
const MARGINS: readonly ColourStop[] = [
  { distance: -1, colour: [178, 64, 42] },
  { distance: 0, colour: PALE },
  { distance: 1, colour: [8, 48, 107] },
];

/** Which attention heads find a needle, an SVG: a map of layers and heads by share of rank 1, and one by median margin. */
export function headsFigure(figure: HeadsFigure): Promise<string> {
  const { title, subtitle, first, margin, layers } = figure;
  const panels = [
    headMap(figure, {
      title: "needle first",
      about: "share of prompts",
      values: first,
      stops: SHARES,
      ticks: [0, 0.25, 0.5, 0.75, 1],
      label: "format(datum.value, '.0%')",
    }),
    headMap(figure, {
      title: "median margin",
      about: "needle over the best other sentence (red: below 1)",
      values: Array.from(margin, (value) => Math.log10(Math.min(10, Math.max(0.1, value)))),
      stops: MARGINS,
      ticks: [-1, Math.log10(1 / 3), 0, Math.log10(3), 1],
      label:
        "datum.value > 0.9 ? '10 or more' : datum.value < -0.9 ? '0.1 or less' : format(pow(10, datum.value), '.1~f')",
    }),
  ];
  const beside = layers * cellOf(figure) <= NARROW;
  return renderSvg({
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: { text: title, ...(subtitle === undefined ? {} : { subtitle }), anchor: "start", offset: 18 },
    ...(beside ? { hconcat: panels } : { vconcat: panels }),
    spacing: beside ? 56 : 36,
    resolve: { scale: { color: "independent" } },
    config: HOUSE_STYLE,
  });
}

function cellOf({ layers, heads }: HeadsFigure): number {
  return Math.min(CELL.most, Math.max(CELL.least, Math.floor(CELL.together / Math.max(layers, heads))));
}

interface MapOf {
  readonly title: string;
  /** What the colours are, below the map. */
  readonly about: string;
  /** [L, H] */
  readonly values: ArrayLike<number>;
  readonly stops: readonly ColourStop[];
  readonly ticks: readonly number[];
  /** What the legend writes at a value. */
  readonly label: string;
}

function headMap(figure: HeadsFigure, { title, about, values, stops, ticks, label }: MapOf): Panel {
  const { layers, heads, marked } = figure;
  const [width, height] = [layers * cellOf(figure), heads * cellOf(figure)];
  // A picture has its rows from top to bottom: heads down, layers across.
  const colours = Array.from({ length: layers * heads }, (_, at) =>
    colourAt(stops, values[(at % layers) * heads + Math.floor(at / layers)]),
  );
  const axis = (name: string, count: number, reverse: boolean) => ({
    type: "quantitative" as const,
    title: name,
    scale: { domain: [0, count], nice: false, reverse },
    axis: { values: numbered(count), labelExpr: "format(datum.value - 0.5, 'd')" },
  });
  const across = axis("layer", layers, false);
  const down = axis("head", heads, true);
  return {
    title: panelTitle(title),
    width,
    height,
    view: { stroke: FAINT },
    layer: [
      {
        data: { values: [{ picture: pngDataUri(layers, heads, colours), x: layers / 2, y: heads / 2 }] },
        mark: { type: "image", width, height, aspect: false, smooth: false, aria: false },
        encoding: {
          url: { field: "picture", type: "nominal" },
          x: { field: "x", ...across },
          y: { field: "y", ...down },
        },
      },
      {
        data: { values: marked.map(([layer, head]) => ({ x: layer, x2: layer + 1, y: head, y2: head + 1 })) },
        mark: { type: "rect", fill: null, stroke: INK, strokeWidth: 1.5 },
        encoding: {
          x: { field: "x", ...across },
          x2: { field: "x2" },
          y: { field: "y", ...down },
          y2: { field: "y2" },
        },
      },
      {
        // Draws nothing: it is there for the scale of colours below the map.
        data: { values: [{ value: 0 }] },
        mark: { type: "point", opacity: 0 },
        encoding: {
          color: {
            field: "value",
            type: "quantitative",
            scale: {
              domain: stops.map(({ distance }) => distance),
              range: stops.map(({ colour }) => cssColour(colour)),
              interpolate: "rgb",
            },
            legend: {
              title: about,
              orient: "bottom",
              gradientLength: Math.min(280, Math.max(220, width)),
              gradientOpacity: 1,
              values: [...ticks],
              labelExpr: label,
            },
          },
        },
      },
    ],
  };
}

/** The middles of numbered cells: all of few, every fifth of more, every tenth of many. */
function numbered(count: number): number[] {
  const step = count <= 16 ? 1 : count <= 48 ? 5 : 10;
  return Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step + 0.5);
}
