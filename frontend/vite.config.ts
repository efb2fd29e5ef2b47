import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Where a running api answers, for `vite dev` and `vite preview`.
const api = process.env.MOMALISA_URL ?? "http://127.0.0.1:8000";
const proxy = { "/api": { target: api, changeOrigin: false } };

export default defineConfig({
  plugins: [svelte()],
  server: { proxy },
  preview: { proxy },
  build: {
    target: "es2022",
    // The headers allow no data: fonts, and one small script is one request.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // Svelte's own code for browsers, also under jsdom.
  resolve: process.env.VITEST ? { conditions: ["browser"] } : {},
  test: { environment: "jsdom", include: ["src/**/*.test.ts"] },
});
