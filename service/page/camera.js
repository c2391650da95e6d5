// The camera of this device: one picture, or one after the other.

async function openCamera() {
  $("camera-dialog").showModal();
  $("camera-verdict").textContent = "";
  $("camera-note").textContent = "";
  try {
    if (!navigator.mediaDevices) throw new Error("browsers give a camera to https and localhost only");
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await $("video").play();
  } catch (error) {
    $("camera-note").textContent = `No camera: ${error.message}`;
  }
}

function closeCamera() {
  $("camera-live").checked = false;
  $("video").srcObject?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
}

// A picture of what the camera sees, as a file; null before there is one.
async function takePicture() {
  const { videoWidth: width, videoHeight: height } = $("video");
  if (!width) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  return new File([blob], `camera ${new Date().toLocaleTimeString("en-GB")}.jpg`, { type: "image/jpeg" });
}

// judge: shows one file. Goes on while the box is ticked.
async function judgeCamera(judge) {
  do {
    const file = await takePicture();
    if (!file) return;
    await judge(file);
    $("camera-verdict").textContent = $("problem").hidden ? $("verdict-word").textContent : $("problem").textContent;
    $("camera-verdict").dataset.tone = $("problem").hidden ? $("verdict").dataset.tone : "undecided";
  } while ($("camera-live").checked && $("video").srcObject);
}
