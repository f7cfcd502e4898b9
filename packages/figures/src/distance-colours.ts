import { scheme } from "vega";

export interface ColourStop {
  readonly distance: number;
  /** Red, green, blue, 0 to 255. */
  readonly colour: readonly [number, number, number];
}

const STEPS = 8;
const FROM_TRAINED = [232, 93, 60] as const;
const FARTHEST = [110, 12, 30] as const;
const AHEAD = [128, 128, 140] as const;

/**
 * Colours of distances: viridis from 0 to the trained window T, red beyond it, where no training was, grey below 0, which
 * no causal model was trained on either.
 */
export function distanceColours(trainedWindow: number, least: number, most: number): ColourStop[] {
  const viridis = scheme("viridis") as (share: number) => string;
  // Dark is far: what is near is light, and red follows the dark end without being taken for it.
  const trained = Array.from({ length: STEPS + 1 }, (_, step): ColourStop => {
    const share = step / STEPS;
    return { distance: share * trainedWindow, colour: parseColour(viridis(1 - 0.92 * share)) };
  });
  const ahead =
    least < 0 ? [{ distance: least, colour: AHEAD } as const, { distance: -1e-9, colour: AHEAD } as const] : [];
  const beyond =
    most > trainedWindow
      ? [
          { distance: trainedWindow * (1 + 1e-9), colour: FROM_TRAINED } as const,
          { distance: Math.max(most, 1.5 * trainedWindow), colour: FARTHEST } as const,
        ]
      : [];
  return [...ahead, ...trained, ...beyond];
}

/** The colour of a distance: linear between the stops around it. */
export function colourAt(stops: readonly ColourStop[], distance: number): [number, number, number] {
  const above = stops.findIndex((stop) => stop.distance >= distance);
  if (above === 0) return [...stops[0].colour];
  if (above < 0) return [...stops[stops.length - 1].colour];
  const [a, b] = [stops[above - 1], stops[above]];
  const share = (distance - a.distance) / (b.distance - a.distance);
  return a.colour.map((value, channel) => value + share * (b.colour[channel] - value)) as [number, number, number];
}

export function cssColour([red, green, blue]: ColourStop["colour"]): string {
  return `rgb(${Math.round(red)}, ${Math.round(green)}, ${Math.round(blue)})`;
}

export function parseColour(text: string): [number, number, number] {
  const [red = 0, green = 0, blue = 0] = (/\d+, \d+, \d+/.exec(text)?.[0] ?? "").split(", ").map(Number);
  return [red, green, blue];
}
