import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// The URL of a running API, for `vite dev` and `vite preview`.
const api = process.env.MOMALISA_URL ?? "http://127.0.0.1:8000";
const proxy = { "/api": { target: api, changeOrigin: false } };

export default defineConfig({
  plugins: [svelte()],
  server: { proxy },
  preview: { proxy },
  build: {
    target: "es2022",
    // The content security policy allows no fonts in data: URLs.
    assetsInlineLimit: 0,
    // The page names all chunks of the first load, so that they load at the same time.
    modulePreload: { polyfill: false, resolveDependencies: (_, chunks, { hostType }) => (hostType === "html" ? chunks : []) },
    // What is loaded later has its styles already: the page needs no code that fetches them.
    cssCodeSplit: false,
  },
  // Tests under jsdom need Svelte's browser build.
  resolve: process.env.VITEST ? { conditions: ["browser"] } : {},
  test: { environment: "jsdom", include: ["src/**/*.test.ts"] },
});
