// What is looked at stands in the fragment of the address: it survives a reload,
// can be bookmarked, and goes to no server.
import { effect } from "@preact/signals";
import { session } from "../api/client";
import { compareA, compareB, conversation, filterText, open, selected, tab, view, type View } from "./app";

const views = ["flows", "events", "chat", "compare"];

function write(): string {
  const p = new URLSearchParams();
  if (view.value !== "flows") p.set("view", view.value);
  if (session.value) p.set("session", session.value);
  if (filterText.value.trim()) p.set("q", filterText.value.trim());
  if (selected.value && open.value) {
    p.set("flow", selected.value);
    if (tab.value !== "overview") p.set("tab", tab.value);
  }
  if (view.value === "chat" && conversation.value) p.set("conversation", conversation.value);
  if (view.value === "compare") {
    if (compareA.value) p.set("a", compareA.value);
    if (compareB.value) p.set("b", compareB.value);
  }
  return p.toString();
}

/** Takes over what the address says. */
export function readAddress(): boolean {
  const p = new URLSearchParams(location.hash.slice(1));
  const other = (p.get("session") ?? "") !== session.value;
  const v = p.get("view") ?? "flows";
  view.value = (views.includes(v) ? v : "flows") as View;
  session.value = p.get("session") ?? "";
  filterText.value = p.get("q") ?? "";
  selected.value = p.get("flow") ?? "";
  open.value = selected.value !== "";
  tab.value = p.get("tab") ?? "overview";
  conversation.value = p.get("conversation") ?? "";
  compareA.value = p.get("a") ?? "";
  compareB.value = p.get("b") ?? "";
  return other;
}

/** Keeps the address up to date. Another view or session is a step in the
 * browser's history, the rest is not. */
export function keepAddress(reload: () => void): void {
  let last = "";
  effect(() => {
    const now = write(), step = view.value + " " + session.value;
    if (now === location.hash.slice(1)) {
      last = step;
      return;
    }
    const url = location.pathname + (now ? "#" + now : "");
    if (last && last !== step) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    last = step;
  });
  addEventListener("popstate", () => readAddress() && reload());
}
