/** The sphere that the about page draws: points on it, the arc between two, and how they look from outside. Pure. */

export type Point = readonly [number, number, number];
export type Flat = readonly [number, number];

const TURN = Math.PI / 180;

/** A point on the unit sphere. Degrees. */
export function point(latitude: number, longitude: number): Point {
  const [lat, lon] = [latitude * TURN, longitude * TURN];
  return [Math.cos(lat) * Math.sin(lon), Math.sin(lat), Math.cos(lat) * Math.cos(lon)];
}

/** The point at a fraction of the arc from a to b; as the model's prompts are mixed (Shoemake's slerp). */
export function slerp(a: Point, b: Point, fraction: number): Point {
  const angle = Math.acos(Math.max(-1, Math.min(1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
  if (angle < 1e-6) return a;
  const [from, to] = [Math.sin((1 - fraction) * angle) / Math.sin(angle), Math.sin(fraction * angle) / Math.sin(angle)];
  return [from * a[0] + to * b[0], from * a[1] + to * b[1], from * a[2] + to * b[2]];
}

/** As seen from a little above, straight on. tilt: degrees. Returns x, y (down) and whether it is on this side. */
export function seen([x, y, z]: Point, tilt: number): { at: Flat; near: boolean } {
  const [cos, sin] = [Math.cos(tilt * TURN), Math.sin(tilt * TURN)];
  return { at: [x, -(y * cos - z * sin)], near: z * cos + y * sin >= 0 };
}

/** An SVG path through points, in hundredths. */
export function path(points: readonly Flat[]): string {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
}

/** Fractions that lie close together where a picture changes quickly: here, half way. */
export function evenToTheEye(frames: number): number[] {
  return Array.from({ length: frames }, (_, index) => {
    const step = index / (frames - 1);
    return step + (0.8 * Math.sin(2 * Math.PI * step)) / (2 * Math.PI);
  });
}

/** Noise that is the same each time: greys from 0 to 1 out of a seed (Lehmer's generator, as MINSTD). */
export function noise(seed: number, count: number): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  });
}
