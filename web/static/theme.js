// Runs before the first paint, so that a stored theme does not flash in the other one.
try {
  const theme = localStorage.getItem('theme')
  if (theme) document.documentElement.dataset.theme = theme
} catch { /* storage is switched off */ }
