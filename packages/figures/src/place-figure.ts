import { scheme } from "vega";
import { parseColour, cssColour } from "./distance-colours.ts";
import { pngDataUri } from "./png.ts";
import { FAINT, HOUSE_STYLE, INK, renderSvg, type Panel } from "./svg.ts";

/** One panel: for each layer, which share of each bin of the text was taken. */
export interface PlacePanel {
  readonly title: string;
  /** [layers][bins], 0 to 1; layers that took nothing may be left out at the end or be empty. */
  readonly shares: readonly ArrayLike<number>[];
  /** Places that are marked, in tokens. */
  readonly marks?: readonly { readonly from: number; readonly to: number }[];
}

export interface PlaceFigure {
  readonly title: string;
  readonly subtitle?: readonly string[];
  /** The length of the text in tokens, and of a bin. */
  readonly tokens: number;
  readonly bin: number;
  readonly layers: number;
  /** Panels side by side, below one another. */
  readonly rows: readonly { readonly title: string; readonly panels: readonly PlacePanel[] }[];
  /** What the colour of a bin means. */
  readonly legend: string;
  /** What a marked place is. */
  readonly mark: string;
}

const WIDTH = 190;
const LAYER = { most: 12, height: 150 };
const MARK = "#d55e00";
/** The palette of a picture has room for 255. */
const LEVELS = 200;

/** Place in the text × layer, an SVG of panels in rows; marked places are dashed lines. The same input gives the same bytes. */
export function placeFigure(figure: PlaceFigure): Promise<string> {
  const { title, subtitle, rows } = figure;
  return renderSvg({
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: { text: title, ...(subtitle && { subtitle: [...subtitle] }), anchor: "start", offset: 14 },
    vconcat: rows.map((row) => ({
      title: { text: row.title, anchor: "start" as const, fontSize: 13, fontWeight: "bold" as const, color: INK },
      hconcat: row.panels.map((panel, i) => panelOf(figure, panel, i === 0)),
      spacing: 18,
    })),
    spacing: 22,
    config: HOUSE_STYLE,
  });
}

function panelOf(figure: PlaceFigure, { title, shares, marks = [] }: PlacePanel, first: boolean): Panel {
  const { tokens, bin, layers, legend, mark } = figure;
  const height = Math.min(LAYER.height, LAYER.most * layers);
  const bins = Math.ceil(tokens / bin);
  // The first layer is at the bottom, as it is the first that a token passes.
  const colours = Array.from({ length: layers * bins }, (_, at) => {
    const share = shares[layers - 1 - Math.floor(at / bins)]?.[at % bins] ?? 0;
    return share > 0 ? COLOURS[Math.min(LEVELS, Math.ceil(share * LEVELS))] : null;
  });
  const place = {
    type: "quantitative" as const,
    scale: { domain: [0, tokens], nice: false },
    axis: { values: [0, Math.round(tokens / 2), tokens], format: ",d", labelFlush: true },
  };
  const layer = {
    type: "quantitative" as const,
    scale: { domain: [-0.5, layers - 0.5], nice: false },
    axis: first ? { tickMinStep: 1, format: "d" } : null,
  };
  return {
    title: { text: title, anchor: "start", fontSize: 11, fontWeight: "normal" },
    width: WIDTH,
    height,
    view: { stroke: FAINT },
    layer: [
      {
        data: { values: [{ picture: pngDataUri(bins, layers, colours), x: (bins * bin) / 2, y: (layers - 1) / 2 }] },
        mark: { type: "image", width: (WIDTH * bins * bin) / tokens, height, aspect: false, smooth: false, aria: false, clip: true }, // prettier-ignore
        encoding: {
          url: { field: "picture", type: "nominal" },
          x: { field: "x", ...place, title: "token" },
          y: { field: "y", ...layer, title: first ? "layer" : null },
        },
      },
      {
        data: { values: marks.map(({ from, to }) => ({ place: (from + to) / 2 })) },
        mark: { type: "rule", stroke: "white", strokeWidth: 3, opacity: 0.8, clip: true },
        encoding: { x: { field: "place", ...place, title: "token" } },
      },
      {
        data: { values: marks.map(({ from, to }) => ({ place: (from + to) / 2, kind: mark })) },
        mark: { type: "rule", strokeDash: [3, 2], strokeWidth: 1.2, clip: true },
        encoding: {
          x: { field: "place", ...place, title: "token" },
          stroke: {
            field: "kind",
            type: "nominal",
            scale: { domain: [mark], range: [MARK] },
            legend: { title: null, orient: "bottom", symbolType: "stroke", symbolDash: [3, 2] },
          },
        },
      },
      {
        // Draws nothing: it is there for the scale of colours.
        data: { values: [{ share: 0 }] },
        mark: { type: "point", opacity: 0 },
        encoding: {
          color: {
            field: "share",
            type: "quantitative",
            scale: { domain: STOPS, range: STOPS.map((share) => cssColour(colourOf(share))), interpolate: "rgb" },
            legend: { title: legend, orient: "bottom", gradientLength: WIDTH, gradientOpacity: 1, values: [0, 0.5, 1] },
          },
        },
      },
    ],
  };
}

const STOPS = Array.from({ length: 9 }, (_, step) => step / 8);

/** Light for little, dark for all. */
function colourOf(share: number): readonly [number, number, number] {
  return parseColour((scheme("viridis") as (share: number) => string)(1 - share));
}

const COLOURS = Array.from({ length: LEVELS + 1 }, (_, level) => colourOf(level / LEVELS));
