// Server-sent events from a fetch body. EventSource can neither POST nor send a key, so the stream is parsed here.

/** Splits text into events as it arrives; a pure function of the bytes, whatever their cuts. */
export function createParser() {
  let rest = '';
  let data = [];
  return function push(text) {
    const events = [];
    rest += text;
    for (let end = rest.search(/\r\n|\n|\r/); end >= 0; end = rest.search(/\r\n|\n|\r/)) {
      // A \r at the very end may be half of \r\n: wait for the next bytes.
      if (rest[end] === '\r' && end === rest.length - 1) break;
      const line = rest.slice(0, end);
      rest = rest.slice(end + (rest.startsWith('\r\n', end) ? 2 : 1));
      if (line === '') {
        if (data.length > 0) events.push(data.join('\n'));
        data = [];
      } else if (line.startsWith('data:')) {
        data.push(line.slice(line[5] === ' ' ? 6 : 5));
      }  // comments (": ping") and other fields carry nothing for us
    }
    return events;
  };
}

/** Yields the data of each event. Ends at [DONE] or when the body ends. */
export async function* readEvents(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const push = createParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      for (const data of push(done ? decoder.decode() : decoder.decode(value, { stream: true }))) {
        if (data === '[DONE]') return;
        yield JSON.parse(data);
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});  // leaving early closes the connection, which cancels the request on the server
  }
}
