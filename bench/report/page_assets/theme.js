// Before anything is drawn: the theme that was chosen here before. Without a choice the system's holds.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const chosen = localStorage.getItem("bench-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch { /* some browsers keep nothing for a file */ }
})();
