// Set before the first paint, so that a page of the chosen theme does not flash in the other; hence no module.
try {
  const theme = localStorage.getItem("tailprune.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // without storage the theme is the system's
}
