// Copying the replay command. Without a script, one click on the command selects it whole.
document.documentElement.classList.add("scripted");
document.getElementById("copy-replay")?.addEventListener("click", async (event) => {
  const code = document.getElementById("replay");
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    // No clipboard for pages from disk in some browsers: leave the command selected for the keyboard.
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "selected: press Ctrl C";
  }
  setTimeout(() => { button.textContent = "copy"; }, 2500);
});
