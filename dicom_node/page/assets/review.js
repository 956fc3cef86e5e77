"use strict";
// Three planes with both masks, and the head from outside. Grey values are 0 to 255 of the window that overlays have.
(() => {
  const views = document.getElementById("views");
  if (!views) return;
  const SKIN_FROM = 30;  // below is air
  const FOREGROUND_EDGE = 1, ANONYMIZED = 2, MASKS_OPACITY = 0.5;
  const TURN_DEGREES = 15, FROM_AHEAD = { azimuth: 160, elevation: 10 };
  const message = document.getElementById("views-message");

  const fail = reason => {
    message.textContent = reason;
    document.getElementById("still").hidden = false;
    views.hidden = true;
  };

  const get = async address => {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`the pictures of this volume are not there (status ${answer.status})`);
    return new File([await answer.blob()], address.split("/").pop());
  };

  const show = async () => {
    const [volume, masks] = await Promise.all([get(views.dataset.volume), get(views.dataset.masks)]);
    const common = { loadingText: "", isOrientCube: false, isColorbar: false, dragAndDropEnabled: false, logLevel: "error" };
    const planes = new niivue.Niivue({ ...common, backColor: [0, 0, 0, 1], crosshairWidth: 0.4, crosshairColor: [1, 0.3, 0.3, 0.7], isResizeCanvas: true });
    const surface = new niivue.Niivue({ ...common, backColor: [0.06, 0.07, 0.09, 1], isResizeCanvas: true });
    await planes.attachToCanvas(document.getElementById("planes"));
    await surface.attachToCanvas(document.getElementById("surface"));
    // Nothing is drawn before all is there: without a graphics card each drawing of the head takes a large part of a second.
    planes.isBusy = surface.isBusy = true;
    planes.setSliceType(planes.sliceTypeMultiplanar);
    planes.opts.multiplanarShowRender = 0;
    planes.setRadiologicalConvention(true);
    const grey = await niivue.NVImage.loadFromFile({ file: volume, name: "volume.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255 });
    planes.addVolume(grey);
    const labels = await niivue.NVImage.loadFromFile({ file: masks, name: "masks.nii.gz", opacity: MASKS_OPACITY });
    labels.setColormapLabel({
      R: [0, 86, 230], G: [0, 180, 159], B: [0, 233, 0], A: [0, 255, 255],
      I: [0, FOREGROUND_EDGE, ANONYMIZED], labels: ["", "edge of the foreground", "anonymised area"],
    });
    planes.addVolume(labels);
    // Skin is opaque from the threshold on, so that the surface shows and not what is inside.
    surface.addColormap("skin", { R: [0, 222, 255], G: [0, 184, 240], B: [0, 160, 225], A: [0, 255, 255], I: [0, 40, 255] });
    const head = await niivue.NVImage.loadFromFile({ file: volume, name: "volume.nii.gz", colormap: "skin", cal_min: SKIN_FROM, cal_max: 255 });
    await surface.setVolumeRenderIllumination(0.7);
    surface.setSliceType(surface.sliceTypeRender);
    surface.setRenderAzimuthElevation(FROM_AHEAD.azimuth, FROM_AHEAD.elevation);
    surface.addVolume(head);
    planes.isBusy = surface.isBusy = false;
    planes.drawScene();
    surface.drawScene();
    keys(planes, surface, labels);
    views.dataset.ready = "true";
    fetch(views.dataset.next).catch(() => {});  // the next study's pictures, while a person looks at this one
  };

  const turn = (surface, azimuth, elevation) => {
    const scene = surface.scene;
    surface.setRenderAzimuthElevation(scene.renderAzimuth + azimuth, scene.renderElevation + elevation);
  };

  const keys = (planes, surface, labels) => {
    let isMasked = true;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    document.addEventListener("keydown", event => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.matches("input, textarea, select")) return;
      if (event.key === "m") {
        isMasked = !isMasked;
        planes.setOpacity(planes.volumes.indexOf(labels), isMasked ? MASKS_OPACITY : 0);
      } else if (event.key in arrows) {
        const [across, up] = arrows[event.key], many = event.shiftKey ? 10 : 1;
        if (document.activeElement === planes.canvas) planes.moveCrosshairInVox(0, across * many, up * many);
        else turn(surface, across * TURN_DEGREES, up * TURN_DEGREES);
      } else return;
      event.preventDefault();
    });
  };

  show().catch(error => fail(`This volume cannot be shown in 3D here: ${error.message}. The still picture shows three slices.`));
})();
