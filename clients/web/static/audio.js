// Microphone, tab audio, or both, as int16 batches.

const RATES_HZ = [8000, 16000, 24000, 32000, 44100, 48000];

export class CaptureError extends Error {}

export const canShareTab = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

/**
 * Start to listen.
 *
 * The context keeps the rate of the hardware, because Firefox refuses to connect a stream to a
 * context of another rate; the server is told the rate and resamples.
 *
 * @param {"microphone"|"tab"|"both"} source
 * @param {{onBatch: function(Int16Array, number): void, onEnded: function(): void}} handlers
 * @returns {Promise<{sampleRateHz: number, stop: function(): Promise<void>}>}
 */
export async function capture(source, { onBatch, onEnded }) {
  if (!navigator.mediaDevices) {
    throw new CaptureError("The browser gives no access to sound here: open this page over https or on localhost.");
  }
  const streams = [];
  const context = new AudioContext({ latencyHint: "interactive" });
  const stop = async () => {
    streams.flatMap((stream) => stream.getTracks()).forEach((track) => track.stop());
    if (context.state !== "closed") await context.close();
  };
  try {
    // The tab first: its picker needs the click to be recent.
    if (source !== "microphone") streams.push(await tabAudio());
    if (source !== "tab") streams.push(await microphone());
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const sampleRateHz = connect(context, streams, onBatch);
    await context.resume();
    for (const track of streams.flatMap((stream) => stream.getTracks())) {
      track.addEventListener("ended", onEnded);
    }
    return { sampleRateHz, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function connect(context, streams, onBatch) {
  const decimation = Math.ceil(context.sampleRate / 48000);
  const sampleRateHz = context.sampleRate / decimation;
  if (!RATES_HZ.includes(sampleRateHz)) {
    throw new CaptureError(`The sound device runs at ${context.sampleRate} Hz, which the server does not take.`);
  }
  const node = new AudioWorkletNode(context, "capture", {
    channelCount: 1,
    channelCountMode: "explicit",
    processorOptions: { decimation },
  });
  node.port.onmessage = ({ data }) => onBatch(data.samples, data.dbfs);
  // Only what leads to the destination runs; the node's own output is silence.
  node.connect(context.destination);
  // Several sources into one input are summed, which is the mix.
  for (const stream of streams) context.createMediaStreamSource(stream).connect(node);
  return sampleRateHz;
}

async function microphone() {
  const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new CaptureError(MICROPHONE_TROUBLE[error.name] ?? `The microphone cannot be opened: ${error.message}`);
  }
}

const MICROPHONE_TROUBLE = {
  NotAllowedError: "The microphone is blocked: allow it for this page in the address bar, then start again.",
  NotFoundError: "No microphone was found: plug one in, or choose tab audio.",
  NotReadableError: "The microphone is in use by another program.",
};

async function tabAudio() {
  let stream;
  try {
    // Video has to be asked for; it is dropped at once.
    stream = await navigator.mediaDevices.getDisplayMedia({
      video: true,
      audio: { suppressLocalAudioPlayback: false },
      systemAudio: "include",
      selfBrowserSurface: "exclude",
    });
  } catch (error) {
    throw new CaptureError(
      error.name === "NotAllowedError"
        ? "No tab was shared: choose one and tick “Also share tab audio”."
        : `Tab audio cannot be captured: ${error.message}`,
    );
  }
  if (stream.getAudioTracks().length === 0) {
    stream.getTracks().forEach((track) => track.stop());
    throw new CaptureError(
      "The shared tab came without sound: tick “Also share tab audio”. Firefox and Safari cannot share sound.",
    );
  }
  for (const track of stream.getVideoTracks()) {
    track.stop();
    stream.removeTrack(track);
  }
  return stream;
}
