export { headFigure, type HeadFigure, type HeadPanel } from "./head-figure.ts";
export { lineFigure, type LineFigure, type LineSeries } from "./line-figure.ts";
export { methodFigure } from "./method-figure.ts";
export { placeFigure, type PlaceFigure, type PlacePanel } from "./place-figure.ts";
export { HOUSE_STYLE, INK, MUTED, renderSvg } from "./svg.ts";
