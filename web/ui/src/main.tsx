// The live page of trace: what a run does, while it does it.
import { render } from "preact";
import { effect } from "@preact/signals";
import { oneLine } from "./base/format";
import { locked, takeToken } from "./api/client";
import { flows, load, open, run, selected, view } from "./state/app";
import { keepAddress, readAddress } from "./state/url";
import { listenKeys } from "./state/keys";
import { Banner, Header } from "./views/header";
import { FilterBar, Footer } from "./views/filterbar";
import { Timeline } from "./views/timeline";
import { EventTimeline } from "./views/events";
import { Help } from "./views/help";
import { Split } from "./views/split";
import { Detail } from "./detail/detail";
import { Chat } from "./chat/chat";
import { Compare } from "./compare/compare";
import { Empty, note } from "./base/ui";

function App() {
  if (locked.value && !flows.rows.length) return <Locked />;
  const v = view.value;
  const listed = v === "flows" || v === "events";
  return (
    <>
      <Header />
      <Banner />
      {listed && <FilterBar />}
      <main><div id="view" role="tabpanel" aria-labelledby={"view-" + v} class={"view-" + v}>
        {listed && <Split open={open.value && selected.value !== ""} side={<Detail />}>{v === "flows" ? <Timeline /> : <EventTimeline />}</Split>}
        {v === "chat" && <Chat />}
        {v === "compare" && <Compare />}
      </div></main>
      <Footer />
      <Help />
      <div class={"note-box" + (note.value ? " on" : "")} role="status" aria-live="polite">{note.value}</div>
    </>
  );
}

function Locked() {
  return (
    <main class="locked">
      <Empty title="This page needs the token of its run" bad>
        <p>Open the address that trace printed. It ends in <code>#token=…</code>, and holds for this run only.</p>
        <p>Has the run ended? <code>trace web</code> shows its record under a new address.</p>
      </Empty>
    </main>
  );
}

takeToken();
readAddress();
keepAddress(() => void load());
listenKeys();
addEventListener("hashchange", () => {
  if (!new URLSearchParams(location.hash.slice(1)).has("token")) return;
  takeToken(); // the address of another run was pasted
  if (!locked.value) void load();
});
effect(() => {
  const r = run.value;
  flows.version.value;
  document.title = r ? `${oneLine(r.name || r.id, 80)} (${flows.rows.length}) · trace` : "trace";
});
const root = document.getElementById("app");
if (root) {
  root.textContent = "";
  render(<App />, root);
}
if (!locked.value) void load();
