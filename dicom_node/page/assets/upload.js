"use strict";
// Files and folders are sent in batches, one after the other. A batch that did not come through is sent again: what the
// node has already is not stored twice. What does not begin like a DICOM file or a zip archive is not sent at all.
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const BATCH_FILES = 500, BATCH_BYTES = 256e6, N_ROWS = 500, WAITS_S = [1, 2, 5, 10, 20];
  const WORDS = { stored: "stored", known: "here already", set_aside: "set aside", left_out: "left out", refused: "not stored", failed: "upload again" };
  const KEPT = ["stored", "known", "set_aside"];
  const byId = id => document.getElementById(id);
  const drop = byId("drop"), send = byId("send"), stop = byId("stop"), going = byId("going");
  const inputs = [...form.querySelectorAll("input[type=file]")];
  let chosen = [], isGoing = false, isStopped = false, request = null;

  const size = bytes => {
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (bytes < 1000) return `${bytes.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
      bytes /= 1000;
    }
    return `${bytes.toFixed(1)} TB`;
  };
  const total = files => files.reduce((sum, one) => sum + one.file.size, 0);
  const person = name => {
    const [family, ...given] = name.split("^").slice(0, 3).map(part => part.trim());
    return [family, given.filter(Boolean).join(" ")].filter(Boolean).join(", ");
  };
  const nFiles = number => `${number} ${number === 1 ? "file" : "files"}`;
  const day = date => date.replace(/^(\d{4})(\d{2})(\d{2})$/, "$1-$2-$3");
  const element = (name, text = "", className = "") => Object.assign(document.createElement(name), { textContent: text, className });

  const choose = files => {
    chosen = files;
    byId("chosen").textContent = files.length ? `${nFiles(files.length)}, ${size(total(files))}` : "";
    send.disabled = !files.length || isGoing;
    if (files.length && !isGoing) send.focus();
  };

  const ofInputs = () => inputs.flatMap(input => [...input.files].map(file => ({ file, name: file.webkitRelativePath || file.name })));

  // A dropped folder is a tree of entries, of which the browser names a hundred at a time.
  const ofEntry = async entry => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      return [{ file, name: entry.fullPath.replace(/^\//, "") }];
    }
    const reader = entry.createReader(), found = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return found;
      for (const one of some) found.push(...await ofEntry(one));
    }
  };

  const refusal = async ({ file }) => {
    if (file.size > Number(form.dataset.maxBytes)) return `larger than ${size(Number(form.dataset.maxBytes))} (web.max_request_bytes)`;
    const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
    const isDicom = String.fromCharCode(...head.slice(128)) === "DICM";
    const isZip = head[0] === 0x50 && head[1] === 0x4b && [3, 5, 7].includes(head[2]);
    return isDicom || isZip ? "" : file.size ? "no DICOM file; it was not sent" : "an empty file";
  };

  const post = (batch, onProgress) => new Promise((resolve, reject) => {
    const body = new FormData(form);
    body.delete("files");
    for (const { file, name } of batch) body.append("files", file, name);
    request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.onprogress = event => onProgress(event.loaded / Math.max(event.total, 1));
    request.onload = () => resolve({ status: request.status, answer: request.response });
    request.onerror = () => reject(new Error("the connection to the node broke"));
    request.onabort = () => reject(new Error("stopped"));
    request.send(body);
  });

  const sendBatch = async (batch, onProgress) => {
    for (let attempt = 0; ; attempt += 1) {
      let reason;
      try {
        const { status, answer } = await post(batch, onProgress);
        if (answer && answer.files) {
          if (status !== 503 || attempt >= WAITS_S.length) return answer;
          reason = "the node has no room or is busy";
        } else if (status === 503 && attempt < WAITS_S.length) reason = answer?.detail || "the node is busy";
        else throw Object.assign(new Error(answer?.detail || `the node answered with status ${status}`), { isFinal: true });
      } catch (error) {
        if (error.isFinal || isStopped || attempt >= WAITS_S.length) throw error;
        reason = error.message;
      }
      byId("going-words").textContent = `${reason}; trying again in ${WAITS_S[attempt]} s`;
      await new Promise(resolve => setTimeout(resolve, 1000 * WAITS_S[attempt]));
      if (isStopped) throw new Error("stopped");
    }
  };

  const batches = files => {
    const found = [];
    let last = null, bytes = 0;
    for (const one of files) {
      if (!last || last.length >= BATCH_FILES || bytes + one.file.size > BATCH_BYTES) found.push(last = []), bytes = 0;
      last.push(one);
      bytes += one.file.size;
    }
    return found;
  };

  const upload = async () => {
    const files = chosen, told = { counts: {}, files: [], studies: new Map(), n: 0 };
    isGoing = true; isStopped = false;
    send.disabled = true; stop.hidden = false; going.hidden = false;
    byId("results").replaceChildren();
    const note = (name, result, reason) => {
      told.n += 1;
      told.counts[result] = (told.counts[result] || 0) + 1;
      if (reason) told.files.push({ name, result, reason });
    };
    const sent = [];
    byId("going-words").textContent = "looking at the files";
    for (const one of files) {
      const reason = await refusal(one).catch(error => `it cannot be read: ${error.message}`);
      if (reason) note(one.name, "refused", reason); else sent.push(one);
    }
    const bytes = Math.max(total(sent), 1);
    let before = 0, trouble = "", nSent = 0;
    for (const batch of batches(sent)) {
      const ofBatch = total(batch);
      const progress = share => {
        byId("share").value = (before + share * ofBatch) / bytes;
        byId("going-words").textContent = share < 1
          ? `${size(before + share * ofBatch)} of ${size(bytes)}, ${nSent} of ${sent.length} files`
          : "the node is storing what it got";
      };
      if (!trouble) {
        try {
          const answer = await sendBatch(batch, progress);
          for (const one of answer.files) note(one.name, one.result, one.reason);
          for (const one of answer.studies) {
            const known = told.studies.get(one.study_instance_uid);
            told.studies.set(one.study_instance_uid, { ...one, n_files: one.n_files + (known?.n_files || 0) });
          }
          if (answer.error) trouble = answer.error.detail;
        } catch (error) {
          trouble = isStopped ? "Stopped. What was stored before stays; upload the rest again." : `${error.message}. What was stored before stays; upload the rest again.`;
          for (const one of batch) note(one.name, "failed", isStopped ? "stopped" : error.message);
        }
      } else for (const one of batch) note(one.name, "failed", "not sent");
      before += ofBatch;
      nSent += batch.length;
    }
    isGoing = false;
    stop.hidden = true; going.hidden = true;
    show(told, trouble);
    form.reset();
    choose([]);
  };

  const show = (told, trouble) => {
    const results = byId("results"), kept = KEPT.reduce((sum, one) => sum + (told.counts[one] || 0), 0);
    const heading = Object.assign(element("h2", `${kept} of ${nFiles(told.n)} stored`), { tabIndex: -1 });
    results.replaceChildren(heading);
    if (trouble) {
      const message = element("p", trouble, "message");
      message.setAttribute("role", "alert");
      results.append(message);
    }
    const counts = element("ul", "", "counts");
    counts.setAttribute("aria-label", "Files by result");
    for (const [result, words] of Object.entries(WORDS)) {
      if (!told.counts[result]) continue;
      const item = element("li");
      item.append(element("span", told.counts[result], result), ` ${words}`);
      counts.append(item);
    }
    results.append(counts);
    if (told.studies.size) {
      const list = element("ul");
      for (const one of told.studies.values()) {
        const item = element("li"), link = element("a", person(one.patient_name) || "no name");
        link.href = form.dataset.studies + one.study_instance_uid;
        item.append(link, " ", element("span", `${one.patient_id} · ${day(one.study_date)} ${one.study_description} · ${nFiles(one.n_files)}`, "quiet"));
        list.append(item);
      }
      results.append(element("h3", "Studies"), list);
    }
    if (told.files.length) {
      const table = element("table"), region = element("div", "", "scroll"), title = "Files with remarks";
      const head = table.createTHead().insertRow();
      for (const words of ["File", "Result", "Why"]) head.append(element("th", words));
      const rows = table.createTBody();
      for (const one of told.files.slice(0, N_ROWS)) {
        rows.insertRow().append(element("td", one.name, "name"), element("td", WORDS[one.result], one.result), element("td", one.reason, "name"));
      }
      Object.assign(region, { tabIndex: 0 }).setAttribute("aria-label", title);
      region.setAttribute("role", "region");
      region.append(table);
      results.append(element("h3", title), region);
      if (told.files.length > N_ROWS) results.append(element("p", `${told.files.length - N_ROWS} more are not shown.`));
    }
    heading.focus();
  };

  for (const input of inputs) input.addEventListener("change", () => choose(ofInputs()));
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (chosen.length && !isGoing) upload();
  });
  stop.addEventListener("click", () => { isStopped = true; request?.abort(); });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, event => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
    });
  }
  document.addEventListener("drop", async event => {
    if (isGoing) return;
    const items = [...event.dataTransfer.items].filter(item => item.kind === "file");
    const dropped = items.map(item => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));  // before any wait
    byId("chosen").textContent = "looking for files";
    const found = [];
    for (const { entry, file } of dropped) {
      if (entry) found.push(...await ofEntry(entry));
      else if (file) found.push({ file, name: file.name });
    }
    choose(found);
  });
  addEventListener("beforeunload", event => { if (isGoing) event.preventDefault(); });
  byId("drop-words").hidden = false;
  choose(ofInputs());
})();
