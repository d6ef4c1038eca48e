// Caches the page and the model for offline use. The page caches LiteRT.js itself, separately from
// the model, so that it is not fetched again with a new model.
"use strict";
const VERSION = {{ version | tojson }};
const FILES = {{ files | tojson }};
const PREFIX = `charlm ${self.registration.scope} `; // other models may live at the same address
const CACHE = PREFIX + VERSION;

// A new version waits until no page of the old one is open, so that their files are not mixed.
self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) =>
    cache.addAll(["./", ...FILES].map((file) => new Request(file, { cache: "no-cache" })))));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || request.cache === "reload") return;
  event.respondWith((async () => {
    const ours = await caches.open(CACHE);
    return await ours.match(request, { ignoreSearch: request.mode === "navigate" })
      ?? await caches.match(request)
      ?? fetch(request);
  })());
});
