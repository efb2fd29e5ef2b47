/** The sphere in the drawing of the About page: points on it, the arc between two, and their projection. Pure. */

export type Point = readonly [number, number, number];
export type Flat = readonly [number, number];

const RADIANS = Math.PI / 180;

/** A point on the unit sphere. Degrees. */
export function point(latitude: number, longitude: number): Point {
  const [lat, lon] = [latitude * RADIANS, longitude * RADIANS];
  return [Math.cos(lat) * Math.sin(lon), Math.sin(lat), Math.cos(lat) * Math.cos(lon)];
}

/** The point at a fraction of the arc from a to b; prompts are interpolated in the same way (Shoemake's slerp). */
export function slerp(a: Point, b: Point, fraction: number): Point {
  const angle = Math.acos(Math.max(-1, Math.min(1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
  if (angle < 1e-6) return a;
  const [from, to] = [Math.sin((1 - fraction) * angle) / Math.sin(angle), Math.sin(fraction * angle) / Math.sin(angle)];
  return [from * a[0] + to * b[0], from * a[1] + to * b[1], from * a[2] + to * b[2]];
}

/** A point as seen from slightly above. tilt: degrees. Returns x, y (down) and whether it is on the near side. */
export function project([x, y, z]: Point, tilt: number): { at: Flat; near: boolean } {
  const [cos, sin] = [Math.cos(tilt * RADIANS), Math.sin(tilt * RADIANS)];
  return { at: [x, -(y * cos - z * sin)], near: z * cos + y * sin >= 0 };
}

/** An SVG path through points, with two decimals. */
export function path(points: readonly Flat[]): string {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
}

/** Fractions that are close together where the picture changes fast: in this drawing, in the middle. */
export function evenFractions(frames: number): number[] {
  return Array.from({ length: frames }, (_, index) => {
    const step = index / (frames - 1);
    return step + (0.8 * Math.sin(2 * Math.PI * step)) / (2 * Math.PI);
  });
}

/** Reproducible noise: grey values from 0 to 1, from a seed (Lehmer's generator MINSTD). */
export function noise(seed: number, count: number): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  });
}
