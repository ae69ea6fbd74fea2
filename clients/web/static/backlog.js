// The newest audio, from the end of the last final to now, so that a reconnect can send again what was lost.

export class Backlog {
  // Times are samples since the first one; batches before `next` have been sent.
  constructor(sampleRateHz, boundS = 60) {
    this.sampleRateHz = sampleRateHz;
    this.bound = boundS * sampleRateHz;
    this.batches = [];
    this.next = 0;
    this.start = 0;
    this.end = 0;
    this.lost = 0;
  }

  get capturedS() {
    return this.end / this.sampleRateHz;
  }

  get empty() {
    return this.batches.length === 0;
  }

  get unsent() {
    return this.batches.length - this.next;
  }

  push(samples) {
    this.batches.push(samples);
    this.end += samples.length;
    while (this.end - this.start > this.bound) this.drop();
  }

  shift() {
    const batch = this.batches[this.next];
    if (batch) this.next += 1;
    return batch;
  }

  /** Forget audio that has had its final. */
  finishUntil(timeS) {
    const heard = timeS * this.sampleRateHz;
    while (this.next > 0 && this.start + this.batches[0].length <= heard) this.drop();
  }

  /** Prepare to send everything again; gives the time of its first sample. */
  rewind() {
    this.next = 0;
    return this.start / this.sampleRateHz;
  }

  /** Prepare to send from a sample on, as far as it is kept. */
  skipTo(sample) {
    this.next = 0;
    let at = this.start;
    while (this.next < this.batches.length && at + this.batches[this.next].length <= sample) {
      at += this.batches[this.next].length;
      this.next += 1;
    }
    if (this.next === this.batches.length || at >= sample) return;
    const batch = this.batches[this.next];
    this.batches.splice(this.next, 1, batch.slice(0, sample - at), batch.slice(sample - at));
    this.next += 1;
  }

  /** Seconds that were dropped without ever having been sent, since the last call. */
  takeLostS() {
    const lost = this.lost / this.sampleRateHz;
    this.lost = 0;
    return lost;
  }

  drop() {
    const length = this.batches.shift().length;
    this.start += length;
    if (this.next > 0) this.next -= 1;
    else this.lost += length;
  }
}
