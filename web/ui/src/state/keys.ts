// The page without a mouse.
import { compareWith, filterText, flows, following, help, open, pause, paused, selected, step, tab, view, type View } from "./app";
import { copyCurl } from "../detail/detail";
import { list } from "../views/timeline";
import { moveTurn } from "../chat/chat";

const views: View[] = ["flows", "events", "chat", "compare"];

function typing(e: KeyboardEvent): boolean {
  const el = e.target as HTMLElement | null;
  return !!el && (el.tagName === "INPUT" || el.tagName === "TEXTAREA" || el.tagName === "SELECT" || el.isContentEditable);
}

export function listenKeys(): void {
  window.addEventListener("keydown", (e: KeyboardEvent) => {
    if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey) return;
    if (typing(e)) {
      if (e.key === "Escape") (e.target as HTMLElement).blur();
      return;
    }
    if (help.value) return; // the dialog has its own
    if (act(e)) e.preventDefault();
  });
}

function act(e: KeyboardEvent): boolean {
  const inList = view.value === "flows";
  const onControl = (e.target as HTMLElement | null)?.closest?.("button, a, summary, [role=tab]") !== null;
  switch (e.key) {
    case "/":
      document.getElementById("filter")?.focus();
      (document.getElementById("filter") as HTMLInputElement | null)?.select();
      return true;
    case "?": return !!(help.value = true);
    case "Escape": return escape();
    case "1": case "2": case "3": case "4":
      view.value = views[Number(e.key) - 1]!;
      return true;
    case "p": pause(!paused.value); return true;
    case "f": following.value = !following.value; return true;
    case "x": flows.hidden ? flows.unclear() : flows.clear(); return true;
    case "n": case "b":
      if (view.value !== "chat") return false;
      moveTurn.current?.(e.key === "n" ? 1 : -1);
      return true;
  }
  if (inList) {
    const page = Math.max(1, Math.floor((list.current?.element?.clientHeight ?? 500) / 25) - 2);
    const by: Record<string, number> = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: page, PageUp: -page, g: -1e9, Home: -1e9, G: 1e9, End: 1e9 };
    const n = by[e.key];
    const elsewhere = e.key.length > 1 && (e.target as HTMLElement | null)?.closest?.(".detail") !== null && e.target !== document.body;
    if (n !== undefined && !elsewhere) {
      step(n);
      return true;
    }
    if (e.key === "Enter" && !onControl && selected.value) {
      open.value = true;
      requestAnimationFrame(() => document.getElementById("part")?.focus());
      return true;
    }
  }
  if (!selected.value) return false;
  switch (e.key) {
    case "[": case "]": return turnTab(e.key === "]" ? 1 : -1);
    case "c": copyCurl(selected.value); return true;
    case "m": compareWith(selected.value); return true;
    case "r":
      open.value = true;
      tab.value = "replay";
      return true;
  }
  return false;
}

function turnTab(n: number): boolean {
  const tabs = [...document.querySelectorAll<HTMLElement>(".detail [role=tab]")];
  const at = tabs.findIndex((t) => t.getAttribute("aria-selected") === "true");
  tabs[(at + n + tabs.length) % tabs.length]?.click();
  return tabs.length > 0;
}

function escape(): boolean {
  if (open.value && (view.value === "flows" || view.value === "events")) {
    open.value = false;
    list.current?.element?.focus();
    return true;
  }
  if (selected.value) {
    selected.value = "";
    return true;
  }
  if (filterText.value) {
    filterText.value = "";
    return true;
  }
  return false;
}
