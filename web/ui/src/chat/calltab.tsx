// A call in the detail pane of its flow.
import type { Flow } from "../model";
import { conversation, show, view } from "../state/app";
import { Button } from "../base/ui";
import { CallView } from "./call";
import { turn, turnsOf, useConversations } from "./chat";
import { nameOf } from "./lanes";

export function CallTab(p: { f: Flow }) {
  const list = useConversations();
  const c = list?.find((x) => x.calls.some((id) => id === p.f.id || id.startsWith(p.f.id + "#")));
  const id = c?.calls.filter((x) => x === p.f.id || x.startsWith(p.f.id + "#")).pop() ?? p.f.id;
  const open = (cid: string, call: string) => {
    conversation.value = cid;
    turn.value = call;
    view.value = "chat";
  };
  return (
    <div class="fill">
      {c && <div class="bar-line"><Button on={() => open(c.id, id)}>Open the conversation ({c.calls.length})</Button></div>}
      <div class="scroll" tabIndex={0} aria-label="Call">
        <CallView id={id} conversation={c ? { ...c, turns: turnsOf(c) } : null} onTurn={(to) => show(to.split("#")[0]!, "call")} started={(tool) => {
          const sub = list?.find((x) => x.parent?.tool === tool);
          return sub ? { name: nameOf(sub), open: () => open(sub.id, "") } : null;
        }} />
      </div>
    </div>
  );
}
