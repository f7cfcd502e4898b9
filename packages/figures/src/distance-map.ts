import { cssColour, type ColourStop } from "./distance-colours.ts";
import { pngDataUri } from "./png.ts";
import { FAINT, panelTitle, type Panel } from "./svg.ts";

const SIDE = 384;

export interface MapPanel {
  /** N, tokens. */
  readonly length: number;
  readonly cells: number;
  readonly trainedReach: number;
  readonly stops: readonly ColourStop[];
  /** [cells, cells]: queries down, tokens across; null where nothing is seen. */
  readonly colours: readonly (readonly [number, number, number] | null)[];
}

/** g(m, n) as an embedded picture under axes of tokens, with a scale of its colours. */
export function distanceMap({ length, cells, trainedReach, stops, colours }: MapPanel): Panel {
  const least = stops[0].distance;
  const most = stops[stops.length - 1].distance;
  const tokens = {
    type: "quantitative" as const,
    scale: { domain: [0, length], nice: false },
    axis: { values: [0, 1, 2, 3, 4].map((quarter) => Math.round((quarter * length) / 4)), format: ",d" },
  };
  const named = [...(least < 0 ? [least] : []), 0, trainedReach, ...(most > trainedReach ? [most] : [])];
  return {
    title: panelTitle("distance g(m, n)"),
    width: SIDE,
    height: SIDE,
    view: { stroke: FAINT },
    layer: [
      {
        data: { values: [{ picture: pngDataUri(cells, cells, colours), middle: length / 2 }] },
        mark: { type: "image", width: SIDE, height: SIDE, aspect: false, smooth: false, aria: false },
        encoding: {
          url: { field: "picture", type: "nominal" },
          x: { field: "middle", ...tokens, title: "token n" },
          y: { field: "middle", ...tokens, scale: { ...tokens.scale, reverse: true }, title: "query m" },
        },
      },
      {
        // Draws nothing: it is there for the scale of colours beside the picture.
        data: { values: [{ distance: 0 }] },
        mark: { type: "point", opacity: 0 },
        encoding: {
          color: {
            field: "distance",
            type: "quantitative",
            scale: {
              domain: stops.map(({ distance }) => distance),
              range: stops.map(({ colour }) => cssColour(colour)),
              interpolate: "rgb",
            },
            legend: {
              title: `distance (red: beyond training${least < 0 ? "; grey: ahead" : ""})`,
              orient: "bottom",
              gradientLength: SIDE,
              gradientOpacity: 1,
              values: named,
              format: ",.0f",
            },
          },
        },
      },
    ],
  };
}
