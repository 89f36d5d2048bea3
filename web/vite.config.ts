// How the browser app is built: relative asset addresses, so that a domain prefix only changes <base>.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

/** Where `npm run mock` listens; `npm run dev` passes the server's own paths on to it. */
const mock = `http://127.0.0.1:${process.env.MOCK_PORT ?? '4480'}`;

export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
  server: {
    proxy: {
      '/api': mock,
      '/MeshServerRootCert.cer': mock,
      '/control.ashx': { target: mock, ws: true },
      '/meshrelay.ashx': { target: mock, ws: true },
    },
  },
  resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
