// Runs on the audio thread: mono float blocks in, int16 batches and their loudness out.

const BATCH_MS = 50;

class Capture extends AudioWorkletProcessor {
  // decimation: context samples averaged into one, so that a 96 kHz context is sent as 48 kHz.
  constructor({ processorOptions: { decimation } }) {
    super();
    this.decimation = decimation;
    this.batch = new Int16Array(Math.round(((sampleRate / decimation) * BATCH_MS) / 1000));
    this.filled = 0;
    this.power = 0;
    this.sum = 0;
    this.summed = 0;
  }

  process([input]) {
    // Without a channel the source is silent or gone; time has to go on all the same.
    const samples = input[0] ?? new Float32Array(128);
    for (const sample of samples) {
      this.sum += sample;
      this.summed += 1;
      if (this.summed === this.decimation) this.put(this.sum / this.decimation);
    }
    return true;
  }

  put(sample) {
    const clipped = Math.max(-1, Math.min(1, sample));
    this.batch[this.filled] = Math.round(clipped * 32767);
    this.filled += 1;
    this.power += clipped * clipped;
    this.sum = 0;
    this.summed = 0;
    if (this.filled === this.batch.length) this.flush();
  }

  flush() {
    const dbfs = 10 * Math.log10(this.power / this.batch.length + 1e-10);
    const { length } = this.batch; // a transferred array has none left
    this.port.postMessage({ samples: this.batch, dbfs }, [this.batch.buffer]);
    this.batch = new Int16Array(length);
    this.filled = 0;
    this.power = 0;
  }
}

registerProcessor("capture", Capture);
