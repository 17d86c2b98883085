// The browser tests: `npm run e2e`. Being written: see desk.mjs.
