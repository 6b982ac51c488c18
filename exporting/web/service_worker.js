'use strict';
// Keeps the files of this folder in the browser, so that the page works again without a network. Each is compared with its
// hash before it is kept; a folder that was exported again has other hashes, and replaces what was kept.

const FILES = "FILES";  // {name: SHA-256}
const PREFIX = `attention ${self.registration.scope} `;
const CACHE = PREFIX + "VERSION";

async function keep(cache, name) {
  const answer = await fetch(name || './', {cache: 'reload'}), bytes = await answer.clone().arrayBuffer();
  const hash = [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))]
    .map(value => value.toString(16).padStart(2, '0')).join('');
  if (!answer.ok || hash !== FILES[name || 'index.html']) throw new Error(`${name}: is not the file that was exported`);
  await cache.put(name || './', answer);
}

self.oninstall = event => event.waitUntil((async () => {
  const cache = await caches.open(CACHE);
  await Promise.all(['', ...Object.keys(FILES)].map(name => keep(cache, name)));
  await cache.add(new Request('manifest.json', {cache: 'reload'}));
  await self.skipWaiting();
})());

self.onactivate = event => event.waitUntil((async () => {
  const old = (await caches.keys()).filter(name => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map(name => caches.delete(name)));
  await self.clients.claim();
})());

// The network first: a folder that was exported again is seen at once.
self.onfetch = event => event.respondWith(fetch(event.request).catch(async error => {
  const cache = await caches.open(CACHE), kept = await cache.match(event.request, {ignoreSearch: true});
  if (!kept) throw error;
  return kept;
}));
