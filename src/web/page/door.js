"use strict";
// Hands the token in, for a cookie that no script can read. It comes behind the # of the address, which no server sees and no log keeps.
async function enter(token, state) {
  const answer = await fetch("api/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) {
    document.getElementById("said").textContent = "That is not the token.";
    return;
  }
  history.replaceState(null, "", state ? `#${state}` : location.pathname);
  location.reload();
}

const parts = location.hash.slice(1).split("&");
const given = parts.find((part) => part.startsWith("token="));
// What else stands there is the state of the page, which a link holds.
const state = parts.filter((part) => part && !part.startsWith("token=")).join("&");
document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(document.getElementById("token").value.trim(), state);
});
if (given) {
  enter(decodeURIComponent(given.slice("token=".length)), state);
}
