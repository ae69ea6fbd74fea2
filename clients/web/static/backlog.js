// The newest audio, from the end of the last final to now, so that a reconnect can send it again.

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
