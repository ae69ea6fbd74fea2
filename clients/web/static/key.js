// The server's API key, from behind the "#" of the address: browsers send that part to nobody, so it
// appears in no log of a server or proxy.

const apiKey = new URLSearchParams(location.hash.slice(1)).get("key");

/** Headers of requests. */
export const keyHeaders = apiKey ? { Authorization: `Bearer ${apiKey}` } : {};

/** Subprotocols of the websocket, the only place where a browser lets a page put a key. */
export const keySubprotocols = apiKey ? ["a2p", `a2p-key.${apiKey}`] : [];
