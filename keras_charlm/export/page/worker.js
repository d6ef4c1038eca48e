// Caches the page and the model for use without a network. The page itself caches LiteRT.js, apart
// from the model, so that a new model does not fetch it again.
"use strict";
const VERSION = {{ version | tojson }};
const FILES = {{ files | tojson }};
const PREFIX = `charlm ${self.registration.scope} `; // other models may live at the same address
const CACHE = PREFIX + VERSION;

// A new version waits until no page of the old one is open, so that the files of two are not mixed.
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
