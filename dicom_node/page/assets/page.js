"use strict";
// Keys that work on every page, and the name of the person who decides, which this browser remembers.
(() => {
  const isTyping = element => element.matches("input:not([type=file]), textarea, select, [contenteditable]");
  const rows = () => [...document.querySelectorAll("tr[data-row] a[data-open]")];

  const step = by => {
    const links = rows();
    if (!links.length) return;
    const at = links.findIndex(link => link.closest("tr").contains(document.activeElement));
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by));
    links[next].focus();
    links[next].scrollIntoView({ block: "nearest" });
  };

  document.addEventListener("keydown", event => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") document.querySelector("input[type=search]")?.focus();
    else if (event.key === "?") document.querySelector("dialog#keys")?.showModal();
    else if (target && !target.disabled) isTyping(target) ? target.focus() : target.click();
    else return;
    event.preventDefault();
  });

  const remember = () => {
    for (const field of document.querySelectorAll("input[data-remember]")) {
      if (!field.value) field.value = localStorage.getItem(field.dataset.remember) || "";
    }
  };
  document.addEventListener("submit", event => {
    for (const field of event.target.querySelectorAll("input[data-remember]")) {
      if (field.value) localStorage.setItem(field.dataset.remember, field.value);
    }
  });
  document.addEventListener("click", event => {
    if (event.target.matches("[data-close]")) event.target.closest("dialog").close();
    const filling = event.target.closest("[data-fill]");
    if (filling) document.getElementById(filling.dataset.fill).value = filling.dataset.text;
  });
  remember();
})();
