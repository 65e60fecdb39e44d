// The browser's camera: pictures no wider than WIDE, as JPEG, with the time at which they were taken.

const WIDE = 640;
const QUALITY = 0.8;
const REFUSALS = {
  NotAllowedError: "The browser may not use the camera: allow it beside the address, then press Start.",
  NotFoundError: "There is no camera: plug one in, then press Start.",
  NotReadableError: "The camera is in use by another program: close that, then press Start.",
};

class Camera {
  constructor() {
    this.video = h("video", { muted: true, playsinline: true });
    this.video.muted = true; // the attribute alone is read from HTML only
    this.canvases = [h("canvas"), h("canvas")]; // one is shown while the other is sent
    this.come = () => {}; // whoever waits for a picture: told whether there is one
  }

  get there() {
    return this.stream?.active ?? false;
  }

  async open() {
    const wanted = { width: { ideal: WIDE }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      throw new Error(REFUSALS[error.name] || `The camera cannot be opened: ${error.message}`);
    }
    for (const track of this.stream.getTracks()) track.addEventListener("ended", () => this.come(false));
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = this.video.srcObject = null;
  }

  // The next picture: {picture: a canvas, blob, seconds, grab: ms that it took}; null: the camera is gone.
  async shot() {
    const fresh = await new Promise((done) => {
      this.come = done;
      if (!this.there) done(false);
      this.video.requestVideoFrameCallback(() => done(true));
    });
    if (!fresh) return null;
    const taken = performance.now();
    this.canvases.reverse();
    const [canvas] = this.canvases;
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, WIDE / width);
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    return { picture: canvas, blob, seconds: taken / 1000, grab: performance.now() - taken };
  }
}
